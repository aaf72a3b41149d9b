"""Starting, watching and stopping processes that belong together."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.watchdog import Watchdog

_STOP_SECONDS = 20.0
_LAST_LINES = 12


class ProcessDiedError(Exception):
    """A process ended by itself; the text says which one and shows the end of its log."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    """Where its output goes, added at the end."""
    stop_signal: signal.Signals = signal.SIGTERM
    user: int | None = None
    """The user id to run as, if another than the launcher's; its group is `group`."""
    group: int | None = None


@dataclass(slots=True)
class Processes:
    """Processes that are started in an order and stopped in the reverse one."""

    _watchdog: Watchdog = field(default_factory=Watchdog)
    _running: dict[str, tuple[ProcessSpec, "subprocess.Popen[bytes]"]] = field(default_factory=dict)

    def start(self, spec: ProcessSpec) -> int:
        """Starts a process and gives its id."""
        with spec.log.open("ab") as log:
            process = subprocess.Popen(
                spec.command,
                env=dict(spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=spec.user,
                group=spec.group,
                extra_groups=None if spec.user is None else [],
                # Ctrl-C goes to the launcher alone, which stops everything in order.
                start_new_session=True,
            )
        self._watchdog.started(process.pid, spec.stop_signal)
        self._running[spec.name] = (spec, process)
        return process.pid

    def check(self) -> None:
        """Makes sure that everything that was started runs.

        Raises:
            ProcessDiedError: something does not.
        """
        for spec, process in self._running.values():
            code = process.poll()
            if code is not None:
                raise _died(spec, f"ended by itself ({_told(code)})")

    def stop(self, name: str) -> None:
        """Asks a process to end, waits until it did, and after a while insists."""
        spec, process = self._running.pop(name)
        if process.poll() is None:
            process.send_signal(spec.stop_signal)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._watchdog.ended(process.pid)

    def kill(self, name: str) -> None:
        """Ends a process at once (SIGKILL), as a crash would."""
        _, process = self._running.pop(name)
        process.kill()
        process.wait()
        self._watchdog.ended(process.pid)

    def stop_all(self) -> None:
        """Stops everything, the last started first, and the watchdog after it."""
        for name in reversed(list(self._running)):
            self.stop(name)
        self._watchdog.dismiss()

    def pids(self) -> dict[str, int]:
        """The process ids by name."""
        return {name: process.pid for name, (_, process) in self._running.items()}


def inherited_environment() -> dict[str, str]:
    """What a process gets of the launcher's own environment: no more than it needs to run."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _died(spec: ProcessSpec, how: str) -> ProcessDiedError:
    end = "\n".join(spec.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
    return ProcessDiedError(f"{spec.name} {how}. Its log, {spec.log}, ends with:\n{end}")


def _told(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
