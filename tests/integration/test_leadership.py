"""Leading: one process at a time works, and whoever is told to stop stops."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import psycopg

from local.stack import Stack
from services.runtime.background import ended
from services.runtime.database import Database
from services.runtime.leadership import lead

GUARD = 60.0


async def test_a_leader_who_is_told_to_stop_while_its_connection_breaks_stops(stack: Stack) -> None:
    name = f"test {uuid4()}"
    works, ending, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        works.set()
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()

    async with asyncio.timeout(GUARD), Database(stack.admin_url, pool_size=1, name=name) as db:
        leading = asyncio.create_task(lead(db, name, work))
        await works.wait()
        async with await psycopg.AsyncConnection.connect(
            stack.admin_url, autocommit=True
        ) as connection:
            ended: Sequence[object] = []
            while not ended:  # Its work can begin before its first sign of life is seen.
                cursor = await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = %s AND query = 'SELECT 1'",
                    (name,),
                )
                ended = await cursor.fetchall()
        await ending.wait()
        leading.cancel()
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.wait([leading], timeout=10)
        assert leading.cancelled()


async def test_work_that_fails_is_begun_again(stack: Stack) -> None:
    name = f"test {uuid4()}"
    begun: list[str] = []
    works = asyncio.Event()

    async def work() -> None:
        begun.append(name)
        match len(begun):
            case 1:
                raise RuntimeError("a fault")
            case 2:
                raise asyncio.CancelledError
            case 3:
                return
        works.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(GUARD), Database(stack.admin_url, pool_size=1, name=name) as db:
        leading = asyncio.create_task(lead(db, name, work))
        working = asyncio.create_task(works.wait())
        await asyncio.wait([leading, working], return_when=asyncio.FIRST_COMPLETED)
        assert works.is_set()
        await ended(leading, working)
