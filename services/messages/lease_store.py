"""The leases in the rows of growing messages: SQL and nothing else."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Interval, Uuid, and_, bindparam, column, func, select, update

from services.messages.growth import DEADLINE
from services.messages.tables import GROWS, IN_CONVERSATION, MESSAGES, Conversation
from services.runtime.database import Database, Parameters, statement

Written = Collection[tuple[Conversation, UUID, UUID]]
"""Messages, by their conversations and ids, each with who writes it."""


@dataclass(frozen=True, slots=True)
class _WriterRow:
    writer: UUID


_MESSAGE = MESSAGES.c

_named = (
    func.unnest(
        bindparam("sessions", type_=ARRAY(Uuid)),
        bindparam("persons", type_=ARRAY(Uuid)),
        bindparam("messages", type_=ARRAY(Uuid)),
        bindparam("writers", type_=ARRAY(Uuid)),
    )
    .table_valued(
        column("session_id", Uuid),
        column("user_id", Uuid),
        column("message_id", Uuid),
        column("writer", Uuid),
        name="named",
    )
    .render_derived()
)
_written = (
    select(_MESSAGE.session_id, _MESSAGE.user_id, _MESSAGE.message_id, _MESSAGE.writer)
    .select_from(
        _named.join(
            MESSAGES,
            and_(
                _MESSAGE.session_id == _named.c.session_id,
                _MESSAGE.user_id == _named.c.user_id,
                _MESSAGE.message_id == _named.c.message_id,
                _MESSAGE.writer == _named.c.writer,
            ),
        )
    )
    .where(GROWS)
)
_WRITTEN = statement(_written.with_only_columns(_MESSAGE.writer), _WriterRow)
# Whoever waits for some rows and holds others may wait in a circle with a batch that writes to
# them. What is being written gets a new deadline by that.
_free = _written.with_for_update(of=MESSAGES, skip_locked=True).cte("free")
_RENEW = statement(
    update(MESSAGES)
    .where(
        _MESSAGE.session_id == _free.c.session_id,
        _MESSAGE.user_id == _free.c.user_id,
        _MESSAGE.message_id == _free.c.message_id,
    )
    .values(writer_deadline=DEADLINE)
    .returning(_MESSAGE.writer),
    _WriterRow,
)
_SHORTEN = statement(
    update(MESSAGES)
    .where(
        IN_CONVERSATION,
        _MESSAGE.message_id == bindparam("message", type_=Uuid),
        _MESSAGE.writer == bindparam("writer", type_=Uuid),
        GROWS,
    )
    .values(writer_deadline=func.now() + bindparam("lease", type_=Interval))
    .returning(_MESSAGE.writer),
    _WriterRow,
)


class LeaseStore:
    """Reads and changes until when the writers of growing messages count as alive."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(self, written: Written) -> None:
        """Says of messages that their writers, which are named, count as alive from now."""
        await self._database.all(_RENEW, _columns(written))

    async def shorten(
        self, conversation: Conversation, message_id: UUID, writer: UUID, *, seconds: float
    ) -> None:
        """Says of a message that its writer, if it is this one, counts as alive for so long."""
        named = {**conversation.parameters, "message": message_id, "writer": writer}
        await self._database.all(_SHORTEN, {**named, "lease": timedelta(seconds=seconds)})

    async def writers(self, written: Written) -> set[UUID]:
        """The writers who still are: the others' messages have ended, or have another writer."""
        return {row.writer for row in await self._database.all(_WRITTEN, _columns(written))}


def _columns(written: Written) -> Parameters:
    return {
        "sessions": [conversation.session_id for conversation, _, _ in written],
        "persons": [conversation.user_id for conversation, _, _ in written],
        "messages": [message_id for _, message_id, _ in written],
        "writers": [writer for _, _, writer in written],
    }
