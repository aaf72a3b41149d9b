"""Adding messages: sealed, written, and told apart from those that were there already."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import Message, MessageState

from services.messages.appends import Append, AppendedRow
from services.messages.body import message_of, place_of
from services.messages.conversations import Conversations
from services.messages.quota import Quota
from services.messages.store import MessageStore
from services.messages.tables import Conversation, MessageRow
from services.messages.writer import Writer
from services.runtime.encryption.envelope import OVERHEAD_BYTES
from services.runtime.errors import id_reused


@dataclass(frozen=True, slots=True)
class Said:
    """A message that shall stand at the end of its conversation."""

    conversation: Conversation
    message_id: UUID
    role: int
    body: bytes = field(repr=False)
    create_time: datetime | None = None
    """When it was said, for an imported message; None for now."""
    update_time: datetime | None = None
    """When it was last changed, for an imported message; None for now."""
    imported: bool = False
    state: int = MessageState.MESSAGE_STATE_COMPLETE
    """Complete, or interrupted for an imported message that was."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What became of a message that was to be added."""

    row: MessageRow
    is_new: bool
    """Whether it was stored by this; else `row` is what has had its id before."""


class Appender:
    """Adds messages to conversations."""

    def __init__(
        self, conversations: Conversations, quota: Quota, store: MessageStore, writer: Writer
    ) -> None:
        """Takes what seals and opens messages, who may keep more, what reads and writes them."""
        self._conversations = conversations
        self._quota = quota
        self._store = store
        self._writer = writer

    async def append(self, said: Said) -> Message:
        """Adds a message, or gives the one that an earlier call with the same id and body added.

        Raises:
            Refusal: SESSION_NOT_FOUND, ID_REUSED, QUOTA_EXCEEDED or SERVER_BUSY.
        """
        (addition,) = await self.add([said])
        if addition.is_new:
            return message_of(said.conversation, addition.row, said.body)
        if not await self.is_repeated(said, addition.row):
            raise id_reused("message")
        return await self._conversations.message(said.conversation, addition.row)

    async def add(self, said: Sequence[Said]) -> list[Addition]:
        """Adds messages of one person, in their order within each conversation.

        Raises:
            Refusal: SESSION_NOT_FOUND, QUOTA_EXCEEDED or SERVER_BUSY, and none was added.
        """
        await self._make_sure_of_room(said)
        return await self._add(said)

    async def _make_sure_of_room(self, said: Sequence[Said]) -> None:
        """Makes sure that a person may keep what is not there yet."""
        person = said[0].conversation.user_id
        if await self._quota.admits(person, _sealed_size(said)):
            return
        there = await self._there(said)
        left = [one for one in said if (one.conversation, one.message_id) not in there]
        if len(left) == len(said):
            raise self._quota.exceeded()
        await self._quota.make_sure(person, _sealed_size(left))

    async def _add(self, said: Sequence[Said]) -> list[Addition]:
        rows = await self._write(said)
        additions = [
            None
            if row is None
            else Addition(row.of(one.message_id, one.role, one.state), is_new=True)
            for one, row in zip(said, rows, strict=True)
        ]
        left = [one for one, addition in zip(said, additions, strict=True) if addition is None]
        if left:
            others = iter(await self._look_again(left))
            return [addition or next(others) for addition in additions]
        return [addition for addition in additions if addition is not None]

    async def is_repeated(self, said: Said, row: MessageRow) -> bool:
        """Whether a row is what storing the same message earlier left, changed since or not.

        Raises:
            Refusal: SESSION_NOT_FOUND, its conversation was deleted since the row was read.
        """
        if row.body is None or row.role != said.role or row.grows:
            return False
        return await self._conversations.was_first(said.conversation, row, said.body)

    async def _write(self, said: Sequence[Said]) -> list[AppendedRow | None]:
        loop = asyncio.get_running_loop()
        appends = []
        for one in said:
            keyring = await self._conversations.keyring(one.conversation)
            appends.append(
                Append(
                    conversation=one.conversation,
                    message_id=one.message_id,
                    role=one.role,
                    body=keyring.seal(one.body, place_of(one.conversation, one.message_id)),
                    plaintext=one.body,
                    stored=loop.create_future(),
                    create_time=one.create_time,
                    update_time=one.update_time,
                    imported=one.imported,
                    state=one.state,
                )
            )
        return await self._writer.append(appends)

    async def _look_again(self, said: Sequence[Said]) -> list[Addition]:
        """What became of messages that were not stored: they are there, or it was too early."""
        there = await self._there(said)
        left = [one for one in said if (one.conversation, one.message_id) not in there]
        for conversation in {one.conversation: None for one in left}:
            # The data key is there and the row is not: whoever began the conversation was cut. Or
            # the conversation was deleted, and this says so.
            await self._conversations.begin(conversation)
        added = iter(await self._add(left) if left else ())
        return [
            Addition(there[one.conversation, one.message_id], is_new=False)
            if (one.conversation, one.message_id) in there
            else next(added)
            for one in said
        ]

    async def _there(self, said: Sequence[Said]) -> dict[tuple[Conversation, UUID], MessageRow]:
        """The messages, or tombstones, that have the ids of these."""
        ids: defaultdict[Conversation, list[UUID]] = defaultdict(list)
        for one in said:
            ids[one.conversation].append(one.message_id)
        return {
            (conversation, message_id): row
            for conversation, message_ids in ids.items()
            for message_id, row in (await self._store.get_many(conversation, message_ids)).items()
        }


def _sealed_size(said: Sequence[Said]) -> int:
    return sum(len(one.body) + OVERHEAD_BYTES for one in said)
