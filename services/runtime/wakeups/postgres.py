"""Wake-ups over PostgreSQL's NOTIFY: nothing to run besides the database.

They are not sent in the transaction of the change, since NOTIFY inside a transaction makes commits
wait for each other.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from psycopg import Error, sql

from services.runtime.database import Connection, Database, giving_up_after
from services.runtime.wakeups import CarrierError

_QUIET_SECONDS = 30.0
_ANSWER_SECONDS = 10.0


class PostgresCarrier:
    """A channel of the database that a service has anyway."""

    def __init__(self, database: Database, channel: str) -> None:
        """Takes the channel's name; a service's processes have it in common."""
        self._database = database
        self._channel = channel
        self._sending: Connection | None = None

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[str]]:
        """What others send from now on, until the connection breaks.

        Raises:
            CarrierError: the database does not answer, or not any longer.
        """
        try:
            async with await self._database.connect() as connection:
                listen = sql.SQL("LISTEN {}").format(sql.Identifier(self._channel))
                with giving_up_after(_ANSWER_SECONDS, connection):
                    await connection.execute(listen)
                async with aclosing(_notified(connection)) as payloads:
                    yield payloads
        except (Error, OSError) as error:
            raise CarrierError("the database does not answer") from error

    async def send(self, payload: str) -> None:
        """Sends a text to everyone who listens.

        Raises:
            CarrierError: the database does not answer.
        """
        try:
            if self._sending is None:
                self._sending = await self._database.connect()
            with giving_up_after(_ANSWER_SECONDS, self._sending):
                await self._sending.execute("SELECT pg_notify(%s, %s)", (self._channel, payload))
        except (Error, OSError) as error:
            await self.close()
            raise CarrierError("the database does not answer") from error

    async def close(self) -> None:
        """Closes the connection that sends."""
        if self._sending is not None:
            await self._sending.close()
            self._sending = None


async def _notified(connection: Connection) -> AsyncGenerator[str, None]:
    while True:
        async for notification in connection.notifies(timeout=_QUIET_SECONDS):
            yield notification.payload
        # A connection that broke without a word is as quiet as one without news.
        with giving_up_after(_ANSWER_SECONDS, connection):
            await connection.execute("SELECT 1")
