"""How long sessions are kept: what is due, and its deletion, which is that by their owner.

A session is due when there was no activity in it for as long as it is kept: for as many days as it
was given itself, or as the server keeps all, whichever is less. Whole sessions go and never single
messages, since only destroying a key reaches the copies in backups, and all that was said in a
session has one. What is under a legal hold is not due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from inglenook.audit.v1.audit_pb2 import ActorKind
from sqlalchemy import BigInteger, DateTime, Integer, Uuid, bindparam, func, literal, select, tuple_

from services.runtime.audit.chain import Access
from services.runtime.audit.recorder import record_within
from services.runtime.database import Database, fetch_all, fetch_one, statement
from services.runtime.errors import FieldViolation, Refusal, request_invalid
from services.sessions.deletion import deleting
from services.sessions.store import (
    ACCESS_LOG,
    ERASED,
    IS_THERE,
    LOCK_PERSON,
    NOT_HELD,
    SESSIONS,
    SessionRow,
)

_DAY = timedelta(days=1)
_ACTION = "retention"


@dataclass(frozen=True, slots=True)
class DueRow:
    """A session that is due, as far as this service knows."""

    user_id: UUID
    session_id: UUID
    last_activity_time: datetime


_COLUMNS = SESSIONS.c
_DUE_COLUMNS = tuple(_COLUMNS[name] for name in DueRow.__slots__)
_SERVER_DAYS = bindparam("server_days", type_=Integer).cast(Integer)
_LIMIT = bindparam("limit", type_=BigInteger)
_after_session = (
    bindparam("after_user", type_=Uuid),
    bindparam("after_session", type_=Uuid),
)
_by_session = (_COLUMNS.user_id, _COLUMNS.session_id)
_by_time = (_COLUMNS.last_activity_time, *_by_session)
_DUE_BY_SERVER = statement(
    select(*_DUE_COLUMNS)
    .where(
        IS_THERE,
        NOT_HELD,
        _COLUMNS.last_activity_time <= func.now() - func.make_interval(0, 0, 0, _SERVER_DAYS),
        tuple_(*_by_time)
        > tuple_(bindparam("after_time", type_=DateTime(timezone=True)), *_after_session),
    )
    .order_by(*_by_time)
    .limit(_LIMIT),
    DueRow,
)
_own_end = _COLUMNS.last_activity_time + func.make_interval(0, 0, 0, _COLUMNS.retention_days)
_DUE_BY_OWN = statement(
    select(*_DUE_COLUMNS)
    .where(
        IS_THERE,
        NOT_HELD,
        _COLUMNS.retention_days.is_not(None),
        _own_end <= func.now(),
        tuple_(*_by_session) > tuple_(*_after_session),
    )
    .order_by(*_by_session)
    .limit(_LIMIT),
    DueRow,
)
# Looked at once more by whoever deletes it: something may have happened in it. Of two, the shorter
# counts; without any there is no end.
_kept_days = func.least(_COLUMNS.retention_days, func.nullif(_SERVER_DAYS, literal(0)))
_DELETE_DUE = deleting(
    _COLUMNS.last_activity_time + func.make_interval(0, 0, 0, _kept_days) <= func.now()
)
_FIRST = DueRow(UUID(int=0), UUID(int=0), datetime.min.replace(tzinfo=UTC))


def duration_of(days: int | None) -> Duration | None:
    """So many days, as the contract has them."""
    return None if days is None else Duration(seconds=days * _DAY // timedelta(seconds=1))


def expire_time(row: SessionRow, server_days: int) -> datetime | None:
    """When a session will be due if nothing happens in it; None for never.

    `server_days` is how many days the server keeps all sessions, 0 for ever.
    """
    days = [one for one in (row.retention_days, server_days) if one]
    if row.is_held or not days:
        return None
    return row.last_activity_time + min(days) * _DAY


class Retention:
    """Finds what is due, and deletes it."""

    def __init__(self, database: Database, key: bytes, server_days: int) -> None:
        """Takes where sessions are, the key of the access logs' chains, and what is set for all.

        `server_days` is 0 where the server keeps sessions for ever.
        """
        self._database = database
        self._key = key
        self._server_days = server_days

    @property
    def longest(self) -> timedelta | None:
        """How long the server keeps sessions; None for ever."""
        return timedelta(days=self._server_days) if self._server_days else None

    def days_of(self, retention: Duration) -> int:
        """A retention that somebody wants for a session, in days.

        Raises:
            Refusal: REQUEST_INVALID, the server does not keep sessions for so long.
        """
        wanted = retention.ToTimedelta()
        if self.longest is not None and wanted > self.longest:
            raise _too_long(self.longest)
        return wanted // _DAY

    def expire_time(self, row: SessionRow) -> datetime | None:
        """When a session will be due if nothing happens in it; None for never."""
        return expire_time(row, self._server_days)

    async def due_by_server(self, after: DueRow = _FIRST, *, limit: int) -> Sequence[DueRow]:
        """What is due by what is set for all, after one that was found before."""
        if not self._server_days:
            return []
        place = {"after_time": after.last_activity_time, "server_days": self._server_days}
        return await self._database.all(_DUE_BY_SERVER, {**place, **_named(after), "limit": limit})

    async def due_by_own(self, after: DueRow = _FIRST, *, limit: int) -> Sequence[DueRow]:
        """What is due by a time of its own, after one that was found before."""
        return await self._database.all(_DUE_BY_OWN, {**_named(after), "limit": limit})

    async def delete(self, due: DueRow) -> SessionRow | None:
        """Leaves the mark of a session that is still due, and records it in its person's log."""
        parameters: dict[str, object] = {"person": due.user_id, "session": due.session_id}
        parameters |= {"server_days": self._server_days}
        kind, now = ActorKind.ACTOR_KIND_SERVICE, datetime.now(UTC)
        access = Access(due.user_id, now, kind, ACCESS_LOG.service, _ACTION, due.session_id)
        async with self._database.transaction() as connection:
            await fetch_all(connection, ERASED.hold, parameters)
            await fetch_all(connection, LOCK_PERSON, parameters)
            deleted = await fetch_one(connection, _DELETE_DUE, parameters)
            if deleted is not None:
                await record_within(connection, ACCESS_LOG, self._key, access)
        return deleted


def _named(row: DueRow) -> dict[str, object]:
    return {"after_user": row.user_id, "after_session": row.session_id}


def _too_long(longest: timedelta) -> Refusal:
    description = f"must be at most {longest.days} days: nothing is kept here for longer"
    return request_invalid([FieldViolation("retention", description, "retention.server_maximum")])
