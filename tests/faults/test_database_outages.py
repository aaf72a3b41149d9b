"""What becomes of a service while the database is away, hangs, or is cut off, and right after."""

import asyncio
from collections.abc import AsyncIterator, Container
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import uuid4

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inglenook.messages.v1.messages_pb2 import GetMessageRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from psycopg import AsyncConnection, OperationalError
from sqlalchemy import Integer, literal_column, select

from local.stack import Stack, free_ports
from services.runtime import database as database_module
from services.runtime import leadership
from services.runtime.database import Database, statement
from services.runtime.leadership import lead
from services.runtime.wakeups import CarrierError
from services.runtime.wakeups import postgres as wakeups
from services.runtime.wakeups.postgres import PostgresCarrier
from tests.faults.proxy import Proxy
from tests.integration.calls import Person, Refused, refusal_over_grpc
from tests.integration.replicas import start_replica

GUARD = 60.0
POOL = 8


class One:
    """A row with a number."""

    def __init__(self, number: int) -> None:
        self.number = number


ONE = statement(select(literal_column("1", Integer).label("number")), One)


@pytest.fixture
async def link(stack: Stack) -> AsyncIterator[Proxy]:
    """A link to the database that can be cut."""
    folder = parse_qs(urlsplit(stack.admin_url).query)["host"][0]
    async with Proxy(Path(folder) / ".s.PGSQL.5432") as proxy:
        yield proxy


@pytest.fixture
def linked_url(stack: Stack, link: Proxy) -> str:
    """The URL of the messages service's schema, over the link."""
    parts = urlsplit(stack.service("messages").environment["INGLENOOK_DATABASE_URL"])
    credentials = parts.netloc.rpartition("@")[0]
    netloc = f"{credentials}@127.0.0.1:{link.port}"
    return urlunsplit(parts._replace(netloc=netloc, query=""))


async def _use_all_connections(database: Database) -> None:
    all_in_use = asyncio.Barrier(POOL)

    async def use() -> None:
        async with database.transaction():
            await all_in_use.wait()

    await asyncio.gather(*(use() for _ in range(POOL)))


async def test_the_first_call_after_a_restart_of_the_database_is_served(
    link: Proxy, linked_url: str
) -> None:
    async with Database(linked_url, pool_size=POOL, name="outage") as database:
        await _use_all_connections(database)
        link.reset()
        await link.ended()
        assert await database.one(ONE, {}) is not None


async def test_a_service_tries_to_connect_again_as_often_however_long_that_fails(
    link: Proxy, linked_url: str
) -> None:
    async with Database(linked_url, pool_size=1, name="outage") as database:
        link.refuse()
        with pytest.raises(OperationalError):
            await database.one(ONE, {})
        # Waiting for twice as long each time, it would take a minute.
        async with asyncio.timeout(GUARD / 2):
            await link.more_came(6)
        link.heal()
        assert await database.one(ONE, {}) is not None


async def test_who_waits_where_nobody_can_connect_is_told_and_does_not_wait_for_the_pool(
    link: Proxy, linked_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_POOL_SECONDS", 100 * GUARD)
    async with asyncio.timeout(GUARD), Database(linked_url, pool_size=2, name="away") as database:
        link.refuse()
        # The first ones wait when it is noticed, the last one comes after that.
        for _ in range(2):
            assert all(await asyncio.gather(*(_is_told(database) for _ in range(POOL))))
        link.heal()
        await link.more_came(1)
        assert await database.one(ONE, {}) is not None


async def _is_told(database: Database) -> bool:
    """Asks the database for something; gives whether it was told that there is none."""
    try:
        await database.one(ONE, {})
    except OperationalError:
        return True
    return False


async def test_who_waits_for_others_to_be_done_with_a_database_that_is_there_is_served(
    link: Proxy, linked_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "AWAY_SECONDS", 0.0)
    async with asyncio.timeout(GUARD), Database(linked_url, pool_size=1, name="busy") as database:
        async with database.transaction():
            waiting = asyncio.create_task(_is_told(database))
            await asyncio.sleep(0.5)
            assert not waiting.done()
        assert not await waiting


async def test_a_call_that_waited_for_the_database_is_not_made_again_by_its_callers_library(
    stack: Stack, link: Proxy, linked_url: str
) -> None:
    port = free_ports().gateway
    process = await asyncio.to_thread(start_replica, stack, port, database_url=linked_url)
    metadata = (("authorization", f"Bearer {stack.token('alice')}"),)
    try:
        async with (
            asyncio.timeout(GUARD),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            link.refuse()
            call: Any = MessagesServiceStub(channel).GetMessage(
                GetMessageRequest(session_id=str(uuid4()), message_id=str(uuid4())),
                metadata=metadata,
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
    finally:
        process.terminate()
        assert await asyncio.to_thread(process.wait, GUARD) == 0
    away = Refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")
    assert refusal_over_grpc(refused.value) == away
    assert dict(refused.value.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"


async def test_who_waits_for_a_database_that_hangs_is_told_and_the_next_is_served(
    link: Proxy, linked_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_ANSWER_SECONDS", 0.5)
    database = Database(linked_url, pool_size=1, name="outage", transaction_seconds=5.0)
    async with asyncio.timeout(GUARD), database:
        async with database.transaction() as connection:
            link.cut()
            with pytest.raises(OperationalError):
                await connection.execute(b"SELECT 1")
        link.heal()
        assert await database.one(ONE, {}) is not None


async def test_who_hangs_with_a_lock_does_not_hold_it_for_ever(stack: Stack) -> None:
    name = f"lock {uuid4()}"
    lock = f"SELECT pg_advisory_xact_lock(hashtextextended('{name}', 0))".encode()
    url = stack.service("messages").environment["INGLENOOK_DATABASE_URL"]
    hanging = await Database(url, pool_size=1, name="one", transaction_seconds=1.0).connect()
    async with asyncio.timeout(GUARD), Database(url, pool_size=1, name="another") as another:
        # In one trip: the time begins with the transaction.
        await hanging.execute(b"BEGIN; " + lock)
        async with another.transaction() as connection:
            await connection.execute(lock)
    await hanging.close()


async def test_a_leader_that_is_cut_off_stops_and_leads_again_later(
    link: Proxy, linked_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "_SILENCE_SECONDS", 2)
    monkeypatch.setattr(leadership, "_SIGN_OF_LIFE_SECONDS", 0.5)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    database = Database(linked_url, pool_size=1, name="leading")
    leading = asyncio.create_task(lead(database, f"test {uuid4()}", work))
    async with asyncio.timeout(GUARD):
        await begun.wait()
        begun.clear()
        link.cut()
        await ended.wait()
        link.heal()
        await begun.wait()
    leading.cancel()
    with suppress(asyncio.CancelledError):
        await leading


async def test_wake_ups_go_on_after_a_connection_that_hung(
    link: Proxy, linked_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = PostgresCarrier(Database(linked_url, pool_size=1, name="waking"), "outage")
    async with asyncio.timeout(GUARD):
        await carrier.send("feed=1")
        link.cut()
        with monkeypatch.context() as impatient:
            impatient.setattr(wakeups, "_ANSWER_SECONDS", 0.5)
            with pytest.raises(CarrierError):
                await carrier.send("feed=2")
        link.heal()
        await carrier.send("feed=3")
        await carrier.close()


@pytest.mark.parametrize("table", ["locked_people", "key_encryption_keys"])
async def test_a_service_that_loses_the_database_while_it_starts_starts(
    stack: Stack, link: Proxy, linked_url: str, table: str
) -> None:
    port = free_ports().gateway
    async with (
        asyncio.timeout(GUARD),
        await AsyncConnection.connect(stack.admin_url) as holding,
    ):
        # Where the start reads this table, it waits.
        await holding.execute(f"LOCK messages.{table}".encode())
        starting = asyncio.create_task(
            asyncio.to_thread(start_replica, stack, port, database_url=linked_url)
        )
        lost = await _waiting_since(stack, holding)
        link.reset()
        await _waiting_since(stack, holding, but=lost)
    process = await starting
    process.terminate()
    assert await asyncio.to_thread(process.wait, GUARD) == 0


async def _waiting_since(
    stack: Stack, holding: AsyncConnection, *, but: Container[int] = ()
) -> set[int]:
    """The connections of messages that wait for a lock and began after another one, once any do.

    `but` are some that do not count.
    """
    query = (
        b"SELECT waiting.pid FROM pg_stat_activity waiting, pg_stat_activity holding"
        b" WHERE waiting.application_name = 'messages' AND waiting.wait_event_type = 'Lock'"
        b" AND holding.pid = %s AND waiting.backend_start > holding.backend_start"
    )
    async with await AsyncConnection.connect(stack.admin_url) as looking:
        await looking.set_autocommit(True)
        while True:
            cursor = await looking.execute(query, (holding.info.backend_pid,))
            found = {pid for (pid,) in await cursor.fetchall() if pid not in but}
            if found:
                return found
            await asyncio.sleep(0.05)


async def test_a_service_says_so_while_its_database_does_not_answer(
    stack: Stack, link: Proxy, linked_url: str
) -> None:
    port = free_ports().gateway
    process = await asyncio.to_thread(start_replica, stack, port, database_url=linked_url)
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    try:
        async with (
            asyncio.timeout(GUARD),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="inglenook.messages.v1.MessagesService")
            statuses = aiter(stub.Watch(request))
            assert (await anext(statuses)).status == serving
            link.refuse()
            assert (await anext(statuses)).status == not_serving
            link.heal()
            assert (await anext(statuses)).status == serving
    finally:
        process.terminate()
        assert await asyncio.to_thread(process.wait, GUARD) == 0


def test_everybody_is_served_once_the_system_is_ready_again(stack: Stack) -> None:
    with closing(Person(stack, "alice")) as alice:
        session = alice.new_session()
        paths = ("/v1/me", "/v1/sessions", f"/v1/sessions/{session}/messages")
        stack.kill("postgres")
        for path in paths:
            with suppress(httpx.TimeoutException):
                alice.http.get(path, timeout=1.0)
        stack.start_again("postgres")
        for path in paths:
            alice.call("GET", path)
        alice.say(session, "hello")
