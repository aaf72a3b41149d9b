"""A person's sessions as a feed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from inglenook.sessions.v1.sessions_pb2 import (
    DeletedSession,
    Session,
    SessionChange,
    WatchSessionsRequest,
    WatchSessionsResponse,
)

from services.runtime.cursors import Cursors
from services.runtime.database import Database
from services.runtime.erasure import person_erased
from services.runtime.errors import session_not_found
from services.runtime.feed import Batch
from services.runtime.live import Live, live
from services.runtime.pages import page_limit
from services.runtime.settings import ServiceSettings
from services.runtime.watch import Watched
from services.sessions.store import PEOPLE, SessionRow, SessionStore

_CHANGES_IN_A_FRAME = 200


def session_feeds(
    database: Database, settings: ServiceSettings, cursors: Cursors
) -> AbstractAsyncContextManager[Live]:
    """Runs the live side of the sessions service."""
    store = SessionStore(database)

    async def revisions(feeds: Sequence[str]) -> Mapping[str, int]:
        rows = await store.revisions([UUID(feed) for feed in feeds])
        return {str(row.user_id): row.revision for row in rows}

    return live(database, settings, cursors, feeds_of=PEOPLE, revisions=revisions)


def deletion_of(row: SessionRow) -> SessionChange:
    """What the mark of a deleted session is to who watches."""
    return SessionChange(deleted=DeletedSession(session_id=str(row.session_id)))


def watched(
    store: SessionStore,
    person: UUID,
    request: WatchSessionsRequest,
    opened: Callable[[SessionRow], Awaitable[Session]],
) -> Watched[SessionChange]:
    """A person's sessions, as WatchSessions gives them; `opened` decrypts a row."""

    async def revision() -> int:
        rows = await store.revisions([person])
        if not rows and await store.is_erased(person):
            raise person_erased()
        return rows[0].revision if rows else 0

    async def snapshot() -> Batch[SessionChange]:
        # As of a revision that was read before: what is newer comes as a change, and so comes once.
        as_of = await revision()
        rows = await store.newest(person, as_of=as_of, limit=page_limit(request.newest))
        return Batch([SessionChange(upserted=await opened(row)) for row in reversed(rows)], as_of)

    async def after(revision: int) -> Batch[SessionChange]:
        rows = await store.changed(person, after=revision, limit=_CHANGES_IN_A_FRAME)
        if not rows:
            if await store.is_erased(person):
                raise person_erased()
            return Batch([], revision)
        changes = [
            SessionChange(upserted=await opened(row))
            if row.delete_time is None
            else deletion_of(row)
            for row in rows
        ]
        removes = any(row.delete_time is not None for row in rows)
        return Batch(changes, rows[-1].revision, removes=removes)

    return Watched(
        name=str(person),
        response=WatchSessionsResponse,
        revision=revision,
        snapshot=snapshot,
        after=after,
        token_of_another=session_not_found(),
    )
