"""Which kind of work a process's time goes to, by a sampling profile of its main thread.

Each sample is a stack. It counts for the innermost of its frames that belongs to a kind of work, so
that a library's time is its caller's. Where no frame does, the event loop itself runs what has no
Python frame: gRPC's Cython and C code.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench.errors import BenchError

GRPC = "gRPC and the event loop"
_LOGGING = "JSON logging"
_AUTH = "auth"
_VALIDATION = "parsing and validation"
_CRYPTO = "crypto"
_SQL = "SQL"
_WAKEUPS = "wake-ups of watchers"
_WRITER = "the writer's batches"
_KINDS = (
    ("services/runtime/logs.py", _LOGGING),
    ("logging/__init__.py", _LOGGING),
    ("_note (services/runtime/interceptor.py", _LOGGING),
    ("services/runtime/tokens.py", _AUTH),
    ("CallInterceptor._admit (", _AUTH),
    ("CallInterceptor._read (", _VALIDATION),
    ("protovalidate/", _VALIDATION),
    ("services/runtime/encryption/", _CRYPTO),
    ("cryptography/", _CRYPTO),
    ("services/runtime/wakeups/", _WAKEUPS),
    ("services/runtime/feed.py", _WAKEUPS),
    ("services/runtime/database.py", _SQL),
    ("services/messages/writer.py", _WRITER),
    ("services/messages/backlog.py", _WRITER),
    ("services/messages/appends.py", _WRITER),
    # The program's own frames are the outermost of everything.
    ("services/messages/__main__.py", GRPC),
    ("services/runtime/program.py", GRPC),
    ("services/messages/", "the handler: rows and protobuf"),
    ("services/runtime/", "interceptor and the rest of the runtime"),
)
_MAIN_THREAD = "uvloop/"
_SAMPLES_PER_SECOND = 250
_PATIENCE_SECONDS = 30.0


def profile(pid: int, seconds: int) -> dict[str, float]:
    """The share of each kind of work in the time that a process's main thread runs.

    Raises:
        BenchError: the process cannot be looked into.
    """
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        program = Path(sys.executable).with_name("py-spy")
        done = subprocess.run(
            [
                *(program, "record", "--format", "raw", "--output", stacks, "--pid", str(pid)),
                *("--duration", str(seconds), "--rate", str(_SAMPLES_PER_SECOND)),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + _PATIENCE_SECONDS,
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["nothing"]
            raise BenchError(
                "py-spy cannot look into the messages process: run as root, or set"
                f" kernel.yama.ptrace_scope to 0 (it says: {said[-1]})"
            )
        return shares_of(stacks.read_text())


def shares_of(stacks: str) -> dict[str, float]:
    """The share of each kind of work in the main thread's samples, the largest first.

    Each line is a stack from the outermost frame to the innermost, separated by semicolons, and
    after a space how many samples had it.

    Raises:
        BenchError: the main thread was never seen running.
    """
    samples: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if _MAIN_THREAD in stack:
            samples[_kind_of(stack.split(";"))] += int(count)
    if not samples:
        raise BenchError("the profile holds no sample of the event loop")
    total = samples.total()
    return {kind: count / total for kind, count in samples.most_common()}


def _kind_of(frames: list[str]) -> str:
    for frame in reversed(frames):
        for part, kind in _KINDS:
            if part in frame:
                return kind
    return GRPC
