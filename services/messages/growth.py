"""The rows of messages that grow: SQL and nothing else.

A growing message has its row from the start, with an empty text; what it gets is stored in parts,
each with the revision that it came with. When it ends, its body is written as a whole and the parts
go. Who writes it is noted with a deadline by the database's clock: whoever fails to renew that is
taken for dead, and any replica may end the message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import MessageState
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from services.messages.activity import owing_activity
from services.messages.sizes import THESE_PARTS_BYTES, THIS_MESSAGE_BYTES
from services.messages.store import LOCK
from services.messages.tables import (
    CONVERSATIONS,
    GROWS,
    IN_CONVERSATION,
    MESSAGE_COLUMNS,
    MESSAGES,
    PARTS,
    PERSON,
    SESSION,
    THIS_CONVERSATION,
    Conversation,
    MessageRow,
)
from services.runtime.database import Database, statement

LEASE_SECONDS = 10
"""How long a writer counts as alive after it was heard of."""
_OVERDUE_AT_ONCE = 100
_LONGEST_PAUSE_HOURS = 1
"""How long a message that cannot be ended is left alone at most."""
_EVERYTHING = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part of a growing message: `body` is an envelope."""

    message_id: UUID
    first: int
    revision: int
    body: bytes


@dataclass(frozen=True, slots=True)
class OverdueRow(MessageRow):
    """A message whose writer was not heard of, with its conversation."""

    session_id: UUID
    user_id: UUID


_CONVERSATION = CONVERSATIONS.c
_MESSAGE = MESSAGES.c
_PART = PARTS.c
_GROWING = int(MessageState.MESSAGE_STATE_GROWING)
_INTERRUPTED = int(MessageState.MESSAGE_STATE_INTERRUPTED)
_STOPPED = int(MessageState.MESSAGE_STATE_STOPPED)
_ID = bindparam("message", type_=Uuid)
_WRITER = bindparam("writer", type_=Uuid)
_SERVICE = bindparam("service", type_=Text)
_THIS_MESSAGE = and_(IN_CONVERSATION, _MESSAGE.message_id == _ID)
_BODY = bindparam("body", type_=LargeBinary)
_HAS_LENGTH = _MESSAGE.length == bindparam("length", type_=Integer)
_LEASE = func.make_interval(0, 0, 0, 0, 0, 0, LEASE_SECONDS)
# From the moment of writing: the transaction may have begun long before, to wait for its turn.
DEADLINE = func.clock_timestamp() + _LEASE

_is_later = and_(
    IN_CONVERSATION,
    _MESSAGE.body.is_not(None),
    _MESSAGE.sequence > bindparam("after", type_=BigInteger),
)
_beginning = (
    update(CONVERSATIONS)
    .where(
        THIS_CONVERSATION,
        _CONVERSATION.delete_time.is_(None),
        ~select(literal(1)).select_from(MESSAGES).where(_THIS_MESSAGE).exists(),
        ~select(literal(1)).select_from(MESSAGES).where(_is_later).exists(),
    )
    .values(
        last_sequence=_CONVERSATION.last_sequence + 1,
        message_count=_CONVERSATION.message_count + 1,
        revision=_CONVERSATION.revision + 1,
        bytes=_CONVERSATION.bytes + func.octet_length(_BODY),
        counted_revision=_CONVERSATION.counted_revision + 1,
        activity_time=func.greatest(_CONVERSATION.activity_time, func.now()),
    )
    .returning(
        _CONVERSATION.last_sequence,
        _CONVERSATION.revision,
        _CONVERSATION.session_id,
        _CONVERSATION.user_id,
    )
    .cte("beginning")
)
_BEGUN = {
    "session_id": SESSION,
    "user_id": PERSON,
    "message_id": _ID,
    "sequence": _beginning.c.last_sequence,
    "revision": _beginning.c.revision,
    "role": bindparam("role", type_=SmallInteger),
    "body": _BODY,
    "create_time": func.now(),
    "update_time": func.now(),
    "state": literal(_GROWING, SmallInteger),
    "length": literal(0, Integer),
    "begun_revision": _beginning.c.revision,
    "writer": _WRITER,
    "writer_service": _SERVICE,
    "writer_deadline": DEADLINE,
}
_BEGIN = statement(
    insert(MESSAGES)
    .from_select(list(_BEGUN), select(*_BEGUN.values()))
    .returning(*MESSAGE_COLUMNS)
    .add_cte(owing_activity(_beginning)),
    MessageRow,
)

_may_be_taken_up = and_(
    _THIS_MESSAGE,
    or_(GROWS, _MESSAGE.state == literal(_INTERRUPTED, SmallInteger)),
    _MESSAGE.writer_service == _SERVICE,
    _HAS_LENGTH,
)
_taking_up = (
    update(CONVERSATIONS)
    .where(
        THIS_CONVERSATION,
        select(literal(1)).select_from(MESSAGES).where(_may_be_taken_up).exists(),
    )
    .values(
        revision=_CONVERSATION.revision + 1,
        counted_revision=_CONVERSATION.counted_revision + 1,
    )
    .returning(_CONVERSATION.revision)
    .cte("taking_up")
)
_TAKE_UP = statement(
    update(MESSAGES)
    .where(_THIS_MESSAGE)
    .values(
        state=literal(_GROWING, SmallInteger),
        revision=_taking_up.c.revision,
        begun_revision=_taking_up.c.revision,
        writer=_WRITER,
        writer_deadline=DEADLINE,
        update_time=func.now(),
    )
    .returning(*MESSAGE_COLUMNS),
    MessageRow,
)

_is_overdue = _MESSAGE.writer_deadline < func.now()
_STATE = bindparam("state", type_=SmallInteger)
_interrupts = literal(_INTERRUPTED, SmallInteger) == _STATE
_stops = literal(_STOPPED, SmallInteger) == _STATE
_may_be_ended = and_(
    _THIS_MESSAGE,
    GROWS,
    _HAS_LENGTH,
    or_(_MESSAGE.writer == _WRITER, and_(_interrupts, _is_overdue), _stops),
)
_ending = (
    update(CONVERSATIONS)
    .where(
        THIS_CONVERSATION,
        select(literal(1)).select_from(MESSAGES).where(_may_be_ended).exists(),
    )
    .values(
        revision=_CONVERSATION.revision + 1,
        bytes=_CONVERSATION.bytes
        + func.octet_length(_BODY)
        - THIS_MESSAGE_BYTES
        - THESE_PARTS_BYTES,
        counted_revision=_CONVERSATION.counted_revision + 1,
    )
    .returning(_CONVERSATION.revision)
    .cte("ending")
)
_dropping = (
    delete(PARTS)
    .where(
        _PART.session_id == SESSION,
        _PART.user_id == PERSON,
        _PART.message_id == _ID,
        select(literal(1)).select_from(_ending).exists(),
    )
    .cte("dropping")
)
_END = statement(
    update(MESSAGES)
    .where(_THIS_MESSAGE)
    .values(
        state=_STATE,
        body=_BODY,
        revision=_ending.c.revision,
        # What was interrupted may be taken up again, by the same service.
        length=case((_interrupts, _MESSAGE.length)),
        begun_revision=null(),
        writer=null(),
        writer_deadline=null(),
        update_time=func.now(),
    )
    .returning(*MESSAGE_COLUMNS)
    .add_cte(_dropping),
    MessageRow,
)

_OVERDUE = statement(
    select(*MESSAGE_COLUMNS, _MESSAGE.session_id, _MESSAGE.user_id)
    .where(
        GROWS,
        _is_overdue,
        # Of a deleted conversation everything goes: there is nothing to end.
        select(literal(1))
        .select_from(CONVERSATIONS)
        .where(
            _CONVERSATION.session_id == _MESSAGE.session_id,
            _CONVERSATION.user_id == _MESSAGE.user_id,
            _CONVERSATION.delete_time.is_(None),
        )
        .exists(),
    )
    .order_by(_MESSAGE.writer_deadline)
    .limit(literal(_OVERDUE_AT_ONCE, BigInteger)),
    OverdueRow,
)
_LONGEST_PAUSE = func.make_interval(0, 0, 0, 0, _LONGEST_PAUSE_HOURS)
_since_written = func.now() - _MESSAGE.update_time
_PUT_OFF = statement(
    update(MESSAGES)
    .where(_THIS_MESSAGE, GROWS, _is_overdue)
    .values(
        writer_deadline=func.now()
        + func.least(func.greatest(_since_written, _LEASE), _LONGEST_PAUSE)
    )
    .returning(*MESSAGE_COLUMNS),
    MessageRow,
)
_PARTS = statement(
    select(_PART.message_id, _PART.first, _PART.revision, _PART.body)
    .where(
        _PART.session_id == SESSION,
        _PART.user_id == PERSON,
        _PART.message_id == any_(bindparam("messages", type_=ARRAY(Uuid))),
        _PART.revision > bindparam("after", type_=BigInteger),
    )
    .order_by(_PART.message_id, _PART.first),
    PartRow,
)


class GrowthStore:
    """Reads and writes growing messages; every statement names the person whose they are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        conversation: Conversation,
        message_id: UUID,
        *,
        role: int,
        body: bytes,
        writer: UUID,
        service: str,
        after: int = 0,
    ) -> MessageRow | None:
        """Adds a message that grows, if none of a later sequence than `after` is there; 0: anyway.

        None when one is, or one of that id, or there is no such conversation.
        """
        named = {**conversation.parameters, "message": message_id, "role": role, "body": body}
        written = {"writer": writer, "service": service, "after": after or _EVERYTHING}
        return await self._database.one_after(LOCK, _BEGIN, {**named, **written})

    async def take_up(
        self,
        conversation: Conversation,
        message_id: UUID,
        *,
        length: int,
        writer: UUID,
        service: str,
    ) -> MessageRow | None:
        """Makes somebody the writer of a message; None when it is not this service's, or longer."""
        named = {**conversation.parameters, "message": message_id, "length": length}
        return await self._database.one_after(
            LOCK, _TAKE_UP, {**named, "writer": writer, "service": service}
        )

    async def end(
        self,
        conversation: Conversation,
        message_id: UUID,
        *,
        length: int,
        body: bytes,
        state: int,
        writer: UUID | None = None,
    ) -> MessageRow | None:
        """Writes the body as a whole, in this state; None when it is longer or another's by now.

        Its writer ends it in any state; others interrupt it when the writer is overdue, and stop it
        at any time.
        """
        named = {**conversation.parameters, "message": message_id, "length": length}
        parameters = {**named, "body": body, "state": state, "writer": writer}
        return await self._database.one_after(LOCK, _END, parameters)

    async def overdue(self) -> Sequence[OverdueRow]:
        """Messages whose writers have not been heard of for too long."""
        return await self._database.all(_OVERDUE, {})

    async def put_off(self, conversation: Conversation, message_id: UUID) -> bool:
        """Leaves a message alone for as long as nothing was written to it, but an hour at most.

        So each time it is tried again at twice its age. False when it is not overdue any more.
        """
        named = {**conversation.parameters, "message": message_id}
        return await self._database.one(_PUT_OFF, named) is not None

    async def parts(
        self, conversation: Conversation, message_ids: Sequence[UUID], *, after: int = 0
    ) -> dict[UUID, list[PartRow]]:
        """What growing messages have got after a revision, each in its order."""
        parameters = {**conversation.parameters, "messages": list(message_ids), "after": after}
        rows = await self._database.all(_PARTS, parameters)
        return {name: list(parts) for name, parts in groupby(rows, lambda row: row.message_id)}
