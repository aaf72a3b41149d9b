"""Messages with their encryption: what is between the contract and the rows."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1.messages_pb2 import Message, MessageChange
from inglenook.sessions.v1.sessions_pb2 import GetSessionRequest

from services.messages.body import digest_of, message_of, place_of
from services.messages.opening import Opener, deletion
from services.messages.store import MessageStore
from services.messages.tables import Conversation, MessageRow
from services.runtime.encryption.data_keys import DataKeys, Keyring, ScopeErasedError
from services.runtime.encryption.envelope import UnreadableError
from services.runtime.errors import (
    Refusal,
    conversation_held,
    etag_stale,
    session_not_found,
)
from services.runtime.feed import Batch
from services.runtime.peers import TIMEOUT, answer_of, on_behalf_of_caller

if TYPE_CHECKING:
    from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceAsyncStub

Opened = TypeVar("Opened")

_CHANGES_IN_A_FRAME = 200


class Conversations:
    """Reads and changes what was said in a person's conversations."""

    def __init__(
        self,
        store: MessageStore,
        keys: DataKeys,
        sessions: "SessionsServiceAsyncStub",
        opener: Opener,
        changed: Callable[[Conversation, MessageChange, int], None],
    ) -> None:
        """Takes where messages are, what encrypts them, who knows whose a session is, what opens.

        `changed` is called with each change or deletion and the revision that it has.
        """
        self._store = store
        self._keys = keys
        self._sessions = sessions
        self.changed = changed
        """To be called with each change that was stored, and its revision."""
        self.opener = opener

    async def get(self, conversation: Conversation, message_id: UUID) -> Message:
        """One message.

        Raises:
            Refusal: SESSION_NOT_FOUND or MESSAGE_NOT_FOUND.
        """
        return await self.message(conversation, await self.row(conversation, message_id))

    async def row(self, conversation: Conversation, message_id: UUID) -> MessageRow:
        """The row of one message, which was not deleted.

        Raises:
            Refusal: SESSION_NOT_FOUND or MESSAGE_NOT_FOUND.
        """
        row = await self._store.get(conversation, message_id)
        if row is None or row.body is None:
            await self.revision(conversation)
            raise message_not_found()
        return row

    async def page(
        self, conversation: Conversation, *, newest_first: bool, first: int, limit: int
    ) -> tuple[list[Message], int | None]:
        """The messages from a sequence on, downwards or upwards, and from where others follow.

        `first` 0 is the end that the order begins with. None follow where the other is None.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        if not newest_first:
            page = await self._store.oldest_first(conversation, first=first, limit=limit)
        elif first:
            page = await self._store.newest_first(conversation, first=first, limit=limit)
        else:
            page = await self._store.newest_first(conversation, limit=limit)
        if not page.rows:
            await self.revision(conversation)
        messages = await self.opened(conversation, self.opener.messages(conversation, page.rows))
        ended = [
            row.message_id
            for row, message in zip(page.rows, messages, strict=True)
            if message is None
        ]
        now = await self._store.get_many(conversation, ended) if ended else {}
        shown = [
            message or await self.message(conversation, now[row.message_id])
            for row, message in zip(page.rows, messages, strict=True)
            # What was deleted meanwhile is left out.
            if message or (row.message_id in now and now[row.message_id].body is not None)
        ]
        step = -1 if newest_first else 1
        return shown, page.rows[-1].sequence + step if page.more else None

    async def message(self, conversation: Conversation, row: MessageRow) -> Message:
        """A row's message, as it is now if it has ended since the row was read.

        Raises:
            Refusal: MESSAGE_NOT_FOUND or SESSION_NOT_FOUND, it was deleted since.
        """
        opening = self.opener.messages(conversation, [row])
        (message,) = await self.opened(conversation, opening)
        return message or await self.get(conversation, row.message_id)

    async def body(self, conversation: Conversation, row: MessageRow) -> bytes:
        """A message's body; of a growing one, without the parts that it has got.

        Raises:
            Refusal: SESSION_NOT_FOUND, the conversation was deleted since the row was read.
            UnreadableError: it does not open, and its conversation is there.
        """
        return await self.opened(conversation, self.opener.body(conversation, row))

    async def was_first(self, conversation: Conversation, row: MessageRow, body: bytes) -> bool:
        """Whether a body is the one that a message was first stored with.

        Raises:
            Refusal: SESSION_NOT_FOUND, the conversation was deleted since the row was read.
            UnreadableError: what is stored does not open, and its conversation is there.
        """
        return await self.opened(conversation, self.opener.was_first(conversation, row, body))

    async def opened(self, conversation: Conversation, opening: Awaitable[Opened]) -> Opened:
        """What opens; of a conversation that was deleted meanwhile there is no key any more.

        Raises:
            Refusal: SESSION_NOT_FOUND.
            UnreadableError: it does not open, and the conversation is there.
        """
        try:
            return await opening
        except UnreadableError:
            await self.revision(conversation)
            raise

    async def change(
        self,
        conversation: Conversation,
        message_id: UUID,
        *,
        expected: int | None,
        allow: Callable[[MessageRow], None],
        change: Callable[[bytes], Awaitable[bytes]],
    ) -> Message:
        """Gives a message the body that `change` makes of its body, if `allow` lets its row pass.

        Raises:
            Refusal: SESSION_NOT_FOUND, MESSAGE_NOT_FOUND, LEGAL_HOLD, ETAG_STALE when it does not
                have the expected revision, MESSAGE_GROWING, or what `allow` or `change` raises.
        """
        while True:
            seen = await self.row(conversation, message_id)
            allow(seen)
            if expected not in (None, seen.revision):
                raise etag_stale()
            if seen.grows:
                raise _message_growing()
            body = await self.body(conversation, seen)
            new_body = await change(body)
            if new_body == body:
                return message_of(conversation, seen, body)
            keyring = await self.keyring(conversation, uses=2)
            row = await self._store.change(
                conversation,
                seen,
                body=keyring.seal(new_body, place_of(conversation, message_id)),
                original=seen.original
                or keyring.seal(digest_of(body), place_of(conversation, message_id, "original")),
            )
            if row is not None:
                message = message_of(conversation, row, new_body)
                self.changed(conversation, MessageChange(upserted=message), row.revision)
                return message
            await self._require_not_held(conversation)
            # Somebody else changed it between reading and writing: what the change makes of that
            # has to be seen anew.

    async def delete(
        self, conversation: Conversation, message_id: UUID, *, expected: int | None
    ) -> None:
        """Leaves a tombstone of a message; one that is there already is enough.

        Raises:
            Refusal: SESSION_NOT_FOUND, MESSAGE_NOT_FOUND, LEGAL_HOLD, or ETAG_STALE when it does
                not have the expected revision.
        """
        while True:
            tombstone = await self._store.delete(conversation, message_id, seen=expected)
            if tombstone is not None:
                self.changed(conversation, deletion(tombstone), tombstone.revision)
                return
            row = await self._store.get(conversation, message_id)
            if row is None:
                await self.revision(conversation)
                raise message_not_found()
            if row.body is None:
                return
            if expected not in (None, row.revision):
                raise etag_stale()
            await self._require_not_held(conversation)
            # The hold that kept it was lifted meanwhile.

    async def revision(self, conversation: Conversation) -> int:
        """The conversation's revision: 0 while nothing was said in it.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        row = await self._store.conversation(conversation)
        if row is None:
            await self._ask_sessions(conversation)
            # Of an erased person no row is left to say so, and the sessions may still be there:
            # each service learns of it in its own time.
            if await self._store.is_erased(conversation.user_id):
                raise session_not_found()
            return 0
        if row.delete_time is not None:
            raise session_not_found()
        return row.revision

    async def _require_not_held(self, conversation: Conversation) -> None:
        """Makes sure that no legal hold keeps what is to be changed or deleted.

        Raises:
            Refusal: LEGAL_HOLD.
        """
        row = await self._store.conversation(conversation)
        if row is not None and row.is_held:
            raise conversation_held()

    async def snapshot(self, conversation: Conversation, newest: int) -> Batch[MessageChange]:
        """The newest messages, in the order in which they were said.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        revision = await self.revision(conversation)
        # Read in one with the revision that they are as of. Left out because it has grown since an
        # earlier one, a message would be missing when the rest of it comes.
        rows, as_of = await self._store.newest(conversation, limit=newest)
        # What has ended growing since comes as a change, whole.
        messages = await self.opened(conversation, self.opener.messages(conversation, rows))
        changes = [MessageChange(upserted=message) for message in reversed(messages) if message]
        return Batch(changes, max(revision, as_of))

    async def changes(self, conversation: Conversation, after: int) -> Batch[MessageChange]:
        """What changed after a revision, as much as fits a frame."""
        page = await self._store.changed(conversation, after=after, limit=_CHANGES_IN_A_FRAME)
        if not page.rows:
            await self.revision(conversation)  # Ends the watch of a conversation that was deleted.
            return Batch([], after)
        revision = page.rows[-1].revision
        rows = {row.message_id: row for row in page.rows}
        if page.more:
            # What grows stands at its latest revision, behind the end of this frame. What it had
            # got by here comes here: what comes later is only what it gets then.
            growing = await self._store.growing_through(conversation, revision)
            rows = {row.message_id: row for row in growing} | rows
        opening = self.opener.changes(conversation, rows.values(), after=after, to=revision)
        changes = await self.opened(conversation, opening)
        removes = any(row.body is None for row in page.rows)
        return Batch(changes, revision, removes=removes)

    async def begin(self, conversation: Conversation) -> None:
        """Makes a conversation's row, once it is known that it is the caller's.

        Raises:
            Refusal: SESSION_NOT_FOUND, there is none or it was deleted.
        """
        await self._ask_sessions(conversation)
        await self._store.add_conversation(conversation)
        # Whatever came between the answer and the row: a deletion has left its mark, an erasure its
        # memory.
        row = await self._store.conversation(conversation)
        if row is None or row.delete_time is not None:
            raise session_not_found()

    async def keyring(self, conversation: Conversation, *, uses: int = 1) -> Keyring:
        """What seals so many fields of a conversation at once; begins it if it has not begun.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        keyring = await self._keys.sealing(conversation.scope, uses=uses)
        if keyring is not None:
            return keyring
        await self.begin(conversation)
        try:
            return await self._keys.sealing_or_make(conversation.scope, uses=uses)
        except ScopeErasedError:
            raise session_not_found() from None

    async def _ask_sessions(self, conversation: Conversation) -> None:
        request = GetSessionRequest(session_id=str(conversation.session_id))
        metadata = on_behalf_of_caller()
        await answer_of(self._sessions.GetSession(request, timeout=TIMEOUT, metadata=metadata))


def _message_growing() -> Refusal:
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.REASON_MESSAGE_GROWING,
        "The message is still growing. Wait until it is complete.",
    )


def message_not_found() -> Refusal:
    """The session is the caller's and holds no such message."""
    return Refusal(
        grpc.StatusCode.NOT_FOUND,
        Reason.REASON_MESSAGE_NOT_FOUND,
        "There is no such message in this session.",
    )
