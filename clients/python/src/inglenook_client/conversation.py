"""What is held of a conversation while it is watched. Nothing here knows of a network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inglenook_client.contract.messages.v1.messages_pb2 import (
    Message,
    MessageChange,
    MessageDelta,
)
from inglenook_client.feed import Held


@dataclass(frozen=True, slots=True)
class Conversation(Held[MessageChange]):
    """A session's messages as they are now: the newest ones, and all that came since."""

    messages: tuple[Message, ...] = ()
    """In the order in which they were said, without a gap."""
    first_sequence: int = 1
    """Where they begin: of earlier messages nothing is held, also when they are changed."""

    @property
    def has_older(self) -> bool:
        """Whether there are messages before these, which `messages.list_messages` gives."""
        return self.first_sequence > 1

    def changed(self, changes: Sequence[MessageChange]) -> "Conversation":
        """What is held after some changes."""
        messages = {message.message_id: message for message in self.messages}
        for change in changes:
            match change.WhichOneof("change"):
                case "upserted" if change.upserted.sequence >= self.first_sequence:
                    messages[change.upserted.message_id] = change.upserted
                case "deleted":
                    messages.pop(change.deleted.message_id, None)
                case "delta":
                    _grow(messages, change.delta)
        ordered = sorted(messages.values(), key=lambda message: message.sequence)
        return replace(self, messages=tuple(ordered))

    def opened(self) -> "Conversation":
        """What is held once the snapshot is complete: it begins at its earliest message."""
        return replace(self, first_sequence=self.messages[0].sequence if self.messages else 1)


def _grow(messages: dict[str, Message], delta: MessageDelta) -> None:
    message = messages.get(delta.message_id)
    # Both count characters as Unicode code points.
    if message is not None and len(message.content) == delta.offset:
        grown = Message()
        grown.CopyFrom(message)
        grown.content += delta.text
        messages[delta.message_id] = grown
