"""The rows of sessions: SQL and nothing else.

Every write of a person's sessions takes the person's row in `people` and its next revision, so a
person's sessions change in one order. A session's `activity` is the revision of its last activity:
what lists are ordered by, without asking a clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.database import Database, statement
from services.runtime.encryption.data_key_table import DataKeyTable

METADATA = MetaData(schema="sessions")

DATA_KEYS = DataKeyTable(METADATA, scope=("user_id",))

PEOPLE = Table(
    "people",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("session_id", Uuid, primary_key=True),
    Column("title", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("activity", BigInteger, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("last_activity_time", DateTime(timezone=True), nullable=False),
    Index("sessions_by_activity", "user_id", "activity", unique=True),
    Index("sessions_by_revision", "user_id", "revision", unique=True),
)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as stored: `title` is an envelope."""

    user_id: UUID
    session_id: UUID
    title: bytes
    state: int
    revision: int
    activity: int
    create_time: datetime
    update_time: datetime
    last_activity_time: datetime


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """How far a person's sessions have got."""

    user_id: UUID
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChange:
    """What to change in a session, and what must be so for it."""

    title: bytes | None = None
    state: int | None = None
    activity: bool = False
    """Whether the change is an activity, which moves the session to the head of its list."""
    expected_revision: int | None = None
    expected_state: int | None = None


def _given_or_any(column: ColumnElement[int], name: str) -> ColumnElement[bool]:
    parameter = bindparam(name, type_=column.type)
    return or_(parameter.is_(None), column == parameter)


_COLUMNS = SESSIONS.c
_PERSON = bindparam("person", type_=Uuid)
_SESSION = bindparam("session", type_=Uuid)
_MINE = and_(_COLUMNS.user_id == _PERSON, _COLUMNS.session_id == _SESSION)
_AS_EXPECTED = and_(
    _MINE,
    _given_or_any(_COLUMNS.revision, "expected_revision"),
    _given_or_any(_COLUMNS.state, "expected_state"),
)

_GET = statement(select(SESSIONS).where(_MINE), SessionRow)

_PAGE = statement(
    select(SESSIONS)
    .where(
        _COLUMNS.user_id == _PERSON,
        _COLUMNS.activity < bindparam("before", type_=BigInteger),
        _given_or_any(_COLUMNS.state, "state"),
    )
    .order_by(_COLUMNS.activity.desc())
    .limit(bindparam("limit", type_=BigInteger)),
    SessionRow,
)

_next_for_new = (
    insert(PEOPLE)
    .values(user_id=_PERSON, revision=1)
    .on_conflict_do_update(index_elements=["user_id"], set_={"revision": PEOPLE.c.revision + 1})
    .returning(PEOPLE.c.revision)
    .cte("next")
)
_ADD = statement(
    insert(SESSIONS)
    .from_select(
        [column.name for column in SESSIONS.columns],
        select(
            _PERSON,
            _SESSION,
            bindparam("title", type_=LargeBinary),
            bindparam("state", type_=SmallInteger),
            _next_for_new.c.revision,
            _next_for_new.c.revision,
            func.now(),
            func.now(),
            func.now(),
        ),
    )
    .on_conflict_do_nothing(index_elements=["user_id", "session_id"])
    .returning(SESSIONS),
    SessionRow,
)

_next_for_change = (
    update(PEOPLE)
    .where(PEOPLE.c.user_id == _PERSON, select(literal(1)).where(_AS_EXPECTED).exists())
    .values(revision=PEOPLE.c.revision + 1)
    .returning(PEOPLE.c.revision)
    .cte("next")
)
_is_activity = bindparam("activity", type_=Boolean)
_CHANGE = statement(
    update(SESSIONS)
    .where(_AS_EXPECTED)
    .values(
        title=func.coalesce(bindparam("new_title", type_=LargeBinary), _COLUMNS.title),
        state=func.coalesce(bindparam("new_state", type_=SmallInteger), _COLUMNS.state),
        revision=_next_for_change.c.revision,
        activity=case((_is_activity, _next_for_change.c.revision), else_=_COLUMNS.activity),
        update_time=func.now(),
        last_activity_time=case((_is_activity, func.now()), else_=_COLUMNS.last_activity_time),
    )
    .returning(SESSIONS),
    SessionRow,
)


_REVISIONS = statement(
    select(PEOPLE.c.user_id, PEOPLE.c.revision).where(
        PEOPLE.c.user_id == any_(bindparam("people", type_=ARRAY(Uuid)))
    ),
    RevisionRow,
)
_NEWEST = statement(
    select(SESSIONS)
    .where(_COLUMNS.user_id == _PERSON, _COLUMNS.revision <= bindparam("as_of", type_=BigInteger))
    .order_by(_COLUMNS.activity.desc())
    .limit(bindparam("limit", type_=BigInteger)),
    SessionRow,
)
_CHANGED = statement(
    select(SESSIONS)
    .where(_COLUMNS.user_id == _PERSON, _COLUMNS.revision > bindparam("after", type_=BigInteger))
    .order_by(_COLUMNS.revision)
    .limit(bindparam("limit", type_=BigInteger)),
    SessionRow,
)


class SessionStore:
    """Reads and writes sessions; every statement names the person whose they are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, person: UUID, session: UUID) -> SessionRow | None:
        """A session of the person."""
        return await self._database.one(_GET, {"person": person, "session": session})

    async def page(
        self, person: UUID, *, before: int, limit: int, state: int | None
    ) -> Sequence[SessionRow]:
        """The person's sessions with an activity below `before`, the latest first."""
        parameters = {"person": person, "before": before, "limit": limit, "state": state}
        return await self._database.all(_PAGE, parameters)

    async def revisions(self, people: Sequence[UUID]) -> Sequence[RevisionRow]:
        """The revisions of many people's sessions, of those who have any."""
        return await self._database.all(_REVISIONS, {"people": list(people)})

    async def newest(self, person: UUID, *, as_of: int, limit: int) -> Sequence[SessionRow]:
        """The person's sessions that were not changed after a revision, the latest active first."""
        parameters = {"person": person, "as_of": as_of, "limit": limit}
        return await self._database.all(_NEWEST, parameters)

    async def changed(self, person: UUID, *, after: int, limit: int) -> Sequence[SessionRow]:
        """The person's sessions with a revision above `after`, in the order of their revisions."""
        parameters = {"person": person, "after": after, "limit": limit}
        return await self._database.all(_CHANGED, parameters)

    async def add(
        self, person: UUID, session: UUID, *, title: bytes, state: int
    ) -> SessionRow | None:
        """Adds a session; None when the person has one of this id."""
        parameters = {"person": person, "session": session, "title": title, "state": state}
        return await self._database.one(_ADD, parameters)

    async def change(self, person: UUID, session: UUID, change: SessionChange) -> SessionRow | None:
        """Changes a session; None when the person has none of this id that is as expected."""
        parameters = {
            "person": person,
            "session": session,
            "new_title": change.title,
            "new_state": change.state,
            "activity": change.activity,
            "expected_revision": change.expected_revision,
            "expected_state": change.expected_state,
        }
        return await self._database.one(_CHANGE, parameters)
