"""Reading and changing the rows of messages: SQL and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import MessageState
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    LargeBinary,
    Select,
    SmallInteger,
    Uuid,
    and_,
    any_,
    bindparam,
    column,
    delete,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.messages.activity import owing_activity
from services.messages.sizes import THESE_PARTS_BYTES, THIS_MESSAGE_BYTES
from services.messages.tables import (
    CONVERSATIONS,
    ERASED,
    GROWS,
    IN_CONVERSATION,
    MESSAGE_COLUMNS,
    MESSAGES,
    PARTS,
    PERSON,
    SESSION,
    THIS_CONVERSATION,
    Conversation,
    ConversationRow,
    MessageRow,
)
from services.runtime.database import Database, statement

MAXIMUM_BYTES = 1 << 20
"""How many bytes of bodies one read gives at most, unless its first row alone has more."""

_EVERYTHING = (1 << 63) - 1
_COMPLETE = int(MessageState.MESSAGE_STATE_COMPLETE)


@dataclass(frozen=True, slots=True)
class Page:
    """Messages that follow each other in an order."""

    rows: Sequence[MessageRow]
    more: bool
    """Whether others follow these."""


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A conversation, and how far it has got."""

    session_id: UUID
    user_id: UUID
    revision: int


@dataclass(frozen=True, slots=True)
class _PageRow(MessageRow):
    found: int
    """How many rows there were before those that are too many bytes were left out."""


@dataclass(frozen=True, slots=True)
class _NewestRow(_PageRow):
    as_of: int
    """The conversation's revision when the row was read."""


@dataclass(frozen=True, slots=True)
class _LockedRow:
    revision: int


_CONVERSATION = CONVERSATIONS.c
_MESSAGE = MESSAGES.c
_ID = bindparam("message", type_=Uuid)
_THIS_MESSAGE = and_(IN_CONVERSATION, _MESSAGE.message_id == _ID)
_NOT_DELETED = _MESSAGE.body.is_not(None)


def _within_bytes(condition: ColumnElement[bool], order: str, *, descending: bool) -> Select[Any]:
    """Messages in an order, as many as `limit` and `MAXIMUM_BYTES` allow, and one at least."""
    key = _MESSAGE[order]
    found = (
        select(*MESSAGE_COLUMNS)
        .where(IN_CONVERSATION, condition)
        .order_by(key.desc() if descending else key)
        .limit(bindparam("limit", type_=BigInteger))
        .subquery("found")
    )
    place = found.c[order].desc() if descending else found.c[order]
    size = func.coalesce(func.octet_length(found.c.body), 0)
    sized = select(
        found,
        (func.sum(size).over(order_by=place) - size).label("bytes_before"),
        func.count().over().label("found"),
    ).subquery("sized")
    return (
        select(*(sized.c[name] for name in _PageRow.__match_args__))
        .where(sized.c.bytes_before < literal(MAXIMUM_BYTES, BigInteger))
        .order_by(sized.c[order].desc() if descending else sized.c[order])
    )


_GET_CONVERSATION = statement(
    select(_CONVERSATION.revision, _CONVERSATION.delete_time, _CONVERSATION.is_held).where(
        THIS_CONVERSATION
    ),
    ConversationRow,
)
_ADD_CONVERSATION = statement(
    insert(CONVERSATIONS)
    .from_select(
        ["session_id", "user_id", "last_sequence", "message_count", "revision", "create_time"],
        select(SESSION, PERSON, literal(0), literal(0), literal(0), func.now()).where(
            ERASED.not_erased
        ),
    )
    .on_conflict_do_nothing()
    .returning(_CONVERSATION.revision, _CONVERSATION.delete_time, _CONVERSATION.is_held),
    ConversationRow,
)

_GET = statement(select(*MESSAGE_COLUMNS).where(_THIS_MESSAGE), MessageRow)
_GET_MANY = statement(
    select(*MESSAGE_COLUMNS).where(
        IN_CONVERSATION, _MESSAGE.message_id == any_(bindparam("messages", type_=ARRAY(Uuid)))
    ),
    MessageRow,
)
_DOWN = statement(
    _within_bytes(
        and_(_NOT_DELETED, _MESSAGE.sequence <= bindparam("first", type_=BigInteger)),
        "sequence",
        descending=True,
    ),
    _PageRow,
)
_NEWEST = statement(
    _within_bytes(_NOT_DELETED, "sequence", descending=True).add_columns(
        select(_CONVERSATION.revision).where(THIS_CONVERSATION).scalar_subquery().label("as_of")
    ),
    _NewestRow,
)
_UP = statement(
    _within_bytes(
        and_(_NOT_DELETED, _MESSAGE.sequence >= bindparam("first", type_=BigInteger)),
        "sequence",
        descending=False,
    ),
    _PageRow,
)
_CHANGED = statement(
    _within_bytes(
        and_(
            _MESSAGE.revision > bindparam("after", type_=BigInteger),
            # As the index states it.
            _MESSAGE.revision > literal_column("0"),
        ),
        "revision",
        descending=False,
    ),
    _PageRow,
)
_GROWING_THROUGH = statement(
    select(*MESSAGE_COLUMNS).where(
        IN_CONVERSATION,
        GROWS,
        _MESSAGE.begun_revision <= bindparam("revision", type_=BigInteger),
        _MESSAGE.revision > bindparam("revision", type_=BigInteger),
    ),
    MessageRow,
)

_named = (
    func.unnest(bindparam("sessions", type_=ARRAY(Uuid)), bindparam("persons", type_=ARRAY(Uuid)))
    .table_valued(column("session_id", Uuid), column("user_id", Uuid), name="named")
    .render_derived()
)
_begun = select(_CONVERSATION.session_id, _CONVERSATION.user_id, _CONVERSATION.revision).where(
    tuple_(_CONVERSATION.session_id, _CONVERSATION.user_id).in_(
        select(_named.c.session_id, _named.c.user_id)
    )
)
# Of an erased person's conversations no rows are left, and of those in which nothing was said there
# never was one. Whoever still follows one has to look, and so learns that it is gone.
_gone = (
    select(
        _named.c.session_id,
        _named.c.user_id,
        literal(_EVERYTHING, BigInteger).label("revision"),
    )
    .select_from(_named.join(ERASED.table, ERASED.table.c.user_id == _named.c.user_id))
    .where(
        ~select(literal(1))
        .select_from(CONVERSATIONS)
        .where(
            _CONVERSATION.session_id == _named.c.session_id,
            _CONVERSATION.user_id == _named.c.user_id,
        )
        .exists()
    )
)
_REVISIONS = statement(union_all(_begun, _gone), RevisionRow)

LOCK = statement(
    select(_CONVERSATION.revision).where(THIS_CONVERSATION).with_for_update(), _LockedRow
)
"""Locks a conversation, so that what follows in the transaction sees it as it stays."""
# Nobody writes it, and nobody may take it up.
_NOT_WRITTEN = {
    name: null()
    for name in ("length", "begun_revision", "writer", "writer_service", "writer_deadline")
}
_SEEN = bindparam("seen", type_=BigInteger)
_as_seen = and_(_THIS_MESSAGE, _NOT_DELETED, or_(_SEEN.is_(None), _MESSAGE.revision == _SEEN))
_is_as_seen = select(literal(1)).select_from(MESSAGES).where(_as_seen).exists()
_BODY = bindparam("body", type_=LargeBinary)
_ORIGINAL = bindparam("original", type_=LargeBinary)
_changing = (
    update(CONVERSATIONS)
    .where(THIS_CONVERSATION, ~_CONVERSATION.is_held, _is_as_seen)
    .values(
        revision=_CONVERSATION.revision + 1,
        bytes=_CONVERSATION.bytes
        + func.octet_length(_BODY)
        + func.octet_length(_ORIGINAL)
        - THIS_MESSAGE_BYTES,
        counted_revision=_CONVERSATION.counted_revision + 1,
    )
    .returning(_CONVERSATION.revision)
    .cte("changing")
)
_CHANGE = statement(
    update(MESSAGES)
    .where(_THIS_MESSAGE)
    .values(
        body=_BODY,
        original=_ORIGINAL,
        revision=_changing.c.revision,
        update_time=func.now(),
        **_NOT_WRITTEN,
    )
    .returning(*MESSAGE_COLUMNS),
    MessageRow,
)
_deleting = (
    update(CONVERSATIONS)
    .where(THIS_CONVERSATION, ~_CONVERSATION.is_held, _is_as_seen)
    .values(
        revision=_CONVERSATION.revision + 1,
        message_count=_CONVERSATION.message_count - 1,
        bytes=_CONVERSATION.bytes - THIS_MESSAGE_BYTES - THESE_PARTS_BYTES,
        counted_revision=_CONVERSATION.counted_revision + 1,
    )
    .returning(_CONVERSATION.revision, _CONVERSATION.session_id, _CONVERSATION.user_id)
    .cte("deleting")
)
_dropping = (
    delete(PARTS)
    .where(
        PARTS.c.session_id == SESSION,
        PARTS.c.user_id == PERSON,
        PARTS.c.message_id == _ID,
        select(literal(1)).select_from(_deleting).exists(),
    )
    .cte("dropping")
)
_DELETE = statement(
    update(MESSAGES)
    .where(_THIS_MESSAGE)
    .values(
        body=null(),
        original=null(),
        revision=_deleting.c.revision,
        update_time=func.now(),
        state=literal(_COMPLETE, SmallInteger),
        **_NOT_WRITTEN,
    )
    .returning(*MESSAGE_COLUMNS)
    .add_cte(_dropping, owing_activity(_deleting)),
    MessageRow,
)


class MessageStore:
    """Reads and writes messages; every statement names the person whose they are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def conversation(self, conversation: Conversation) -> ConversationRow | None:
        """How far the conversation has got; None when nothing was ever said in it."""
        return await self._database.one(_GET_CONVERSATION, conversation.parameters)

    async def is_erased(self, person: UUID) -> bool:
        """Whether the person was erased."""
        return await self._database.one(ERASED.find, {"person": person}) is not None

    async def add_conversation(self, conversation: Conversation) -> None:
        """Makes the conversation's row, unless it is there or the person was erased."""
        parameters = conversation.parameters
        await self._database.one_after(ERASED.hold, _ADD_CONVERSATION, parameters)

    async def get(self, conversation: Conversation, message_id: UUID) -> MessageRow | None:
        """A message of the conversation, or its tombstone."""
        return await self._database.one(_GET, {**conversation.parameters, "message": message_id})

    async def get_many(
        self, conversation: Conversation, message_ids: Sequence[UUID]
    ) -> dict[UUID, MessageRow]:
        """The messages or tombstones that have these ids."""
        parameters = {**conversation.parameters, "messages": list(message_ids)}
        return {row.message_id: row for row in await self._database.all(_GET_MANY, parameters)}

    async def newest_first(
        self, conversation: Conversation, *, first: int = _EVERYTHING, limit: int
    ) -> Page:
        """The messages from sequence `first` downwards."""
        parameters = {**conversation.parameters, "first": first, "limit": limit + 1}
        return _page(await self._database.all(_DOWN, parameters), limit)

    async def newest(
        self, conversation: Conversation, *, limit: int
    ) -> tuple[Sequence[MessageRow], int]:
        """The newest messages downwards, and the conversation's revision at that very moment.

        When there are none, it is 0.
        """
        rows = await self._database.all(_NEWEST, {**conversation.parameters, "limit": limit})
        return rows, rows[0].as_of if rows else 0

    async def oldest_first(self, conversation: Conversation, *, first: int, limit: int) -> Page:
        """The messages from sequence `first` upwards."""
        parameters = {**conversation.parameters, "first": first, "limit": limit + 1}
        return _page(await self._database.all(_UP, parameters), limit)

    async def changed(self, conversation: Conversation, *, after: int, limit: int) -> Page:
        """The messages and tombstones with a revision above `after`, in their revisions' order."""
        parameters = {**conversation.parameters, "after": after, "limit": limit + 1}
        return _page(await self._database.all(_CHANGED, parameters), limit)

    async def growing_through(
        self, conversation: Conversation, revision: int
    ) -> Sequence[MessageRow]:
        """The growing messages that had begun by a revision, and have grown after it."""
        parameters = {**conversation.parameters, "revision": revision}
        return await self._database.all(_GROWING_THROUGH, parameters)

    async def change(
        self, conversation: Conversation, seen: MessageRow, *, body: bytes, original: bytes
    ) -> MessageRow | None:
        """Gives a message another body.

        None when it is not as it was seen any more, or under a legal hold.
        """
        parameters = {**conversation.parameters, "message": seen.message_id}
        parameters |= {"seen": seen.revision, "body": body, "original": original}
        return await self._database.one_after(LOCK, _CHANGE, parameters)

    async def delete(
        self, conversation: Conversation, message_id: UUID, *, seen: int | None
    ) -> MessageRow | None:
        """Leaves a tombstone of a message, if it is there and has the revision that was seen.

        None when it is not so, or under a legal hold.
        """
        parameters = {**conversation.parameters, "message": message_id, "seen": seen}
        return await self._database.one_after(LOCK, _DELETE, parameters)

    async def revisions(self, conversations: Sequence[Conversation]) -> list[RevisionRow]:
        """The revisions of many conversations, of those that have begun.

        Those of erased persons that are gone are above all others.
        """
        parameters = {
            "sessions": [conversation.session_id for conversation in conversations],
            "persons": [conversation.user_id for conversation in conversations],
        }
        return list(await self._database.all(_REVISIONS, parameters))


def _page(rows: Sequence[_PageRow], limit: int) -> Page:
    shown = rows[:limit]
    return Page(shown, more=bool(rows) and rows[0].found > len(shown))
