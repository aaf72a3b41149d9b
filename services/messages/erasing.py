"""Erasing conversations: at once for everybody, and then row by row.

A conversation is erased in one transaction: it is marked, its data keys go, and its purge is owed.
From then on nothing of it can be read, decrypted or added. The mark is made even where nothing was
ever said: an append that asked the sessions service before finds it, whichever comes first. The
purge removes the rows, a bounded number at a time, so that nobody waits for a long transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import BigInteger, and_, bindparam, delete, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from services.messages.store import LOCK
from services.messages.tables import (
    ACCESS_LOG,
    CONVERSATIONS,
    DATA_KEYS,
    ERASED,
    LOCKED,
    MESSAGES,
    OUTBOX,
    PARTS,
    PERSON,
    SESSION,
    THIS_CONVERSATION,
    Conversation,
)
from services.runtime.database import Database, fetch_all, fetch_one, statement
from services.runtime.encryption.data_key_table import KeyIdRow
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.erasure import ErasedRow
from services.runtime.outbox import Scope

PURGE = "purge"
"""The kind of the event that a conversation's rows are to be removed."""

_PURGED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class _ErasedRow:
    session_id: UUID
    user_id: UUID
    revision: int


@dataclass(frozen=True, slots=True)
class _LockedRow:
    message_count: int
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class _CountRow:
    count: int


_CONVERSATION = CONVERSATIONS.c
_KEY = DATA_KEYS.table.c
_RETURNED = (_CONVERSATION.session_id, _CONVERSATION.user_id, _CONVERSATION.revision)
# A deleted conversation counts nothing, whether its rows are purged or not.
_COUNTED = {"bytes": literal(0), "counted_revision": _CONVERSATION.revision + 1}

_marked = (
    insert(CONVERSATIONS)
    .from_select(
        [
            *("session_id", "user_id", "last_sequence", "message_count", "revision"),
            *("counted_revision", "create_time", "delete_time"),
        ],
        select(
            *(SESSION, PERSON, literal(0), literal(0), literal(1)),
            *(literal(1), func.now(), func.now()),
        ).where(ERASED.not_erased),
    )
    .on_conflict_do_update(
        index_elements=["session_id", "user_id"],
        set_={
            "delete_time": func.now(),
            "revision": _CONVERSATION.revision + 1,
            "message_count": 0,
            **_COUNTED,
        },
        where=_CONVERSATION.delete_time.is_(None),
    )
    .returning(*_RETURNED)
    .cte("marked")
)
_MARK = statement(select(_marked).add_cte(OUTBOX.owing(PURGE, _marked)), _ErasedRow)
# After the mark, in a statement of its own: it sees the key of whoever held the row before.
_ERASE_KEYS = statement(
    delete(DATA_KEYS.table)
    .where(_KEY.session_id == SESSION, _KEY.user_id == PERSON)
    .returning(_KEY.key_id),
    KeyIdRow,
)

# In the order in which appends lock.
_LOCK_ALL = statement(
    select(_CONVERSATION.message_count, _CONVERSATION.delete_time.is_not(None).label("is_deleted"))
    .where(_CONVERSATION.user_id == PERSON)
    .order_by(_CONVERSATION.session_id, _CONVERSATION.user_id)
    .with_for_update(),
    _LockedRow,
)
_all_marked = (
    update(CONVERSATIONS)
    .where(_CONVERSATION.user_id == PERSON)
    .values(
        delete_time=func.coalesce(_CONVERSATION.delete_time, func.now()),
        revision=_CONVERSATION.revision + 1,
        message_count=0,
        **_COUNTED,
    )
    .returning(*_RETURNED)
    .cte("marked")
)
_MARK_ALL = statement(select(_all_marked).add_cte(OUTBOX.owing(PURGE, _all_marked)), _ErasedRow)
# In the order in which a rotation locks.
_all_keys = (
    select(_KEY.session_id, _KEY.user_id, _KEY.key_id)
    .select_from(
        DATA_KEYS.table.join(
            CONVERSATIONS,
            and_(
                _KEY.session_id == _CONVERSATION.session_id, _KEY.user_id == _CONVERSATION.user_id
            ),
        )
    )
    .where(_CONVERSATION.user_id == PERSON)
    .order_by(_KEY.session_id, _KEY.user_id, _KEY.key_id)
    .with_for_update(of=DATA_KEYS.table)
    .cte("all_keys")
)
_ERASE_ALL_KEYS = statement(
    delete(DATA_KEYS.table)
    .where(
        _KEY.session_id == _all_keys.c.session_id,
        _KEY.user_id == _all_keys.c.user_id,
        _KEY.key_id == _all_keys.c.key_id,
    )
    .returning(_KEY.key_id),
    KeyIdRow,
)

_MESSAGE = MESSAGES.c
_some = (
    select(_MESSAGE.session_id, _MESSAGE.user_id, _MESSAGE.message_id)
    .where(
        _MESSAGE.session_id == SESSION,
        _MESSAGE.user_id == PERSON,
        # Of a conversation that is not marked, nothing is ever purged.
        select(literal(1))
        .select_from(CONVERSATIONS)
        .where(THIS_CONVERSATION, _CONVERSATION.delete_time.is_not(None))
        .exists(),
    )
    .limit(bindparam("limit", type_=BigInteger))
    .cte("some")
)
_purged = (
    delete(MESSAGES)
    .where(
        tuple_(_MESSAGE.session_id, _MESSAGE.user_id, _MESSAGE.message_id).in_(
            select(_some.c.session_id, _some.c.user_id, _some.c.message_id)
        )
    )
    .returning(_MESSAGE.session_id, _MESSAGE.user_id, _MESSAGE.message_id)
    .cte("purged")
)
# A marked conversation gets no more parts: those of its growing messages go with them.
_PART = PARTS.c
_parts_purged = (
    delete(PARTS)
    .where(
        tuple_(_PART.session_id, _PART.user_id, _PART.message_id).in_(
            select(_purged.c.session_id, _purged.c.user_id, _purged.c.message_id)
        )
    )
    .cte("parts_purged")
)
# How many were found, and not how many went by this: those that another process purges just then
# are waited for, and there may be more after them.
_PURGE_SOME = statement(
    select(func.count().label("count")).select_from(_some).add_cte(_parts_purged), _CountRow
)
# A deleted conversation stays as a mark: whoever asked about it before it was deleted may still
# come. Of an erased person nothing stays but the memory that they were erased.
_REMOVE = statement(
    delete(CONVERSATIONS).where(and_(THIS_CONVERSATION, ~ERASED.not_erased)).returning(*_RETURNED),
    _ErasedRow,
)


class Erasing:
    """Erases conversations."""

    def __init__(
        self,
        database: Database,
        keys: DataKeys,
        erased: Callable[[Conversation, int], None],
    ) -> None:
        """Takes where they are, what holds their keys in memory, and who is told of each.

        `erased` is called with each conversation that was erased, and its last revision.
        """
        self._database = database
        self._keys = keys
        self._erased = erased

    async def erase(self, conversation: Conversation) -> None:
        """Erases a conversation; does nothing when that was done."""
        parameters = conversation.parameters
        async with self._database.transaction() as connection:
            await fetch_all(connection, ERASED.hold, {"person": conversation.user_id})
            marked = await fetch_one(connection, _MARK, parameters)
            await fetch_all(connection, _ERASE_KEYS, parameters)
        if marked is not None:
            self._tell([marked])

    async def erase_person(self, person: UUID) -> ErasedRow:
        """Erases all conversations of a person; gives all that was ever erased of theirs."""
        parameters = {"person": person}
        async with self._database.transaction() as connection:
            await fetch_all(connection, ERASED.take, parameters)
            await fetch_all(connection, ERASED.remember, parameters)
            locked = await fetch_all(connection, _LOCK_ALL, parameters)
            marked = await fetch_all(connection, _MARK_ALL, parameters)
            keys = await fetch_all(connection, _ERASE_ALL_KEYS, parameters)
            await fetch_all(connection, LOCKED.forget, parameters)
            log = await fetch_all(connection, ACCESS_LOG.erase, parameters)
            counted: dict[str, object] = {
                "conversations": sum(not row.is_deleted for row in locked),
                "messages": sum(row.message_count for row in locked),
                "key_ids": [row.key_id for row in keys],
                "access_log_entries": log[0].count,
            }
            erased = await fetch_one(connection, ERASED.count, {**parameters, **counted})
        self._tell(marked)
        if erased is None:
            raise RuntimeError("a person who was just erased is not remembered")
        return erased

    def _tell(self, rows: Sequence[_ErasedRow]) -> None:
        for row in rows:
            conversation = Conversation(row.session_id, row.user_id)
            self._keys.forget(conversation.scope)
            self._erased(conversation, row.revision)


class Purge:
    """Removes the rows of erased conversations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def deliver(self, scopes: Sequence[Scope]) -> None:
        """Removes them, and settles that it was owed."""
        for session_id, user_id in scopes:
            parameters: dict[str, object] = {"session": session_id, "person": user_id}
            while True:
                batch = {**parameters, "limit": _PURGED_AT_ONCE}
                done = await self._database.one(_PURGE_SOME, batch)
                if done is None or done.count < _PURGED_AT_ONCE:
                    break
            # In one, behind the row's lock: whoever erases its person meanwhile waits, and owes the
            # purge anew.
            named = OUTBOX.parameters(PURGE, [(session_id, user_id)])
            await self._database.in_one_trip(
                (LOCK, parameters), (_REMOVE, parameters), (OUTBOX.settle, named)
            )
