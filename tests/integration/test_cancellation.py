"""Callers who leave in the midst of it take nothing along that others need."""

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import literal, select

from local.stack import Stack
from services.runtime.database import Database, statement

GUARD = 60.0
POOL = 4


@dataclass(frozen=True, slots=True)
class _Row:
    one: int


_ONE = statement(select(literal(1).label("one")), _Row)


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
