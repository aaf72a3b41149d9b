"""How conversations stand, for the sessions service, which compares it with what it was told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, func, literal, or_, select

from services.messages.tables import CONVERSATIONS, ERASED, OUTBOX, Conversation
from services.runtime.database import Database, statement


@dataclass(frozen=True, slots=True)
class StandingRow:
    """How a conversation stands."""

    session_id: UUID
    user_id: UUID
    message_count: int
    revision: int
    """0 while nothing was ever said in it."""
    is_deleted: bool
    is_held: bool
    activity_time: datetime | None
    owed: bool
    """Whether something of it is still to be told, or its person was erased."""


_named = OUTBOX.named()
_CONVERSATION, _OWED, _GONE = CONVERSATIONS.c, OUTBOX.table.c, ERASED.table.c
_is_owed = select(literal(1)).where(
    _OWED.session_id == _named.c.session_id,
    _OWED.user_id == _named.c.user_id,
    _OWED.set_aside_time.is_(None),
)
_is_erased = select(literal(1)).where(_GONE.user_id == _named.c.user_id)
# One statement, and so one moment: what is counted and not told is owed.
_STANDING = statement(
    select(
        _named.c.session_id,
        _named.c.user_id,
        func.coalesce(_CONVERSATION.message_count, literal(0)).label("message_count"),
        func.coalesce(_CONVERSATION.revision, literal(0)).label("revision"),
        _CONVERSATION.delete_time.is_not(None).label("is_deleted"),
        func.coalesce(_CONVERSATION.is_held, literal(False)).label("is_held"),
        _CONVERSATION.activity_time,
        or_(_is_owed.exists(), _is_erased.exists()).label("owed"),
    ).select_from(
        _named.outerjoin(
            CONVERSATIONS,
            and_(
                _CONVERSATION.session_id == _named.c.session_id,
                _CONVERSATION.user_id == _named.c.user_id,
            ),
        )
    ),
    StandingRow,
)


async def standings(
    database: Database, conversations: Sequence[Conversation]
) -> Sequence[StandingRow]:
    """How conversations stand, in the same order."""
    named = {
        "session_ids": [one.session_id for one in conversations],
        "user_ids": [one.user_id for one in conversations],
    }
    rows = await database.all(_STANDING, named)
    by_name = {Conversation(row.session_id, row.user_id): row for row in rows}
    return [by_name[one] for one in conversations]
