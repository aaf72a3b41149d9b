"""Whether a process can do its work: the answer to whoever asks for its health.

A process that its database does not answer refuses every call. So it says that it is not serving:
the gateway turns to others, and an operator sees it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from psycopg import Error

from services.runtime.database import Connection, Database, giving_up_after

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 3.0


async def tell_readiness(database: Database, tell: Callable[[bool], Awaitable[None]]) -> None:
    """Tells whenever the database begins or ceases to answer, from its answering on. For ever.

    It is asked over a connection of its own: that all others are busy is no reason to send callers
    away.
    """
    answers = True
    while True:
        try:
            async with await database.connect() as connection:
                while True:
                    await _ask(connection)
                    if not answers:
                        answers = True
                        _log.info("the database answers again")
                        await tell(True)
                    await asyncio.sleep(_LOOK_SECONDS)
        except (Error, OSError):
            if answers:
                answers = False
                _log.error("the database does not answer", exc_info=True)
                await tell(False)
        await asyncio.sleep(_LOOK_SECONDS)


async def _ask(connection: Connection) -> None:
    """Makes sure that the database answers.

    Raises:
        OperationalError: it does not.
    """
    with giving_up_after(_ANSWER_SECONDS, connection):
        await connection.execute(b"SELECT 1")
