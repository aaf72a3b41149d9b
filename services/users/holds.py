"""Legal holds on a person's sessions, as the sessions service tells of them.

Whoever has one is not erased. Who erases a person holds `ERASED.take` from before looking here to
the end of the transaction, and a hold is noted under `ERASED.hold`: so either the hold is seen, or
whoever tells of it learns that the person was erased before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    DateTime,
    Uuid,
    and_,
    bindparam,
    column,
    delete,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.database import Connection, Database, fetch_one, statement
from services.runtime.errors import Refusal, legal_hold
from services.users.store import ERASED, LEGAL_HOLDS


@dataclass(frozen=True, slots=True)
class _HoldRow:
    session_id: UUID


@dataclass(frozen=True, slots=True)
class StandingRow:
    """What is known of a legal hold on a session."""

    user_id: UUID
    session_id: UUID
    is_held: bool
    is_erased: bool
    """Whether its person was: then nothing is known of it any more."""


class HeldError(Exception):
    """A session of the person is under a legal hold: they cannot be erased."""


_HOLD = LEGAL_HOLDS.c
_PERSON = bindparam("person", type_=Uuid)
_told = insert(LEGAL_HOLDS).from_select(
    ["user_id", "session_id", "is_held", "change_time"],
    select(
        _PERSON,
        bindparam("session", type_=Uuid),
        bindparam("held", type_=Boolean),
        bindparam("change_time", type_=DateTime(timezone=True)),
    ).where(ERASED.not_erased),
)
_NOTE = statement(
    _told.on_conflict_do_update(
        index_elements=["user_id", "session_id"],
        set_={name: _told.excluded[name] for name in ("is_held", "change_time")},
        where=_HOLD.change_time < _told.excluded.change_time,
    ).returning(_HOLD.session_id),
    _HoldRow,
)
_ANY = statement(
    select(_HOLD.session_id).where(_HOLD.user_id == _PERSON, _HOLD.is_held).limit(1), _HoldRow
)
_named = (
    func.unnest(
        bindparam("user_ids", type_=ARRAY(Uuid)), bindparam("session_ids", type_=ARRAY(Uuid))
    )
    .table_valued(column("user_id", Uuid), column("session_id", Uuid), name="named")
    .render_derived()
)
_STANDING = statement(
    select(
        _named.c.user_id,
        _named.c.session_id,
        func.coalesce(_HOLD.is_held, literal(False)).label("is_held"),
        select(literal(1))
        .where(ERASED.table.c.user_id == _named.c.user_id)
        .exists()
        .label("is_erased"),
    ).select_from(
        _named.outerjoin(
            LEGAL_HOLDS,
            and_(_HOLD.user_id == _named.c.user_id, _HOLD.session_id == _named.c.session_id),
        )
    ),
    StandingRow,
)
FORGET_HOLDS = statement(
    delete(LEGAL_HOLDS).where(_HOLD.user_id == _PERSON).returning(_HOLD.session_id), _HoldRow
)
"""For erasing a person."""
FORGET_HOLDS_AGAIN = statement(
    delete(LEGAL_HOLDS).where(_HOLD.user_id == ERASED.table.c.user_id).returning(_HOLD.session_id),
    _HoldRow,
)
"""For erasing everybody once more who ever was."""


class LegalHolds:
    """The holds that the sessions service tells of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, person: UUID, session: UUID, *, held: bool, change_time: datetime) -> bool:
        """Stores whether a session is under a hold, unless that is not news.

        False when its person was erased before.
        """
        parameters: dict[str, object] = {"person": person, "session": session}
        parameters |= {"held": held, "change_time": change_time}
        *_, erased = await self._database.in_one_trip(
            (ERASED.hold, parameters), (_NOTE, parameters), (ERASED.find, parameters)
        )
        return not erased

    async def standings(self, sessions: Sequence[tuple[UUID, UUID]]) -> Sequence[StandingRow]:
        """What is known of holds on sessions, each by person and session, in the same order."""
        named = {
            "user_ids": [person for person, _ in sessions],
            "session_ids": [session for _, session in sessions],
        }
        rows = await self._database.all(_STANDING, named)
        by_name = {(row.user_id, row.session_id): row for row in rows}
        return [by_name[one] for one in sessions]


async def is_held_within(connection: Connection, person: UUID) -> bool:
    """Whether a session of a person is under a hold, in a transaction that holds `ERASED.take`."""
    return await fetch_one(connection, _ANY, {"person": person}) is not None


def person_held() -> Refusal:
    """The caller has a conversation under a legal hold, and cannot be erased."""
    return legal_hold(
        "A conversation of yours is under a legal hold: you can be erased once it is lifted."
    )
