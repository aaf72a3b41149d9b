"""One process at a time: work that a service does once, however many processes it has.

Who leads holds an advisory lock of PostgreSQL, on a connection of its own. When its process dies,
the server frees the lock at once; when the process hangs or is cut off, the server ends the
connection after a while of silence, and another process leads. For a moment two may think that they
lead: what they do must bear that.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from services.runtime.background import ended
from services.runtime.database import Connection, Database, giving_up_after

_log = logging.getLogger(__name__)

_TRY_AGAIN_SECONDS = 1.0
_SILENCE_SECONDS = 10
_SIGN_OF_LIFE_SECONDS = 3.0
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"


async def lead(
    database: Database, purpose: str, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Does `work`, which does not end by itself, whenever this process leads. Never returns.

    `purpose` names what is done, the same in all processes.
    """
    while True:
        try:
            async with await database.connect() as connection:
                silence = f"SET idle_session_timeout = '{_SILENCE_SECONDS}s'"
                with giving_up_after(_SILENCE_SECONDS, connection):
                    await connection.execute(silence.encode())
                await _wait_for_lock(connection, purpose)
                _log.info("this process leads", extra={"purpose": purpose})
                await _work_while_connected(connection, work)
        except Exception:  # noqa: BLE001 - whatever it is, somebody must lead
            _log.warning("leadership was lost; trying again", exc_info=True)
        await asyncio.sleep(_TRY_AGAIN_SECONDS)


async def _wait_for_lock(connection: Connection, purpose: str) -> None:
    # Asked again and again: a server that waits for a lock does not notice that its client is gone.
    while True:
        with giving_up_after(_SILENCE_SECONDS, connection):
            cursor = await connection.execute(_LOCK.encode(), (purpose,))
        if await cursor.fetchone() == (True,):
            return
        await asyncio.sleep(_TRY_AGAIN_SECONDS)


async def _work_while_connected(
    connection: Connection, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Works until the connection breaks, and with it the lock.

    Raises:
        psycopg.Error: it broke.
        Exception: what the work failed of.
    """
    working = asyncio.create_task(work(), name="leader's work")
    try:
        while True:
            # By the time that the server frees the lock of whoever is silent, no longer working.
            with giving_up_after(_SILENCE_SECONDS - _SIGN_OF_LIFE_SECONDS, connection):
                await connection.execute(b"SELECT 1")
            done, _ = await asyncio.wait([working], timeout=_SIGN_OF_LIFE_SECONDS)
            if done:
                # One that ends as cancelled was not told to: this is the only one to tell it.
                if not working.cancelled():
                    working.result()
                raise RuntimeError("a leader's work ended by itself")
    finally:
        await ended(working)
