"""Work that outlives the one who waits for it: begun for several calls, undisturbed, and ended."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

Result = TypeVar("Result")

_AGAIN_SECONDS = 1.0


def begun_apart(work: Coroutine[Any, Any, Result], name: str) -> asyncio.Task[Result]:
    """Begins work for several calls, which has nothing of the one that happens to begin it.

    Else its log lines would have that call's request id, it would hold that caller's token, and be
    part of that trace alone: where it is to be in a trace, it says in whose (`traces.batch`).
    """
    return asyncio.create_task(work, name=name, context=Context())


async def undisturbed(work: Coroutine[Any, Any, Result]) -> Result:
    """Does work to its end, also when it is itself cancelled meanwhile.

    For giving back what others wait for: half given back, it would be lost to them.

    Raises:
        CancelledError: it was cancelled itself, and the work is done nevertheless.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


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
