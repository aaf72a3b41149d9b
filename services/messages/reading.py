"""Reading on through a person's messages while others may delete them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from inglenook.errors.v1.errors_pb2 import Reason

from services.messages.conversations import Conversations
from services.messages.scans import Numbers, ScannedRow
from services.messages.tables import Conversation
from services.runtime.errors import Refusal


@dataclass(frozen=True, slots=True)
class Walk:
    """A way through a person's messages, in an order."""

    purpose: tuple[str, ...]
    """What a cursor is for that holds a place of this way."""
    start: Numbers
    page: Callable[[Numbers], Awaitable[Sequence[ScannedRow]]]
    """The messages that follow a place; none after the last."""
    place: Callable[[ScannedRow], Numbers]
    """The place of a message."""


async def body_unless_gone(
    conversations: Conversations, conversation: Conversation, row: ScannedRow
) -> bytes | None:
    """A message's body, or None when its conversation was deleted after the row was read.

    Raises:
        UnreadableError: the body does not open, and its conversation is there.
    """
    try:
        return await conversations.body(conversation, row)
    except Refusal as refusal:
        if refusal.reason == Reason.REASON_SESSION_NOT_FOUND:
            return None
        raise
