"""The rows of users: SQL and nothing else."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    LargeBinary,
    MetaData,
    Table,
    Uuid,
    bindparam,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.database import Database, statement
from services.runtime.encryption.data_key_table import DataKeyTable

METADATA = MetaData(schema="users")

DATA_KEYS = DataKeyTable(METADATA, scope=("user_id",))

USERS = Table(
    "users",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("name", LargeBinary, nullable=False),
    Column("email", LargeBinary, nullable=False),
    Column("current_session_id", Uuid),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class UserRow:
    """A person as stored: `name` and `email` are envelopes."""

    user_id: UUID
    name: bytes
    email: bytes
    current_session_id: UUID | None
    revision: int
    create_time: datetime
    update_time: datetime


_COLUMNS = USERS.c
_MINE = _COLUMNS.user_id == bindparam("person", type_=Uuid)

_GET = statement(select(USERS).where(_MINE), UserRow)
_ADD = statement(
    insert(USERS)
    .values(
        user_id=bindparam("person", type_=Uuid),
        name=bindparam("name", type_=LargeBinary),
        email=bindparam("email", type_=LargeBinary),
        revision=1,
        create_time=func.now(),
        update_time=func.now(),
    )
    .on_conflict_do_nothing()
    .returning(USERS),
    UserRow,
)
_RENAME = statement(
    update(USERS)
    .where(
        _MINE,
        or_(
            bindparam("expected", type_=BigInteger).is_(None),
            _COLUMNS.revision == bindparam("expected", type_=BigInteger),
        ),
    )
    .values(
        name=bindparam("new_name", type_=LargeBinary),
        revision=_COLUMNS.revision + 1,
        update_time=func.now(),
    )
    .returning(USERS),
    UserRow,
)
_SET_CURRENT = statement(
    update(USERS)
    .where(_MINE)
    .values(current_session_id=bindparam("session", type_=Uuid))
    .returning(USERS),
    UserRow,
)
_CLEAR_CURRENT = statement(
    update(USERS)
    .where(_MINE, _COLUMNS.current_session_id == bindparam("session", type_=Uuid))
    .values(current_session_id=None)
    .returning(USERS),
    UserRow,
)


class UserStore:
    """Reads and writes people's rows, each by the person's own id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, person: UUID) -> UserRow | None:
        """The person's row."""
        return await self._database.one(_GET, {"person": person})

    async def add(self, person: UUID, *, name: bytes, email: bytes) -> UserRow | None:
        """Adds the person's row; None when there is one already."""
        return await self._database.one(_ADD, {"person": person, "name": name, "email": email})

    async def rename(self, person: UUID, name: bytes, *, expected: int | None) -> UserRow | None:
        """Changes the name; None when the row is not at the expected revision."""
        parameters = {"person": person, "new_name": name, "expected": expected}
        return await self._database.one(_RENAME, parameters)

    async def set_current_session(self, person: UUID, session: UUID | None) -> None:
        """Notes which session the person is in."""
        await self._database.one(_SET_CURRENT, {"person": person, "session": session})

    async def clear_current_session(self, person: UUID, session: UUID) -> None:
        """Clears the note if it is still this session."""
        await self._database.one(_CLEAR_CURRENT, {"person": person, "session": session})
