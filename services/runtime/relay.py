"""The relay: delivers what a service owes, from its outbox to its receivers.

One process of a service relays at a time (`leadership.py`). Each kind of event has a loop of its
own: a receiver that does not answer holds up its own kind alone. Whatever is due is delivered in
batches; when a batch fails, its events go alone from then on, so that one that cannot be delivered
holds up no other. After so many tries it is set aside, for an operator to look at.

At least once: a process may die between telling and settling, so receivers must bear repetition.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import grpc
from grpc import aio
from psycopg import OperationalError
from psycopg_pool import PoolClosed, PoolTimeout

from services.runtime.background import ended
from services.runtime.database import Database
from services.runtime.leadership import lead
from services.runtime.outbox import DueRow, KindRow, OutboxTable, Scope
from services.runtime.peers import serves
from services.runtime.telemetry.outbox import (
    DELIVERED,
    FAILED,
    NOT_THERE,
    SET_ASIDE,
    show_owed,
    tried,
)
from services.runtime.telemetry.traces import traces

_log = logging.getLogger(__name__)

Deliver = Callable[[Sequence[Scope]], Awaitable[None]]

_POLL_SECONDS = 1.0
# What has come together in the meantime goes together: many appends are few changes of a session.
# Rounds take a twentieth of the time, so that telling costs little beside what there is to tell of.
_SHORTEST_REST = 0.05
_REST_OF_A_ROUND = 19.0
_LONGEST_REST = 1.0
_SHORTEST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_ALONE_AT_ONCE = 8
_NIL = UUID(int=0)
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
# These are not about what was delivered: the receiver is not there, or not ready for this service.
_NOT_THERE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """How events of a kind are delivered."""

    deliver: Deliver
    """Tells the receiver how these aggregates stand, and settles what it has told."""
    batch: int = 1
    """How many aggregates it takes at most."""
    receiver: aio.Channel | None = None
    """To whom it goes: when a delivery is not answered in time, they are asked whether they serve
    at all. None where it goes to nobody else."""


class Relay:
    """Delivers a service's events: `async with Relay(…)`."""

    def __init__(
        self,
        database: Database,
        outbox: OutboxTable,
        deliveries: Mapping[str, Delivery],
        *,
        maximum_tries: int,
    ) -> None:
        """Takes where events are, and how each kind is delivered.

        After `maximum_tries` an event is set aside.
        """
        self._database = database
        self._outbox = outbox
        self._deliveries = deliveries
        self._maximum_tries = maximum_tries
        self._news = {kind: asyncio.Event() for kind in deliveries}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Relay":
        purpose = f"{self._outbox.table.schema} outbox"
        self._task = asyncio.create_task(
            lead(self._database, purpose, self._relay_all), name="relay"
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            await ended(self._task)

    def wake(self, kind: str) -> None:
        """Delivers events of a kind soon: one was just stored. Without it, a slow poll finds it."""
        self._news[kind].set()

    async def _relay_all(self) -> None:
        showing = show_owed(list(self._deliveries), self._status)
        loops = [
            asyncio.create_task(showing, name="what is owed"),
            *(
                asyncio.create_task(self._relay(kind, delivery), name=f"relay of {kind}")
                for kind, delivery in self._deliveries.items()
            ),
        ]
        try:
            # None ends by itself unless it fails, and then the others end with it.
            await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended(*loops)

    async def _relay(self, kind: str, delivery: Delivery) -> None:
        pause = 0.0
        while True:
            self._news[kind].clear()
            began = time.monotonic()
            try:
                await self._deliver_due(kind, delivery)
            except Exception as error:  # noqa: BLE001 - whatever it is, the relay must go on
                if not pause:
                    extra = {"kind": kind, "cause": _cause(error)}
                    _log.warning(
                        "events cannot be delivered; trying again", extra=extra, exc_info=error
                    )
                pause = min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)
                await asyncio.sleep(pause)
            else:
                pause = 0.0
                rest = _REST_OF_A_ROUND * (time.monotonic() - began)
                await asyncio.sleep(min(max(rest, _SHORTEST_REST), _LONGEST_REST))
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await self._news[kind].wait()

    async def _deliver_due(self, kind: str, delivery: Delivery) -> None:
        """Delivers everything of a kind that is due, once.

        Raises:
            AioRpcError: the receiver is not there.
            OperationalError, PoolTimeout, PoolClosed: the database is not.
        """
        limit = max(delivery.batch, _ALONE_AT_ONCE)
        after: tuple[datetime | UUID, ...] = (_BEGINNING, *(_NIL for _ in self._outbox.scope))
        while True:
            rows = await self._due(kind, after, limit)
            fresh = [tuple(row.scope) for row in rows if not row.tries]
            for first in range(0, len(fresh), delivery.batch):
                await self._try(kind, delivery, fresh[first : first + delivery.batch])
            again = [tuple(row.scope) for row in rows if row.tries]
            for first in range(0, len(again), _ALONE_AT_ONCE):
                some = again[first : first + _ALONE_AT_ONCE]
                ends = await asyncio.gather(
                    *(self._try(kind, delivery, [scope]) for scope in some), return_exceptions=True
                )
                # Only now that none of them is under way any more.
                for failure in ends:
                    if failure is not None:
                        raise failure
            if len(rows) < limit:
                return
            after = (rows[-1].due_time, *rows[-1].scope)

    async def _status(self) -> Sequence[KindRow]:
        return await self._database.all(self._outbox.status, {})

    async def _due(
        self, kind: str, after: tuple[datetime | UUID, ...], limit: int
    ) -> Sequence[DueRow]:
        names = ("after", *(f"after_{name}" for name in self._outbox.scope))
        place = dict(zip(names, after, strict=True))
        return await self._database.all(self._outbox.due, {"kind": kind, "limit": limit, **place})

    async def _try(self, kind: str, delivery: Delivery, scopes: list[Scope]) -> None:
        try:
            with traces.work(f"deliver {kind}"):
                await delivery.deliver(scopes)
        except (OperationalError, PoolTimeout, PoolClosed):
            raise
        except Exception as error:
            if isinstance(error, aio.AioRpcError) and await _is_not_there(error, delivery.receiver):
                tried(kind, len(scopes), NOT_THERE)
                raise
            tried(kind, len(scopes), FAILED)
            await self._note_failure(kind, scopes, error)
        else:
            tried(kind, len(scopes), DELIVERED)

    async def _note_failure(self, kind: str, scopes: list[Scope], error: Exception) -> None:
        cause = _cause(error)
        extra: dict[str, object] = {"kind": kind, "events": len(scopes), "cause": cause}
        _log.warning("a delivery failed", extra=extra, exc_info=error)
        named = self._outbox.parameters(kind, scopes)
        failed = await self._database.all(
            self._outbox.fail, {**named, "new_failure": cause, "maximum": self._maximum_tries}
        )
        for row in failed:
            if row.set_aside_time is not None:
                tried(kind, 1, SET_ASIDE)
                about = "/".join(map(str, row.scope))
                extra = {"kind": kind, "about": about, "tries": row.tries, "cause": cause}
                _log.error("an event was set aside; see the command `outbox list`", extra=extra)


async def _is_not_there(error: aio.AioRpcError, receiver: aio.Channel | None) -> bool:
    """Whether a delivery failed of who was to receive it, and not of what was delivered."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and receiver is not None:
        # Of one that hangs, or is cut off without a word, everything takes too long.
        return not await serves(receiver)
    return error.code() in _NOT_THERE


def _cause(error: Exception) -> str:
    """What kind of failure it was, without its text."""
    return error.code().name if isinstance(error, aio.AioRpcError) else type(error).__name__
