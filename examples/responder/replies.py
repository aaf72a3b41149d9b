"""The replies that are under way at a process: let in, generated, stored, and brought to an end."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING
from uuid import UUID

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1.messages_pb2 import GetMessageRequest, ListMessagesRequest, Message, Role

from examples.responder.conversation import reply_under_way, to_be_answered
from examples.responder.growing_text import LONGEST, GrowingText
from examples.responder.recording import Place, Recorder, WrittenElsewhereError
from examples.responder.settings import ResponderSettings
from examples.responder.voices import Voice, VoiceError
from services.runtime.errors import (
    Refusal,
    dependency_unavailable,
    id_reused,
    server_busy,
    server_stopping,
)
from services.runtime.peers import TIMEOUT, answer_of, as_service
from services.runtime.service_tokens import ServiceTokens

if TYPE_CHECKING:
    from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceAsyncStub

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0
_NEWEST = 200


@dataclass(slots=True, eq=False)
class _Reply:
    """A reply under way."""

    place: Place
    begun: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Done when its message is there; fails with the refusal when there will be none."""

    def note_begun(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def refuse(self, refusal: Refusal) -> None:
        if not self.begun.done():
            self.begun.set_exception(refusal)
            # Known, also when whoever asked has left.
            self.begun.exception()


class Replies:
    """Replies to people. Use as `async with`: leaving it lets those under way finish."""

    def __init__(
        self,
        settings: ResponderSettings,
        voice: Voice,
        messages: "MessagesServiceAsyncStub",
        tokens: ServiceTokens,
    ) -> None:
        """Takes who speaks, where conversations are, and what proves to them who we are."""
        self._settings = settings
        self._voice = voice
        self._messages = messages
        self._tokens = tokens
        self._recorder = Recorder(messages, tokens)
        self._turns = asyncio.Semaphore(settings.replies_at_once)
        self._under_way: dict[tuple[UUID, str], _Reply] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def __aenter__(self) -> "Replies":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        """Lets no more begin: another process does."""
        self._stopping = True

    async def begin(self, place: Place) -> None:
        """Begins a reply, or finds that it was begun; it goes on when this returns or is cancelled.

        Raises:
            Refusal: as the contract says of Reply.
        """
        reply = self._under_way.get((place.person, place.session_id))
        if reply is None:
            reply = self._let_in(place)
        elif reply.place != place:
            raise reply_under_way(reply.place.message_id)
        await asyncio.shield(reply.begun)

    def _let_in(self, place: Place) -> _Reply:
        """Starts a reply if there is room for one more.

        Raises:
            Refusal: SERVER_STOPPING, TOO_MANY_REPLIES or SERVER_BUSY.
        """
        if self._stopping:
            raise server_stopping()
        own = sum(person == place.person for person, _ in self._under_way)
        if own >= self._settings.replies_per_person:
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                Reason.REASON_TOO_MANY_REPLIES,
                "Too many replies to you are under way. Wait for one's end, or stop it.",
                retry_after=_RETRY_SECONDS,
            )
        room = self._settings.replies_at_once + self._settings.replies_waiting
        if len(self._under_way) >= room:
            raise server_busy(_RETRY_SECONDS)
        reply = self._under_way[place.person, place.session_id] = _Reply(place)
        task = asyncio.create_task(self._see_through(reply), name="reply")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return reply

    async def _see_through(self, reply: _Reply) -> None:
        """Brings a reply to its end, whichever that is."""
        about = {"session_id": reply.place.session_id, "message_id": reply.place.message_id}
        try:
            await self._reply(reply)
        except Refusal as refusal:
            if reply.begun.done():
                _log.info("a reply ended early", extra={**about, "reason": refusal.reason_name})
            reply.refuse(refusal)
        except WrittenElsewhereError:
            reply.note_begun()
        except VoiceError as error:
            _log.warning("a reply broke off", extra={**about, "reason": str(error)})
        except Exception:  # noqa: BLE001 - one that fails is no reason to fail others
            _log.exception("a reply failed", extra=about)
        finally:
            reply.refuse(dependency_unavailable())
            del self._under_way[reply.place.person, reply.place.session_id]

    async def _reply(self, reply: _Reply) -> None:
        place = reply.place
        while not await self._is_there(place):
            newest_first = await self._newest_first(place)
            conversation = to_be_answered(newest_first)
            following = replace(place, after_sequence=newest_first[0].sequence)
            try:
                await self._write(reply, following, conversation)
            except Refusal as refusal:
                # More since that was read: by another process that replies, or by the person.
                if refusal.reason != Reason.REASON_MORE_WAS_SAID:
                    raise
            else:
                return
        reply.note_begun()

    async def _write(self, reply: _Reply, place: Place, conversation: Sequence[Message]) -> None:
        """Writes a reply to a conversation.

        Raises:
            WrittenElsewhereError: another process writes this message, or wrote it.
            VoiceError: it is not whole.
            Refusal: the message cannot be written, or not any more.
        """
        text, model = GrowingText(), self._voice.model
        has_begun = asyncio.Event()

        def begun() -> None:
            reply.note_begun()
            has_begun.set()

        # When one of them fails, the other is cancelled: nothing is written of what broke off, and
        # nothing is generated for a message that has ended.
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._recorder.record(place, text, model=model, begun=begun))
                await has_begun.wait()
                async with self._turns:
                    await self._speak(text, conversation)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _speak(self, text: GrowingText, conversation: Sequence[Message]) -> None:
        """Generates a reply.

        Raises:
            VoiceError: it is not whole.
        """
        async with self._voice.reply(conversation) as pieces:
            async for piece in pieces:
                if len(text) + len(piece) > LONGEST:
                    raise VoiceError("the reply is longer than a message can be")
                text.add(piece)
        if not len(text):
            raise VoiceError("the reply has no text")
        text.end()

    async def _is_there(self, place: Place) -> bool:
        """Whether the message is in the conversation, begun by an earlier call.

        Raises:
            Refusal: SESSION_NOT_FOUND, or ID_REUSED when it is the person's own.
        """
        request = GetMessageRequest(session_id=place.session_id, message_id=place.message_id)
        try:
            answer = await answer_of(
                self._messages.GetMessage(request, timeout=TIMEOUT, metadata=self._as_us(place))
            )
        except Refusal as refusal:
            if refusal.reason == Reason.REASON_MESSAGE_NOT_FOUND:
                return False
            raise
        if answer.message.role != Role.ROLE_ASSISTANT:
            raise id_reused("message")
        return True

    async def _newest_first(self, place: Place) -> Sequence[Message]:
        request = ListMessagesRequest(session_id=place.session_id, page_size=_NEWEST)
        answer = await answer_of(
            self._messages.ListMessages(request, timeout=TIMEOUT, metadata=self._as_us(place))
        )
        return answer.messages

    def _as_us(self, place: Place) -> grpc.aio.Metadata:
        return as_service(self._tokens, acting_for=place.person)
