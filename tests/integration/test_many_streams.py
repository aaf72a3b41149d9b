"""Many watchers: what they share, what they cost, and that nothing of them is left behind."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import psutil
import psycopg
import pytest
from inglenook.messages.v1.messages_pb2 import (
    AppendMessageRequest,
    WatchMessagesRequest,
    WatchMessagesResponse,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack, free_ports
from tests.faults.proxy import Proxy
from tests.integration.calls import Refused
from tests.integration.replicas import start_replica
from tests.integration.streams import Feed, RefusedError, current, feed_of

if TYPE_CHECKING:
    from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceAsyncStub

GUARD = 120.0
TOO_MANY = Refused("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
MEBIBYTE = 1 << 20
Watch = grpc.aio.UnaryStreamCall[WatchMessagesRequest, WatchMessagesResponse]


class Replica:
    """A process of the messages service that has so many streams for a person."""

    def __init__(self, stack: Stack, streams: int) -> None:
        self.port = free_ports().gateway
        self._process: subprocess.Popen[bytes] = start_replica(
            stack, self.port, streams_per_person=str(streams)
        )
        self._statistics = psutil.Process(self._process.pid)

    @property
    def memory(self) -> int:
        return int(self._statistics.memory_info().rss)

    @property
    def descriptors(self) -> int:
        return self._statistics.num_fds()

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(60) == 0


@contextmanager
def replica_with(stack: Stack, streams: int) -> Iterator[Replica]:
    replica = Replica(stack, streams)
    try:
        yield replica
    finally:
        replica.stop()


class Client:
    """Someone who watches one conversation often."""

    def __init__(self, feed: Feed, port: int, connections: int = 1) -> None:
        self.metadata = (("authorization", feed.caller.headers["authorization"]),)
        self._session = feed.path.split("/")[3]
        self._address = f"127.0.0.1:{port}"
        self._channels = [
            # A connection each: channels with the same options would share one.
            grpc.aio.insecure_channel(self._address, options=[("inglenook.connection", number)])
            for number in range(connections)
        ]
        self._next = 0

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    def watch(self) -> Watch:
        channel = self._channels[self._next % len(self._channels)]
        self._next += 1
        request = WatchMessagesRequest(session_id=self._session, heartbeat_seconds=60)
        stub: MessagesServiceAsyncStub = MessagesServiceStub(channel)
        return stub.WatchMessages(request, metadata=self.metadata)

    async def say(self, content: str) -> None:
        request = AppendMessageRequest(session_id=self._session, content=content)
        stub = MessagesServiceStub(self._channels[0])
        await stub.AppendMessage(request, metadata=self.metadata)


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with asyncio.timeout(GUARD), AsyncExitStack() as stack:
        yield stack


async def until_current(call: Watch) -> Watch:
    frame: Any = None
    while frame is None or not frame.HasField("current"):
        frame = await call.read()
        assert frame is not grpc.aio.EOF, await call.details()
    return call


async def refusal(feed: Feed, way: str = "grpc", port: int | None = None) -> RefusedError | None:
    """How one watch more is refused; None when it is not."""
    try:
        async with aclosing(feed.watch(way, port=port)) as frames:
            await current(frames)
    except RefusedError as error:
        return error
    return None


async def until_admitted(feed: Feed, way: str = "grpc", port: int | None = None) -> None:
    while (refused := await refusal(feed, way, port)) is not None:
        assert refused.refused == TOO_MANY
        await asyncio.sleep(0.1)


async def test_a_person_has_so_many_streams_and_another_has_as_many(
    stack: Stack, closing: AsyncExitStack
) -> None:
    with replica_with(stack, 3) as replica:
        feed, others = await feed_of(stack, "messages"), await feed_of(stack, "messages")
        client = Client(feed, replica.port)
        closing.push_async_callback(client.close)
        calls = [await until_current(client.watch()) for _ in range(3)]
        refused = await refusal(feed, port=replica.port)
        assert refused is not None
        assert refused.refused == TOO_MANY
        assert refused.retry_seconds > 0
        assert await refusal(others, port=replica.port) is None
        calls[0].cancel()
        await until_admitted(feed, port=replica.port)


@pytest.mark.parametrize("end", ["cancel", "connection", "token", "refusal"])
async def test_however_a_stream_ends_its_place_is_free_again(
    stack: Stack, closing: AsyncExitStack, end: str
) -> None:
    with replica_with(stack, 2) as replica:
        feed = await feed_of(stack, "messages")
        client = Client(feed, replica.port)
        closing.push_async_callback(client.close)
        for _ in range(4):
            match end:
                case "cancel":
                    for call in [await until_current(client.watch()) for _ in range(2)]:
                        call.cancel()
                case "connection":
                    passing = Client(feed, replica.port)
                    for _ in range(2):
                        await until_current(passing.watch())
                    await passing.close()
                case "token":
                    ending = stack.token(feed.caller.name, lifetime=-9)
                    with pytest.raises(RefusedError, match="TOKEN_EXPIRED"):
                        async for _ in feed.watch(bearer=ending, port=replica.port):
                            pass
                case "refusal":
                    with pytest.raises(RefusedError, match="RESUME_TOKEN_INVALID"):
                        await anext(feed.watch(resume_token="bad", port=replica.port))
            await until_admitted(feed, port=replica.port)
        await asyncio.gather(*(until_admitted(feed, port=replica.port) for _ in range(2)))


async def test_a_watcher_that_vanished_without_a_word_makes_room_for_another(
    stack: Stack, closing: AsyncExitStack
) -> None:
    """Takes most of a minute of waiting: as long as a silent client is given."""
    with replica_with(stack, 1) as replica:
        feed = await feed_of(stack, "messages")
        link = await closing.enter_async_context(Proxy(replica.port))
        vanishing = Client(feed, link.port)
        closing.push_async_callback(vanishing.close)
        await until_current(vanishing.watch())
        link.cut()
        refused = await refusal(feed, port=replica.port)
        assert refused is not None
        assert refused.refused == TOO_MANY
        await until_admitted(feed, port=replica.port)


async def test_when_an_http_client_leaves_its_stream_ends_behind_the_gateway_too(
    stack: Stack, closing: AsyncExitStack
) -> None:
    feed = await feed_of(stack, "me")
    limits = httpx.Limits(max_connections=None)
    client = await closing.enter_async_context(
        httpx.AsyncClient(
            base_url=stack.url, headers=feed.caller.headers, limits=limits, timeout=60
        )
    )
    async with AsyncExitStack() as streams:
        for _ in range(100):  # The default limit.
            answer = await streams.enter_async_context(client.stream("GET", "/v1/me:watch"))
            assert answer.status_code == 200
        refused = await refusal(feed, "json")
        assert refused is not None
        assert refused.refused == TOO_MANY
    await until_admitted(feed, "json")
    async with AsyncExitStack() as streams:
        for _ in range(100):
            answer = await streams.enter_async_context(client.stream("GET", "/v1/me:watch"))
            while answer.status_code == 429:  # The last of the old ones may still be leaving.
                await asyncio.sleep(0.1)
                answer = await streams.enter_async_context(client.stream("GET", "/v1/me:watch"))
            assert answer.status_code == 200


def index_reads(stack: Stack) -> int:
    """How often the changes of conversations were read, as PostgreSQL counts."""
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT idx_scan FROM pg_stat_user_indexes"
            " WHERE indexrelname = 'messages_by_revision' AND schemaname = 'messages'"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_what_many_watch_is_read_once_for_all_of_them(
    stack: Stack, closing: AsyncExitStack
) -> None:
    with replica_with(stack, 100) as replica:
        feed = await feed_of(stack, "messages")
        client = Client(feed, replica.port)
        closing.push_async_callback(client.close)
        calls = [await until_current(client.watch()) for _ in range(100)]
        before = await settled(lambda: index_reads(stack))
        for number in range(10):
            # Through another process: this one has to read.
            await feed.change(f"line {number}")
            for call in calls:
                frame: Any = await call.read()
                assert [c.upserted.content for c in frame.changes] == [f"line {number}"]
        reads = await settled(lambda: index_reads(stack)) - before
        # Each for itself would be a thousand.
        assert 0 < reads <= 30, reads


async def settled(count: Callable[[], int]) -> int:
    """A count that PostgreSQL's processes report now and then, once it stands still."""
    found, since = count(), time.monotonic()
    while time.monotonic() < since + 2.5:
        await asyncio.sleep(0.1)
        if (now := count()) != found:
            found, since = now, time.monotonic()
    return found


async def test_who_stops_reading_costs_nobody_anything_and_catches_up(
    stack: Stack, closing: AsyncExitStack
) -> None:
    with replica_with(stack, 100) as replica:
        feed = await feed_of(stack, "messages")
        reader, sleeper = Client(feed, replica.port), Client(feed, replica.port, 1)
        for client in (reader, sleeper):
            closing.push_async_callback(client.close)
        stalled = [await until_current(sleeper.watch()) for _ in range(20)]
        reading = await until_current(reader.watch())
        before = replica.memory
        said = 0
        seen: list[str] = []
        for _ in range(60):
            await asyncio.gather(*(reader.say(f"{said + n} {'x' * 4000}") for n in range(50)))
            said += 50
            while len(seen) < said:
                frame: Any = await reading.read()
                seen += [change.upserted.message_id for change in frame.changes]
        # 12 MB were said; twenty who do not read would be 240 MB if it were kept for them.
        assert replica.memory - before < 60 * MEBIBYTE
        for call in stalled:
            caught: list[str] = []
            while len(caught) < said:
                frame = await call.read()
                caught += [change.upserted.message_id for change in frame.changes]
            assert caught == seen


async def test_ten_thousand_streams_that_came_and_went_leave_nothing_behind(
    stack: Stack, closing: AsyncExitStack
) -> None:
    at_once, rounds = 2_000, 5
    with replica_with(stack, at_once) as replica:
        feed = await feed_of(stack, "messages")
        await feed.change("hello")
        client = Client(feed, replica.port, connections=4)
        closing.push_async_callback(client.close)
        memory, descriptors = [], []
        for _ in range(rounds):
            calls: list[Watch] = []
            while len(calls) < at_once:
                # Every place is taken: whoever left before must have been noticed.
                calls += await asyncio.gather(*(until_current(client.watch()) for _ in range(200)))
            for call in calls:
                call.cancel()
            await until_admitted(feed, port=replica.port)
            await until_empty(feed, client, at_once)
            memory.append(replica.memory)
            descriptors.append(replica.descriptors)
        assert descriptors[-1] <= descriptors[0] + 2, descriptors
        assert memory[-1] - memory[0] < 24 * MEBIBYTE, memory


async def until_empty(feed: Feed, client: Client, places: int) -> None:
    """Until all places are free: seen by taking many of them at once."""
    assert feed
    while True:
        calls = [client.watch() for _ in range(min(places, 200))]
        try:
            await asyncio.gather(*map(until_current, calls))
        except AssertionError:
            await asyncio.sleep(0.1)
        else:
            return
        finally:
            for call in calls:
                call.cancel()
