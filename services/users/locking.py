"""Locking a person here, and telling the other services: what is decided, and how it is told."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from grpc import aio
from sqlalchemy import (
    BigInteger,
    DateTime,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.database import Connection, Database, fetch_all, statement
from services.runtime.locking import LockRow, Locks
from services.runtime.outbox import Scope
from services.runtime.relay import Delivery, Relay
from services.users.store import ERASED, LOCKED, OUTBOX, USERS

LOCK_SESSIONS = "lock_sessions"
LOCK_MESSAGES = "lock_messages"
"""The kinds of the events that it changed whether a person is locked."""


@dataclass(frozen=True, slots=True)
class LockedRow:
    """A person who is locked."""

    user_id: UUID
    change_time: datetime
    has_profile: bool


@dataclass(frozen=True, slots=True)
class _PersonRow:
    user_id: UUID


_LOCK = LOCKED.table.c
_PERSON = bindparam("person", type_=Uuid)
_TIME = bindparam("time", type_=DateTime(timezone=True))
_locking = (
    insert(LOCKED.table)
    .from_select(
        ["user_id", "is_locked", "revision", "change_time"],
        select(_PERSON, literal(True), literal(1), func.now()).where(ERASED.not_erased),
    )
    .on_conflict_do_update(
        index_elements=["user_id"],
        set_={"is_locked": True, "revision": _LOCK.revision + 1, "change_time": func.now()},
        # What happened before an operator unlocked is what they decided about.
        where=(~_LOCK.is_locked) & (_LOCK.change_time < _TIME),
    )
    .returning(_LOCK.user_id)
    .cte("locking")
)
_LOCK_PERSON = statement(
    select(_locking).add_cte(
        OUTBOX.owing(LOCK_SESSIONS, _locking), OUTBOX.owing(LOCK_MESSAGES, _locking)
    ),
    _PersonRow,
)
_unlocking = (
    update(LOCKED.table)
    .where(_LOCK.user_id == _PERSON, _LOCK.is_locked)
    .values(is_locked=False, revision=_LOCK.revision + 1, change_time=func.now())
    .returning(_LOCK.user_id)
    .cte("unlocking")
)
_UNLOCK_PERSON = statement(
    select(_unlocking).add_cte(
        OUTBOX.owing(LOCK_SESSIONS, _unlocking), OUTBOX.owing(LOCK_MESSAGES, _unlocking)
    ),
    _PersonRow,
)
_ALL_LOCKED = statement(
    select(_LOCK.user_id, _LOCK.change_time, USERS.c.user_id.is_not(None).label("has_profile"))
    .select_from(LOCKED.table.outerjoin(USERS, USERS.c.user_id == _LOCK.user_id))
    .where(_LOCK.is_locked)
    .order_by(_LOCK.change_time, _LOCK.user_id),
    LockedRow,
)
_OWED = OUTBOX.table.c
# Unless it changed since it was told; who changes it waits for this, and then owes it anew.
_still_so = (
    select(literal(1))
    .select_from(LOCKED.table)
    .where(_LOCK.user_id == _PERSON, _LOCK.revision == bindparam("revision", type_=BigInteger))
    .with_for_update(read=True)
    .exists()
)
_SETTLE = statement(
    delete(OUTBOX.table)
    .where(_OWED.user_id == _PERSON, _OWED.kind == bindparam("kind", type_=Text), _still_so)
    .returning(_OWED.user_id),
    _PersonRow,
)


class Locking:
    """Locks and unlocks people."""

    def __init__(self, relay: Relay, locks: Locks) -> None:
        """Takes what tells the other services, and this process's memory of who is locked."""
        self._relay = relay
        self._locks = locks

    async def lock_within(self, connection: Connection, person: UUID, time: datetime) -> bool:
        """Locks a person for what happened then, in a transaction that holds `ERASED.take`.

        False, and nothing done, when they are locked or erased, or were unlocked since.
        """
        locked = await fetch_all(connection, _LOCK_PERSON, {"person": person, "time": time})
        return bool(locked)

    async def tell(self) -> None:
        """Makes known what was committed: here at once, elsewhere soon."""
        await self._locks.read()
        self._relay.wake(LOCK_SESSIONS)
        self._relay.wake(LOCK_MESSAGES)


async def locked_people(database: Database) -> Sequence[LockedRow]:
    """Everybody who is locked, who has been for longest first."""
    return await database.all(_ALL_LOCKED, {})


async def unlock_within(connection: Connection, person: UUID) -> bool:
    """Unlocks a person in a transaction; False when they are not locked.

    The services hear of it within seconds of its end.
    """
    await fetch_all(connection, ERASED.take, {"person": person})
    return bool(await fetch_all(connection, _UNLOCK_PERSON, {"person": person}))


def lock_delivery(
    database: Database,
    kind: str,
    receiver: aio.Channel,
    tell: Callable[[LockRow], Awaitable[object]],
) -> Delivery:
    """How it is told: as it stands, and settled if it still stands so."""

    async def deliver(scopes: Sequence[Scope]) -> None:
        for (person,) in scopes:
            lock = await database.one(LOCKED.find, {"person": person})
            if lock is None:  # They were erased, which is told by itself.
                await database.all(OUTBOX.settle, OUTBOX.parameters(kind, [(person,)]))
                continue
            await tell(lock)
            told = {"person": person, "kind": kind, "revision": lock.revision}
            await database.all(_SETTLE, told)

    return Delivery(deliver, receiver=receiver)
