"""Wake-ups: they reach every other process, survive what carries them, and cannot do harm."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from local.stack import Stack
from services.runtime.database import Database
from services.runtime.wakeups import Carrier, CarrierError, Wakeups
from services.runtime.wakeups.nats import NatsCarrier
from services.runtime.wakeups.postgres import PostgresCarrier
from tests.nats_server import NatsServer

GUARD = 60.0
MALFORMED = ["", "feed", "feed=", "=3", "feed=three", "feed=0", "feed=-1", "feed=1  feed=2", "é=1"]
MALFORMED += [f"feed={1 << 63}", "feed=" + "9" * 5000, "\x00=1 \x7f"]


class Process:
    """What a process of a service has of wake-ups, and what it heard."""

    def __init__(self, carrier: Carrier) -> None:
        self.wakeups = Wakeups(carrier, learn=self._learn, look=self._look)
        self.heard: dict[str, int] = {}
        self.looks = 0
        self._news = asyncio.Event()

    def _learn(self, feed: str, revision: int) -> None:
        self.heard[feed] = revision
        self._news.set()

    def _look(self) -> None:
        self.looks += 1
        self._news.set()

    async def until_heard(self, expected: dict[str, int]) -> None:
        await self._until(lambda: expected.items() <= self.heard.items())

    async def until_looked(self, times: int) -> None:
        await self._until(lambda: self.looks >= times)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD):
            while not condition():
                self._news.clear()
                await self._news.wait()


@dataclass
class Link:
    """Something that carries wake-ups, and how to break it."""

    carrier: Callable[[], Carrier]
    cut: Callable[[], Awaitable[None]]
    """Breaks every connection there is, for a moment."""
    open: AsyncExitStack

    async def process(self) -> Process:
        process = Process(self.carrier())
        await self.open.enter_async_context(process.wakeups)
        await process.until_looked(1)
        return process


def _terminate(stack: Stack, name: str, last_query: str) -> None:
    """Breaks the connections of a name whose last query was like that."""
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND query LIKE %s",
            (name, last_query),
        )


async def _nothing() -> None:
    pass


@pytest.fixture(params=["postgres", "nats"])
async def link(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> AsyncIterator[Link]:
    async with AsyncExitStack() as opened:
        if request.param == "nats":
            server = NatsServer(tmp_path)
            server.start()
            opened.callback(server.stop)

            async def cut() -> None:
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)

            yield Link(lambda: NatsCarrier(server.url, server.credentials, "test"), cut, opened)
        else:
            name = f"test {uuid4()}"
            database = Database(stack.admin_url, pool_size=1, name=name)
            await opened.enter_async_context(database)

            async def cut() -> None:
                _terminate(stack, name, "%")

            yield Link(lambda: PostgresCarrier(database, name), cut, opened)


async def test_a_wake_up_reaches_every_other_process(link: Link) -> None:
    writer, first, second = [await link.process() for _ in range(3)]
    writer.wakeups.send("a", 3)
    writer.wakeups.send("b", 7)
    for process in (first, second):
        await process.until_heard({"a": 3, "b": 7})


async def test_many_feeds_go_together_and_of_each_the_latest(link: Link) -> None:
    writer, other = await link.process(), await link.process()
    feeds = {f"{uuid4()}/{uuid4()}": number for number in range(1, 1001)}
    for feed, revision in feeds.items():
        writer.wakeups.send(feed, revision + 5)
        writer.wakeups.send(feed, revision)
    expected = {feed: revision + 5 for feed, revision in feeds.items()}
    await other.until_heard(expected)


async def test_a_link_that_broke_is_made_again_and_whoever_follows_is_told_to_look(
    link: Link,
) -> None:
    writer, other = await link.process(), await link.process()
    for number in range(1, 4):
        await link.cut()
        await other.until_looked(number + 1)
        await writer.until_looked(number + 1)
        writer.wakeups.send("feed", number)
        await other.until_heard({"feed": number})


async def test_who_stops_tells_what_it_stored_last(link: Link) -> None:
    stopping, other = Process(link.carrier()), await link.process()
    async with stopping.wakeups:
        await stopping.until_looked(1)
        stopping.wakeups.send("feed", 9)
    await other.until_heard({"feed": 9})


async def test_what_could_not_be_sent_is_sent_again(stack: Stack) -> None:
    async with AsyncExitStack() as opened:
        name = f"test {uuid4()}"
        database = Database(stack.admin_url, pool_size=1, name=name)
        await opened.enter_async_context(database)
        link = Link(lambda: PostgresCarrier(database, name), _nothing, opened)
        writer, other = await link.process(), await link.process()
        writer.wakeups.send("feed", 1)
        await other.until_heard({"feed": 1})
        _terminate(stack, name, "SELECT pg_notify%")
        writer.wakeups.send("feed", 2)
        await other.until_heard({"feed": 2})


async def test_what_is_no_wake_up_is_ignored(link: Link) -> None:
    other = await link.process()
    sender = link.carrier()
    async with AsyncExitStack() as listening:
        # NATS sends on the connection that listens.
        await listening.enter_async_context(sender.listen())
        for payload in MALFORMED:
            with suppress(CarrierError, psycopg.DataError):  # NOTIFY refuses NUL by itself.
                await sender.send(payload)
        await sender.send("last=8")
        await other.until_heard({"last": 8})
        await sender.close()
    # What came before what makes no sense was a wake-up.
    assert other.heard.get("feed", 1) == 1
    assert other.looks == 1


async def test_a_stranger_is_not_let_in(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    try:
        for credentials in (None, NatsServer(stranger).credentials):
            carrier = NatsCarrier(server.url, credentials, "test")
            with pytest.raises(CarrierError):
                async with carrier.listen():
                    pass
    finally:
        server.stop()


async def test_credentials_that_cannot_be_read_for_a_while_are_read_again(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    away = server.credentials.rename(tmp_path / "away")
    looked = asyncio.Event()
    carrier = NatsCarrier(server.url, server.credentials, "test")
    with pytest.raises(CarrierError):
        async with carrier.listen():
            pass
    async with Wakeups(carrier, learn=lambda *_: None, look=looked.set), asyncio.timeout(GUARD):
        await asyncio.sleep(0)
        away.rename(server.credentials)
        await looked.wait()
    server.stop()


class Faulty:
    """A carrier that fails at first, as none should."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[str] = asyncio.Queue()
        self._faults = {"listen", "send"}

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[str]]:
        self._fail("listen")
        yield self._payloads()

    async def _payloads(self) -> AsyncIterator[str]:
        while True:
            yield await self.sent.get()

    async def send(self, payload: str) -> None:
        self._fail("send")
        self.sent.put_nowait(payload)

    async def close(self) -> None:
        pass

    def _fail(self, step: str) -> None:
        if step in self._faults:
            self._faults.remove(step)
            raise AssertionError("a fault of the library's")


async def test_whatever_a_carrier_fails_of_wake_ups_go_on() -> None:
    process = Process(Faulty())
    async with process.wakeups:
        process.wakeups.send("feed", 3)
        await process.until_heard({"feed": 3})


async def test_what_waits_to_be_sent_while_that_cannot_be_has_a_bound() -> None:
    process = Process(Faulty())
    async with process.wakeups:
        for number in range(1, 60_001):
            process.wakeups.send(f"feed-{number}", number)
        # The latest of them, and the others are found by looking.
        await process.until_heard({"feed-60000": 60_000})
        assert len(process.heard) <= 20_000


async def test_a_process_starts_before_what_carries_its_wake_ups(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    url = server.url
    server.stop()
    looked = asyncio.Event()
    carrier = NatsCarrier(url, server.credentials, "test")
    async with Wakeups(carrier, learn=lambda *_: None, look=looked.set), asyncio.timeout(GUARD):
        await asyncio.to_thread(server.start)
        await looked.wait()
    server.stop()


async def test_who_stops_while_connecting_to_nats_leaves_no_connection() -> None:
    has_come, has_gone = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        has_come.set()
        await reader.read()
        has_gone.set()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1") as silent:
        port = silent.sockets[0].getsockname()[1]
        carrier = NatsCarrier(f"nats://127.0.0.1:{port}", None, "test")
        async with asyncio.timeout(GUARD):
            async with Wakeups(carrier, learn=lambda *_: None, look=lambda: None):
                await has_come.wait()
            await has_gone.wait()
