"""What growing messages get, and the statement that writes it for many of them at once."""

from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Integer,
    LargeBinary,
    Uuid,
    and_,
    bindparam,
    column,
    func,
    insert,
    select,
    update,
)

from services.messages.growth import DEADLINE
from services.messages.tables import CONVERSATIONS, GROWS, MESSAGES, PARTS, Conversation
from services.runtime.database import Parameters, statement
from services.runtime.telemetry.traces import traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span


@dataclass(frozen=True, slots=True)
class GrownRow:
    """What the database decided of a growth that it stored."""

    revision: int


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """Text on its way into a growing message."""

    conversation: Conversation
    message_id: UUID
    writer: UUID
    first: int
    """How many characters stand before it."""
    body: bytes
    """An envelope."""
    text: str = field(repr=False)
    """What is in the envelope."""
    stored: "Future[GrownRow | None]"
    """None when it was not stored: another writes the message, or nobody does."""
    caller: "Span | None" = field(default_factory=traces.here, repr=False)
    """Whose trace it is part of."""


@dataclass(frozen=True, slots=True)
class _PlacedRow(GrownRow):
    place: int


_CONVERSATION = CONVERSATIONS.c
_MESSAGE = MESSAGES.c

_asked = (
    func.unnest(
        bindparam("sessions", type_=ARRAY(Uuid)),
        bindparam("persons", type_=ARRAY(Uuid)),
        bindparam("messages", type_=ARRAY(Uuid)),
        bindparam("writers", type_=ARRAY(Uuid)),
        bindparam("firsts", type_=ARRAY(Integer)),
        bindparam("lengths", type_=ARRAY(Integer)),
        bindparam("bodies", type_=ARRAY(LargeBinary)),
    )
    .table_valued(
        column("session_id", Uuid),
        column("user_id", Uuid),
        column("message_id", Uuid),
        column("writer", Uuid),
        column("first", Integer),
        column("length", Integer),
        column("body", LargeBinary),
        with_ordinality="place",
        name="asked",
    )
    .render_derived()
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
        _asked.c.first,
        _asked.c.length,
        _asked.c.body,
        (_CONVERSATION.revision + _nth).label("revision"),
    )
    .select_from(
        _asked.join(
            MESSAGES,
            and_(
                _MESSAGE.session_id == _asked.c.session_id,
                _MESSAGE.user_id == _asked.c.user_id,
                _MESSAGE.message_id == _asked.c.message_id,
            ),
        ).join(
            CONVERSATIONS,
            and_(
                _CONVERSATION.session_id == _asked.c.session_id,
                _CONVERSATION.user_id == _asked.c.user_id,
            ),
        )
    )
    .where(
        GROWS,
        _MESSAGE.writer == _asked.c.writer,
        _MESSAGE.length == _asked.c.first,
        _CONVERSATION.delete_time.is_(None),
    )
    .cte("placed")
)
_grown = (
    select(
        _placed.c.session_id,
        _placed.c.user_id,
        func.count().label("parts"),
        func.sum(func.octet_length(_placed.c.body)).label("bytes"),
    )
    .group_by(_placed.c.session_id, _placed.c.user_id)
    .subquery("grown")
)
_counting = (
    update(CONVERSATIONS)
    .where(
        _CONVERSATION.session_id == _grown.c.session_id, _CONVERSATION.user_id == _grown.c.user_id
    )
    .values(
        revision=_CONVERSATION.revision + _grown.c.parts,
        bytes=_CONVERSATION.bytes + _grown.c.bytes,
        counted_revision=_CONVERSATION.counted_revision + _grown.c.parts,
    )
    .cte("counting")
)
_growing = (
    update(MESSAGES)
    .where(
        _MESSAGE.session_id == _placed.c.session_id,
        _MESSAGE.user_id == _placed.c.user_id,
        _MESSAGE.message_id == _placed.c.message_id,
    )
    .values(
        revision=_placed.c.revision,
        length=_placed.c.length,
        writer_deadline=DEADLINE,
        update_time=func.now(),
    )
    .cte("growing")
)
_ADDED = ["session_id", "user_id", "message_id", "first", "revision", "body"]
_adding = (
    insert(PARTS).from_select(_ADDED, select(*(_placed.c[name] for name in _ADDED))).cte("adding")
)
GROW_ALL = statement(
    select(_placed.c.revision, _placed.c.place).add_cte(_counting, _growing, _adding), _PlacedRow
)
"""Adds parts to growing messages, whose conversations are locked."""


def growth_columns(growths: Sequence[Growth]) -> Parameters:
    """The parameters of `GROW_ALL`."""
    return {
        "sessions": [growth.conversation.session_id for growth in growths],
        "persons": [growth.conversation.user_id for growth in growths],
        "messages": [growth.message_id for growth in growths],
        "writers": [growth.writer for growth in growths],
        "firsts": [growth.first for growth in growths],
        "lengths": [growth.first + len(growth.text) for growth in growths],
        "bodies": [growth.body for growth in growths],
    }
