"""Wake-ups in a tree of processes: the one at its root listens for all, and is told by all.

Between the root and each worker is a pair of sockets that nobody else can reach; what goes over it
is a line for each payload, and an empty line where wake-ups may have been lost.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime.wakeups import STORED_AT, Carrier, CarrierError, Wakeups, news_in, payload_of

_log = logging.getLogger(__name__)

# Of what a worker was told and has not read yet: one that is stopped must not fill the root.
_UNREAD_BYTES = 1 << 20


class Hub:
    """The root's side: passes wake-ups on between workers and the world. Use as `async with`."""

    def __init__(self, carrier: Carrier) -> None:
        """Takes what carries wake-ups to and from other trees."""
        self._links: set[_Link] = set()
        self._world = Wakeups(carrier, learn=self._tell_all, look=self._tell_all_to_look)

    async def __aenter__(self) -> "Hub":
        await self._world.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._world.__aexit__(*exc)

    async def serve(self, connection: socket.socket) -> None:
        """Passes on what a worker tells, and tells it what others do, until it is gone.

        One that tells what is no wake-up loses its link, and ends by that; the others go on.
        """
        reader, writer = await asyncio.open_connection(sock=connection)
        link = _Link(writer)
        self._links.add(link)
        try:
            async for line in reader:
                if not line.endswith(b"\n"):
                    break  # It was killed in the middle of it.
                payload = line.decode("ascii").rstrip()
                for feed, revision in list(news_in(payload)):
                    if feed != STORED_AT:
                        self._world.send(feed, revision)
                for other in self._links - {link}:
                    other.tell(payload)
        except ConnectionError:
            _log.debug("a worker has left without a word")
        except ValueError:
            _log.warning("a worker tells what is no wake-up; its link is closed")
        finally:
            self._links.discard(link)
            writer.close()

    def _tell_all(self, feed: str, revision: int) -> None:
        for link in self._links:
            link.tell(payload_of({feed: revision}))

    def _tell_all_to_look(self) -> None:
        for link in self._links:
            link.tell("")


class _Link:
    """A worker, as the root sees it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._has_lost = False

    def tell(self, payload: str) -> None:
        """Tells it; or, once it reads no more, that it was not told."""
        if self._writer.transport.get_write_buffer_size() > _UNREAD_BYTES:
            self._has_lost = True
            return
        if self._has_lost:
            self._has_lost = False
            self._writer.write(b"\n")
        self._writer.write(f"{payload}\n".encode("ascii"))


class TreeCarrier:
    """A worker's side: a `Carrier` to the root of its tree."""

    def __init__(self, descriptor: int) -> None:
        """Takes the descriptor of the worker's socket."""
        self._connection = socket.socket(fileno=descriptor)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[str]]:
        """What others send from now on, until some of it may have been lost.

        Raises:
            CarrierError: the root is gone; this process was told to stop by then.
        """
        yield _until_lost((await self._opened())[0])

    async def send(self, payload: str) -> None:
        """Sends a text to every other process, in the tree and out of it.

        Raises:
            CarrierError: the root is gone.
        """
        _, writer = await self._opened()
        writer.write(f"{payload}\n".encode("ascii"))
        try:
            await writer.drain()
        except ConnectionError as error:
            raise CarrierError("the root of the tree is gone") from error

    async def close(self) -> None:
        """Lets go of the socket."""
        if self._streams is not None:
            self._streams[1].close()

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(sock=self._connection)
        return self._streams


async def _until_lost(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    while (line := await reader.readline()) != b"\n":
        if not line:
            # Whoever started this process is gone, and nobody else would ever stop it.
            signal.raise_signal(signal.SIGTERM)
            raise CarrierError("the root of the tree is gone")
        yield line.decode("ascii").rstrip()
