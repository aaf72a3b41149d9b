"""Ending what runs in the background."""

import asyncio
from typing import Any

_AGAIN_SECONDS = 1.0


async def ended(*tasks: "asyncio.Task[Any]") -> None:
    """Cancels tasks, and returns once they have ended; also when it is itself cancelled meanwhile.

    A task may go on after it was cancelled: `asyncio.wait_for`, on which the database's pool
    stands, loses a cancellation that comes in the moment in which what it waits for is there (until
    Python 3.12). So they are cancelled again and again.

    Raises:
        CancelledError: it was cancelled itself, and all have ended nevertheless.
        Exception: what a task failed of.
    """
    pending = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while pending:
        for task in pending:
            task.cancel()
        try:
            _, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
            pending = {task for task in pending if not task.done()}
    if cancelled is not None:
        raise cancelled
    for task in tasks:
        if not task.cancelled():
            task.result()
