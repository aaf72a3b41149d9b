"""Erasing a person: here at once, everywhere else by the outbox, and the receipt of it all.

The receipt has ids, counts and times, and nothing that the person wrote. It is kept.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Text, Uuid, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from services.runtime.database import Connection, Database, fetch_all, fetch_one, statement
from services.runtime.encryption.data_key_table import KeyIdRow
from services.runtime.relay import Relay
from services.users.holds import FORGET_HOLDS, FORGET_HOLDS_AGAIN, HeldError, is_held_within
from services.users.store import ACCESS_LOG, DATA_KEYS, ERASED, LOCKED, OUTBOX, RECEIPTS, USERS

ERASE_SESSIONS = "erase_sessions"
ERASE_MESSAGES = "erase_messages"
"""The kinds of the events that a person is to be erased elsewhere."""

_COMPLETE_SECONDS = 3.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of an erasure; None for what other services have not told yet."""

    user_id: UUID
    erase_time: datetime
    key_ids: list[UUID]
    sessions: int | None
    session_key_ids: list[UUID] | None
    messages: int | None
    message_key_ids: list[UUID] | None
    access_log_entries: int
    """Of what is told so far."""
    operator: str | None
    """Who erased the person by a command."""
    identity_provider: str | None
    """The issuer whose event erased the person."""

    @property
    def is_complete(self) -> bool:
        """Whether the person is erased everywhere."""
        return self.sessions is not None and self.messages is not None


@dataclass(frozen=True, slots=True)
class PersonRow:
    """Names a person."""

    user_id: UUID


_PERSON = bindparam("person", type_=Uuid)
_RECEIPT = RECEIPTS.c

_FIND = statement(
    select(
        ERASED.table.c.user_id,
        ERASED.table.c.erase_time,
        ERASED.table.c.key_ids,
        *(
            _RECEIPT[name]
            for name in ("sessions", "session_key_ids", "messages", "message_key_ids")
        ),
        (ERASED.table.c.access_log_entries + _RECEIPT.access_log_entries).label(
            "access_log_entries"
        ),
        _RECEIPT.operator,
        _RECEIPT.identity_provider,
    )
    .select_from(ERASED.table.join(RECEIPTS, _RECEIPT.user_id == ERASED.table.c.user_id))
    .where(ERASED.table.c.user_id == _PERSON),
    Receipt,
)
_ERASE = statement(
    delete(USERS).where(USERS.c.user_id == _PERSON).returning(USERS.c.user_id), PersonRow
)
_ERASE_KEYS = statement(
    delete(DATA_KEYS.table)
    .where(DATA_KEYS.table.c.user_id == _PERSON)
    .returning(DATA_KEYS.table.c.key_id),
    KeyIdRow,
)
_begun = (
    insert(RECEIPTS)
    .values(
        user_id=_PERSON,
        operator=bindparam("operator", type_=Text),
        identity_provider=bindparam("identity_provider", type_=Text),
    )
    .returning(_RECEIPT.user_id)
    .cte("begun")
)
_BEGIN_RECEIPT = statement(
    select(_begun).add_cte(
        OUTBOX.owing(ERASE_SESSIONS, _begun), OUTBOX.owing(ERASE_MESSAGES, _begun)
    ),
    PersonRow,
)
_KEY_IDS = bindparam("key_ids", type_=ARRAY(Uuid))
_COUNT = bindparam("count", type_=BigInteger)
_LOGGED = _RECEIPT.access_log_entries + bindparam("access_log_entries", type_=BigInteger)
# What the other services told that they erased: what they told first, since a backup that is put
# back makes them erase the same again.
NOTE_SESSIONS = statement(
    update(RECEIPTS)
    .where(_RECEIPT.user_id == _PERSON, _RECEIPT.sessions.is_(None))
    .values(sessions=_COUNT, session_key_ids=_KEY_IDS, access_log_entries=_LOGGED)
    .returning(_RECEIPT.user_id),
    PersonRow,
)
NOTE_MESSAGES = statement(
    update(RECEIPTS)
    .where(_RECEIPT.user_id == _PERSON, _RECEIPT.messages.is_(None))
    .values(messages=_COUNT, message_key_ids=_KEY_IDS, access_log_entries=_LOGGED)
    .returning(_RECEIPT.user_id),
    PersonRow,
)


_everybody = select(ERASED.table.c.user_id).cte("everybody")
_ERASE_PROFILES_AGAIN = statement(
    delete(USERS).where(USERS.c.user_id == ERASED.table.c.user_id).returning(USERS.c.user_id),
    PersonRow,
)
_ERASE_KEYS_AGAIN = statement(
    delete(DATA_KEYS.table)
    .where(DATA_KEYS.table.c.user_id == ERASED.table.c.user_id)
    .returning(DATA_KEYS.table.c.key_id),
    KeyIdRow,
)
_FORGET_LOCKS_AGAIN = statement(
    delete(LOCKED.table)
    .where(LOCKED.table.c.user_id == ERASED.table.c.user_id)
    .returning(LOCKED.table.c.user_id),
    PersonRow,
)
_OWE_AGAIN = statement(
    select(_everybody).add_cte(
        OUTBOX.owing(ERASE_SESSIONS, _everybody), OUTBOX.owing(ERASE_MESSAGES, _everybody)
    ),
    PersonRow,
)


class Erasing:
    """Erases people."""

    def __init__(self, database: Database, relay: Relay) -> None:
        """Takes where they are, and what tells the other services."""
        self._database = database
        self._relay = relay

    async def erase(self, person: UUID) -> Receipt:
        """Erases a person, who was here or not; does nothing when that was done.

        Raises:
            HeldError: a session of theirs is under a legal hold.
        """
        async with self._database.transaction() as connection:
            await fetch_all(connection, ERASED.take, {"person": person})
            await erase_within(connection, person)
        self.tell()
        return await self._receipt(person)

    def tell(self) -> None:
        """Tells the other services soon of an erasure that was committed."""
        self._relay.wake(ERASE_SESSIONS)
        self._relay.wake(ERASE_MESSAGES)

    async def _receipt(self, person: UUID) -> Receipt:
        """The receipt, complete if the others are quick."""
        deadline = asyncio.get_running_loop().time() + _COMPLETE_SECONDS
        while True:
            receipt = await self._database.one(_FIND, {"person": person})
            if receipt is None:
                raise RuntimeError("an erasure has no receipt")
            if receipt.is_complete or asyncio.get_running_loop().time() > deadline:
                return receipt
            await asyncio.sleep(_LOOK_SECONDS)


async def erase_within(
    connection: Connection,
    person: UUID,
    *,
    operator: str | None = None,
    identity_provider: str | None = None,
) -> None:
    """Erases a person in a transaction that holds `ERASED.take`; nothing when that was done.

    Their access log goes with them, so that whoever else does it is named in the receipt.

    Raises:
        HeldError: a session of theirs is under a legal hold.
    """
    parameters = {"person": person}
    if await is_held_within(connection, person):
        raise HeldError
    if await fetch_one(connection, ERASED.remember, parameters) is None:
        return
    await fetch_all(connection, _ERASE, parameters)
    await fetch_all(connection, LOCKED.forget, parameters)
    await fetch_all(connection, FORGET_HOLDS, parameters)
    keys = await fetch_all(connection, _ERASE_KEYS, parameters)
    log = await fetch_all(connection, ACCESS_LOG.erase, parameters)
    counted = {"conversations": 0, "messages": 0, "access_log_entries": log[0].count}
    destroyed = {"key_ids": [row.key_id for row in keys]}
    await fetch_all(connection, ERASED.count, {**parameters, **counted, **destroyed})
    erasing = {"operator": operator, "identity_provider": identity_provider}
    await fetch_all(connection, _BEGIN_RECEIPT, {**parameters, **erasing})


async def erase_again(database: Database) -> int:
    """Erases everybody once more who ever was, here and elsewhere; gives how many they are.

    For a database to which an older backup of the data was put back.
    """
    async with database.transaction() as connection:
        await fetch_all(connection, _ERASE_PROFILES_AGAIN, {})
        await fetch_all(connection, _ERASE_KEYS_AGAIN, {})
        await fetch_all(connection, _FORGET_LOCKS_AGAIN, {})
        await fetch_all(connection, FORGET_HOLDS_AGAIN, {})
        await fetch_all(connection, ACCESS_LOG.erase_all_again, {})
        return len(await fetch_all(connection, _OWE_AGAIN, {}))
