"""Recording a reply: what is generated goes into the conversation as it comes.

It goes by one call of StreamMessage, and when that is cut, by another one that takes the message up
where its stored text ends: a restart of the messages service, a lost connection or the end of the
minute that a service's token is good for delays a reply and changes nothing in it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from grpc import aio
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1.messages_pb2 import StreamMessageHeader, StreamMessageRequest

from examples.responder.growing_text import GrowingText
from services.runtime.errors import Refusal
from services.runtime.peers import as_service, refusal_of_peer
from services.runtime.service_tokens import ServiceTokens

if TYPE_CHECKING:
    from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceAsyncStub

_LENGTH = "x-stored-length"
_AGAIN_SECONDS = 0.1
_SLOWEST_AGAIN_SECONDS = 2.0
# How long a reply waits for the messages service to come back before it is given up.
_PATIENCE_SECONDS = 60.0
# What passes by itself, here or at another replica.
_PASSING = {
    Reason.REASON_DEPENDENCY_UNAVAILABLE,
    Reason.REASON_SERVER_BUSY,
    Reason.REASON_TOKEN_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reply goes, and to whom."""

    person: UUID
    session_id: str
    message_id: str
    after_sequence: int = field(default=0, compare=False)
    """The newest message that was read: it begins only while nobody has said more. 0: whatever."""


class WrittenElsewhereError(Exception):
    """The message was there already, and had text: another process writes it, or wrote it."""


class Recorder:
    """Records replies."""

    def __init__(self, messages: "MessagesServiceAsyncStub", tokens: ServiceTokens) -> None:
        """Takes the messages service, and what proves to it who we are and for whom we act."""
        self._messages = messages
        self._tokens = tokens

    async def record(
        self, place: Place, text: GrowingText, *, model: str, begun: Callable[[], None]
    ) -> None:
        """Stores a text as it grows, until it is whole.

        `begun` is called once the message is in the conversation. Whoever cancels this
        leaves the message as it is: it is interrupted then.

        Raises:
            WrittenElsewhereError: another process writes this message, or wrote it.
            Refusal: the message cannot be written, or not any more.
        """
        recording = _Recording(self, place, text, model, begun)
        while True:
            try:
                return await recording.go_on()
            except Refusal as refusal:
                await recording.recover(refusal)

    def call(self, person: UUID) -> "aio.StreamUnaryCall[Any, Any]":
        """A call that writes a message to a person."""
        return self._messages.StreamMessage(metadata=as_service(self._tokens, acting_for=person))


class _Recording:
    """A message as it is being written, by one call after another."""

    def __init__(
        self,
        recorder: Recorder,
        place: Place,
        text: GrowingText,
        model: str,
        begun: Callable[[], None],
    ) -> None:
        self._recorder = recorder
        self._place = place
        self._text = text
        self._model = model
        self._tell_begun = begun
        self._begun = False
        self._length = 0
        """How many characters are stored, as far as is known."""
        self._pause = _AGAIN_SECONDS
        self._patience_ends = _now() + _PATIENCE_SECONDS

    async def go_on(self) -> None:
        """Writes what is left, by one call.

        Raises:
            Refusal: the messages service's, or DEPENDENCY_UNAVAILABLE when it is not there.
        """
        call = self._recorder.call(self._place.person)
        writing: asyncio.Task[None] | None = None
        try:
            await call.write(StreamMessageRequest(header=self._header()))
            if _LENGTH in dict(await call.initial_metadata()):
                self._note_begun()
                writing = asyncio.create_task(self._write(call), name="reply is written")
            await call
        except aio.AioRpcError as error:
            raise refusal_of_peer(error) from None
        finally:
            call.cancel()
            if writing is not None:
                writing.cancel()
                await asyncio.wait([writing])
                # A write fails of what has ended the call, which is told above.
                _ = writing.cancelled() or writing.exception()

    async def recover(self, refusal: Refusal) -> None:
        """Waits until the message may be taken up again, and finds out where.

        Raises:
            WrittenElsewhereError: another process has written text into it.
            Refusal: the one given, when there is nothing to wait for.
        """
        if refusal.reason == Reason.REASON_OFFSET_WRONG:
            if not self._begun:
                raise WrittenElsewhereError
            self._length = int(refusal.metadata["length"])
            return
        if refusal.reason not in _PASSING or _now() > self._patience_ends:
            raise refusal
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, _SLOWEST_AGAIN_SECONDS)

    def _header(self) -> StreamMessageHeader:
        return StreamMessageHeader(
            session_id=self._place.session_id,
            message_id=self._place.message_id,
            model=self._model,
            offset=self._length,
            after_sequence=self._place.after_sequence,
        )

    def _note_begun(self) -> None:
        self._pause = _AGAIN_SECONDS
        self._patience_ends = _now() + _PATIENCE_SECONDS
        if not self._begun:
            self._begun = True
            self._tell_begun()

    async def _write(self, call: "aio.StreamUnaryCall[Any, Any]") -> None:
        async for piece in self._text.after(self._length):
            await call.write(StreamMessageRequest(text=piece))
        await call.done_writing()


def _now() -> float:
    return asyncio.get_running_loop().time()
