"""Messages as the contract has them, from their rows: decrypted, and growing ones put together."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from operator import itemgetter

from inglenook.messages.v1.messages_pb2 import (
    DeletedMessage,
    Message,
    MessageChange,
    MessageDelta,
)

from services.messages.body import digest_of, message_of, place_of
from services.messages.growth import GrowthStore, PartRow
from services.messages.tables import Conversation, MessageRow
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.envelope import UnreadableError
from services.runtime.etags import etag_of


class Opener:
    """Opens what is stored of messages."""

    def __init__(self, keys: DataKeys, growth: GrowthStore) -> None:
        """Takes what decrypts, and what reads the parts of growing messages."""
        self._keys = keys
        self._growth = growth

    async def body(self, conversation: Conversation, row: MessageRow) -> bytes:
        """A message's body; of a growing one, without the parts that it has got.

        Raises:
            UnreadableError: what is stored does not open.
        """
        return await self._open(conversation, row, "body", row.body)

    async def was_first(self, conversation: Conversation, row: MessageRow, body: bytes) -> bool:
        """Whether a body is the one that a message was first stored with.

        Raises:
            UnreadableError: what is stored does not open.
        """
        if row.original is None:
            return await self.body(conversation, row) == body
        original = await self._open(conversation, row, "original", row.original)
        return original == digest_of(body)

    async def messages(
        self, conversation: Conversation, rows: Sequence[MessageRow]
    ) -> list[Message | None]:
        """The messages of rows; None for one that grew and has ended since its row was read.

        Raises:
            UnreadableError: what is stored does not open.
        """
        growing = [row.message_id for row in rows if row.grows]
        parts = await self._growth.parts(conversation, growing) if growing else {}
        return [
            await self._message(conversation, row, parts.get(row.message_id, ())) for row in rows
        ]

    async def changes(
        self, conversation: Conversation, rows: Collection[MessageRow], *, after: int, to: int
    ) -> list[MessageChange]:
        """What rows say, up to a revision, to a watcher who has all up to an earlier one.

        A growing message that the watcher has comes as what it has got since. One that has ended
        since its row was read is left out: it has a later revision.

        Raises:
            UnreadableError: what is stored does not open.
        """
        growing = [row.message_id for row in rows if row.grows]
        parts = await self._growth.parts(conversation, growing) if growing else {}
        changes: list[tuple[int, MessageChange]] = []
        for row in rows:
            got = parts.get(row.message_id, ())
            then = _as_of(row, got, to)
            change = await self._change(conversation, row, got, then, after) if then else None
            if then is not None and change is not None:
                changes.append((then.revision, change))
        return [change for _, change in sorted(changes, key=itemgetter(0))]

    async def _change(
        self,
        conversation: Conversation,
        row: MessageRow,
        parts: Sequence[PartRow],
        then: MessageRow,
        after: int,
    ) -> MessageChange | None:
        """A change to a row as it was `then`; None when it says nothing, or has ended since."""
        if row.body is None:
            return deletion(row)
        if not row.grows or row.begun_revision is None or row.begun_revision > after:
            message = await self._message(conversation, row, parts)
            if message is None:
                return None
            if then.length is not None:
                message.content = message.content[: then.length]
            message.etag = etag_of(then.revision)
            return MessageChange(upserted=message)
        missed = [part for part in parts if after < part.revision <= row.revision]
        text = await self._text(conversation, missed)
        if not missed or missed[0].first + len(text) != row.length:
            return None
        offset = missed[0].first
        text = text[: (then.length or 0) - offset]
        if not text:
            return None
        delta = MessageDelta(message_id=str(row.message_id), offset=offset, text=text)
        return MessageChange(delta=delta)

    async def _message(
        self, conversation: Conversation, row: MessageRow, parts: Sequence[PartRow]
    ) -> Message | None:
        message = message_of(conversation, row, await self.body(conversation, row))
        if row.grows:
            got = [part for part in parts if part.revision <= row.revision]
            message.content += await self._text(conversation, got)
            if len(message.content) != row.length:
                return None
        return message

    async def _text(self, conversation: Conversation, parts: Sequence[PartRow]) -> str:
        texts = [
            await self._keys.open(
                conversation.scope,
                part.body,
                place_of(conversation, part.message_id, part=part.first),
            )
            for part in parts
        ]
        return b"".join(texts).decode()

    async def _open(
        self, conversation: Conversation, row: MessageRow, field: str, envelope: bytes | None
    ) -> bytes:
        place = place_of(conversation, row.message_id, field)
        if envelope is None:
            raise UnreadableError(place)
        return await self._keys.open(conversation.scope, envelope, place)


def _as_of(row: MessageRow, parts: Sequence[PartRow], revision: int) -> MessageRow | None:
    """A row as it was at a revision; None for one that grew and has ended since it was read."""
    if row.revision <= revision:
        return row
    later = [part for part in parts if revision < part.revision <= row.revision]
    if not later:
        return None
    earlier = [part.revision for part in parts if part.revision <= revision]
    return replace(row, length=later[0].first, revision=max([row.begun_revision or 0, *earlier]))


def deletion(row: MessageRow) -> MessageChange:
    """What a tombstone says."""
    deleted = DeletedMessage(message_id=str(row.message_id), sequence=row.sequence)
    return MessageChange(deleted=deleted)
