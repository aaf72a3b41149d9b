"""Deleting sessions, and erasing a person's: what is destroyed here, and what is owed to others.

A deleted session leaves a mark: its owner's watchers learn of it, and its id is not given again. Of
an erased person nothing stays but the memory that they were erased.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, literal, select, update

from services.runtime.database import Database, Statement, fetch_all, fetch_one, statement
from services.runtime.encryption.data_key_table import KeyIdRow
from services.runtime.erasure import ErasedRow
from services.sessions.store import (
    ACCESS_LOG,
    DATA_KEYS,
    ERASED,
    IS_THERE,
    LOCK_PERSON,
    LOCKED,
    NOT_HELD,
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
class _RevisionRow:
    revision: int


@dataclass(frozen=True, slots=True)
class _GoneRow:
    session_id: UUID
    is_deleted: bool


_COLUMNS = SESSIONS.c


def deleting(*conditions: ColumnElement[bool]) -> Statement[SessionRow]:
    """Leaves the mark of a session that no legal hold keeps, if it meets conditions. SQL alone.

    The statement follows `LOCK_PERSON` in its transaction.
    """
    may_go = and_(THIS_SESSION, IS_THERE, NOT_HELD, *conditions)
    counting = (
        update(PEOPLE)
        .where(PEOPLE.c.user_id == PERSON, select(literal(1)).where(may_go).exists())
        .values(revision=PEOPLE.c.revision + 1)
        .returning(PEOPLE.c.revision)
        .cte("counting")
    )
    deleted = (
        update(SESSIONS)
        .where(may_go)
        .values(
            title=b"",
            delete_time=func.now(),
            update_time=func.now(),
            revision=counting.c.revision,
            version=counting.c.revision,
        )
        .returning(*SESSION_COLUMNS)
        .cte("deleted")
    )
    return statement(
        select(deleted).add_cte(OUTBOX.owing(DELETION, deleted), OUTBOX.owing(POINTER, deleted)),
        SessionRow,
    )


_DELETE = deleting()
_ERASE_SESSIONS = statement(
    delete(SESSIONS)
    .where(_COLUMNS.user_id == PERSON)
    .returning(_COLUMNS.session_id, _COLUMNS.delete_time.is_not(None).label("is_deleted")),
    _GoneRow,
)
_ERASE_PERSON = statement(
    delete(PEOPLE).where(PEOPLE.c.user_id == PERSON).returning(PEOPLE.c.revision), _RevisionRow
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
        """Leaves the mark of a session.

        None when there is none, its mark is there already, or it is under a legal hold.
        """
        parameters = {"person": person, "session": session}
        return await self._database.one_after(LOCK_PERSON, _DELETE, parameters)

    async def erase_person(self, person: UUID) -> tuple[ErasedRow, int]:
        """Erases all sessions of a person, whatever legal holds are on them: see `holds.py`.

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
