"""StreamMessage: a message that grows while somebody generates it.

Text is written as it comes, gathered for a tenth of a second at a time, so it is on disk and with
the watchers before the sentence is finished. A message has one writer, a call, which holds a lease
of it (`leases.py`). Whoever vanishes without ending it has it interrupted (`interruption.py`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1.messages_pb2 import (
    Message,
    MessageChange,
    MessageState,
    Role,
    StreamMessageHeader,
    StreamMessageRequest,
)

from services.messages.body import body_alone, body_of, message_of, place_of, sealable
from services.messages.conversations import Conversations, message_not_found
from services.messages.growth import GrowthStore
from services.messages.leases import Lease, Leases
from services.messages.parts import Growth
from services.messages.quota import Quota
from services.messages.store import MessageStore
from services.messages.tables import Conversation, MessageRow
from services.messages.writer import Writer
from services.runtime.encryption.envelope import OVERHEAD_BYTES
from services.runtime.errors import (
    FieldViolation,
    Refusal,
    id_reused,
    request_invalid,
    server_stopping,
)
from services.runtime.identity import caller, person

_FLUSH_SECONDS = 0.1
_MAXIMUM_CHARACTERS = 50_000


@dataclass(slots=True)
class _Reply:
    """A growing message, as its writer knows it."""

    lease: Lease
    body: Message = field(repr=False)
    """Its model, its metadata, and the content that was stored when this call took it up."""
    length: int
    """How many characters are stored."""
    added: list[str] = field(default_factory=list, repr=False)
    """What this call has stored."""
    pending: list[str] = field(default_factory=list, repr=False)
    """What is not stored yet."""
    pending_length: int = 0
    is_whole: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no more text will come."""

    @property
    def conversation(self) -> Conversation:
        return self.lease.conversation

    @property
    def message_id(self) -> UUID:
        return self.lease.message_id


class GrowingMessages:
    """The growing messages of a process."""

    def __init__(
        self,
        conversations: Conversations,
        store: MessageStore,
        growth: GrowthStore,
        writer: Writer,
        leases: Leases,
        *,
        quota: Quota,
    ) -> None:
        """Takes what opens and seals, reads, changes and writes messages, and keeps leases.

        `quota` says whether a person may keep more.
        """
        self._conversations = conversations
        self._store = store
        self._growth = growth
        self._writer = writer
        self._leases = leases
        self._quota = quota
        self._calls: set[asyncio.Task[object]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Ends every call: its writer takes its message up at another process."""
        self._stopping = True
        for call in self._calls:
            call.cancel()

    async def receive(
        self,
        requests: AsyncIterator[StreamMessageRequest],
        begun: Callable[[int], Awaitable[None]],
    ) -> Message:
        """Stores a message as it comes, and completes it when no more does.

        `begun` is called with the stored length once the message has begun or was taken up.

        Raises:
            Refusal: as the contract says of StreamMessage.
        """
        if self._stopping:
            raise server_stopping()
        call = _this_call()
        self._calls.add(call)
        try:
            return await self._receive(requests, begun)
        except asyncio.CancelledError:
            if self._stopping:
                raise server_stopping() from None
            raise
        finally:
            self._calls.discard(call)

    async def _receive(
        self,
        requests: AsyncIterator[StreamMessageRequest],
        begun: Callable[[int], Awaitable[None]],
    ) -> Message:
        header = await _header(requests)
        taken_up = await self._take_up(header)
        if isinstance(taken_up, Message):
            async for _ in requests:
                raise id_reused("message")
            return taken_up
        reply = taken_up
        self._leases.hold(reply.lease)
        try:
            await begun(reply.length)
            await self._fill(reply, requests)
            message = await self._complete(reply)
        except BaseException as error:
            self._leases.let_go(reply.lease)
            if reply.lease.lost and isinstance(error, asyncio.CancelledError):
                raise await self._replaced(reply) from None
            raise
        self._leases.drop(reply.lease)
        return message

    async def _take_up(self, header: StreamMessageHeader) -> "_Reply | Message":
        """Becomes the writer of a message, new or there already; or gives it if it is complete."""
        while True:
            begun = None if header.offset else await self._begin(header)
            taken_up = begun or await self._go_on(header)
            if taken_up is not None:
                return taken_up

    async def _begin(self, header: StreamMessageHeader) -> "_Reply | None":
        """Adds the message; None when there is one or a later one, or its conversation is new."""
        conversation, message_id = _named(header)
        body = body_of(header)
        if not await self._quota.admits(conversation.user_id, len(body) + OVERHEAD_BYTES):
            if await self._store.get(conversation, message_id) is None:
                raise self._quota.exceeded()
            return None
        keyring = await self._conversations.keyring(conversation)
        writer = uuid4()
        row = await self._growth.begin(
            conversation,
            message_id,
            role=_role(header),
            body=keyring.seal(body, place_of(conversation, message_id)),
            writer=writer,
            service=_service(),
            after=header.after_sequence,
        )
        if row is None:
            return None
        lease = Lease(conversation, message_id, writer, _this_call(), row.revision)
        return self._announced(_Reply(lease, Message.FromString(body), 0), row)

    async def _go_on(self, header: StreamMessageHeader) -> "_Reply | Message | None":
        """Takes up the message that is there; None when that has to be tried again."""
        conversation, message_id = _named(header)
        seen = await self._store.get(conversation, message_id)
        if seen is None:
            await self._conversations.begin(conversation)
            if header.offset:
                raise _offset_wrong(0)
            if header.after_sequence:
                await self._require_newest(conversation, header.after_sequence)
            return None
        if seen.body is None:
            raise message_not_found()
        _check_may_be_taken_up(seen, header)
        held = await self._conversations.message(conversation, seen)
        if seen.length is None:
            # If it is complete, whoever completed it may not have heard, and may know of no length.
            known = header.offset or seen.writer_service == _service()
            if not known or seen.state != MessageState.MESSAGE_STATE_COMPLETE:
                raise id_reused("message")
            if len(held.content) != header.offset:
                raise _offset_wrong(len(held.content))
            return held
        if seen.length != header.offset:
            raise _offset_wrong(seen.length)
        writer = uuid4()
        row = await self._growth.take_up(
            conversation,
            message_id,
            length=seen.length,
            writer=writer,
            service=_service(),
        )
        if row is None:
            return None
        lease = Lease(conversation, message_id, writer, _this_call(), row.revision)
        return self._announced(_Reply(lease, body_alone(held), seen.length), row)

    async def _require_newest(self, conversation: Conversation, sequence: int) -> None:
        """Makes sure that nothing was said after a message.

        Raises:
            Refusal: MORE_WAS_SAID.
        """
        rows, _ = await self._store.newest(conversation, limit=1)
        if rows and rows[0].sequence > sequence:
            raise _more_was_said(rows[0].sequence)

    async def _fill(self, reply: _Reply, requests: AsyncIterator[StreamMessageRequest]) -> None:
        """Stores the text that comes, until no more does."""
        flush: asyncio.Task[None] | None = None
        try:
            async for request in requests:
                if not request.text:
                    raise request_invalid(
                        [FieldViolation("header", "must be in the first request only", "header")]
                    )
                if reply.length + reply.pending_length + len(request.text) > _MAXIMUM_CHARACTERS:
                    description = f"must be at most {_MAXIMUM_CHARACTERS} characters in all"
                    raise request_invalid([FieldViolation("text", description, "text.max_len")])
                reply.pending.append(request.text)
                reply.pending_length += len(request.text)
                if flush is None or flush.done():
                    if flush is not None:
                        flush.result()
                    flush = asyncio.create_task(self._flush_in_steps(reply), name="flush")
            reply.is_whole.set()
            if flush is not None:
                await flush
        finally:
            if flush is not None:
                flush.cancel()
                await asyncio.wait([flush])
                # What it failed of is told already, by whatever ends this.
                _ = flush.cancelled() or flush.exception()

    async def _flush_in_steps(self, reply: _Reply) -> None:
        """Stores what is pending, and goes on for as long as more came meanwhile.

        What is pending when the message is whole is stored with the whole.
        """
        while reply.pending and not reply.is_whole.is_set():
            await self._flush(reply)
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await reply.is_whole.wait()

    async def _flush(self, reply: _Reply) -> None:
        text = "".join(reply.pending)
        reply.pending.clear()
        reply.pending_length = 0
        place = place_of(reply.conversation, reply.message_id, part=reply.length)
        keyring = await self._conversations.keyring(reply.conversation)
        growth = Growth(
            conversation=reply.conversation,
            message_id=reply.message_id,
            writer=reply.lease.writer,
            first=reply.length,
            body=keyring.seal(text.encode(), place),
            text=text,
            stored=asyncio.get_running_loop().create_future(),
        )
        # Counted before it is written: whatever is read meanwhile must not go past the bound.
        reply.length += len(text)
        reply.added.append(text)
        await self._quota.make_sure(reply.conversation.user_id, len(growth.body))
        grown = await self._writer.grow(growth)
        if grown is None:
            raise await self._replaced(reply)
        reply.lease.revision = grown.revision

    async def _complete(self, reply: _Reply) -> Message:
        body = reply.body
        body.content += "".join([*reply.added, *reply.pending])
        if not body.content:
            description = "must bring text before the stream is half-closed"
            raise request_invalid([FieldViolation("text", description, "text.required")])
        if reply.pending:
            pending = sum(len(text.encode()) for text in reply.pending)
            await self._quota.make_sure(reply.conversation.user_id, pending)
        sealed = sealable(body)
        keyring = await self._conversations.keyring(reply.conversation)
        reply.lease.ends = True
        row = await self._growth.end(
            reply.conversation,
            reply.message_id,
            length=reply.length,
            body=keyring.seal(sealed, place_of(reply.conversation, reply.message_id)),
            state=MessageState.MESSAGE_STATE_COMPLETE,
            writer=reply.lease.writer,
        )
        if row is None:
            raise await self._replaced(reply)
        message = message_of(reply.conversation, row, sealed)
        change = MessageChange(upserted=message)
        self._conversations.changed(reply.conversation, change, row.revision)
        return message

    def _announced(self, reply: _Reply, row: MessageRow) -> _Reply:
        message = message_of(reply.conversation, row, sealable(reply.body))
        change = MessageChange(upserted=message)
        self._conversations.changed(reply.conversation, change, row.revision)
        return reply

    async def _replaced(self, reply: _Reply) -> Refusal:
        """Why a message cannot be written by this call any more."""
        row = await self._store.get(reply.conversation, reply.message_id)
        if row is None or row.body is None:
            await self._conversations.revision(reply.conversation)
            return message_not_found()
        if row.state == MessageState.MESSAGE_STATE_STOPPED:
            return _message_stopped()
        return Refusal(
            grpc.StatusCode.ABORTED,
            Reason.REASON_WRITER_REPLACED,
            "Another call writes this message now.",
        )


def _named(header: StreamMessageHeader) -> tuple[Conversation, UUID]:
    return Conversation(UUID(header.session_id), person()), UUID(header.message_id)


def _this_call() -> "asyncio.Task[object]":
    call = asyncio.current_task()
    if call is None:
        raise RuntimeError("messages are received by a task")
    return call


def _check_may_be_taken_up(seen: MessageRow, header: StreamMessageHeader) -> None:
    """Makes sure that a message is, but for its length, what a header says.

    Raises:
        Refusal: ID_REUSED or MESSAGE_STOPPED.
    """
    is_complete = seen.state == MessageState.MESSAGE_STATE_COMPLETE
    if seen.role != _role(header) or not (is_complete or seen.writer_service == _service()):
        raise id_reused("message")
    if seen.state == MessageState.MESSAGE_STATE_STOPPED:
        raise _message_stopped()


def _role(header: StreamMessageHeader) -> int:
    return header.role or Role.ROLE_ASSISTANT


def _service() -> str:
    return caller().service or ""


async def _header(requests: AsyncIterator[StreamMessageRequest]) -> StreamMessageHeader:
    async for request in requests:
        if request.HasField("header"):
            return request.header
        break
    raise request_invalid([FieldViolation("header", "must be in the first request", "header")])


def _offset_wrong(length: int) -> Refusal:
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.REASON_OFFSET_WRONG,
        "The message has another length. Go on from the length given.",
        metadata={"length": str(length)},
    )


def _more_was_said(sequence: int) -> Refusal:
    return Refusal(
        grpc.StatusCode.ABORTED,
        Reason.REASON_MORE_WAS_SAID,
        "More was said meanwhile. Read it and decide again.",
        metadata={"sequence": str(sequence)},
    )


def _message_stopped() -> Refusal:
    return Refusal(
        grpc.StatusCode.ABORTED,
        Reason.REASON_MESSAGE_STOPPED,
        "The person stopped this message. Write no more of it.",
    )
