"""The methods of SessionsService."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from uuid import UUID, uuid4

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.sessions.v1 import sessions_pb2
from inglenook.sessions.v1.sessions_pb2 import SessionState

from services.runtime.audit.listing import AccessListing
from services.runtime.cursors import Cursors
from services.runtime.encryption.data_keys import DataKeys, ScopeErasedError
from services.runtime.encryption.envelope import Place, UnreadableError
from services.runtime.erasure import person_erased
from services.runtime.errors import (
    Refusal,
    conversation_held,
    etag_stale,
    id_reused,
    quota_exceeded,
    session_not_found,
)
from services.runtime.etags import etag_of, expected_revision
from services.runtime.feed import Batch
from services.runtime.field_masks import changed_text, is_changed
from services.runtime.identity import person
from services.runtime.live import Live
from services.runtime.locking import Locks
from services.runtime.pages import page_limit, page_place
from services.runtime.relay import Relay
from services.runtime.timestamps import timestamp_of
from services.sessions.activity import Activities
from services.sessions.deletion import DELETION, POINTER, Deletions
from services.sessions.live import deletion_of, watched
from services.sessions.places import numbers_of, place_of
from services.sessions.retention import Retention, duration_of
from services.sessions.standing import StandingRow
from services.sessions.store import SessionChange, SessionRow, SessionStore


class Sessions:
    """A person's own sessions."""

    def __init__(
        self,
        *,
        store: SessionStore,
        activities: Activities,
        deletions: Deletions,
        relay: Relay,
        keys: DataKeys,
        cursors: Cursors,
        feeds: Live,
        locks: Locks,
        standings: Callable[[Sequence[tuple[UUID, UUID]]], Awaitable[Sequence[StandingRow]]],
        sessions_per_person: int,
        retention: Retention,
        access_listing: AccessListing,
    ) -> None:
        """Takes where sessions are, and what is told of them by and to the messages service.

        `keys` encrypt titles, `cursors` make tokens, `feeds` are who follows,
        `locks` who is locked; `standings` reads how sessions stand; `sessions_per_person` is how
        many a person may have, 0 for any number; `retention` is how long they are kept,
        `access_listing` who else had to do with them.
        """
        self._sessions_per_person = sessions_per_person
        self._retention = retention
        self._access_listing = access_listing
        self._standings = standings
        self._locks = locks
        self._store = store
        self._activities = activities
        self._deletions = deletions
        self._relay = relay
        self._keys = keys
        self._cursors = cursors
        self._live = feeds

    async def CreateSession(
        self, request: sessions_pb2.CreateSessionRequest, _context: object
    ) -> sessions_pb2.CreateSessionResponse:
        """Opens a session, or gives what an earlier call with the same id opened."""
        session_id = UUID(request.session_id) if request.session_id else uuid4()
        retention_days = self._retention_days(request)
        row = await self._store.get(person(), session_id) if request.session_id else None
        if row is None:
            row = await self._store.add(
                person(),
                session_id,
                title=await self._seal(session_id, request.title),
                state=SessionState.SESSION_STATE_ACTIVE,
                retention_days=retention_days,
                most=self._sessions_per_person,
            )
            if row is not None:
                return sessions_pb2.CreateSessionResponse(session=await self._announced(row))
            # The same call at the same time was first; or it was deleted, or its owner erased, or
            # has no room.
            row = await self._store.get(person(), session_id)
            if row is None:
                if await self._store.is_erased(person()):
                    raise person_erased()
                raise _too_many_sessions(self._sessions_per_person)
        if row.delete_time is not None:
            raise id_reused("session")
        session = await self._session(row)
        if session.title != request.title or row.retention_days != retention_days:
            raise id_reused("session")
        return sessions_pb2.CreateSessionResponse(session=session)

    async def GetSession(
        self, request: sessions_pb2.GetSessionRequest, _context: object
    ) -> sessions_pb2.GetSessionResponse:
        """One session of the caller's."""
        row = await self._require(UUID(request.session_id))
        return sessions_pb2.GetSessionResponse(session=await self._session(row))

    async def ListSessions(
        self, request: sessions_pb2.ListSessionsRequest, _context: object
    ) -> sessions_pb2.ListSessionsResponse:
        """A page of the caller's sessions."""
        purpose = ("sessions.page", str(person()), str(request.state))
        before = page_place(self._cursors, purpose, request.page_token)
        limit = page_limit(request.page_size)
        rows = await self._store.page(
            person(),
            before=None if before is None else place_of(before),
            limit=limit + 1,
            state=request.state or None,
        )
        more = len(rows) > limit
        page = rows[:limit]
        return sessions_pb2.ListSessionsResponse(
            sessions=[await self._session(row) for row in page],
            next_page_token=self._cursors.make(purpose, *numbers_of(page[-1])) if more else "",
        )

    async def UpdateSession(
        self, request: sessions_pb2.UpdateSessionRequest, _context: object
    ) -> sessions_pb2.UpdateSessionResponse:
        """Changes a session's title, or how long it is kept."""
        session_id, expected = UUID(request.session_id), expected_revision(request.etag)
        title = changed_text(request, request.update_mask, "title")
        changes_retention = is_changed(request, request.update_mask, "retention")
        row = await self._require(session_id)
        if title is None and not changes_retention:
            if expected not in (None, row.version):
                raise etag_stale()
            return sessions_pb2.UpdateSessionResponse(session=await self._session(row))
        change = SessionChange(
            title=None if title is None else await self._seal(session_id, title),
            changes_retention=changes_retention,
            retention_days=self._retention_days(request) if changes_retention else None,
            expected_version=expected,
        )
        return sessions_pb2.UpdateSessionResponse(session=await self._change(session_id, change))

    async def CompleteSession(
        self, request: sessions_pb2.CompleteSessionRequest, _context: object
    ) -> sessions_pb2.CompleteSessionResponse:
        """Marks an active session as completed."""
        change = SessionChange(
            state=SessionState.SESSION_STATE_COMPLETED,
            expected_state=SessionState.SESSION_STATE_ACTIVE,
            expected_version=expected_revision(request.etag),
        )
        session = await self._change(UUID(request.session_id), change)
        return sessions_pb2.CompleteSessionResponse(session=session)

    async def ResumeSession(
        self, request: sessions_pb2.ResumeSessionRequest, _context: object
    ) -> sessions_pb2.ResumeSessionResponse:
        """Makes a completed session active again."""
        change = SessionChange(
            state=SessionState.SESSION_STATE_ACTIVE,
            activity=True,
            expected_state=SessionState.SESSION_STATE_COMPLETED,
            expected_version=expected_revision(request.etag),
        )
        session = await self._change(UUID(request.session_id), change)
        return sessions_pb2.ResumeSessionResponse(session=session)

    async def DeleteSession(
        self, request: sessions_pb2.DeleteSessionRequest, _context: object
    ) -> sessions_pb2.DeleteSessionResponse:
        """Deletes a session."""
        session_id = UUID(request.session_id)
        while True:
            deleted = await self._deletions.delete(person(), session_id)
            if deleted is not None:
                self.tell_deleted(deleted)
                return sessions_pb2.DeleteSessionResponse()
            row = await self._store.get(person(), session_id)
            if row is None:
                raise session_not_found()
            if row.delete_time is not None:
                return sessions_pb2.DeleteSessionResponse()
            if row.is_held:
                raise conversation_held()
            # It was opened meanwhile, or the hold that kept it lifted.

    def tell_deleted(self, deleted: SessionRow) -> None:
        """Tells whoever watches, and soon the other services, of a session that was deleted."""
        change = deletion_of(deleted)
        self._live.announce(str(deleted.user_id), change, deleted.revision, removes=True)
        self._relay.wake(DELETION)
        self._relay.wake(POINTER)

    async def EraseUser(
        self, request: sessions_pb2.EraseUserRequest, _context: object
    ) -> sessions_pb2.EraseUserResponse:
        """Erases all sessions of a person."""
        erasing = UUID(request.user_id)
        erased, revision = await self._deletions.erase_person(erasing)
        self._keys.forget((erasing,))
        # Who watches looks, and finds that the person is gone.
        self._live.feeds.learn(str(erasing), revision + 1)
        self._live.wakeups.send(str(erasing), revision + 1)
        return sessions_pb2.EraseUserResponse(
            sessions=erased.conversations,
            key_ids=map(str, erased.key_ids),
            access_log_entries=erased.access_log_entries,
        )

    async def DescribeSessions(
        self, request: sessions_pb2.DescribeSessionsRequest, _context: object
    ) -> sessions_pb2.DescribeSessionsResponse:
        """How sessions stand."""
        named = [(UUID(one.user_id), UUID(one.session_id)) for one in request.sessions]
        return sessions_pb2.DescribeSessionsResponse(
            sessions=[
                sessions_pb2.SessionStanding(exists=row.exists, settled=not row.owed)
                for row in await self._standings(named)
            ]
        )

    async def ListAccessLog(
        self, request: sessions_pb2.ListAccessLogRequest, _context: object
    ) -> sessions_pb2.ListAccessLogResponse:
        """What is recorded of those who had to do with a person's data."""
        entries = await self._access_listing.asked(request)
        return sessions_pb2.ListAccessLogResponse(entries=entries)

    async def LockUser(
        self, request: sessions_pb2.LockUserRequest, _context: object
    ) -> sessions_pb2.LockUserResponse:
        """Locks or unlocks a person."""
        await self._locks.note(
            UUID(request.user_id), is_locked=request.locked, revision=request.revision
        )
        return sessions_pb2.LockUserResponse()

    async def RecordActivity(
        self, request: sessions_pb2.RecordActivityRequest, _context: object
    ) -> sessions_pb2.RecordActivityResponse:
        """Notes how far conversations have got."""
        for rows in (await self._activities.record(request.activities)).values():
            await self._announce_all(rows)
        return sessions_pb2.RecordActivityResponse()

    async def WatchSessions(
        self, request: sessions_pb2.WatchSessionsRequest, _context: object
    ) -> AsyncIterator[bytes]:
        """The caller's sessions, live."""
        feed = watched(self._store, person(), request, self._session)
        async with aclosing(self._live.watches.responses(feed, request)) as responses:
            async for response in responses:
                yield response

    async def _change(self, session_id: UUID, change: SessionChange) -> sessions_pb2.Session:
        while True:
            changed = await self._store.change(person(), session_id, change)
            if changed is not None:
                return await self._announced(changed)
            row = await self._require(session_id)
            if change.title is not None and row.is_held:
                raise conversation_held()
            if change.expected_version not in (None, row.version):
                raise etag_stale()
            if change.expected_state is not None and row.state != change.expected_state:
                raise _state_wrong(change.expected_state)
            # What stood in the way does not any more.

    async def _require(self, session_id: UUID) -> SessionRow:
        row = await self._store.get(person(), session_id)
        if row is None or row.delete_time is not None:
            raise session_not_found()
        return row

    async def _announce_all(self, rows: Sequence[SessionRow]) -> None:
        """Tells whoever watches of sessions of one person that were just stored, in their order."""
        name, revision = str(rows[0].user_id), rows[-1].revision
        if self._live.feeds.is_followed(name):
            changes = [
                sessions_pb2.SessionChange(upserted=await self._session(row)) for row in rows
            ]
            self._live.feeds.publish(name, rows[0].revision - 1, Batch(changes, revision))
        self._live.wakeups.send(name, revision)

    async def _announced(self, row: SessionRow) -> sessions_pb2.Session:
        """A session that was just stored; whoever watches is told."""
        session = await self._session(row)
        change = sessions_pb2.SessionChange(upserted=session)
        self._live.announce(str(row.user_id), change, row.revision)
        return session

    async def _session(self, row: SessionRow) -> sessions_pb2.Session:
        place = _title_place(row.user_id, row.session_id)
        try:
            title = await self._keys.open((row.user_id,), row.title, place)
        except UnreadableError:
            # Of a person who was erased since the row was read there is no key any more.
            if await self._store.get(row.user_id, row.session_id) is None:
                raise person_erased() from None
            raise
        expire_time = self._retention.expire_time(row)
        return sessions_pb2.Session(
            session_id=str(row.session_id),
            title=title.decode(),
            state=SessionState.ValueType(row.state),
            create_time=timestamp_of(row.create_time),
            update_time=timestamp_of(row.update_time),
            last_activity_time=timestamp_of(row.last_activity_time),
            message_count=row.message_count,
            etag=etag_of(row.version),
            legal_hold=row.is_held,
            retention=duration_of(row.retention_days),
            expire_time=None if expire_time is None else timestamp_of(expire_time),
        )

    def _retention_days(
        self, request: sessions_pb2.CreateSessionRequest | sessions_pb2.UpdateSessionRequest
    ) -> int | None:
        """For how many days a session shall be kept; None for as long as all are.

        Raises:
            Refusal: REQUEST_INVALID, that is longer than the server keeps any.
        """
        if not request.HasField("retention"):
            return None
        return self._retention.days_of(request.retention)

    async def _seal(self, session_id: UUID, title: str) -> bytes:
        try:
            keyring = await self._keys.sealing_or_make((person(),))
        except ScopeErasedError:
            raise person_erased() from None
        return keyring.seal(title.encode(), _title_place(person(), session_id))


def _title_place(user_id: UUID, session_id: UUID) -> Place:
    return Place(table="sessions", field="title", owner=user_id, row=(user_id, session_id))


def _too_many_sessions(most: int) -> Refusal:
    return quota_exceeded(
        "sessions",
        most,
        f"You have as many sessions as one person may have: {most}. Delete one and try again.",
    )


def _state_wrong(expected: int) -> Refusal:
    completing = expected == SessionState.SESSION_STATE_ACTIVE
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.REASON_SESSION_STATE_WRONG,
        "Only an active session can be completed."
        if completing
        else "Only a completed session can be resumed.",
    )
