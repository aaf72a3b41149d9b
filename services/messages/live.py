"""Conversations as feeds: what their watchers get, and how they come to know of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import (
    MessageChange,
    MessageDelta,
    WatchMessagesRequest,
    WatchMessagesResponse,
)

from services.messages.activity import ACTIVITY
from services.messages.appends import Append, AppendedRow
from services.messages.backlog import Write
from services.messages.body import message_of
from services.messages.conversations import Conversations
from services.messages.erasing import PURGE
from services.messages.parts import GrownRow, Growth
from services.messages.store import MAXIMUM_BYTES, MessageStore
from services.messages.tables import CONVERSATIONS, Conversation
from services.messages.writer import Stored
from services.runtime.cursors import Cursors
from services.runtime.database import Database
from services.runtime.errors import session_not_found
from services.runtime.feed import Batch
from services.runtime.live import Live, live
from services.runtime.pages import page_limit
from services.runtime.relay import Relay
from services.runtime.settings import ServiceSettings
from services.runtime.watch import Watched


def conversation_feeds(
    database: Database, settings: ServiceSettings, cursors: Cursors
) -> AbstractAsyncContextManager[Live]:
    """Runs the live side of the messages service."""
    store = MessageStore(database)

    async def revisions(feeds: Sequence[str]) -> Mapping[str, int]:
        rows = await store.revisions([_conversation_of(feed) for feed in feeds])
        return {Conversation(row.session_id, row.user_id).feed: row.revision for row in rows}

    return live(database, settings, cursors, feeds_of=CONVERSATIONS, revisions=revisions)


class Announcer:
    """Tells the watchers of a conversation what was stored: here at once, elsewhere by wake-ups."""

    def __init__(self, feeds: Live, relay: Relay) -> None:
        """Takes who follows, and who tells other services."""
        self._live = feeds
        self._relay = relay

    def stored(self, conversation: Conversation, stored: Stored) -> None:
        """Messages were added, or have grown."""
        revision = stored[-1][1].revision
        if self._live.feeds.is_followed(conversation.feed):
            for some in in_frames(stored):
                changes = [_change(conversation, write, row) for write, row in some]
                batch = Batch(changes, some[-1][1].revision)
                self._live.feeds.publish(conversation.feed, some[0][1].revision - 1, batch)
        self._relay.wake(ACTIVITY)
        self._live.wakeups.send(conversation.feed, revision)

    def erased(self, conversation: Conversation, revision: int) -> None:
        """A conversation was erased: who watches it looks, and finds that it is gone."""
        self._live.feeds.learn(conversation.feed, revision)
        self._live.wakeups.send(conversation.feed, revision)
        self._relay.wake(PURGE)

    def changed(self, conversation: Conversation, change: MessageChange, revision: int) -> None:
        """A message was changed or deleted."""
        removes = change.HasField("deleted")
        if removes:
            self._relay.wake(ACTIVITY)
        self._live.announce(conversation.feed, change, revision, removes=removes)


def watched(
    conversations: Conversations, conversation: Conversation, request: WatchMessagesRequest
) -> Watched[MessageChange]:
    """A conversation, as WatchMessages gives it."""

    async def snapshot() -> Batch[MessageChange]:
        return await conversations.snapshot(conversation, page_limit(request.newest))

    async def revision() -> int:
        return await conversations.revision(conversation)

    async def after(revision: int) -> Batch[MessageChange]:
        return await conversations.changes(conversation, revision)

    return Watched(
        name=conversation.feed,
        response=WatchMessagesResponse,
        revision=revision,
        snapshot=snapshot,
        after=after,
        token_of_another=session_not_found(),
    )


def in_frames(stored: Stored) -> Iterator[Stored]:
    """What a conversation has got, in parts that a frame can hold: a batch may be larger."""
    first = size = 0
    for place, (write, _) in enumerate(stored):
        if place > first and size + len(write.body) > MAXIMUM_BYTES:
            yield stored[first:place]
            first, size = place, 0
        size += len(write.body)
    yield stored[first:]


def _change(conversation: Conversation, write: Write, row: AppendedRow | GrownRow) -> MessageChange:
    if isinstance(write, Append) and isinstance(row, AppendedRow):
        whole = row.of(write.message_id, write.role, write.state)
        return MessageChange(upserted=message_of(conversation, whole, write.plaintext))
    if isinstance(write, Growth):
        message_id = str(write.message_id)
        delta = MessageDelta(message_id=message_id, offset=write.first, text=write.text)
        return MessageChange(delta=delta)
    raise TypeError("an append was answered as a growth")


def _conversation_of(feed: str) -> Conversation:
    session_id, user_id = feed.split("/")
    return Conversation(UUID(session_id), UUID(user_id))
