"""The rows of sessions: SQL and nothing else.

Every write of a person's sessions takes the person's row in `people` and its next revision, so a
person's sessions change in one order, that of their feed. A session's `version` is the revision of
its last change by its owner: what its etag names, and what activity in it does not touch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.audit.log import AccessLog
from services.runtime.database import Database, statement
from services.runtime.encryption.data_key_table import Alive, DataKeyTable
from services.runtime.erasure import ErasedPeople, HeldRow
from services.runtime.locking import LockedPeople
from services.runtime.outbox import OutboxTable

METADATA = MetaData(schema="sessions")

ERASED = ErasedPeople(METADATA)
LOCKED = LockedPeople(METADATA, ERASED)
ACCESS_LOG = AccessLog(METADATA, ERASED)
DATA_KEYS = DataKeyTable(METADATA, scope=("user_id",), alive=Alive(ERASED.not_erased, ERASED.hold))
OUTBOX = OutboxTable(METADATA, scope=("user_id", "session_id"))

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
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    # As the messages service told last, and at which of its revisions.
    Column("message_count", BigInteger, nullable=False, server_default=text("0")),
    Column("activity_revision", BigInteger, nullable=False, server_default=text("0")),
    # Not used any more; the release before, which may still run beside this one, writes it.
    Column("activity", BigInteger, nullable=False, server_default=text("0")),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("last_activity_time", DateTime(timezone=True), nullable=False),
    # Of a deleted session only the mark is left: no title, and nothing else that would be shown.
    Column("delete_time", DateTime(timezone=True)),
    Column("is_held", Boolean, nullable=False, server_default=text("false")),
    # When a legal hold was last set or lifted; null while there never was one.
    Column("hold_change_time", DateTime(timezone=True)),
    # What the operator who set it noted.
    Column("hold_reference", Text),
    # For how many days after its last activity it is kept; null for as long as all are.
    Column("retention_days", Integer),
    Index("sessions_by_activity", "user_id", "last_activity_time", "session_id"),
    Index("sessions_by_revision", "user_id", "revision", unique=True),
    # Both for finding what is due (`retention.py`).
    Index(
        "sessions_by_last_activity",
        "last_activity_time",
        "user_id",
        "session_id",
        postgresql_where=text("delete_time IS NULL"),
    ),
    Index(
        "sessions_by_own_retention",
        "user_id",
        "session_id",
        "last_activity_time",
        "retention_days",
        postgresql_where=text("delete_time IS NULL AND retention_days IS NOT NULL"),
    ),
)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as stored: `title` is an envelope."""

    user_id: UUID
    session_id: UUID
    title: bytes
    state: int
    revision: int
    version: int
    message_count: int
    create_time: datetime
    update_time: datetime
    last_activity_time: datetime
    delete_time: datetime | None
    is_held: bool
    retention_days: int | None


SESSION_COLUMNS = tuple(SESSIONS.c[name] for name in SessionRow.__slots__)


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """How far a person's sessions have got."""

    user_id: UUID
    revision: int


@dataclass(frozen=True, slots=True)
class _LockedRow:
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChange:
    """What to change in a session, and what must be so for it."""

    title: bytes | None = None
    state: int | None = None
    changes_retention: bool = False
    retention_days: int | None = None
    """Where that is to be changed: None for as long as all are kept."""
    activity: bool = False
    """Whether the change is an activity, which moves the session to the head of its list."""
    expected_version: int | None = None
    expected_state: int | None = None


Place = tuple[datetime, UUID]
"""A session's place in a list: its last activity, and its id for sessions of the same moment."""

_BEFORE_ALL: Place = (datetime.max.replace(tzinfo=UTC), UUID(int=(1 << 128) - 1))


def _given_or_any(column: ColumnElement[int], name: str) -> ColumnElement[bool]:
    parameter = bindparam(name, type_=column.type)
    return or_(parameter.is_(None), column == parameter)


_COLUMNS = SESSIONS.c
PERSON = bindparam("person", type_=Uuid)
SESSION = bindparam("session", type_=Uuid)
THIS_SESSION = and_(_COLUMNS.user_id == PERSON, _COLUMNS.session_id == SESSION)
IS_THERE = _COLUMNS.delete_time.is_(None)
NOT_HELD = ~_COLUMNS.is_held
_NEW_TITLE = bindparam("new_title", type_=LargeBinary)
_AS_EXPECTED = and_(
    THIS_SESSION,
    IS_THERE,
    # A title is what the person wrote, and a new one would destroy it.
    or_(_NEW_TITLE.cast(LargeBinary).is_(None), NOT_HELD),
    _given_or_any(_COLUMNS.version, "expected_version"),
    _given_or_any(_COLUMNS.state, "expected_state"),
)

LOCK_PERSON = statement(
    select(PEOPLE.c.revision).where(PEOPLE.c.user_id == PERSON).with_for_update(), _LockedRow
)
"""Locks a person's sessions, so that what follows in the transaction sees them as they stay."""

_LATEST_FIRST = (_COLUMNS.last_activity_time.desc(), _COLUMNS.session_id.desc())

_GET = statement(select(*SESSION_COLUMNS).where(THIS_SESSION), SessionRow)

_PAGE = statement(
    select(*SESSION_COLUMNS)
    .where(
        _COLUMNS.user_id == PERSON,
        IS_THERE,
        tuple_(_COLUMNS.last_activity_time, _COLUMNS.session_id)
        < tuple_(
            bindparam("before_time", type_=DateTime(timezone=True)),
            bindparam("before_session", type_=Uuid),
        ),
        _given_or_any(_COLUMNS.state, "state"),
    )
    .order_by(*_LATEST_FIRST)
    .limit(bindparam("limit", type_=BigInteger)),
    SessionRow,
)

# Sessions are added to a person one at a time, from before they are counted: two at once would each
# see room for one.
_ADDS_ALONE = statement(
    select(
        func.pg_advisory_xact_lock(
            func.hashtextextended(
                func.concat(literal("sessions added to "), PERSON.cast(Text)), literal(0)
            )
        )
        .cast(Text)
        .label("held")
    ),
    HeldRow,
)
_MOST = bindparam("most", type_=BigInteger)
_HAS_ROOM = or_(
    literal(0) == _MOST,
    select(func.count())
    .select_from(SESSIONS)
    .where(_COLUMNS.user_id == PERSON, IS_THERE)
    .scalar_subquery()
    < _MOST,
)
_next_for_new = (
    insert(PEOPLE)
    .from_select(
        ["user_id", "revision"], select(PERSON, literal(1)).where(ERASED.not_erased, _HAS_ROOM)
    )
    .on_conflict_do_update(index_elements=["user_id"], set_={"revision": PEOPLE.c.revision + 1})
    .returning(PEOPLE.c.revision)
    .cte("next")
)
_ADD = statement(
    insert(SESSIONS)
    .from_select(
        [
            *("user_id", "session_id", "title", "state", "retention_days"),
            *("revision", "version", "create_time", "update_time", "last_activity_time"),
        ],
        select(
            PERSON,
            SESSION,
            bindparam("title", type_=LargeBinary),
            bindparam("state", type_=SmallInteger),
            bindparam("retention_days", type_=Integer).cast(Integer),
            _next_for_new.c.revision,
            _next_for_new.c.revision,
            func.now(),
            func.now(),
            func.now(),
        ),
    )
    .on_conflict_do_nothing(index_elements=["user_id", "session_id"])
    .returning(*SESSION_COLUMNS),
    SessionRow,
)

_next_for_change = (
    update(PEOPLE)
    .where(PEOPLE.c.user_id == PERSON, select(literal(1)).where(_AS_EXPECTED).exists())
    .values(revision=PEOPLE.c.revision + 1)
    .returning(PEOPLE.c.revision)
    .cte("next")
)
_is_activity = bindparam("activity", type_=Boolean)
_CHANGE = statement(
    update(SESSIONS)
    .where(_AS_EXPECTED)
    .values(
        title=func.coalesce(_NEW_TITLE, _COLUMNS.title),
        state=func.coalesce(bindparam("new_state", type_=SmallInteger), _COLUMNS.state),
        revision=_next_for_change.c.revision,
        version=_next_for_change.c.revision,
        retention_days=case(
            (
                bindparam("changes_retention", type_=Boolean),
                bindparam("new_retention_days", type_=Integer).cast(Integer),
            ),
            else_=_COLUMNS.retention_days,
        ),
        update_time=func.now(),
        last_activity_time=case(
            (_is_activity, func.greatest(func.now(), _COLUMNS.last_activity_time)),
            else_=_COLUMNS.last_activity_time,
        ),
    )
    .returning(*SESSION_COLUMNS),
    SessionRow,
)


_REVISIONS = statement(
    select(PEOPLE.c.user_id, PEOPLE.c.revision).where(
        PEOPLE.c.user_id == any_(bindparam("people", type_=ARRAY(Uuid)))
    ),
    RevisionRow,
)
_NEWEST = statement(
    select(*SESSION_COLUMNS)
    .where(
        _COLUMNS.user_id == PERSON,
        IS_THERE,
        _COLUMNS.revision <= bindparam("as_of", type_=BigInteger),
    )
    .order_by(*_LATEST_FIRST)
    .limit(bindparam("limit", type_=BigInteger)),
    SessionRow,
)
_CHANGED = statement(
    select(*SESSION_COLUMNS)
    .where(_COLUMNS.user_id == PERSON, _COLUMNS.revision > bindparam("after", type_=BigInteger))
    .order_by(_COLUMNS.revision)
    .limit(bindparam("limit", type_=BigInteger)),
    SessionRow,
)


class SessionStore:
    """Reads and writes sessions; every statement names the person whose they are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, person: UUID, session: UUID) -> SessionRow | None:
        """A session of the person, or the mark that it left."""
        return await self._database.one(_GET, {"person": person, "session": session})

    async def page(
        self, person: UUID, *, before: Place | None, limit: int, state: int | None
    ) -> Sequence[SessionRow]:
        """The person's sessions that follow a place, the one with the latest activity first."""
        time, session = before or _BEFORE_ALL
        parameters = {"person": person, "before_time": time, "before_session": session}
        parameters |= {"limit": limit, "state": state}
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
        self,
        person: UUID,
        session: UUID,
        *,
        title: bytes,
        state: int,
        retention_days: int | None,
        most: int,
    ) -> SessionRow | None:
        """Adds a session to less than `most` others; 0 is any number.

        None when the person has or had one of this id, has as many as may be, or was erased.
        """
        parameters = {"person": person, "session": session, "title": title, "state": state}
        parameters |= {"retention_days": retention_days}
        *_, added = await self._database.in_one_trip(
            (ERASED.hold, parameters),
            (_ADDS_ALONE, parameters),
            (_ADD, {**parameters, "most": most}),
        )
        return added[0] if added else None

    async def is_erased(self, person: UUID) -> bool:
        """Whether the person was erased."""
        return await self._database.one(ERASED.find, {"person": person}) is not None

    async def change(self, person: UUID, session: UUID, change: SessionChange) -> SessionRow | None:
        """Changes a session; None when the person has none of this id that is as expected."""
        parameters = {
            "person": person,
            "session": session,
            "new_title": change.title,
            "new_state": change.state,
            "changes_retention": change.changes_retention,
            "new_retention_days": change.retention_days,
            "activity": change.activity,
            "expected_version": change.expected_version,
            "expected_state": change.expected_state,
        }
        return await self._database.one(_CHANGE, parameters)
