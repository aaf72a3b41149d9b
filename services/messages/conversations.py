"""Messages with their encryption: what is between the contract and the rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1.messages_pb2 import Message, MessageChange
from inglenook.sessions.v1.sessions_pb2 import GetSessionRequest

from services.messages.body import message_of, place_of
from services.messages.store import Conversation, MessageRow, MessageStore
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.errors import Refusal, id_reused
from services.runtime.feed import Batch
from services.runtime.peers import TIMEOUT, answer_of, on_behalf_of_caller

if TYPE_CHECKING:
    from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceAsyncStub

_CHANGES_IN_A_FRAME = 200


class Conversations:
    """Appends to and reads a person's conversations."""

    def __init__(
        self, store: MessageStore, keys: DataKeys, sessions: "SessionsServiceAsyncStub"
    ) -> None:
        """Takes where messages are stored, what encrypts them, and who knows whose a session is."""
        self._store = store
        self._keys = keys
        self._sessions = sessions

    async def append(
        self, conversation: Conversation, message_id: UUID, *, role: int, body: bytes
    ) -> Message:
        """Adds a message, or gives the equal one that an earlier call with the same id added.

        Raises:
            Refusal: SESSION_NOT_FOUND, or ID_REUSED.
        """
        keyring = await self._keys.sealing(conversation.scope)
        if keyring is None:
            await self._begin(conversation)
            keyring = await self._keys.sealing_or_make(conversation.scope)
        sealed = keyring.seal(body, place_of(conversation, message_id))
        row = await self._store.append(conversation, message_id, role=role, body=sealed)
        if row is not None:
            return message_of(conversation, row, body)
        stored = await self._store.get(conversation, message_id)
        if stored is None:
            # The data key is there and the row is not: whoever began the conversation was cut.
            await self._begin(conversation)
            row = await self._store.append(conversation, message_id, role=role, body=sealed)
            if row is not None:
                return message_of(conversation, row, body)
            stored = await self._require(conversation, message_id)
        if stored.role != role or await self._open(conversation, stored) != body:
            raise id_reused("message")
        return message_of(conversation, stored, body)

    async def get(self, conversation: Conversation, message_id: UUID) -> Message:
        """One message.

        Raises:
            Refusal: SESSION_NOT_FOUND or MESSAGE_NOT_FOUND.
        """
        row = await self._store.get(conversation, message_id)
        if row is None:
            await self.revision(conversation)
        return await self._message(conversation, await self._require(conversation, message_id))

    async def older(
        self, conversation: Conversation, *, before: int | None, limit: int
    ) -> list[Message]:
        """The messages with a sequence below `before`, the newest first.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        if before is None:
            rows = await self._store.older(conversation, limit=limit)
        else:
            rows = await self._store.older(conversation, before=before, limit=limit)
        if not rows:
            await self.revision(conversation)
        return await self._messages(conversation, rows)

    async def revision(self, conversation: Conversation) -> int:
        """The conversation's revision: 0 while nothing was said in it.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        row = await self._store.conversation(conversation)
        if row is not None:
            return row.revision
        await self._ask_sessions(conversation)
        return 0

    async def snapshot(self, conversation: Conversation, newest: int) -> Batch[MessageChange]:
        """The newest messages, in the order in which they were said.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        revision = await self.revision(conversation)
        # As of that revision: what is newer comes as a change, and so comes once.
        rows = await self._store.older(conversation, as_of=revision, limit=newest)
        messages = await self._messages(conversation, list(reversed(rows)))
        changes = [MessageChange(upserted=message) for message in messages]
        return Batch(changes, revision)

    async def changes(self, conversation: Conversation, after: int) -> Batch[MessageChange]:
        """What changed after a revision, as much as fits a frame."""
        rows = await self._store.changed(conversation, after=after, limit=_CHANGES_IN_A_FRAME)
        if not rows:
            return Batch([], after)
        messages = await self._messages(conversation, rows)
        changes = [MessageChange(upserted=message) for message in messages]
        # Read after the rows, so that it is never behind them.
        newest = await self.revision(conversation)
        return Batch(changes, rows[-1].revision, complete=rows[-1].revision >= newest)

    async def _begin(self, conversation: Conversation) -> None:
        """Makes a conversation's row, once it is known that it is the caller's.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        await self._ask_sessions(conversation)
        await self._store.add_conversation(conversation)

    async def _ask_sessions(self, conversation: Conversation) -> None:
        request = GetSessionRequest(session_id=str(conversation.session_id))
        metadata = on_behalf_of_caller()
        await answer_of(self._sessions.GetSession(request, timeout=TIMEOUT, metadata=metadata))

    async def _require(self, conversation: Conversation, message_id: UUID) -> MessageRow:
        row = await self._store.get(conversation, message_id)
        if row is None:
            raise _message_not_found()
        return row

    async def _messages(
        self, conversation: Conversation, rows: Sequence[MessageRow]
    ) -> list[Message]:
        return [await self._message(conversation, row) for row in rows]

    async def _message(self, conversation: Conversation, row: MessageRow) -> Message:
        return message_of(conversation, row, await self._open(conversation, row))

    async def _open(self, conversation: Conversation, row: MessageRow) -> bytes:
        place = place_of(conversation, row.message_id)
        return await self._keys.open(conversation.scope, row.body, place)


def _message_not_found() -> Refusal:
    return Refusal(
        grpc.StatusCode.NOT_FOUND,
        Reason.REASON_MESSAGE_NOT_FOUND,
        "There is no such message in this session.",
    )
