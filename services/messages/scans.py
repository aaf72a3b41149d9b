"""Reading on through many messages, a page at a time: SQL and nothing else.

A page is bounded in messages and in bytes, and the connection goes back to the pool after it: what
lies between two pages is a place, which costs nobody anything. Deleted messages are left out, and
growing ones. Every
statement names the person whose messages they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import MessageState
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    Subquery,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    select,
    true,
    tuple_,
)

from services.messages.tables import (
    CONVERSATIONS,
    IN_CONVERSATION,
    MESSAGES,
    PERSON,
    SESSION,
    Conversation,
    MessageRow,
)
from services.runtime.database import Database, Statement, statement

PAGE_MESSAGES = 200
"""The most messages in a page: about a millisecond of work to take them off the connection."""
PAGE_BYTES = 256 << 10
"""How many bytes of bodies a page has at most, unless its first message alone has more."""


Numbers = tuple[int, ...]
"""A place as a cursor holds it."""


@dataclass(frozen=True, slots=True)
class ScannedRow(MessageRow):
    """A message as stored, and its session."""

    body: bytes
    session_id: UUID

    @property
    def moment(self) -> "Moment":
        """Its place among all messages of the person, by the time."""
        return Moment(self.create_time, self.session_id, self.sequence)

    @property
    def spot(self) -> "Spot":
        """Its place among all messages of the person, conversation by conversation."""
        return Spot(self.session_id, self.sequence)


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in the order of time over all of a person's conversations."""

    create_time: datetime
    session_id: UUID
    sequence: int

    @property
    def numbers(self) -> Numbers:
        """The time in microseconds since 1970, the id in two halves, the sequence."""
        microseconds = (self.create_time - _EPOCH) // _MICROSECOND
        return microseconds, *_halves(self.session_id), self.sequence

    @classmethod
    def of(cls, numbers: Numbers) -> "Moment":
        """The place that a cursor holds.

        Raises:
            ValueError: the cursor is of another kind.
        """
        microseconds, high, low, sequence = numbers
        return cls(_EPOCH + microseconds * _MICROSECOND, _whole(high, low), sequence)


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the order of conversations, each in its own order."""

    session_id: UUID
    sequence: int

    @property
    def numbers(self) -> Numbers:
        """The id in two halves, and the sequence."""
        return *_halves(self.session_id), self.sequence

    @classmethod
    def of(cls, numbers: Numbers) -> "Spot":
        """The place that a cursor holds.

        Raises:
            ValueError: the cursor is of another kind.
        """
        high, low, sequence = numbers
        return cls(_whole(high, low), sequence)


def _halves(session_id: UUID) -> tuple[int, int]:
    high, low = session_id.bytes[:8], session_id.bytes[8:]
    return int.from_bytes(high, "big", signed=True), int.from_bytes(low, "big", signed=True)


def _whole(high: int, low: int) -> UUID:
    halves = high.to_bytes(8, "big", signed=True), low.to_bytes(8, "big", signed=True)
    return UUID(bytes=b"".join(halves))


_GROWING = int(MessageState.MESSAGE_STATE_GROWING)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LAST_SEQUENCE = (1 << 63) - 1
"""After every message of a conversation."""
THE_END = Moment(datetime.max.replace(tzinfo=UTC), UUID(int=(1 << 128) - 1), LAST_SEQUENCE)
"""After every message."""
THE_BEGINNING = Spot(UUID(int=0), 0)
"""Before every message."""

_MESSAGE = MESSAGES.c
_CONVERSATION = CONVERSATIONS.c
_COLUMNS = [_MESSAGE[field.name] for field in fields(ScannedRow)]
_SEQUENCE = bindparam("sequence", type_=BigInteger)
_TIME = bindparam("time", type_=DateTime(timezone=True))
# Neither deleted nor growing still.
_SAID = and_(_MESSAGE.body.is_not(None), _MESSAGE.state != literal_column(str(_GROWING)))


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
            _MESSAGE.user_id == PERSON,
            _SAID,
            # As IN_CONVERSATION has it for one: deleted is deleted, its rows purged or not.
            select(literal(1))
            .select_from(CONVERSATIONS)
            .where(
                _CONVERSATION.session_id == _MESSAGE.session_id,
                _CONVERSATION.user_id == _MESSAGE.user_id,
                _CONVERSATION.delete_time.is_(None),
            )
            .exists(),
            tuple_(*_BY_TIME) < tuple_(_TIME, SESSION, _SEQUENCE),
        )
        .order_by(*(key.desc() for key in _BY_TIME))
    ),
    *("create_time", "session_id", "sequence"),
    newest_first=True,
)
_EARLIER_IN_CONVERSATION = _page(
    _found(
        select(*_COLUMNS)
        .where(IN_CONVERSATION, _SAID, _MESSAGE.sequence < _SEQUENCE)
        .order_by(_MESSAGE.sequence.desc())
    ),
    "sequence",
    newest_first=True,
)
_LATER_IN_CONVERSATION = _page(
    _found(
        select(*_COLUMNS)
        .where(IN_CONVERSATION, _SAID, _MESSAGE.sequence > _SEQUENCE)
        .order_by(_MESSAGE.sequence)
    ),
    "sequence",
    newest_first=False,
)

# Conversation by conversation, by the index on their order, and in each by the index on its own.
_conversations = (
    select(_CONVERSATION.session_id)
    .where(
        _CONVERSATION.user_id == PERSON,
        _CONVERSATION.session_id >= SESSION,
        _CONVERSATION.delete_time.is_(None),
    )
    .order_by(_CONVERSATION.session_id)
    .subquery("each")
)
_said_in_each = (
    select(*_COLUMNS)
    .where(
        _MESSAGE.session_id == _conversations.c.session_id,
        _MESSAGE.user_id == PERSON,
        _SAID,
        _MESSAGE.sequence
        > case((_conversations.c.session_id == SESSION, _SEQUENCE), else_=literal(0, BigInteger)),
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
