"""Legal holds, as the sessions service tells of them: SQL and nothing else.

What changes or deletes a message looks at the hold in its own statement, under the conversation's
lock (`store.py`). Deleting a whole conversation, and erasing a person, do not: whether they may was
decided where they were asked for.
"""

from datetime import datetime

from sqlalchemy import Boolean, DateTime, and_, bindparam, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert

from services.messages.tables import (
    CONVERSATIONS,
    ERASED,
    PERSON,
    SESSION,
    Conversation,
    ConversationRow,
)
from services.runtime.database import Database, statement

_CONVERSATION = CONVERSATIONS.c
# Also where nothing was ever said: what is said later is held as well.
_told = insert(CONVERSATIONS).from_select(
    [
        *("session_id", "user_id", "last_sequence", "message_count", "revision", "create_time"),
        *("is_held", "hold_change_time"),
    ],
    select(
        SESSION,
        PERSON,
        literal(0),
        literal(0),
        literal(0),
        func.now(),
        bindparam("held", type_=Boolean),
        bindparam("change_time", type_=DateTime(timezone=True)),
    ).where(ERASED.not_erased),
)
_NOTE = statement(
    _told.on_conflict_do_update(
        index_elements=["session_id", "user_id"],
        set_={name: _told.excluded[name] for name in ("is_held", "hold_change_time")},
        where=and_(
            _CONVERSATION.delete_time.is_(None),
            or_(
                _CONVERSATION.hold_change_time.is_(None),
                _CONVERSATION.hold_change_time < _told.excluded.hold_change_time,
            ),
        ),
    ).returning(_CONVERSATION.revision, _CONVERSATION.delete_time, _CONVERSATION.is_held),
    ConversationRow,
)


class LegalHolds:
    """The holds that the sessions service tells of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, conversation: Conversation, *, held: bool, change_time: datetime) -> None:
        """Stores whether a conversation is under a hold; nothing when that is not news."""
        told = {**conversation.parameters, "held": held, "change_time": change_time}
        await self._database.all_after(ERASED.hold, _NOTE, told)
