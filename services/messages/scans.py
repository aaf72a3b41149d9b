"""Reading on through many messages, a page at a time: SQL and nothing else.

A page is bounded in messages and in bytes, and the connection goes back to the pool after it: what
lies between two pages is a place, which costs nobody anything. Deleted messages are left out. Every
statement names the person whose messages they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    Subquery,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    literal,
    select,
    true,
    tuple_,
)

from services.messages.store import CONVERSATIONS, MESSAGES, Conversation, MessageRow
from services.runtime.database import Database, Statement, statement

PAGE_MESSAGES = 200
"""The most messages in a page: about a millisecond of work to take them off the connection."""
PAGE_BYTES = 256 << 10
"""How many bytes of bodies a page has at most, unless its first message alone has more."""


@dataclass(frozen=True, slots=True)
class ScannedRow(MessageRow):
    """A message as stored, and its session."""

    body: bytes
    session_id: UUID

    @property
    def when(self) -> "Moment":
        """Its place among all messages of the person, by the time."""
        return Moment(self.create_time, self.session_id, self.sequence)

    @property
    def where(self) -> "Spot":
        """Its place among all messages of the person, session by session."""
        return Spot(self.session_id, self.sequence)


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A place in the order of time over all of a person's conversations."""

    create_time: datetime
    session_id: UUID
    sequence: int


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """A place in the order of conversations, each in its own order."""

    session_id: UUID
    sequence: int


_SEQUENCES_END = (1 << 63) - 1
THE_END = Moment(datetime.max.replace(tzinfo=UTC), UUID(int=(1 << 128) - 1), _SEQUENCES_END)
"""After every message."""
THE_BEGINNING = Spot(UUID(int=0), 0)
"""Before every message."""

_MESSAGE = MESSAGES.c
_CONVERSATION = CONVERSATIONS.c
_COLUMNS = [_MESSAGE[field.name] for field in fields(ScannedRow)]
_SESSION = bindparam("session", type_=Uuid)
_PERSON = bindparam("person", type_=Uuid)
_SEQUENCE = bindparam("sequence", type_=BigInteger)
_TIME = bindparam("time", type_=DateTime(timezone=True))
_NOT_DELETED = _MESSAGE.body.is_not(None)
_IN_CONVERSATION = and_(
    _MESSAGE.session_id == _SESSION, _MESSAGE.user_id == _PERSON, _NOT_DELETED
)


def _page(found: Subquery, *order: str, newest_first: bool) -> Statement[ScannedRow]:
    """As many of the rows, which are found in this order, as a page may have bytes."""

    def ordered(rows: Subquery) -> list[ColumnElement[Any]]:
        keys = [rows.c[key] for key in order]
        return [key.desc() for key in keys] if newest_first else [*keys]

    size = func.octet_length(found.c.body)
    bytes_before = (func.sum(size).over(order_by=ordered(found)) - size).label("bytes_before")
    sized = select(found, bytes_before).subquery("sized")
    return statement(
        select(*(sized.c[column.name] for column in _COLUMNS))
        .where(sized.c.bytes_before < literal(PAGE_BYTES, BigInteger))
        .order_by(*ordered(sized)),
        ScannedRow,
    )


def _found(rows: Select[Any]) -> Subquery:
    return rows.limit(literal(PAGE_MESSAGES, BigInteger)).subquery("found")


_BY_TIME = (_MESSAGE.create_time, _MESSAGE.session_id, _MESSAGE.sequence)
_EARLIER = _page(
    _found(
        select(*_COLUMNS)
        .where(
            _MESSAGE.user_id == _PERSON,
            _NOT_DELETED,
            tuple_(*_BY_TIME) < tuple_(_TIME, _SESSION, _SEQUENCE),
        )
        .order_by(*(key.desc() for key in _BY_TIME))
    ),
    *("create_time", "session_id", "sequence"),
    newest_first=True,
)
_EARLIER_IN_CONVERSATION = _page(
    _found(
        select(*_COLUMNS)
        .where(_IN_CONVERSATION, _MESSAGE.sequence < _SEQUENCE)
        .order_by(_MESSAGE.sequence.desc())
    ),
    "sequence",
    newest_first=True,
)
_LATER_IN_CONVERSATION = _page(
    _found(
        select(*_COLUMNS)
        .where(_IN_CONVERSATION, _MESSAGE.sequence > _SEQUENCE)
        .order_by(_MESSAGE.sequence)
    ),
    "sequence",
    newest_first=False,
)

# Conversation by conversation, by the index on their order, and in each by the index on its own.
_conversations = (
    select(_CONVERSATION.session_id)
    .where(_CONVERSATION.user_id == _PERSON, _CONVERSATION.session_id >= _SESSION)
    .order_by(_CONVERSATION.session_id)
    .subquery("each")
)
_said_in_each = (
    select(*_COLUMNS)
    .where(
        _MESSAGE.session_id == _conversations.c.session_id,
        _MESSAGE.user_id == _PERSON,
        _NOT_DELETED,
        _MESSAGE.sequence
        > case((_conversations.c.session_id == _SESSION, _SEQUENCE), else_=literal(0, BigInteger)),
    )
    .order_by(_MESSAGE.sequence)
    .limit(literal(PAGE_MESSAGES, BigInteger))
    .lateral("said")
)
_LATER = _page(
    _found(
        select(*(_said_in_each.c[column.name] for column in _COLUMNS))
        .select_from(_conversations.join(_said_in_each, true()))
        .order_by(_conversations.c.session_id, _said_in_each.c.sequence)
    ),
    *("session_id", "sequence"),
    newest_first=False,
)


class MessageScans:
    """Pages of a person's messages; an empty page is after the last."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def earlier(self, person: UUID, before: Moment) -> Sequence[ScannedRow]:
        """The messages of all conversations that come before a place in time, the newest first."""
        parameters = {
            "person": person,
            "time": before.create_time,
            "session": before.session_id,
            "sequence": before.sequence,
        }
        return await self._database.all(_EARLIER, parameters)

    async def earlier_in(self, conversation: Conversation, before: int) -> Sequence[ScannedRow]:
        """A conversation's messages with a sequence below `before`, the newest first."""
        return await self._database.all(_EARLIER_IN_CONVERSATION, _named(conversation, before))

    async def later(self, person: UUID, after: Spot) -> Sequence[ScannedRow]:
        """The messages after a place, conversation by conversation, each in its order."""
        conversation = Conversation(after.session_id, person)
        return await self._database.all(_LATER, _named(conversation, after.sequence))

    async def later_in(self, conversation: Conversation, after: int) -> Sequence[ScannedRow]:
        """A conversation's messages with a sequence above `after`, in their order."""
        return await self._database.all(_LATER_IN_CONVERSATION, _named(conversation, after))


def _named(conversation: Conversation, sequence: int) -> dict[str, object]:
    return {
        "session": conversation.session_id,
        "person": conversation.user_id,
        "sequence": sequence,
    }
