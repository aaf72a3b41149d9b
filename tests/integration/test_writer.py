"""The writer: what arrives together commits together, and each caller is answered on its own."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from inglenook.messages.v1.messages_pb2 import (
    AppendMessageRequest,
    AppendMessageResponse,
    ListMessagesRequest,
    Message,
    Order,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import CreateSessionRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from local.stack import Stack, free_ports
from services.runtime.database import Database
from tests.integration.calls import ABSENT, Refused, refusal_over_grpc
from tests.integration.replicas import start_replica
from tests.integration.telemetry.scraping import scrape

NOT_FOUND = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
REUSED = Refused("ALREADY_EXISTS", "ID_REUSED")
BUSY = Refused("RESOURCE_EXHAUSTED", "SERVER_BUSY")


class Writers:
    """People who write, at any process of the messages service."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._sessions = self._stub(SessionsServiceStub, stack.ports.sessions)

    def _stub(self, kind: Any, port: int) -> Any:  # noqa: ANN401 - one of the stubs
        if port not in self._channels:
            self._channels[port] = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return kind(self._channels[port])

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    def metadata(self, person: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._stack.token(person)}"),)

    async def session(self, person: str) -> str:
        """A session of a person's in which something was said, so that it has begun."""
        created = await self._sessions.CreateSession(
            CreateSessionRequest(), metadata=self.metadata(person)
        )
        session: str = created.session.session_id
        await self.append(person, session, "the first")
        return session

    def append(
        self,
        person: str,
        session: str,
        content: str,
        *,
        message_id: str = "",
        port: int = 0,
    ) -> "grpc.aio.UnaryUnaryCall[Any, AppendMessageResponse]":
        messages = self._stub(MessagesServiceStub, port or self._stack.ports.messages)
        request = AppendMessageRequest(
            session_id=session, content=content, message_id=message_id or str(uuid4())
        )
        call: grpc.aio.UnaryUnaryCall[Any, AppendMessageResponse] = messages.AppendMessage(
            request, metadata=self.metadata(person), timeout=60
        )
        return call

    async def refused(self, call: Any) -> Refused:  # noqa: ANN401 - a call
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        return refusal_over_grpc(refused.value)

    async def all(self, person: str, session: str, *, port: int = 0) -> list[Message]:
        messages = self._stub(MessagesServiceStub, port or self._stack.ports.messages)
        found: list[Message] = []
        request = ListMessagesRequest(
            session_id=session, page_size=200, order=Order.ORDER_OLDEST_FIRST
        )
        while True:
            page = await messages.ListMessages(request, metadata=self.metadata(person))
            found += page.messages
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@pytest.fixture
async def writers(stack: Stack) -> AsyncIterator[Writers]:
    writing = Writers(stack)
    yield writing
    await writing.close()


@dataclass(frozen=True)
class Measured:
    """A process that shows its metrics."""

    port: int
    address: str
    """Where it shows them."""

    async def until_waiting(self, writes: int) -> None:
        """Waits until so many writes wait in it."""
        async with asyncio.timeout(60):
            while await self._waiting() != writes:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.02)

    async def _waiting(self) -> float:
        shown = await asyncio.to_thread(scrape, self.address)
        return shown.value("inglenook_writer_waiting")


@pytest.fixture
def measured(stack: Stack) -> Iterator[Measured]:
    ports = free_ports()
    address = ports.address("users")
    process = start_replica(stack, ports.messages, metrics_listen=address)
    yield Measured(ports.messages, address)
    process.terminate()
    assert process.wait(60) == 0


@contextmanager
def busy(stack: Stack, *sessions: str) -> Iterator[psycopg.Connection]:
    """Holds the locks of conversations, as writes of other processes would."""
    with psycopg.connect(stack.admin_url) as connection:
        for session in sessions:
            connection.execute(
                "SELECT 1 FROM messages.conversations WHERE session_id = %s FOR UPDATE", (session,)
            )
        yield connection
        connection.rollback()


async def waiting_for_locks(stack: Stack, count: int) -> None:
    """Returns once so many of the messages service's connections wait for a lock."""
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'messages' AND wait_event_type = 'Lock'"
        )
        deadline = time.monotonic() + 30
        while connection.execute(query).fetchone() != (count,):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


def transactions(stack: Stack, message_ids: list[str]) -> set[str]:
    """The transactions that stored messages."""
    with psycopg.connect(stack.admin_url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT xmin::text FROM messages.messages WHERE message_id = ANY(%s::uuid[])",
            (message_ids,),
        )
        return {row[0] for row in rows}


async def test_what_waits_is_written_in_one_transaction_whosever_it_is(
    stack: Stack, writers: Writers, measured: Measured
) -> None:
    port = measured.port
    people = ["alice", "bob", "carol"]
    sessions = {person: [await writers.session(person) for _ in range(4)] for person in people}
    busy_sessions = [await writers.session("alice") for _ in range(2)]
    with busy(stack, *busy_sessions):
        # Both batches that may be under way wait for a lock: whatever comes now waits together.
        blocked = []
        for number, session in enumerate(busy_sessions, 1):
            append = writers.append("alice", session, "blocked", port=port)
            blocked.append(asyncio.ensure_future(append))
            await waiting_for_locks(stack, number)
        ids = [str(uuid4()) for _ in range(36)]
        appends = [
            asyncio.ensure_future(
                writers.append(
                    person,
                    sessions[person][number % 4],
                    f"number {number}",
                    message_id=ids[number],
                    port=port,
                )
            )
            for number in range(36)
            for person in [people[number % 3]]
        ]
        await measured.until_waiting(len(ids))
    answers = await asyncio.gather(*appends)
    await asyncio.gather(*blocked)
    assert [answer.message.content for answer in answers] == [f"number {n}" for n in range(36)]
    assert len(transactions(stack, ids)) == 1


async def test_a_batch_that_is_held_up_holds_up_nobody_else(stack: Stack, writers: Writers) -> None:
    held, free = await writers.session("alice"), await writers.session("bob")
    with busy(stack, held):
        waits = asyncio.ensure_future(writers.append("alice", held, "waits"))
        await waiting_for_locks(stack, 1)
        for number in range(3):
            await writers.append("bob", free, f"number {number}")
        assert not waits.done()
    await waits


async def test_a_bad_append_fails_alone(stack: Stack, writers: Writers) -> None:
    good = [await writers.session("alice") for _ in range(3)]
    foreign, deleted = await writers.session("bob"), await writers.session("alice")
    known = str(uuid4())
    await writers.append("alice", good[0], "known", message_id=known)
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE messages.conversations SET delete_time = now() WHERE session_id = %s",
            (deleted,),
        )
        # Whoever deletes a conversation erases its keys in the same transaction.
        connection.execute("DELETE FROM messages.data_keys WHERE session_id = %s", (deleted,))
        # What is left of a deleted session in the sessions service is none of this test's.
        connection.execute("DELETE FROM sessions.sessions WHERE session_id = %s", (deleted,))

    async def well(number: int) -> int:
        answer = await writers.append("alice", good[number % 3], f"good {number}")
        return answer.message.sequence

    appends = [well(number) for number in range(30)]
    refusals = [
        writers.refused(writers.append("alice", foreign, "not hers")),
        writers.refused(writers.append("alice", ABSENT, "nowhere")),
        writers.refused(writers.append("alice", deleted, "gone")),
        writers.refused(writers.append("alice", good[0], "other", message_id=known)),
    ]
    sequences, refused = await asyncio.gather(asyncio.gather(*appends), asyncio.gather(*refusals))
    assert refused == [NOT_FOUND, NOT_FOUND, NOT_FOUND, REUSED]
    assert sorted(sequences) == sorted([*range(3, 13), *range(2, 12), *range(2, 12)])
    again = await writers.append("alice", good[0], "known", message_id=known)
    assert again.message.sequence == 2
    assert len(await writers.all("bob", foreign)) == 1


async def test_an_append_given_up_while_it_waits_is_not_stored_and_its_repetition_is(
    stack: Stack, writers: Writers, measured: Measured
) -> None:
    session = await writers.session("alice")
    message_id, port = str(uuid4()), measured.port
    with busy(stack, session):
        first = asyncio.ensure_future(writers.append("alice", session, "under way", port=port))
        await waiting_for_locks(stack, 1)
        given_up = writers.append("alice", session, "given up", message_id=message_id, port=port)
        await measured.until_waiting(1)
        given_up.cancel()
        # Asked by the same connection: who answers this knows that the other call was given up.
        assert len(await writers.all("alice", session, port=port)) == 1
    await first
    contents = [message.content for message in await writers.all("alice", session)]
    assert contents == ["the first", "under way"]
    again = await writers.append("alice", session, "given up", message_id=message_id)
    assert again.message.sequence == 3


async def test_an_append_given_up_while_it_is_written_is_found_by_its_repetition(
    stack: Stack, writers: Writers
) -> None:
    session = await writers.session("alice")
    message_id = str(uuid4())
    with busy(stack, session):
        given_up = writers.append("alice", session, "given up", message_id=message_id)
        await waiting_for_locks(stack, 1)
        given_up.cancel()
    again = await writers.append("alice", session, "given up", message_id=message_id)
    assert again.message.sequence == 2
    assert len(await writers.all("alice", session)) == 2


async def test_past_its_bound_the_writer_refuses_and_says_when_to_come_back(
    stack: Stack, writers: Writers
) -> None:
    session, other = await writers.session("alice"), await writers.session("bob")
    long = "\N{FIRE}" * 50_000  # 200,000 bytes: 64 MiB of them are 335.
    with busy(stack, session):
        calls = [writers.append("alice", session, long) for _ in range(400)]
        waiting = [asyncio.ensure_future(call) for call in calls]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        error = next(iter(done)).exception()
        assert isinstance(error, grpc.aio.AioRpcError)
        assert refusal_over_grpc(error) == BUSY
        assert _retry_delay(error) > 0
        refused = await writers.refused(writers.append("bob", other, long))
        assert refused == BUSY
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    stored = [one for one in answers if isinstance(one, AppendMessageResponse)]
    for answer in answers:
        if isinstance(answer, grpc.aio.AioRpcError):
            assert refusal_over_grpc(answer) == BUSY
    assert 300 < len(stored) < 400
    sequences = sorted(one.message.sequence for one in stored)
    assert sequences == list(range(2, len(stored) + 2))
    await writers.append("bob", other, long)


def _retry_delay(error: grpc.aio.AioRpcError) -> float:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    retry = RetryInfo()
    for detail in Status.FromString(details).details:
        if detail.Unpack(retry):
            return retry.retry_delay.ToTimedelta().total_seconds()
    raise AssertionError("no RetryInfo")


async def test_an_acknowledged_append_is_on_disk_whatever_the_servers_default(
    stack: Stack,
) -> None:
    url = stack.service("messages").environment["INGLENOOK_DATABASE_URL"]
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE inglenook_messages SET synchronous_commit = off")
    try:
        async with Database(url, pool_size=1, name="test") as database, database.transaction() as t:
            cursor = await t.execute("SHOW synchronous_commit")
            assert await cursor.fetchone() == ("on",)
    finally:
        with psycopg.connect(stack.admin_url, autocommit=True) as connection:
            connection.execute("ALTER ROLE inglenook_messages RESET synchronous_commit")


@dataclass
class Attempt:
    """One call of the property test, and what became of it."""

    person: str
    session: str
    message_id: str
    content: str
    began: float
    ended: float = 0.0
    sequence: int | None = None


async def test_whatever_happens_order_count_and_answers_agree(
    stack: Stack, writers: Writers, replica: int, chance: random.Random
) -> None:
    owners = {await writers.session(person): person for person in ["alice", "alice", "bob"]}
    attempts: list[Attempt] = []

    async def call(attempt: Attempt, *, patience: float | None) -> None:
        port = chance.choice([stack.ports.messages, replica])
        request = writers.append(
            attempt.person,
            attempt.session,
            attempt.content,
            message_id=attempt.message_id,
            port=port,
        )
        attempt.began = time.monotonic()
        attempts.append(attempt)
        try:
            answer = await asyncio.wait_for(request, patience)
        except TimeoutError:
            return  # Given up.
        except grpc.aio.AioRpcError as error:
            if refusal_over_grpc(error) != REUSED:
                raise
            return
        attempt.ended = time.monotonic()
        attempt.sequence = answer.message.sequence
        assert answer.message.content == attempt.content

    async def caller() -> None:
        for _ in range(40):
            earlier = chance.choice(attempts) if attempts else None
            if earlier is not None and chance.random() < 0.3:
                repeated = Attempt(
                    earlier.person,
                    earlier.session,
                    earlier.message_id,
                    earlier.content if chance.random() < 0.7 else "other content",
                    0.0,
                )
            else:
                session = chance.choice(list(owners))
                content = f"text {chance.getrandbits(64)}"
                repeated = Attempt(owners[session], session, str(uuid4()), content, 0.0)
            patience = chance.choice([None, None, 0.001, 0.005, 0.02])
            await call(repeated, patience=patience)

    await asyncio.gather(*(caller() for _ in range(12)))
    # Every id once more, without giving up: after it, each is stored once.
    for attempt in list({(one.session, one.message_id): one for one in attempts}.values()):
        await call(
            Attempt(attempt.person, attempt.session, attempt.message_id, attempt.content, 0.0),
            patience=None,
        )
    for session, person in owners.items():
        await _check(stack, session, await writers.all(person, session), attempts)


async def _check(
    stack: Stack, session: str, stored: list[Message], attempts: list[Attempt]
) -> None:
    mine = [attempt for attempt in attempts if attempt.session == session]
    assert [message.sequence for message in stored] == list(range(1, len(stored) + 1))
    assert _counts(stack, session) == (len(stored), len(stored), len(stored))
    by_id = {message.message_id: message for message in stored[1:]}
    assert len(by_id) == len(stored) - 1
    assert set(by_id) == {attempt.message_id for attempt in mine}
    for attempt in mine:
        if attempt.sequence is not None:
            assert by_id[attempt.message_id].sequence == attempt.sequence
            assert by_id[attempt.message_id].content == attempt.content
    first: dict[str, float] = {}
    for attempt in mine:
        first.setdefault(attempt.message_id, attempt.began)
    answered = sorted(
        (attempt for attempt in mine if attempt.sequence is not None), key=lambda one: one.ended
    )
    # What was first asked for after another's answer stands after it.
    for before in answered:
        for message_id, began in first.items():
            if began > before.ended:
                assert by_id[message_id].sequence > (before.sequence or 0)


def _counts(stack: Stack, session: str) -> object:
    with psycopg.connect(stack.admin_url) as connection:
        return connection.execute(
            "SELECT last_sequence, message_count, revision FROM messages.conversations"
            " WHERE session_id = %s",
            (UUID(session),),
        ).fetchone()
