"""The relay's rounds: what is under way when one fails, and when it is told to stop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from psycopg import OperationalError
from sqlalchemy import MetaData

from local.stack import Stack
from services.runtime.database import Database
from services.runtime.outbox import OutboxTable, Scope
from services.runtime.relay import Delivery, Relay
from tests.integration.schemas import tables_of

GUARD = 60.0
KIND = "test"
# By far longer than the relay's pause after a round that failed.
_SEVERAL_ROUNDS_SECONDS = 1.0


@dataclass(slots=True)
class _Receiver:
    """Takes one event at a time and lets it wait, or is lost to the database."""

    database: Database
    outbox: OutboxTable
    fails: UUID = field(default_factory=uuid4)
    hangs: UUID = field(default_factory=uuid4)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException = field(default_factory=lambda: OperationalError("lost to the database"))
    failures: int = 0
    under_way: int = 0
    most_under_way: int = 0

    async def deliver(self, scopes: Sequence[Scope]) -> None:
        if scopes == [(self.fails,)]:
            self.failures += 1
            raise self.failure
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.has_begun.set()
        try:
            await self.may_end.wait()
        finally:
            self.under_way -= 1
        await self.database.all(self.outbox.settle, self.outbox.parameters(KIND, list(scopes)))

    def relay(self) -> Relay:
        deliveries = {KIND: Delivery(self.deliver)}
        return Relay(self.database, self.outbox, deliveries, maximum_tries=16)


@pytest.fixture
async def receiver(stack: Stack) -> AsyncIterator[_Receiver]:
    """Of an outbox of its own, with two events that were tried before and so go side by side."""
    schema = f"outbox_{uuid4().hex}"
    metadata = MetaData(schema=schema)
    outbox = OutboxTable(metadata, scope=("thing",))
    with tables_of(stack, metadata) as admin:
        async with Database(stack.admin_url, pool_size=2, name="relay test") as database:
            made = _Receiver(database, outbox)
            for thing in (made.fails, made.hangs):
                insert = (
                    f"INSERT INTO {schema}.outbox (thing, kind, create_time, due_time, tries)"  # noqa: S608
                    " VALUES (%s, %s, now(), now(), 1)"
                )
                admin.execute(insert.encode(), (thing, KIND))
            yield made


async def test_a_round_that_fails_ends_before_anything_is_delivered_again(
    receiver: _Receiver,
) -> None:
    async with asyncio.timeout(GUARD), receiver.relay():
        await receiver.has_begun.wait()
        await asyncio.sleep(_SEVERAL_ROUNDS_SECONDS)
        assert (receiver.failures, receiver.most_under_way) == (1, 1)
        receiver.may_end.set()
        while receiver.failures < 2:  # noqa: ASYNC110 - the next round is the relay's own
            await asyncio.sleep(0.01)
        assert receiver.most_under_way == 1


async def test_a_relay_that_is_told_to_stop_leaves_no_delivery_under_way(
    receiver: _Receiver,
) -> None:
    async with asyncio.timeout(GUARD):
        async with receiver.relay():
            await receiver.has_begun.wait()
        assert receiver.under_way == 0


async def test_a_delivery_that_ends_as_cancelled_is_tried_again(receiver: _Receiver) -> None:
    # As a call does whose channel is closed under it.
    receiver.failure = asyncio.CancelledError()
    receiver.may_end.set()
    async with asyncio.timeout(GUARD), receiver.relay():
        while receiver.failures < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
