"""Starting, watching and stopping processes that belong together."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local import as_user
from local.errors import ProcessDiedError, StackError, StopRequestedError
from local.watchdog import Watchdog

_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02
_LAST_LINES = 12
_LAST_BYTES = 8192
# A process becomes its command once the watchdog knows of it. When the launcher is killed before,
# the pipe closes and the process ends without having begun.
_GATE = 'read -r _ && exec "$@" </dev/null'


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    """Where its output goes, added at the end."""
    ready: Callable[[], bool] = lambda: True
    """Whether it does its work yet."""
    stop_signal: signal.Signals = signal.SIGTERM
    user: int | None = None
    """The user id to run as, if another than the launcher's; its group is `group`."""
    group: int | None = None
    folder: Path | None = None
    """The working folder, if another than the launcher's."""


@dataclass(frozen=True, slots=True)
class _Running:
    spec: ProcessSpec
    process: "subprocess.Popen[bytes]"
    log_start: int
    """How long the log was before: what other runs wrote."""
    is_job: bool
    """Whether it may end by itself, if it succeeds."""


class Processes:
    """Processes that are started in an order and stopped in the reverse one."""

    def __init__(
        self, *, stop_requested: Callable[[], bool] = lambda: False, held: Collection[int] = ()
    ) -> None:
        """Starts the watchdog.

        `stop_requested` is asked while something is waited for; the descriptors `held` stay open
        until everything has ended, even when the launcher is killed.
        """
        self._stop_requested = stop_requested
        self._watchdog = Watchdog(held)
        self._running: dict[str, _Running] = {}

    def start(self, spec: ProcessSpec) -> int:
        """Starts a process and gives its id."""
        return self._spawn(spec, is_job=False)

    def run_to_end(self, spec: ProcessSpec) -> None:
        """Runs a process until it has ended.

        Raises:
            ProcessDiedError: it failed, or something else that was started ended.
            StopRequestedError: the launcher was told to stop.
        """
        self._spawn(spec, is_job=True)
        self.wait_until(lambda: spec.name not in self._running)

    def wait_until_ready(self, name: str, seconds: float) -> None:
        """Waits until a process does its work.

        Raises:
            ProcessDiedError: something that was started ended.
            StackError: it takes longer than `seconds`.
            StopRequestedError: the launcher was told to stop.
        """
        spec = self._running[name].spec
        late = f"{name} is not ready after {seconds:.0f} s: see {spec.log.parent}"
        self.wait_until(spec.ready, seconds, late)

    def wait_until(
        self, condition: Callable[[], bool], seconds: float = math.inf, late: str = ""
    ) -> None:
        """Waits for a condition; raises as `wait_until_ready` does, with the sentence `late`."""
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            if condition():
                return
            if time.monotonic() > deadline:
                raise StackError(late)
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Makes sure that everything that was started runs.

        Raises:
            ProcessDiedError: something does not.
            StopRequestedError: the launcher was told to stop.
        """
        if self._stop_requested():
            raise StopRequestedError
        if not self._watchdog.runs():
            raise ProcessDiedError("the watchdog, which ends what is left behind, ended by itself")
        for name, running in list(self._running.items()):
            code = running.process.poll()
            if code is None:
                continue
            self._forget(name)
            if code != 0 or not running.is_job:
                raise ProcessDiedError(_epitaph(running, code))

    def stop(self, name: str) -> None:
        """Asks a process to end, waits until it did, and after a while insists."""
        running = self._running[name]
        running.process.send_signal(running.spec.stop_signal)
        try:
            running.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
        self._forget(name)

    def kill(self, name: str) -> None:
        """Ends a process at once (SIGKILL), as a crash would."""
        process = self._running[name].process
        process.kill()
        process.wait()
        self._forget(name)

    def stop_all(self) -> None:
        """Stops everything, the last started first, and the watchdog after it."""
        for name in reversed(list(self._running)):
            self.stop(name)
        self._watchdog.dismiss()

    def pids(self) -> dict[str, int]:
        """The process ids by name."""
        return {name: running.process.pid for name, running in self._running.items()}

    def remove_at_end(self, folder: Path) -> None:
        """Has a folder removed when the launcher is killed."""
        self._watchdog.made(str(folder))

    def _spawn(self, spec: ProcessSpec, *, is_job: bool) -> int:
        reading, writing = os.pipe()
        with (
            os.fdopen(reading, "rb") as gate,
            os.fdopen(writing, "wb", buffering=0) as opener,
            spec.log.open("ab") as log,
        ):
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "sh", *_command(spec)],
                env=dict(spec.environment),
                cwd=spec.folder,
                stdin=gate,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to the launcher alone, which stops everything in order.
                start_new_session=True,
            )
            self._running[spec.name] = _Running(spec, process, log.tell(), is_job)
            self._watchdog.started(process.pid, spec.stop_signal)
            opener.write(b"\n")
        return process.pid

    def _forget(self, name: str) -> None:
        self._watchdog.ended(self._running.pop(name).process.pid)


def _command(spec: ProcessSpec) -> Sequence[str]:
    if spec.user is None or spec.group is None:
        return spec.command
    becoming = [sys.executable, "-I", "-S", as_user.__file__, str(spec.user), str(spec.group)]
    return [*becoming, *spec.command]


def _epitaph(running: _Running, code: int) -> str:
    spec = running.spec
    how = "failed" if running.is_job else "ended by itself"
    told = f"signal {-code}" if code < 0 else f"exit code {code}"
    end = _end_of_log(spec.log, running.log_start)
    shown = f"ends with:\n{end}" if end else "says nothing about it."
    return f"{spec.name} {how} ({told}). Its log, {spec.log}, {shown}"


def _end_of_log(log: Path, start: int) -> str:
    """The last lines that were written after `start`."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _LAST_BYTES))
        written = file.read().decode(errors="replace")
    return "\n".join(written.splitlines()[-_LAST_LINES:])
