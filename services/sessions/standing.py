"""How sessions stand, for the services that compare it with what they know of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_, literal, or_, select

from services.runtime.database import Database, statement
from services.sessions.store import ERASED, OUTBOX, SESSIONS


@dataclass(frozen=True, slots=True)
class StandingRow:
    """How a session stands."""

    user_id: UUID
    session_id: UUID
    exists: bool
    owed: bool
    """Whether something of it is still to be told, or its person was erased."""


_named = OUTBOX.named()
_SESSION, _OWED, _GONE = SESSIONS.c, OUTBOX.table.c, ERASED.table.c
_is_there = select(literal(1)).where(
    _SESSION.user_id == _named.c.user_id,
    _SESSION.session_id == _named.c.session_id,
    _SESSION.delete_time.is_(None),
)
_is_owed = select(literal(1)).where(
    and_(
        _OWED.user_id == _named.c.user_id,
        _OWED.session_id == _named.c.session_id,
        _OWED.set_aside_time.is_(None),
    )
)
_is_erased = select(literal(1)).where(_GONE.user_id == _named.c.user_id)
_STANDING = statement(
    select(
        _named.c.user_id,
        _named.c.session_id,
        _is_there.exists().label("exists"),
        or_(_is_owed.exists(), _is_erased.exists()).label("owed"),
    ).select_from(_named),
    StandingRow,
)


async def standings(
    database: Database, sessions: Sequence[tuple[UUID, UUID]]
) -> Sequence[StandingRow]:
    """How sessions stand, each by person and session, in the same order."""
    named = {"user_ids": [one[0] for one in sessions], "session_ids": [one[1] for one in sessions]}
    rows = {(row.user_id, row.session_id): row for row in await database.all(_STANDING, named)}
    return [rows[one] for one in sessions]
