"""The load: h2load processes, each with callers that repeat one request.

A caller sends its next request as soon as the last was answered. h2load knows one payload, so many
conversations need many processes of it; what is compared with each other is loaded by as many.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

_PROGRAM = "h2load"
_PATIENCE_SECONDS = 60.0
_REQUESTS = re.compile(r"requests: \d+ total, (\d+) started, (\d+) done, \d+ succeeded")
_STATUS = re.compile(r"status codes: (\d+) 2xx")
_TRAFFIC = re.compile(r"\((\d+)\) data")
_VERSION = re.compile(r"nghttp2/(\S+)")


@dataclass(frozen=True, slots=True)
class Load:
    """Callers that repeat one request."""

    url: str
    payload: Path
    headers: Mapping[str, str]
    callers: int
    http1: bool = False
    """Whether they speak HTTP/1.1; else HTTP/2 without TLS."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What loads came to, together."""

    started: int
    done: int
    ok: int
    """How many were answered with a 2xx; a gRPC refusal is one, too."""
    data_bytes: int
    """The bodies of the answers."""
    seconds: float

    @property
    def rate(self) -> float:
        """Requests done in a second."""
        return self.done / self.seconds


def h2load_version() -> str:
    """The version of the load generator.

    Raises:
        BenchError: it is not installed.
    """
    if shutil.which(_PROGRAM) is None:
        raise BenchError(
            "make bench needs h2load: install it with `apt-get install nghttp2-client`"
            " (Debian, Ubuntu) or `brew install nghttp2` (macOS)."
        )
    said = subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=True)
    found = _VERSION.search(said.stdout)
    return found[1] if found else said.stdout.strip()


def run_loads(loads: Sequence[Load], seconds: int) -> Outcome:
    """Runs loads at the same time, for so many seconds.

    Raises:
        BenchError: a load failed, or a request was answered with anything but a 2xx.
    """
    running: list[subprocess.Popen[str]] = []
    try:
        running.extend(_start(load, seconds) for load in loads)
        reports = [process.communicate(timeout=seconds + _PATIENCE_SECONDS) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    outcomes = [
        parsed_report(output, seconds) if process.returncode == 0 else _failed(load, errors)
        for load, process, (output, errors) in zip(loads, running, reports, strict=True)
    ]
    together = Outcome(
        started=sum(outcome.started for outcome in outcomes),
        done=sum(outcome.done for outcome in outcomes),
        ok=sum(outcome.ok for outcome in outcomes),
        data_bytes=sum(outcome.data_bytes for outcome in outcomes),
        seconds=seconds,
    )
    if not together.done or together.ok != together.done:
        refused = together.done - together.ok
        raise BenchError(f"{loads[0].url}: {refused} of {together.done} answers were not 2xx")
    return together


def parsed_report(text: str, seconds: float) -> Outcome:
    """What h2load printed of a run of so many seconds.

    Raises:
        BenchError: it is not a report.
    """
    requests, status, traffic = (pattern.search(text) for pattern in (_REQUESTS, _STATUS, _TRAFFIC))
    if not requests or not status or not traffic:
        raise BenchError(f"h2load said something unexpected:\n{text}")
    return Outcome(
        started=int(requests[1]),
        done=int(requests[2]),
        ok=int(status[1]),
        data_bytes=int(traffic[1]),
        seconds=seconds,
    )


def grpc_frame(message: bytes) -> bytes:
    """A message as the body of a gRPC request: a byte "not compressed", its length, itself."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _start(load: Load, seconds: int) -> "subprocess.Popen[str]":
    command = [
        *(_PROGRAM, "-c", str(load.callers), "-m", "1", "-D", str(seconds)),
        *("-d", str(load.payload)),
        *(["--h1"] if load.http1 else []),
        *(part for name, value in load.headers.items() for part in ("-H", f"{name}: {value}")),
        load.url,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _failed(load: Load, errors: str) -> Outcome:
    raise BenchError(f"h2load failed on {load.url}: {errors.strip()}")
