"""One launcher at a time for a home."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from local.errors import StackError
from local.home import Home

_CLEARING_SECONDS = 30.0


@contextmanager
def locked(home: Home) -> Iterator[int]:
    """Keeps other launchers off a home; gives the descriptor of the lock.

    Whoever inherits the descriptor holds the lock too: the watchdog of a launcher that was killed
    keeps it until nothing runs any more, and the next launcher waits that long.

    Raises:
        StackError: another launcher runs.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    with (home.run / "lock").open("a+") as file:
        _acquire(file, home)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def _acquire(file: TextIO, home: Home) -> None:
    deadline = time.monotonic() + _CLEARING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read()
            if (holder and _runs(int(holder))) or time.monotonic() > deadline:
                raise StackError(
                    f"Inglenook runs already with the data in {home.folder} (process {holder}):"
                    " stop it first, or set INGLENOOK_HOME to another folder"
                ) from None
            time.sleep(0.05)
        else:
            return


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
