"""The rows of users: SQL and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    func,
    literal,
    null,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.audit.log import AccessLog
from services.runtime.database import Database, statement
from services.runtime.encryption.data_key_table import Alive, DataKeyTable
from services.runtime.erasure import ErasedPeople
from services.runtime.locking import LockedPeople
from services.runtime.outbox import OutboxTable

METADATA = MetaData(schema="users")

ERASED = ErasedPeople(METADATA)
LOCKED = LockedPeople(METADATA, ERASED)
ACCESS_LOG = AccessLog(METADATA, ERASED)
DATA_KEYS = DataKeyTable(METADATA, scope=("user_id",), alive=Alive(ERASED.not_erased, ERASED.hold))
OUTBOX = OutboxTable(METADATA, scope=("user_id",))

USERS = Table(
    "users",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("name", LargeBinary, nullable=False),
    Column("email", LargeBinary, nullable=False),
    Column("current_session_id", Uuid),
    Column("revision", BigInteger, nullable=False),
    # Of the feed: grows with every change, also those that leave the profile as it is.
    Column("feed_revision", BigInteger, nullable=False, server_default=text("1")),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    # As of when the identity provider told last what the profile is; null while it told nothing.
    Column("identity_time", DateTime(timezone=True)),
    # How many of the revisions after the first are the identity provider's; the others are changes
    # of the name by the person.
    Column("identity_changes", BigInteger, nullable=False, server_default=text("0")),
)

# The events of the identity provider's that were received: each has its effect once.
IDENTITY_EVENTS = Table(
    "identity_events",
    METADATA,
    Column("event_id", Text, primary_key=True),
    Column("receive_time", DateTime(timezone=True), nullable=False, index=True),
)

# Legal holds on people's sessions, as the sessions service tells of them. A row stays when its hold
# is lifted, to know what is told late.
LEGAL_HOLDS = Table(
    "legal_holds",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("session_id", Uuid, primary_key=True),
    Column("is_held", Boolean, nullable=False),
    Column("change_time", DateTime(timezone=True), nullable=False),
)

# What other services said that they erased of a person; null until they did.
RECEIPTS = Table(
    "receipts",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("sessions", BigInteger),
    Column("session_key_ids", ARRAY(Uuid)),
    Column("messages", BigInteger),
    Column("message_key_ids", ARRAY(Uuid)),
    # How many entries the other services' access logs had.
    Column("access_log_entries", BigInteger, nullable=False, server_default=text("0")),
    # Who erased the person by a command, or the issuer whose event did; null both, the person.
    Column("operator", Text),
    Column("identity_provider", Text),
)


@dataclass(frozen=True, slots=True)
class UserRow:
    """A person as stored: `name` and `email` are envelopes."""

    user_id: UUID
    name: bytes
    email: bytes
    current_session_id: UUID | None
    revision: int
    feed_revision: int
    create_time: datetime
    update_time: datetime
    identity_time: datetime | None
    identity_changes: int

    @property
    def name_is_own(self) -> bool:
        """Whether the person chose their name themselves."""
        return self.revision > 1 + self.identity_changes


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """How far a person's feed has got."""

    user_id: UUID
    feed_revision: int


_COLUMNS = USERS.c
_MINE = _COLUMNS.user_id == bindparam("person", type_=Uuid)

_GET = statement(select(USERS).where(_MINE), UserRow)
_ADD = statement(
    insert(USERS)
    .from_select(
        [
            *("user_id", "name", "email", "revision", "feed_revision"),
            *("create_time", "update_time"),
        ],
        select(
            bindparam("person", type_=Uuid),
            bindparam("name", type_=LargeBinary),
            bindparam("email", type_=LargeBinary),
            literal(1),
            literal(1),
            func.now(),
            func.now(),
        ).where(ERASED.not_erased),
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
        feed_revision=_COLUMNS.feed_revision + 1,
        update_time=func.now(),
    )
    .returning(USERS),
    UserRow,
)
_SET_CURRENT = statement(
    update(USERS)
    .where(_MINE, _COLUMNS.current_session_id.is_distinct_from(bindparam("session", type_=Uuid)))
    .values(
        current_session_id=bindparam("session", type_=Uuid),
        feed_revision=_COLUMNS.feed_revision + 1,
    )
    .returning(USERS),
    UserRow,
)
_CLEAR_CURRENT = statement(
    update(USERS)
    .where(_MINE, _COLUMNS.current_session_id == bindparam("session", type_=Uuid))
    .values(current_session_id=null(), feed_revision=_COLUMNS.feed_revision + 1)
    .returning(USERS),
    UserRow,
)
_REVISIONS = statement(
    select(_COLUMNS.user_id, _COLUMNS.feed_revision).where(
        _COLUMNS.user_id == any_(bindparam("people", type_=ARRAY(Uuid)))
    ),
    RevisionRow,
)


class UserStore:
    """Reads and writes people's rows, each by the person's own id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, person: UUID) -> UserRow | None:
        """The person's row."""
        return await self._database.one(_GET, {"person": person})

    async def revisions(self, people: Sequence[UUID]) -> Sequence[RevisionRow]:
        """How far the feeds of many people have got, of those who have a profile."""
        return await self._database.all(_REVISIONS, {"people": list(people)})

    async def add(self, person: UUID, *, name: bytes, email: bytes) -> UserRow | None:
        """Adds the person's row; None when there is one already, or they were erased."""
        parameters = {"person": person, "name": name, "email": email}
        return await self._database.one_after(ERASED.hold, _ADD, parameters)

    async def rename(self, person: UUID, name: bytes, *, expected: int | None) -> UserRow | None:
        """Changes the name; None when the row is not at the expected revision."""
        parameters = {"person": person, "new_name": name, "expected": expected}
        return await self._database.one(_RENAME, parameters)

    async def set_current_session(self, person: UUID, session: UUID | None) -> UserRow | None:
        """Notes which session the person is in; None when that was noted already."""
        return await self._database.one(_SET_CURRENT, {"person": person, "session": session})

    async def clear_current_session(self, person: UUID, session: UUID) -> UserRow | None:
        """Clears the note if it is still this session; None when it is not."""
        return await self._database.one(_CLEAR_CURRENT, {"person": person, "session": session})
