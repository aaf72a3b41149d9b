"""Appends, and the statements that write many of them at once.

However many conversations and people they are of: the conversations' rows are locked, and then one
statement places, counts and adds the messages. `writer.py` runs both in one round trip.
"""

from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import MessageState
from sqlalchemy import (
    ARRAY,
    Boolean,
    DateTime,
    LargeBinary,
    SmallInteger,
    Uuid,
    and_,
    bindparam,
    case,
    column,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from services.messages.activity import owing_activity
from services.messages.tables import CONVERSATIONS, MESSAGES, Conversation, MessageRow
from services.runtime.database import Parameters, statement
from services.runtime.telemetry.traces import traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span


@dataclass(frozen=True, slots=True)
class AppendedRow:
    """What the database decided of an append that it stored."""

    sequence: int
    revision: int
    create_time: datetime
    update_time: datetime
    import_time: datetime | None

    def of(self, message_id: UUID, role: int, state: int) -> MessageRow:
        """The row that was stored, without its envelope."""
        return MessageRow(
            message_id=message_id,
            sequence=self.sequence,
            revision=self.revision,
            role=role,
            body=b"",
            original=None,
            create_time=self.create_time,
            update_time=self.update_time,
            import_time=self.import_time,
            state=state,
            length=None,
            begun_revision=None,
            writer_service=None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Append:
    """A message on its way to the end of its conversation."""

    conversation: Conversation
    message_id: UUID
    role: int
    body: bytes
    """An envelope."""
    plaintext: bytes = field(repr=False)
    """What is in the envelope, for those who watch the conversation."""
    stored: "Future[AppendedRow | None]"
    """None when it was not stored: no such conversation, or the id is taken. Whoever no longer
    waits for it cancels it; then it is not written unless it is being written already."""
    create_time: datetime | None = None
    """When it was said, for an imported message; None for now."""
    update_time: datetime | None = None
    """When it was last changed, for an imported message; None for now."""
    imported: bool = False
    state: int = MessageState.MESSAGE_STATE_COMPLETE
    """Complete, or interrupted for an imported message that was."""
    caller: "Span | None" = field(default_factory=traces.here, repr=False)
    """Whose trace it is part of."""


@dataclass(frozen=True, slots=True)
class _PlacedRow(AppendedRow):
    place: int


@dataclass(frozen=True, slots=True)
class _LockedRow:
    revision: int


_CONVERSATION = CONVERSATIONS.c
_MESSAGE = MESSAGES.c

_asked = (
    func.unnest(
        bindparam("sessions", type_=ARRAY(Uuid)),
        bindparam("persons", type_=ARRAY(Uuid)),
        bindparam("messages", type_=ARRAY(Uuid)),
        bindparam("roles", type_=ARRAY(SmallInteger)),
        bindparam("bodies", type_=ARRAY(LargeBinary)),
        bindparam("create_times", type_=ARRAY(DateTime(timezone=True))),
        bindparam("update_times", type_=ARRAY(DateTime(timezone=True))),
        bindparam("imported", type_=ARRAY(Boolean)),
        bindparam("states", type_=ARRAY(SmallInteger)),
    )
    .table_valued(
        column("session_id", Uuid),
        column("user_id", Uuid),
        column("message_id", Uuid),
        column("role", SmallInteger),
        column("body", LargeBinary),
        column("create_time", DateTime(timezone=True)),
        column("update_time", DateTime(timezone=True)),
        column("imported", Boolean),
        column("state", SmallInteger),
        with_ordinality="place",
        name="asked",
    )
    .render_derived()
)
_named = (
    func.unnest(bindparam("sessions", type_=ARRAY(Uuid)), bindparam("persons", type_=ARRAY(Uuid)))
    .table_valued(column("session_id", Uuid), column("user_id", Uuid), name="named")
    .render_derived()
)
# In one order, so that two processes' batches never wait for each other in a circle.
LOCK_ALL = statement(
    select(_CONVERSATION.revision)
    .where(
        tuple_(_CONVERSATION.session_id, _CONVERSATION.user_id).in_(
            select(_named.c.session_id, _named.c.user_id)
        )
    )
    .order_by(_CONVERSATION.session_id, _CONVERSATION.user_id)
    .with_for_update(),
    _LockedRow,
)
_of_asked_conversation = and_(
    _CONVERSATION.session_id == _asked.c.session_id, _CONVERSATION.user_id == _asked.c.user_id
)
_is_new = (
    ~select(literal(1))
    .select_from(MESSAGES)
    .where(
        _MESSAGE.session_id == _asked.c.session_id,
        _MESSAGE.user_id == _asked.c.user_id,
        _MESSAGE.message_id == _asked.c.message_id,
    )
    .exists()
)
_nth = func.row_number().over(
    partition_by=(_asked.c.session_id, _asked.c.user_id), order_by=_asked.c.place
)
_placed = (
    select(
        _asked.c.place,
        _asked.c.session_id,
        _asked.c.user_id,
        _asked.c.message_id,
        (_CONVERSATION.last_sequence + _nth).label("sequence"),
        (_CONVERSATION.revision + _nth).label("revision"),
        _asked.c.role,
        _asked.c.body,
        func.coalesce(_asked.c.create_time, func.now()).label("create_time"),
        func.coalesce(_asked.c.update_time, func.now()).label("update_time"),
        case((_asked.c.imported, func.now())).label("import_time"),
        _asked.c.state,
    )
    .select_from(_asked.join(CONVERSATIONS, _of_asked_conversation))
    .where(_CONVERSATION.delete_time.is_(None), _is_new)
    .cte("placed")
)
_added = (
    select(
        _placed.c.session_id,
        _placed.c.user_id,
        func.count().label("messages"),
        func.max(_placed.c.create_time).label("last"),
        func.sum(func.octet_length(_placed.c.body)).label("bytes"),
    )
    .group_by(_placed.c.session_id, _placed.c.user_id)
    .subquery("added")
)
_counting = (
    update(CONVERSATIONS)
    .where(
        _CONVERSATION.session_id == _added.c.session_id, _CONVERSATION.user_id == _added.c.user_id
    )
    .values(
        last_sequence=_CONVERSATION.last_sequence + _added.c.messages,
        message_count=_CONVERSATION.message_count + _added.c.messages,
        revision=_CONVERSATION.revision + _added.c.messages,
        bytes=_CONVERSATION.bytes + _added.c.bytes,
        counted_revision=_CONVERSATION.counted_revision + _added.c.messages,
        activity_time=func.greatest(_CONVERSATION.activity_time, _added.c.last),
    )
    .cte("counting")
)
_INSERTED = [name for name in _placed.c.keys() if name != "place"]  # noqa: SIM118 - not a dict
_adding = (
    insert(MESSAGES)
    .from_select(_INSERTED, select(*(_placed.c[name] for name in _INSERTED)))
    .cte("adding")
)
_owing = owing_activity(_added)
APPEND_ALL = statement(
    select(*(_placed.c[name] for name in _PlacedRow.__match_args__)).add_cte(
        _counting, _adding, _owing
    ),
    _PlacedRow,
)
"""Adds messages at the end of their conversations, which are locked."""


def append_columns(appends: Sequence[Append]) -> Parameters:
    """The parameters of `APPEND_ALL`."""
    return {
        "sessions": [append.conversation.session_id for append in appends],
        "persons": [append.conversation.user_id for append in appends],
        "messages": [append.message_id for append in appends],
        "roles": [append.role for append in appends],
        "bodies": [append.body for append in appends],
        "create_times": [append.create_time for append in appends],
        "update_times": [append.update_time for append in appends],
        "imported": [append.imported for append in appends],
        "states": [append.state for append in appends],
    }
