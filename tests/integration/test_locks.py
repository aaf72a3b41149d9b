"""Who is locked, as a process knows it."""

import asyncio
import logging
from uuid import uuid4

import pytest
from sqlalchemy import MetaData

from local.stack import Stack
from services.runtime.database import Database
from services.runtime.erasure import ErasedPeople
from services.runtime.locking import LockedPeople, Locks
from tests.integration.eventually import eventually
from tests.integration.schemas import tables_of

GUARD = 60.0


async def test_who_is_locked_is_known_again_after_any_failure_of_reading_it(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    metadata = MetaData(schema=(schema := f"locks_{uuid4().hex}"))
    erased = ErasedPeople(metadata)
    people, person = LockedPeople(metadata, erased), uuid4()
    with tables_of(stack, metadata) as admin:
        async with (
            asyncio.timeout(GUARD),
            Database(stack.admin_url, pool_size=1, name="locks test") as database,
            Locks(database, people, erased) as locks,
        ):
            # No failure of a connection: the server answers, and refuses.
            admin.execute(f"ALTER TABLE {schema}.locked_people RENAME TO away".encode())
            await asyncio.to_thread(eventually, lambda: "who is locked" in caplog.text)
            admin.execute(f"ALTER TABLE {schema}.away RENAME TO locked_people".encode())
            admin.execute(
                f"INSERT INTO {schema}.locked_people VALUES (%s, true, 1, now())".encode(),  # noqa: S608
                (person,),
            )
            await asyncio.to_thread(eventually, lambda: person in locks)
