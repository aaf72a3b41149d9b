"""Who can reply: something that is given a conversation and says what it has to say, bit by bit."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from inglenook.messages.v1.messages_pb2 import Message


class VoiceError(Exception):
    """A reply could not be generated to its end. The text names no word of the conversation."""


class Voice(Protocol):
    """Someone who replies."""

    @property
    def model(self) -> str:
        """The name that its messages carry as their model: at most 100 characters."""

    def reply(
        self, conversation: Sequence[Message]
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """A reply to the last message of a conversation, in pieces, as they are generated.

        Leaving the block ends it early.

        Raises:
            VoiceError: it breaks off, in the block or while it is entered.
        """
