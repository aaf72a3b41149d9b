"""Live updates: a watcher sees all, once, in order, through every cut and on every replica."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import closing
from itertools import chain
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from inglenook.messages.v1.messages_pb2 import AppendMessageRequest, WatchMessagesRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import CreateSessionRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from local.stack import Stack, free_ports
from tests.integration.calls import MakePerson, refusal_over_grpc
from tests.integration.replicas import start_replica

Metadata = tuple[tuple[str, str], ...]


class Watcher:
    """Holds what a client would: the messages by id, and the last resume token."""

    def __init__(self, port: int, session: str, metadata: Metadata) -> None:
        self._port, self._session, self._metadata = port, session, metadata
        self.token = ""
        self.arrived: list[str] = []
        self._news = asyncio.Event()

    async def heard(self) -> None:
        """Waits for the next frame."""
        self._news.clear()
        await asyncio.wait_for(self._news.wait(), 60)

    async def watch(self, *, until: int, port: int | None = None) -> None:
        """Watches until so many messages have arrived, then cuts."""
        address = f"127.0.0.1:{port or self._port}"
        async with grpc.aio.insecure_channel(address) as channel:
            stub = MessagesServiceStub(channel)
            request = WatchMessagesRequest(
                session_id=self._session, newest=200, resume_token=self.token
            )
            call = stub.WatchMessages(request, metadata=self._metadata, timeout=60)
            async for frame in call:
                self.token = frame.resume_token
                self.arrived += [change.upserted.content for change in frame.changes]
                self._news.set()
                if len(self.arrived) >= until:
                    break
            call.cancel()


@pytest.fixture
def alice(stack: Stack) -> Metadata:
    return (("authorization", f"Bearer {stack.token('alice')}"),)


@pytest.fixture
async def session(stack: Stack, alice: Metadata) -> str:
    async with grpc.aio.insecure_channel(stack.ports.address("sessions")) as channel:
        stub = SessionsServiceStub(channel)
        created = await stub.CreateSession(CreateSessionRequest(), metadata=alice)
        return created.session.session_id


@pytest.fixture
async def messages(stack: Stack) -> AsyncIterator[MessagesServiceStub]:
    async with grpc.aio.insecure_channel(stack.ports.address("messages")) as channel:
        yield MessagesServiceStub(channel)


async def _say(
    messages: MessagesServiceStub, session: str, alice: Metadata, numbers: range
) -> list[str]:
    lines = [f"line {number}" for number in numbers]
    for line in lines:
        request = AppendMessageRequest(session_id=session, content=line)
        await messages.AppendMessage(request, metadata=alice)  # type: ignore[misc]
    return lines


async def test_a_burst_of_the_longest_messages_reaches_who_watches(
    stack: Stack, alice: Metadata, session: str, messages: MessagesServiceStub
) -> None:
    longest = AppendMessageRequest(session_id=session, content="\N{FIRE}" * 50_000)

    async def append() -> None:
        await messages.AppendMessage(longest, metadata=alice)  # type: ignore[misc]

    await append()
    watcher = Watcher(stack.ports.messages, session, alice)
    watching = asyncio.create_task(watcher.watch(until=31))
    await watcher.heard()
    with psycopg.connect(stack.admin_url) as writing:
        # As if another process wrote: all that comes meanwhile is written at once.
        writing.execute(
            "SELECT 1 FROM messages.conversations WHERE session_id = %s FOR UPDATE", (session,)
        )
        burst = [asyncio.create_task(append()) for _ in range(30)]
        await asyncio.sleep(2)
        writing.rollback()
    await asyncio.gather(*burst, watching)


async def test_a_watch_is_a_snapshot_then_current_then_news(
    messages: MessagesServiceStub, session: str, alice: Metadata
) -> None:
    await _say(messages, session, alice, range(5))
    request = WatchMessagesRequest(session_id=session, newest=2)
    call = messages.WatchMessages(request, metadata=alice, timeout=60)
    frames: Any = call.__aiter__()  # type: ignore[attr-defined]
    snapshot = await anext(frames)
    assert [change.upserted.content for change in snapshot.changes] == ["line 3", "line 4"]
    assert (await anext(frames)).HasField("current")
    await _say(messages, session, alice, range(5, 6))
    assert [change.upserted.content for change in (await anext(frames)).changes] == ["line 5"]
    call.cancel()


async def test_resume_after_a_cut_delivers_exactly_what_was_missed_on_any_replica(
    stack: Stack, replica: int, messages: MessagesServiceStub, session: str, alice: Metadata
) -> None:
    watcher = Watcher(stack.ports.messages, session, alice)
    said = await _say(messages, session, alice, range(3))
    await watcher.watch(until=3)
    said += await _say(messages, session, alice, range(3, 10))
    await watcher.watch(until=10, port=replica)
    said += await _say(messages, session, alice, range(10, 12))
    await watcher.watch(until=12)
    assert watcher.arrived == said


async def test_what_one_replica_stores_reaches_the_watchers_of_another(
    replica: int, messages: MessagesServiceStub, session: str, alice: Metadata
) -> None:
    watcher = Watcher(replica, session, alice)
    watching = asyncio.create_task(watcher.watch(until=20))
    said = await _say(messages, session, alice, range(20))
    await watching
    assert watcher.arrived == said


async def test_many_writers_at_once_leave_no_gap_and_no_double(
    stack: Stack, replica: int, session: str, alice: Metadata
) -> None:
    watcher = Watcher(stack.ports.messages, session, alice)
    watching = asyncio.create_task(watcher.watch(until=100))

    async def write(port: int) -> list[int]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = MessagesServiceStub(channel)
            answers = []
            for _ in range(25):
                request = AppendMessageRequest(
                    session_id=session, message_id=str(uuid4()), content=str(uuid4())
                )
                # Twice at the same time: the same message all the same.
                twins = [stub.AppendMessage(request, metadata=alice) for _ in range(2)]
                first, second = [await twin for twin in twins]
                assert first == second
                answers.append(first.message.sequence)
            return answers

    ports = [stack.ports.messages, replica, stack.ports.messages, replica]
    written = await asyncio.gather(*(write(port) for port in ports))
    await watching
    assert sorted(chain.from_iterable(written)) == list(range(1, 101))
    assert len(set(watcher.arrived)) == len(watcher.arrived) == 100


async def test_a_watch_ends_with_its_token_and_resumes_with_a_fresh_one(
    stack: Stack, messages: MessagesServiceStub, session: str, alice: Metadata
) -> None:
    # The services forgive ten seconds of clock difference: this token is at its end.
    ending = stack.token("alice", lifetime=-8)
    request = WatchMessagesRequest(session_id=session)
    metadata = (("authorization", f"Bearer {ending}"),)
    call = messages.WatchMessages(request, metadata=metadata, timeout=60)
    token = ""
    with pytest.raises(grpc.aio.AioRpcError) as ended:  # noqa: PT012 - the loop is the call
        async for frame in call:  # type: ignore[attr-defined]
            token = frame.resume_token
    assert refusal_over_grpc(ended.value).reason == "TOKEN_EXPIRED"
    said = await _say(messages, session, alice, range(2))
    watcher = Watcher(stack.ports.messages, session, alice)
    watcher.token = token
    await watcher.watch(until=2)
    assert watcher.arrived == said


def test_a_watch_over_http_is_a_line_of_json_for_each_frame_as_it_happens(
    stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "before")
    url = f"/v1/sessions/{session}/messages:watch"
    with alice.http.stream("GET", url) as answer:
        lines = answer.iter_lines()
        snapshot, current = json.loads(next(lines)), json.loads(next(lines))
        assert snapshot["changes"][0]["upserted"]["content"] == "before"
        assert current["current"] == {}
        with closing(person("alice")) as other:
            other.say(session, "after")
        assert json.loads(next(lines))["changes"][0]["upserted"]["content"] == "after"


async def test_a_stopping_replica_sends_its_watchers_on_and_they_miss_nothing(
    stack: Stack, messages: MessagesServiceStub, session: str, alice: Metadata
) -> None:
    port = free_ports().gateway
    replica = start_replica(stack, port)
    watcher = Watcher(port, session, alice)
    watching = asyncio.create_task(watcher.watch(until=1000))
    said = await _say(messages, session, alice, range(3))
    while watcher.arrived != said:
        await watcher.heard()
    replica.terminate()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watching
    assert refusal_over_grpc(ended.value).reason == "SERVER_STOPPING"
    assert replica.wait(60) == 0
    said += await _say(messages, session, alice, range(3, 5))
    await watcher.watch(until=5, port=stack.ports.messages)
    assert watcher.arrived == said
