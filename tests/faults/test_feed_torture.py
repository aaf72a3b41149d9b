"""The promise of the feed, held against everything that can happen to it.

Writers append, edit and delete, and replies grow, at two processes of the messages service while
watchers are cut, connections reset, processes killed, PostgreSQL restarted and killed, and wake-ups
lost. In the end every watcher holds what the database holds, and has seen nothing twice, nothing
out of order, and nothing that was not durable; and what was answered is there. `make torture
ROUNDS=50` goes on for longer; INGLENOOK_SEED repeats what failed.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import grpc
import psutil
import psycopg
import pytest
from inglenook.messages.v1.messages_pb2 import ListMessagesRequest, MessageState, Order
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import CreateSessionRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from psycopg import sql

from local.stack import Stack
from services.runtime.identity import user_id_of
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.faults.proxy import Proxy
from tests.faults.replying import Replier
from tests.faults.watching import Cutter, Held, Watcher, held_of
from tests.faults.writing import NOT_ANSWERED, Writer
from tests.integration.replicas import reserved_port, start_replica
from tests.nats_server import NatsServer

ROUNDS = int(os.environ.get("INGLENOOK_TORTURE_ROUNDS") or 1)
GUARD = 240.0
Metadata = tuple[tuple[str, str], ...]
Fault = Callable[[], Awaitable[None]]


class Replicas:
    """Two processes of the messages service, each behind a proxy, that can be killed."""

    def __init__(self, stack: Stack, settings: dict[str, str], ports: Sequence[int]) -> None:
        self._stack = stack
        self._settings = settings
        self._ports = ports
        self._processes = {port: start_replica(stack, port, **settings) for port in ports}
        self.proxies = [Proxy(port) for port in ports]

    async def kill(self, chance: random.Random) -> None:
        """Kills one with -9, and starts it again."""
        port = chance.choice(self._ports)
        process = self._processes[port]
        process.kill()
        await asyncio.to_thread(process.wait)
        self._processes[port] = await asyncio.to_thread(
            start_replica, self._stack, port, **self._settings
        )

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            assert process.wait(GUARD) == 0


@pytest.fixture(params=["postgres", "nats"])
def nats(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NatsServer | None]:
    if request.param == "postgres":
        yield None
        return
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def replicas(stack: Stack, nats: NatsServer | None) -> AsyncIterator[Replicas]:
    settings = {}
    if nats is not None:
        settings = {"nats_url": nats.url, "nats_credentials_file": str(nats.credentials)}
    with reserved_port() as first, reserved_port() as second:
        running = await asyncio.to_thread(Replicas, stack, settings, [first, second])
        try:
            async with AsyncExitStack() as open_proxies:
                for proxy in running.proxies:
                    await open_proxies.enter_async_context(proxy)
                yield running
        finally:
            running.stop()


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_every_watcher_ends_with_what_is_stored_whatever_happens(
    *,
    stack: Stack,
    replicas: Replicas,
    nats: NatsServer | None,
    responder: ServiceTokens,
    chance: random.Random,
    number: int,
) -> None:
    chance = random.Random(chance.getrandbits(64) + number)  # noqa: S311 - not for secrets
    alice = (("authorization", f"Bearer {stack.token('alice')}"),)
    sessions = [await _new_session(stack, alice) for _ in range(2)]

    def any_port() -> int:
        return chance.choice(replicas.proxies).port

    watchers = [
        Watcher(f"watcher {index}", session, alice, any_port)
        for session in sessions
        for index in range(3)
    ]
    writers = {session: Writer(session, alice, any_port, chance) for session in sessions}
    whose = user_id_of(DEVELOPMENT_ISSUER, "alice")

    def as_service() -> Metadata:
        return (("authorization", f"Bearer {responder.token(acting_for=whose)}"),)

    repliers = {session: Replier(session, as_service, any_port, chance) for session in sessions}
    faults = _faults(stack, replicas, nats, chance)
    chance.shuffle(faults)
    watching = [asyncio.create_task(watcher.watch_always()) for watcher in watchers]
    cutting = asyncio.create_task(Cutter(watchers, chance).cut_always())
    async with asyncio.timeout(GUARD):
        writing = [
            asyncio.create_task(writer.write(40)) for writer in writers.values() for _ in range(3)
        ]
        writing += [asyncio.create_task(replier.reply(6)) for replier in repliers.values()]
        for fault in faults:
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            await fault()
        await asyncio.gather(*writing)
        cutting.cancel()
        await cutting
        for session in sessions:
            following = [watcher for watcher in watchers if watcher.session == session]

            async def read(session: str = session) -> dict[str, Held]:
                return await _stored_when_ended(any_port, session, alice)

            stored = await _when_equal(following, read, watching)
            for watcher in following:
                _check(watcher, writers[session], repliers[session], stored)
    for task in watching:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert all(watcher.cuts for watcher in watchers)


def _faults(
    stack: Stack, replicas: Replicas, nats: NatsServer | None, chance: random.Random
) -> list[Fault]:
    async def reset_connections() -> None:
        chance.choice(replicas.proxies).reset()

    async def kill_a_process() -> None:
        await replicas.kill(chance)

    async def restart_the_database() -> None:
        await asyncio.to_thread(stack.restart, "postgres")

    async def crash_the_database() -> None:
        await asyncio.to_thread(_crash_postgres, stack)

    async def lose_wake_ups() -> None:
        if nats is None:
            _end_listening(stack)
        else:
            await asyncio.to_thread(nats.stop)
            await asyncio.sleep(chance.uniform(0, 1))
            await asyncio.to_thread(nats.start)

    return [
        *(reset_connections, reset_connections, reset_connections),
        *(kill_a_process, kill_a_process),
        *(lose_wake_ups, lose_wake_ups),
        *(restart_the_database, crash_the_database),
    ]


def _crash_postgres(stack: Stack) -> None:
    """Kills all of PostgreSQL with -9, as a machine that crashes does, and starts it again."""
    server = psutil.Process(stack.processes.pids()["postgres"])
    server.suspend()  # So that it starts no other process meanwhile.
    workers = server.children(recursive=True)
    stack.kill("postgres")
    for worker in workers:
        with suppress(psutil.NoSuchProcess):  # It saw that the server is gone.
            worker.kill()
    _, alive = psutil.wait_procs(workers, GUARD)
    assert not alive
    stack.start_again("postgres")


def _end_listening(stack: Stack) -> None:
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'messages' AND query LIKE 'LISTEN%'"
        )


async def _when_equal(
    watchers: list[Watcher],
    read: Callable[[], Awaitable[dict[str, Held]]],
    watching: list["asyncio.Task[None]"],
) -> dict[str, Held]:
    """What is stored, once every watcher holds it.

    It is read again each time: a call that was cut may still be on its way in the database.
    """
    while True:
        stored = await read()
        if all(watcher.held == stored for watcher in watchers):
            return stored
        for task in watching:
            if task.done():
                task.result()  # A watcher that saw what must not be says so.
        await asyncio.sleep(0.1)


def _check(watcher: Watcher, writer: Writer, replier: Replier, stored: dict[str, Held]) -> None:
    """What was seen on the way was all stored, and all that was answered came."""
    for message_id, held in watcher.seen:
        if message_id in replier.texts:
            assert replier.texts[message_id].startswith(held.content)
            assert stored[message_id].content.startswith(held.content)
            continue
        assert held.content in writer.attempted[message_id]
        if message_id in stored:
            final = stored[message_id]
            assert held.revision <= final.revision
            assert held.revision < final.revision or held == final
        else:
            assert message_id in watcher.deleted
    assert writer.deleted <= watcher.deleted | (writer.acknowledged - set(stored))
    assert (writer.acknowledged - writer.deleted) | set(replier.texts) == set(stored)
    for message_id, revision in writer.reached.items():
        assert message_id not in stored or stored[message_id].revision >= revision
    for message_id in replier.complete:
        assert stored[message_id].content == replier.texts[message_id]
    sequences = [held.sequence for held in stored.values()]
    assert len(set(sequences)) == len(sequences)
    assert max(sequences) <= len(writer.acknowledged | set(replier.texts))


def test_the_database_that_is_killed_here_is_as_durable_as_a_real_one(stack: Stack) -> None:
    url = stack.service("messages").environment["INGLENOOK_DATABASE_URL"]
    with psycopg.connect(url) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            query = sql.SQL("SHOW {}").format(sql.Identifier(setting))
            assert connection.execute(query).fetchone() == ("on",), setting


async def _new_session(stack: Stack, alice: Metadata) -> str:
    async with grpc.aio.insecure_channel(stack.ports.address("sessions")) as channel:
        stub = SessionsServiceStub(channel)
        created = await stub.CreateSession(CreateSessionRequest(), metadata=alice)
        return created.session.session_id


async def _stored_when_ended(
    ports: Callable[[], int], session: str, alice: Metadata
) -> dict[str, Held]:
    """What is stored, once no reply grows any more."""
    while True:
        try:
            stored, growing = await _stored(ports(), session, alice)
        except grpc.aio.AioRpcError as error:
            # The last fault may show only now, by a connection that was in nobody's use.
            assert error.code() in NOT_ANSWERED, error  # noqa: PT017 - others are caught
        else:
            if not growing:
                return stored
        await asyncio.sleep(0.2)


async def _stored(port: int, session: str, alice: Metadata) -> tuple[dict[str, Held], bool]:
    stored: dict[str, Held] = {}
    growing = False
    request = ListMessagesRequest(session_id=session, page_size=200, order=Order.ORDER_OLDEST_FIRST)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        while True:
            page = await MessagesServiceStub(channel).ListMessages(
                request, metadata=alice, wait_for_ready=True
            )
            stored |= dict(map(held_of, page.messages))
            states = {message.state for message in page.messages}
            growing = growing or MessageState.MESSAGE_STATE_GROWING in states
            if not page.next_page_token:
                return stored, growing
            request.page_token = page.next_page_token
