"""Callers who leave in the midst of it take nothing along that others need."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from psycopg.errors import DivisionByZero
from sqlalchemy import Float, Integer, Text, bindparam, func, literal, select

from local.stack import Stack
from services.runtime.database import Database, Statement, statement
from tests.integration.eventually import eventually, rows

GUARD = 60.0
POOL = 4


@dataclass(frozen=True, slots=True)
class _Row:
    one: int


@dataclass(frozen=True, slots=True)
class _SlowRow:
    slept: str


_ONE = statement(select(literal(1).label("one")), _Row)
_SLOW = statement(
    select(func.pg_sleep(bindparam("seconds", type_=Float)).cast(Text).label("slept")), _SlowRow
)
_DIVIDED = statement(
    select((literal(6) / bindparam("by", type_=Integer)).cast(Integer).label("one")), _Row
)


async def _leave(call: "asyncio.Task[object]", turns: int) -> None:
    """Cancels a call after so many turns of the event loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()


async def test_callers_who_leave_take_no_connection_along(
    stack: Stack, chance: random.Random
) -> None:
    name = f"leaving {uuid4()}"
    async with asyncio.timeout(GUARD), Database(stack.admin_url, pool_size=POOL, name=name) as db:
        for _ in range(60):
            calls = [asyncio.create_task(db.all(_ONE, {})) for _ in range(10 * POOL)]
            leaving = [_leave(call, chance.randrange(60)) for call in calls]
            await asyncio.gather(*leaving)
            await asyncio.wait(calls)
            assert all(call.cancelled() or call.result() == [_Row(1)] for call in calls)
        async with AsyncExitStack() as all_of_them:
            for _ in range(POOL):
                await all_of_them.enter_async_context(db.transaction())


async def _fail(database: Database, _name: str, _stack: Stack) -> None:
    with pytest.raises(DivisionByZero):
        await database.one_after(_DIVIDED, _ONE, {"by": 0})


async def _leave_trip(database: Database, name: str, stack: Stack) -> None:
    sleeping = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event = 'PgSleep'"
    )
    call = asyncio.create_task(database.all_after(_SLOW, _ONE, {"seconds": 2 * GUARD}))
    await asyncio.to_thread(eventually, lambda: bool(rows(stack, sleeping, name)))
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()


@pytest.mark.parametrize(
    ("first", "parameters", "break_off"),
    [(_DIVIDED, {"by": 6}, _fail), (_SLOW, {"seconds": 0.0}, _leave_trip)],
    ids=["fails", "left"],
)
@pytest.mark.parametrize("trips", range(4, 7))
async def test_a_trip_that_was_broken_off_spoils_none_that_follows(
    stack: Stack,
    first: Statement[Any],
    parameters: dict[str, object],
    break_off: Callable[[Database, str, Stack], Awaitable[None]],
    trips: int,
) -> None:
    # What is run for the sixth time is prepared, by psycopg's count: that is when it breaks off.
    name = f"trips {uuid4()}"
    async with asyncio.timeout(GUARD), Database(stack.admin_url, pool_size=1, name=name) as db:
        for _ in range(trips):
            assert await db.one_after(first, _ONE, parameters) == _Row(1)
        await break_off(db, name, stack)
        for _ in range(trips):
            assert await db.one_after(first, _ONE, parameters) == _Row(1)
