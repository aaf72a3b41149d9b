"""The built-in listener as a voice: it speaks word by word, at the pace of somebody who thinks."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from inglenook.messages.v1.messages_pb2 import Message, Role

from examples.responder.listener import reply_to

_WORD = re.compile(r"\S+\s*")


class Listening:
    """The listener, speaking."""

    model = "listener"

    def __init__(self, *, words_per_second: float) -> None:
        """Takes how fast it speaks."""
        self._seconds = 1 / words_per_second

    @asynccontextmanager
    async def reply(self, conversation: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        """What the listener says to what the person has said."""
        said = [message.content for message in conversation if message.role == Role.ROLE_USER]
        async with aclosing(self._words(reply_to(said))) as words:
            yield words

    async def _words(self, text: str) -> AsyncGenerator[str, None]:
        for word in _WORD.findall(text):
            await asyncio.sleep(self._seconds)
            yield word
