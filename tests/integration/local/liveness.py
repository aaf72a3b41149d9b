"""Whether processes still run, also while they end."""

from collections.abc import Iterable

import psutil


def runs(process: psutil.Process) -> bool:
    """Whether it runs; what only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # It ended between the two questions.
        return False


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that run."""
    return [process for process in processes if runs(process)]
