"""What the sessions service is told: how many messages a conversation has, and since when.

Whoever adds or deletes a message owes this in the same statement (`ACTIVITY`). What is told is how
the conversation stands when it is told, so that a thousand appends are told once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from grpc import aio
from inglenook.sessions.v1.sessions_pb2 import RecordActivityRequest, SessionActivity
from sqlalchemy import (
    ARRAY,
    BigInteger,
    FromClause,
    Uuid,
    bindparam,
    column,
    delete,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.sql.selectable import CTE

from services.messages.tables import CONVERSATIONS, OUTBOX
from services.runtime.database import Database, statement
from services.runtime.outbox import Scope
from services.runtime.peers import TIMEOUT
from services.runtime.timestamps import timestamp_of

if TYPE_CHECKING:
    from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceAsyncStub

ACTIVITY = "activity"
"""The kind of these events."""

BATCH = 500
"""How many conversations are told of at once."""


def owing_activity(source: FromClause) -> CTE:
    """For a statement that adds or deletes messages: owes `ACTIVITY` of the conversations in it."""
    # What was set aside is not tried anew by an append, which would have to wait for the relay.
    return OUTBOX.owing(ACTIVITY, source, revives=False)


@dataclass(frozen=True, slots=True)
class _StandingRow:
    session_id: UUID
    user_id: UUID
    message_count: int
    revision: int
    activity_time: datetime | None
    delete_time: datetime | None


@dataclass(frozen=True, slots=True)
class _SettledRow:
    session_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class _SettingRow:
    setting: str


_CONVERSATION = CONVERSATIONS.c
_OWED = OUTBOX.table.c
_named = OUTBOX.named()
_STANDING = statement(
    select(*(_CONVERSATION[name] for name in _StandingRow.__slots__)).where(
        tuple_(_CONVERSATION.session_id, _CONVERSATION.user_id).in_(
            select(_named.c.session_id, _named.c.user_id)
        )
    ),
    _StandingRow,
)

_told = (
    func.unnest(
        bindparam("sessions", type_=ARRAY(Uuid)),
        bindparam("persons", type_=ARRAY(Uuid)),
        bindparam("revisions", type_=ARRAY(BigInteger)),
    )
    .table_valued(
        column("session_id", Uuid),
        column("user_id", Uuid),
        column("revision", BigInteger),
        name="told",
    )
    .render_derived()
)
# Under the conversation's lock, which every append holds from before it owes until it commits: so
# an append that is under way either is seen here, or sees that nothing is owed. Whoever holds a
# lock is not waited for: its conversation is told of again.
_still_so = (
    select(_CONVERSATION.session_id, _CONVERSATION.user_id)
    .select_from(
        CONVERSATIONS.join(
            _told,
            (_CONVERSATION.session_id == _told.c.session_id)
            & (_CONVERSATION.user_id == _told.c.user_id)
            & (_CONVERSATION.revision == _told.c.revision),
        )
    )
    .order_by(_CONVERSATION.session_id, _CONVERSATION.user_id)
    .with_for_update(of=CONVERSATIONS, skip_locked=True)
    .cte("still_so")
)
_SETTLE = statement(
    delete(OUTBOX.table)
    .where(
        _OWED.session_id == _still_so.c.session_id,
        _OWED.user_id == _still_so.c.user_id,
        _OWED.kind == ACTIVITY,
    )
    .returning(_OWED.session_id, _OWED.user_id),
    _SettledRow,
)
# A settlement that a crash undoes is made again: no append shall wait for it to be on disk.
_LAZILY = statement(
    select(func.set_config("synchronous_commit", "off", literal(True)).label("setting")),
    _SettingRow,
)


class Activity:
    """Tells the sessions service of conversations."""

    def __init__(
        self,
        database: Database,
        sessions: "SessionsServiceAsyncStub",
        credentials: Callable[[], aio.Metadata],
    ) -> None:
        """Takes where conversations are, whom to tell, and what proves who tells it."""
        self._database = database
        self._sessions = sessions
        self._credentials = credentials

    async def deliver(self, scopes: Sequence[Scope]) -> None:
        """Tells how conversations stand, and settles those that still stand so.

        Raises:
            AioRpcError: the sessions service did not take it.
        """
        named = OUTBOX.parameters(ACTIVITY, list(scopes))
        rows = await self._database.all(_STANDING, named)
        activities = [
            SessionActivity(
                user_id=str(row.user_id),
                session_id=str(row.session_id),
                revision=row.revision,
                message_count=row.message_count,
                last_activity_time=timestamp_of(row.activity_time),
            )
            for row in rows
            if row.activity_time is not None and row.delete_time is None
        ]
        if activities:
            request = RecordActivityRequest(activities=activities)
            await self._sessions.RecordActivity(
                request, timeout=TIMEOUT, metadata=self._credentials()
            )
        there = {(row.session_id, row.user_id) for row in rows}
        gone = [scope for scope in scopes if scope not in there]
        if gone:  # Their person was erased.
            await self._database.all(OUTBOX.settle, OUTBOX.parameters(ACTIVITY, gone))
        told: dict[str, object] = {
            "sessions": [row.session_id for row in rows],
            "persons": [row.user_id for row in rows],
            "revisions": [row.revision for row in rows],
        }
        await self._database.all_after(_LAZILY, _SETTLE, told)
