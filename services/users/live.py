"""A person's profile and current session as a feed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from inglenook.users.v1.users_pb2 import MeChange, WatchMeResponse

from services.runtime.cursors import Cursors
from services.runtime.database import Database
from services.runtime.feed import Batch
from services.runtime.interceptor import access_denied
from services.runtime.live import Live, live
from services.runtime.settings import ServiceSettings
from services.runtime.watch import Watched
from services.users.store import USERS, UserRow, UserStore


def user_feeds(
    database: Database, settings: ServiceSettings, cursors: Cursors
) -> AbstractAsyncContextManager[Live]:
    """Runs the live side of the users service."""
    store = UserStore(database)

    async def revisions(feeds: Sequence[str]) -> Mapping[str, int]:
        rows = await store.revisions([UUID(feed) for feed in feeds])
        return {str(row.user_id): row.feed_revision for row in rows}

    return live(database, settings, cursors, feeds_of=USERS, revisions=revisions)


def watched(
    person: UUID,
    row: Callable[[], Awaitable[UserRow]],
    opened: Callable[[UserRow], Awaitable[MeChange]],
) -> Watched[MeChange]:
    """A person, as WatchMe gives them; `row` reads what is stored, `opened` decrypts it."""

    async def revision() -> int:
        return (await row()).feed_revision

    async def snapshot() -> Batch[MeChange]:
        return await after(0)

    async def after(revision: int) -> Batch[MeChange]:
        now = await row()
        if now.feed_revision <= revision:
            return Batch([], revision)
        return Batch([await opened(now)], now.feed_revision)

    return Watched(
        name=str(person),
        response=WatchMeResponse,
        revision=revision,
        snapshot=snapshot,
        after=after,
        token_of_another=access_denied(),
    )
