"""Deleting sessions, and erasing a person's: what is destroyed here, and what is owed to others.

A deleted session leaves a mark: its owner's watchers learn of it, and its id is not given again. Of
an erased person nothing stays but the memory that they were erased.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from grpc import aio
from inglenook.messages.v1.messages_pb2 import DeleteSessionMessagesRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.users.v1.users_pb2 import ForgetSessionRequest
from inglenook.users.v1.users_pb2_grpc import UsersServiceStub
from sqlalchemy import and_, delete, func, literal, select, update

from services.runtime.database import Database, fetch_all, fetch_one, statement
from services.runtime.encryption.data_key_table import KeyIdRow
from services.runtime.erasure import ErasedRow
from services.runtime.outbox import Scope
from services.runtime.peers import TIMEOUT, as_service
from services.runtime.relay import Delivery, Relay
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import ServiceSettings
from services.sessions.store import (
    ACCESS_LOG,
    DATA_KEYS,
    ERASED,
    LOCKED,
    OUTBOX,
    PEOPLE,
    PERSON,
    SESSION_COLUMNS,
    SESSIONS,
    THIS_SESSION,
    SessionRow,
)

DELETION = "deletion"
"""The kind of the event that the messages of a session are to be destroyed."""
POINTER = "pointer"
"""The kind of the event that nobody is in a session any more."""


@dataclass(frozen=True, slots=True)
class _LockedRow:
    revision: int


@dataclass(frozen=True, slots=True)
class _GoneRow:
    session_id: UUID
    is_deleted: bool


_COLUMNS = SESSIONS.c
_LOCK = statement(
    select(PEOPLE.c.revision).where(PEOPLE.c.user_id == PERSON).with_for_update(), _LockedRow
)
_is_there = and_(THIS_SESSION, _COLUMNS.delete_time.is_(None))
_counting = (
    update(PEOPLE)
    .where(PEOPLE.c.user_id == PERSON, select(literal(1)).where(_is_there).exists())
    .values(revision=PEOPLE.c.revision + 1)
    .returning(PEOPLE.c.revision)
    .cte("counting")
)
_deleted = (
    update(SESSIONS)
    .where(_is_there)
    .values(
        title=b"",
        delete_time=func.now(),
        update_time=func.now(),
        revision=_counting.c.revision,
        version=_counting.c.revision,
    )
    .returning(*SESSION_COLUMNS)
    .cte("deleted")
)
_DELETE = statement(
    select(_deleted).add_cte(OUTBOX.owing(DELETION, _deleted), OUTBOX.owing(POINTER, _deleted)),
    SessionRow,
)

_ERASE_SESSIONS = statement(
    delete(SESSIONS)
    .where(_COLUMNS.user_id == PERSON)
    .returning(_COLUMNS.session_id, _COLUMNS.delete_time.is_not(None).label("is_deleted")),
    _GoneRow,
)
_ERASE_PERSON = statement(
    delete(PEOPLE).where(PEOPLE.c.user_id == PERSON).returning(PEOPLE.c.revision), _LockedRow
)
_ERASE_KEYS = statement(
    delete(DATA_KEYS.table)
    .where(DATA_KEYS.table.c.user_id == PERSON)
    .returning(DATA_KEYS.table.c.key_id),
    KeyIdRow,
)


class Deletions:
    """Deletes sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete(self, person: UUID, session: UUID) -> SessionRow | None:
        """Leaves the mark of a session; None when there is none, or its mark is there already."""
        parameters = {"person": person, "session": session}
        return await self._database.one_after(_LOCK, _DELETE, parameters)

    async def erase_person(self, person: UUID) -> tuple[ErasedRow, int]:
        """Erases all sessions of a person.

        Gives all that was ever erased of theirs, and the last revision of their sessions.
        """
        parameters = {"person": person}
        async with self._database.transaction() as connection:
            await fetch_all(connection, ERASED.take, parameters)
            await fetch_all(connection, ERASED.remember, parameters)
            people = await fetch_all(connection, _ERASE_PERSON, parameters)
            sessions = await fetch_all(connection, _ERASE_SESSIONS, parameters)
            keys = await fetch_all(connection, _ERASE_KEYS, parameters)
            await fetch_all(connection, LOCKED.forget, parameters)
            log = await fetch_all(connection, ACCESS_LOG.erase, parameters)
            counted: dict[str, object] = {
                "conversations": sum(not row.is_deleted for row in sessions),
                "messages": 0,
                "key_ids": [row.key_id for row in keys],
                "access_log_entries": log[0].count,
            }
            erased = await fetch_one(connection, ERASED.count, {**parameters, **counted})
        if erased is None:
            raise RuntimeError("a person who was just erased is not remembered")
        return erased, people[0].revision if people else 0


def owed_by_sessions(
    database: Database,
    settings: ServiceSettings,
    messages: aio.Channel,
    users: aio.Channel,
) -> Relay:
    """The relay of the sessions service, which tells the two others.

    Raises:
        FileNotFoundError: the service has no key to prove with who it is.
    """
    tokens = ServiceTokens.of(settings, "sessions")
    to_messages, to_users = MessagesServiceStub(messages), UsersServiceStub(users)

    async def delete_messages(person: UUID, session: UUID) -> None:
        request = DeleteSessionMessagesRequest(user_id=str(person), session_id=str(session))
        metadata = as_service(tokens)
        await to_messages.DeleteSessionMessages(request, timeout=TIMEOUT, metadata=metadata)

    async def clear_pointer(person: UUID, session: UUID) -> None:
        request = ForgetSessionRequest(user_id=str(person), session_id=str(session))
        await to_users.ForgetSession(request, timeout=TIMEOUT, metadata=as_service(tokens))

    deliveries = {
        DELETION: _delivery(database, DELETION, messages, delete_messages),
        POINTER: _delivery(database, POINTER, users, clear_pointer),
    }
    return Relay(database, OUTBOX, deliveries, maximum_tries=settings.outbox_tries)


def _delivery(
    database: Database,
    kind: str,
    receiver: aio.Channel,
    tell: Callable[[UUID, UUID], Awaitable[None]],
) -> Delivery:
    async def deliver(scopes: Sequence[Scope]) -> None:
        for person, session in scopes:
            await tell(person, session)
            await database.all(OUTBOX.settle, OUTBOX.parameters(kind, [(person, session)]))

    return Delivery(deliver, receiver=receiver)
