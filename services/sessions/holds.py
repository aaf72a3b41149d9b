"""Legal holds: set and lifted here, and told to the two others, who keep to them as well.

A hold is on a session. Here it keeps the session and its title, at the messages service what was
said in it, and at the users service its person from being erased: each service looks in the
statement that would destroy something. So a hold is complete once both have heard of it, and until
then whatever comes first counts: what was deleted by then is gone, and a person who was erased by
then has no session to hold. Neither the deletion of a session nor the erasure of a person, once it
was committed where it was asked for, is refused by the services that hear of it later.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from grpc import aio
from sqlalchemy import (
    Boolean,
    DateTime,
    Interval,
    Text,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)

from services.runtime.audit.chain import Access
from services.runtime.audit.recorder import record_within
from services.runtime.database import Database, fetch_all, fetch_one, statement
from services.runtime.outbox import Scope
from services.runtime.relay import Delivery
from services.sessions.store import (
    ACCESS_LOG,
    ERASED,
    IS_THERE,
    LOCK_PERSON,
    OUTBOX,
    PEOPLE,
    PERSON,
    SESSION,
    SESSION_COLUMNS,
    SESSIONS,
    THIS_SESSION,
    SessionRow,
)

_HOLD = "hold_"
HOLD_MESSAGES = f"{_HOLD}messages"
HOLD_USERS = f"{_HOLD}users"
"""The kinds of the events that a hold was set or lifted."""


class NothingToHoldError(Exception):
    """There is no such session, or not any more; or none that a hold was ever on."""


@dataclass(frozen=True, slots=True)
class HoldRow:
    """Whether a session is under a hold."""

    user_id: UUID
    session_id: UUID
    is_held: bool
    hold_change_time: datetime
    hold_reference: str | None


@dataclass(frozen=True, slots=True)
class _OwedRow:
    kind: str


_COLUMNS = SESSIONS.c
_OWED = OUTBOX.table.c
_HELD = bindparam("held", type_=Boolean)
_is_other = (THIS_SESSION, IS_THERE, _COLUMNS.is_held != _HELD)
_counting = (
    update(PEOPLE)
    .where(PEOPLE.c.user_id == PERSON, select(literal(1)).where(*_is_other).exists())
    .values(revision=PEOPLE.c.revision + 1)
    .returning(PEOPLE.c.revision)
    .cte("counting")
)
_changed = (
    update(SESSIONS)
    .where(*_is_other)
    .values(
        is_held=_HELD,
        # By it the others tell what is newer: it grows, whatever the clock does.
        hold_change_time=func.greatest(
            func.now(),
            _COLUMNS.hold_change_time
            + bindparam("tick", timedelta(microseconds=1), type_=Interval),
        ),
        hold_reference=bindparam("reference", type_=Text),
        revision=_counting.c.revision,
    )
    .returning(*SESSION_COLUMNS)
    .cte("changed")
)
_CHANGE = statement(
    select(_changed).add_cte(
        OUTBOX.owing(HOLD_MESSAGES, _changed), OUTBOX.owing(HOLD_USERS, _changed)
    ),
    SessionRow,
)
_hold = select(*(_COLUMNS[name] for name in HoldRow.__slots__))
# Also of a session that was deleted once its hold was lifted: whoever is told late hears of it.
_known = _hold.where(THIS_SESSION, _COLUMNS.hold_change_time.is_not(None)).cte("known")
_TELL_AGAIN = statement(
    select(_known).add_cte(OUTBOX.owing(HOLD_MESSAGES, _known), OUTBOX.owing(HOLD_USERS, _known)),
    HoldRow,
)
_FIND = statement(select(_known), HoldRow)
_ALL_HELD = statement(
    _hold.where(_COLUMNS.is_held, IS_THERE).order_by(
        _COLUMNS.hold_change_time, _COLUMNS.session_id
    ),
    HoldRow,
)
_NOT_TOLD = statement(
    select(_OWED.kind).where(
        _OWED.user_id == PERSON,
        _OWED.session_id == SESSION,
        or_(_OWED.kind == HOLD_MESSAGES, _OWED.kind == HOLD_USERS),
    ),
    _OwedRow,
)
# Unless it changed since it was told; who changes it waits for this, and then owes it anew.
_still_so = (
    select(literal(1))
    .select_from(SESSIONS)
    .where(
        THIS_SESSION,
        _COLUMNS.hold_change_time == bindparam("told", type_=DateTime(timezone=True)),
    )
    .with_for_update(read=True)
    .exists()
)
_SETTLE = statement(
    delete(OUTBOX.table)
    .where(
        _OWED.user_id == PERSON,
        _OWED.session_id == SESSION,
        _OWED.kind == bindparam("kind", type_=Text),
        _still_so,
    )
    .returning(_OWED.kind),
    _OwedRow,
)


async def change_hold(
    database: Database, key: bytes, access: Access, session: UUID, *, held: bool
) -> bool:
    """Sets or lifts the hold that an operator's command is about, which its person's log records.

    `key` is that of the log's chain. Where the session stands so already, the others are told of it
    once more, and it gives False.

    Raises:
        NothingToHoldError: the person has no such session, or no hold was ever on it to be lifted.
    """
    parameters: dict[str, object] = {"person": access.user_id, "session": session, "held": held}
    reference = (access.request_id or None) if held else None
    async with database.transaction() as connection:
        await fetch_all(connection, ERASED.hold, parameters)
        await fetch_all(connection, LOCK_PERSON, parameters)
        changed = await fetch_one(connection, _CHANGE, {**parameters, "reference": reference})
        if changed is not None:
            await record_within(connection, ACCESS_LOG, key, access)
            return True
        known = await fetch_one(connection, _TELL_AGAIN, parameters)
        if known is None or known.is_held is not held:
            raise NothingToHoldError
    return False


async def find_hold(database: Database, person: UUID, session: UUID) -> HoldRow | None:
    """The hold on a session, which was perhaps deleted since; None when there never was one.

    Nothing is known of the sessions of a person who was erased.
    """
    return await database.one(_FIND, {"person": person, "session": session})


async def held_sessions(database: Database) -> Sequence[HoldRow]:
    """Every session under a hold, the one that has been for longest first."""
    return await database.all(_ALL_HELD, {})


async def not_told(database: Database, person: UUID, session: UUID) -> list[str]:
    """The services that have not heard yet of the hold on a session as it stands."""
    rows = await database.all(_NOT_TOLD, {"person": person, "session": session})
    return sorted(row.kind.removeprefix(_HOLD) for row in rows)


def hold_delivery(
    database: Database, kind: str, receiver: aio.Channel, tell: Callable[[HoldRow], Awaitable[bool]]
) -> Delivery:
    """How a hold is told: as it stands, and settled if it still stands so.

    `tell` gives whether the receiver keeps to it. One that knows the person as erased does not:
    what is owed stays until the erasure has come here too, and the session is gone.
    """

    async def deliver(scopes: Sequence[Scope]) -> None:
        for person, session in scopes:
            hold = await find_hold(database, person, session)
            if hold is None:  # Its person was erased, which is told by itself.
                await database.all(OUTBOX.settle, OUTBOX.parameters(kind, [(person, session)]))
            elif await tell(hold):
                told = {"person": person, "session": session, "kind": kind}
                await database.all(_SETTLE, {**told, "told": hold.hold_change_time})

    return Delivery(deliver, receiver=receiver)
