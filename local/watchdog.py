"""Ends what a launcher started, should the launcher die without doing so itself.

It runs as a process and a session of its own (`python -m local.watchdog`) and reads from a pipe
that only the launcher holds open: `start <pid> <signal>` for each process that was started,
`end <pid>` for each that is gone. When the pipe closes, whatever still runs gets its signal, and a
moment later SIGKILL. So nothing outlives a launcher that was killed, on any system, whatever the
process did with its user or its parent.
"""

import os
import signal
import subprocess
import sys
import time

_GRACE_SECONDS = 8.0


class Watchdog:
    """The launcher's side: tells the watchdog what runs."""

    def __init__(self) -> None:
        """Starts the watchdog."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local.watchdog"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def started(self, pid: int, stop_signal: signal.Signals) -> None:
        """A process runs; `stop_signal` is how it is asked to end."""
        self._tell(f"start {pid} {int(stop_signal)}")

    def ended(self, pid: int) -> None:
        """A process is gone and was reaped: its number may be another's now."""
        self._tell(f"end {pid}")

    def dismiss(self) -> None:
        """Lets the watchdog end; nothing must run any more."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the watchdog has no pipe")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def watch() -> None:
    """Reads the pipe to its end, then ends what still runs."""
    # The terminal's Ctrl-C is the launcher's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, int] = {}
    for line in sys.stdin:
        match line.split():
            case ["start", pid, number]:
                running[int(pid)] = int(number)
            case ["end", pid]:
                running.pop(int(pid), None)
    for pid, number in reversed(running.items()):
        _signal(pid, number)
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(_signal(pid, 0) for pid in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in running:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> bool:
    """Sends a signal; whether the process was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    watch()
