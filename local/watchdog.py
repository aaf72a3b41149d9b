"""Ends what a launcher started, should the launcher die without doing so itself.

It runs as a process and a session of its own (`python -m local.watchdog`) and reads from a pipe
that only the launcher holds open: `start <pid> <signal>` for each process that was started,
`end <pid>` for each that is gone, `folder <path>` for what must not stay behind. When the pipe
closes, whatever still runs gets its signal, and a moment later SIGKILL. So nothing outlives a
launcher that was killed, on any system, whatever the process did with its user or its parent.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from contextlib import suppress

from local.environment import inherited_environment

# Longer than a service lets calls under way go on.
_GRACE_SECONDS = 12.0


class Watchdog:
    """The launcher's side: tells the watchdog what runs."""

    def __init__(self, held: Collection[int] = ()) -> None:
        """Starts the watchdog, which keeps the descriptors `held` open for as long as it lives."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local.watchdog"],
            env=inherited_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # Whoever reads the launcher's output to its end does not wait for the watchdog.
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=tuple(held),
            bufsize=0,  # A line that could not be sent is not tried again.
        )

    def started(self, pid: int, stop_signal: signal.Signals) -> None:
        """A process is about to run; `stop_signal` is how it is asked to end."""
        self._tell(f"start {pid} {int(stop_signal)}")

    def ended(self, pid: int) -> None:
        """A process is gone and was reaped: its number may be another's now."""
        self._tell(f"end {pid}")

    def made(self, folder: str) -> None:
        """A folder was made that is to be removed at the end."""
        self._tell(f"folder {folder}")

    def runs(self) -> bool:
        """Whether the watchdog is there."""
        return self._process.poll() is None

    def dismiss(self) -> None:
        """Lets the watchdog end; nothing must run any more."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the watchdog has no pipe")
        # When it died, `runs` says so, and what was started must still be stopped.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())


def watch() -> None:
    """Reads the pipe to its end, then ends what still runs."""
    running: dict[int, int] = {}
    folders: list[str] = []
    for line in sys.stdin:
        match line.rstrip("\n").split(maxsplit=2):
            case ["start", pid, number]:
                running[int(pid)] = int(number)
            case ["end", pid]:
                running.pop(int(pid), None)
            case ["folder", *path]:
                folders.append(" ".join(path))
    _end(running)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _end(running: dict[int, int]) -> None:
    left = {pid for pid, number in reversed(running.items()) if _signal(pid, number)}
    deadline = time.monotonic() + _GRACE_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = {pid for pid in left if _signal(pid, 0)}
    for pid in left:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> bool:
    """Sends a signal; whether the process was there."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # The number is another user's process now.
        return False
    return True


if __name__ == "__main__":
    watch()
