"""Tasks end: those that lose a cancellation, those that fail, and while being cancelled."""

import asyncio

import pytest

from services.runtime.background import ended, undisturbed

GUARD = 30.0


async def _for_ever(losing: int = 0, took: asyncio.Event | None = None) -> None:
    """Runs for ever, and loses so many cancellations before it ends."""
    while True:
        try:
            if took is not None:
                took.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not losing:
                raise
            losing -= 1


async def _begun(losing: int = 0) -> "asyncio.Task[None]":
    took = asyncio.Event()
    task = asyncio.create_task(_for_ever(losing, took))
    await took.wait()
    return task


async def test_a_task_that_loses_a_cancellation_ends_all_the_same() -> None:
    tasks = [await _begun(), await _begun(losing=1)]
    async with asyncio.timeout(GUARD):
        await ended(*tasks)
    assert all(task.cancelled() for task in tasks)


async def test_who_is_cancelled_while_ending_a_task_ends_it_first() -> None:
    task = await _begun(losing=1)
    ending = asyncio.create_task(ended(task))
    await asyncio.sleep(0)
    ending.cancel()
    async with asyncio.timeout(GUARD):
        with pytest.raises(asyncio.CancelledError):
            await ending
    assert task.cancelled()


async def test_what_a_task_failed_of_is_told() -> None:
    async def fail() -> None:
        raise ValueError("a fault")

    failed = asyncio.create_task(fail())
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="a fault"):
        await ended(failed, await _begun())


async def test_what_must_not_be_left_half_done_is_done_though_its_caller_is_cancelled() -> None:
    may_end, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        done.set()

    caller = asyncio.create_task(undisturbed(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    may_end.set()
    async with asyncio.timeout(GUARD):
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert done.is_set()


async def test_what_is_done_undisturbed_answers_and_fails_as_it_does() -> None:
    async def fail() -> None:
        raise ValueError("a fault")

    assert await undisturbed(asyncio.sleep(0, "an answer")) == "an answer"
    with pytest.raises(ValueError, match="a fault"):
        await undisturbed(fail())
