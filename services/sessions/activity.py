"""What the messages service tells of sessions: how many messages they have, and since when.

It tells of many people's sessions at once, and may tell late, twice or in any order: a session
takes only what has a higher revision than what it was told before.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from uuid import UUID

from inglenook.sessions.v1.sessions_pb2 import SessionActivity
from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Uuid,
    any_,
    bindparam,
    column,
    func,
    select,
    update,
)

from services.runtime.database import Database, statement
from services.sessions.store import PEOPLE, SESSION_COLUMNS, SESSIONS, SessionRow


@dataclass(frozen=True, slots=True)
class _LockedRow:
    revision: int


_COLUMNS = SESSIONS.c
_PEOPLE_NAMED = bindparam("persons", type_=ARRAY(Uuid))

# First the people, then their sessions, like every write; the people in one order, so that two
# calls at once never wait for each other in a circle.
_LOCK = statement(
    select(PEOPLE.c.revision)
    .where(PEOPLE.c.user_id == any_(_PEOPLE_NAMED))
    .order_by(PEOPLE.c.user_id)
    .with_for_update(),
    _LockedRow,
)
_told = (
    func.unnest(
        _PEOPLE_NAMED,
        bindparam("sessions", type_=ARRAY(Uuid)),
        bindparam("revisions", type_=ARRAY(BigInteger)),
        bindparam("counts", type_=ARRAY(BigInteger)),
        bindparam("times", type_=ARRAY(DateTime(timezone=True))),
    )
    .table_valued(
        column("user_id", Uuid),
        column("session_id", Uuid),
        column("revision", BigInteger),
        column("count", BigInteger),
        column("time", DateTime(timezone=True)),
        name="told",
    )
    .render_derived()
)
_news = (
    select(
        _told,
        func.row_number()
        .over(partition_by=_told.c.user_id, order_by=(_told.c.time, _told.c.session_id))
        .label("nth"),
    )
    .select_from(
        _told.join(
            SESSIONS,
            (_COLUMNS.user_id == _told.c.user_id) & (_COLUMNS.session_id == _told.c.session_id),
        )
    )
    .where(_COLUMNS.activity_revision < _told.c.revision, _COLUMNS.delete_time.is_(None))
    .cte("news")
)
_of_person = (
    select(_news.c.user_id, func.count().label("sessions"))
    .group_by(_news.c.user_id)
    .subquery("of_person")
)
_counting = (
    update(PEOPLE)
    .where(PEOPLE.c.user_id == _of_person.c.user_id)
    .values(revision=PEOPLE.c.revision + _of_person.c.sessions)
    .cte("counting")
)
_RECORD = statement(
    update(SESSIONS)
    .where(
        _COLUMNS.user_id == _news.c.user_id,
        _COLUMNS.session_id == _news.c.session_id,
        PEOPLE.c.user_id == _news.c.user_id,
    )
    .values(
        message_count=_news.c.count,
        activity_revision=_news.c.revision,
        last_activity_time=func.greatest(_COLUMNS.last_activity_time, _news.c.time),
        # As the locked row has it: the counting of the same statement is not seen here.
        revision=PEOPLE.c.revision + _news.c.nth,
    )
    .returning(*SESSION_COLUMNS)
    .add_cte(_counting),
    SessionRow,
)


class Activities:
    """Stores what is told of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, told: Iterable[SessionActivity]) -> dict[UUID, list[SessionRow]]:
        """Stores what is news, and gives the sessions that it changed, by person and in order."""
        # No session may come twice into one statement: of two, the newer one counts.
        newest: dict[tuple[UUID, UUID], SessionActivity] = {}
        for one in sorted(told, key=lambda one: one.revision):
            newest[UUID(one.user_id), UUID(one.session_id)] = one
        parameters: dict[str, object] = {
            "persons": [person for person, _ in newest],
            "sessions": [session for _, session in newest],
            "revisions": [one.revision for one in newest.values()],
            "counts": [one.message_count for one in newest.values()],
            "times": [one.last_activity_time.ToDatetime(tzinfo=UTC) for one in newest.values()],
        }
        rows = await self._database.all_after(_LOCK, _RECORD, parameters)
        changed: defaultdict[UUID, list[SessionRow]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row.revision):
            changed[row.user_id].append(row)
        return changed
