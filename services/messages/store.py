"""The rows of messages: SQL and nothing else.

A conversation has one row that counts: its lock is what puts a conversation's writes in order, so
sequences and revisions are dense and in commit order. The person is part of every key: there is no
statement that could reach another person's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    Select,
    SmallInteger,
    Table,
    Uuid,
    and_,
    bindparam,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.database import Database, statement
from services.runtime.encryption.data_key_table import DataKeyTable

METADATA = MetaData(schema="messages")

DATA_KEYS = DataKeyTable(METADATA, scope=("session_id", "user_id"))

CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
    Column("message_count", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
)

MESSAGES = Table(
    "messages",
    METADATA,
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("role", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Index("messages_by_sequence", "session_id", "user_id", "sequence", unique=True),
    Index("messages_by_revision", "session_id", "user_id", "revision", unique=True),
)

MAXIMUM_BYTES = 1 << 20
"""How many bytes of bodies one read gives at most, unless its first row alone has more."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Names a person's conversation: the scope of its rows, its data keys and its feed."""

    session_id: UUID
    user_id: UUID

    @property
    def scope(self) -> tuple[UUID, UUID]:
        """The ids, in the order of the tables' keys."""
        return self.session_id, self.user_id

    @property
    def feed(self) -> str:
        """The name of its feed."""
        return f"{self.session_id}/{self.user_id}"


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """How far a conversation has got."""

    revision: int


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as stored: `body` is an envelope."""

    message_id: UUID
    sequence: int
    revision: int
    role: int
    body: bytes
    create_time: datetime
    update_time: datetime


_CONVERSATION = CONVERSATIONS.c
_MESSAGE = MESSAGES.c
_SESSION = bindparam("session", type_=Uuid)
_PERSON = bindparam("person", type_=Uuid)
_ID = bindparam("message", type_=Uuid)
_THIS_CONVERSATION = and_(_CONVERSATION.session_id == _SESSION, _CONVERSATION.user_id == _PERSON)
_IN_CONVERSATION = and_(_MESSAGE.session_id == _SESSION, _MESSAGE.user_id == _PERSON)
_MESSAGE_COLUMNS = (
    _MESSAGE.message_id,
    _MESSAGE.sequence,
    _MESSAGE.revision,
    _MESSAGE.role,
    _MESSAGE.body,
    _MESSAGE.create_time,
    _MESSAGE.update_time,
)


def _within_bytes(condition: ColumnElement[bool], order: str, *, newest_first: bool) -> Select[Any]:
    """Messages in an order, as many as `limit` and `MAXIMUM_BYTES` allow, and one at least."""
    key = _MESSAGE[order]
    found = (
        select(*_MESSAGE_COLUMNS)
        .where(_IN_CONVERSATION, condition)
        .order_by(key.desc() if newest_first else key)
        .limit(bindparam("limit", type_=BigInteger))
        .subquery("found")
    )
    place = found.c[order].desc() if newest_first else found.c[order]
    size = func.octet_length(found.c.body)
    sized = select(
        found, (func.sum(size).over(order_by=place) - size).label("bytes_before")
    ).subquery("sized")
    return (
        select(*(sized.c[column.name] for column in _MESSAGE_COLUMNS))
        .where(sized.c.bytes_before < literal(MAXIMUM_BYTES, BigInteger))
        .order_by(sized.c[order].desc() if newest_first else sized.c[order])
    )


_GET_CONVERSATION = statement(
    select(_CONVERSATION.revision).where(_THIS_CONVERSATION), ConversationRow
)
_ADD_CONVERSATION = statement(
    insert(CONVERSATIONS)
    .values(
        session_id=_SESSION,
        user_id=_PERSON,
        last_sequence=0,
        message_count=0,
        revision=0,
        create_time=func.now(),
    )
    .on_conflict_do_nothing()
    .returning(_CONVERSATION.revision),
    ConversationRow,
)

_GET = statement(
    select(*_MESSAGE_COLUMNS).where(_IN_CONVERSATION, _MESSAGE.message_id == _ID), MessageRow
)
_OLDER = statement(
    _within_bytes(
        and_(
            _MESSAGE.sequence < bindparam("before", type_=BigInteger),
            _MESSAGE.revision <= bindparam("as_of", type_=BigInteger),
        ),
        "sequence",
        newest_first=True,
    ),
    MessageRow,
)
_CHANGED = statement(
    _within_bytes(
        _MESSAGE.revision > bindparam("after", type_=BigInteger), "revision", newest_first=False
    ),
    MessageRow,
)

_is_new = ~select(literal(1)).where(_IN_CONVERSATION, _MESSAGE.message_id == _ID).exists()
_counted = (
    update(CONVERSATIONS)
    .where(_THIS_CONVERSATION, _is_new)
    .values(
        last_sequence=_CONVERSATION.last_sequence + 1,
        message_count=_CONVERSATION.message_count + 1,
        revision=_CONVERSATION.revision + 1,
    )
    .returning(_CONVERSATION.last_sequence, _CONVERSATION.revision)
    .cte("counted")
)
_APPEND = statement(
    insert(MESSAGES)
    .from_select(
        [column.name for column in MESSAGES.columns],
        select(
            _SESSION,
            _PERSON,
            _ID,
            _counted.c.last_sequence,
            _counted.c.revision,
            bindparam("role", type_=SmallInteger),
            bindparam("body", type_=LargeBinary),
            func.now(),
            func.now(),
        ),
    )
    .returning(*_MESSAGE_COLUMNS),
    MessageRow,
)

_EVERYTHING = (1 << 63) - 1


class MessageStore:
    """Reads and writes messages; every statement names the person whose they are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def conversation(self, conversation: Conversation) -> ConversationRow | None:
        """How far the conversation has got; None when nothing was ever said in it."""
        return await self._database.one(_GET_CONVERSATION, _named(conversation))

    async def add_conversation(self, conversation: Conversation) -> None:
        """Makes the conversation's row, unless it is there."""
        await self._database.one(_ADD_CONVERSATION, _named(conversation))

    async def append(
        self, conversation: Conversation, message_id: UUID, *, role: int, body: bytes
    ) -> MessageRow | None:
        """Adds a message at the end, on disk when this returns.

        None when there is no such conversation, or a message of this id in it.
        """
        parameters = {**_named(conversation), "message": message_id, "role": role, "body": body}
        try:
            return await self._database.one(_APPEND, parameters)
        except UniqueViolation:
            # The same message, at the same time: the other one was first, and this statement
            # changed nothing.
            return None

    async def get(self, conversation: Conversation, message_id: UUID) -> MessageRow | None:
        """A message of the conversation."""
        return await self._database.one(_GET, {**_named(conversation), "message": message_id})

    async def older(
        self,
        conversation: Conversation,
        *,
        before: int = _EVERYTHING,
        as_of: int = _EVERYTHING,
        limit: int,
    ) -> Sequence[MessageRow]:
        """The messages with a sequence below `before`, the newest first.

        Those that were changed after revision `as_of` are left out.
        """
        parameters = {**_named(conversation), "before": before, "as_of": as_of, "limit": limit}
        return await self._database.all(_OLDER, parameters)

    async def changed(
        self, conversation: Conversation, *, after: int, limit: int
    ) -> Sequence[MessageRow]:
        """The messages with a revision above `after`, in the order of their revisions."""
        parameters = {**_named(conversation), "after": after, "limit": limit}
        return await self._database.all(_CHANGED, parameters)


def _named(conversation: Conversation) -> dict[str, object]:
    return {"session": conversation.session_id, "person": conversation.user_id}
