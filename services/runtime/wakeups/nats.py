"""Wake-ups over NATS: for many processes, where NOTIFY would have the database tell them all."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nkeys import NkeysError

from services.runtime.wakeups import CarrierError

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5
_PING_SECONDS = 20
_WAITING = 10_000
_JWT = "-----BEGIN NATS USER JWT-----"


class NatsCarrier:
    """A subject of a NATS server or cluster."""

    def __init__(self, url: str, credentials: Path | None, subject: str) -> None:
        """Takes the servers' URLs with commas between, and the subject.

        `credentials` is a file with a user's JWT and seed, as `nsc` writes it (`.creds`), or with
        an nkey's seed alone; it is read at each connection, so that it may be replaced.
        """
        self._servers = url.split(",")
        self._credentials = credentials
        self._subject = subject
        self._client: Client | None = None

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[str]]:
        """What others send from now on, until the connection breaks.

        Raises:
            CarrierError: no server answers, or lets us in, or the credentials cannot be read.
        """
        try:
            who = self._credentials_read()
        except OSError as error:
            raise CarrierError("the credentials for NATS cannot be read") from error
        heard: asyncio.Queue[str | None] = asyncio.Queue()

        async def take(message: Msg) -> None:
            if heard.qsize() < _WAITING:  # A wake-up may be lost; memory is worth more.
                heard.put_nowait(message.data.decode("ascii", errors="replace"))

        async def note_end() -> None:
            heard.put_nowait(None)

        client = Client()
        try:
            await self._subscribe(client, who, take, note_end)
            self._client = client
            yield _until_none(heard)
        finally:
            self._client = None
            await client.close()

    async def send(self, payload: str) -> None:
        """Sends a text to everyone who listens.

        Raises:
            CarrierError: there is no connection.
        """
        if self._client is None:
            raise CarrierError("NATS is not connected")
        try:
            await self._client.publish(self._subject, payload.encode())
        except Error as error:
            raise CarrierError("NATS does not answer") from error

    async def close(self) -> None:
        """Nothing: what listens has the connection."""

    def _credentials_read(self) -> dict[str, str]:
        """Which of the client's options names the file, which is of one of two kinds."""
        if self._credentials is None:
            return {}
        is_jwt = _JWT in self._credentials.read_text()
        return {"user_credentials" if is_jwt else "nkeys_seed": str(self._credentials)}

    async def _subscribe(
        self,
        client: Client,
        who: Mapping[str, Any],
        take: Callable[[Msg], Awaitable[None]],
        closed: Callable[[], Awaitable[None]],
    ) -> None:
        """Connects a client, and has it take what others send from now on.

        Raises:
            CarrierError: no server answers, or lets us in.
        """
        try:
            await self._connect(client, who, closed)
            await client.subscribe(self._subject, cb=take)
            # Twice: the first may be answered by an answer that was still owed from connecting, and
            # what is sent before the subscription has arrived would be lost without a sign.
            await client.flush(_CONNECT_SECONDS)
            await client.flush(_CONNECT_SECONDS)
        except (Error, NkeysError, OSError) as error:
            raise CarrierError(f"NATS does not answer ({type(error).__name__})") from error

    async def _connect(
        self, client: Client, who: Mapping[str, Any], closed: Callable[[], Awaitable[None]]
    ) -> None:
        await client.connect(
            self._servers,
            name="inglenook",
            # Whoever listens connects anew, and knows by that that wake-ups were lost.
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=1,
            connect_timeout=_CONNECT_SECONDS,
            ping_interval=_PING_SECONDS,
            # What this process stored, its own watchers know already.
            no_echo=True,
            error_cb=_note_error,
            closed_cb=closed,
            **who,
        )


async def _until_none(heard: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    while (payload := await heard.get()) is not None:
        yield payload


async def _note_error(error: Exception) -> None:
    _log.warning("NATS: %s", type(error).__name__)
