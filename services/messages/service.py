"""The methods of MessagesService."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import assert_never
from uuid import UUID, uuid4

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.feed.v1.feed_pb2 import Current, Heartbeat, Reset
from inglenook.messages.v1 import messages_pb2
from inglenook.messages.v1.messages_pb2 import MessageChange, Role

from services.messages.body import body_of
from services.messages.conversations import Conversations
from services.messages.store import Conversation
from services.runtime.cursors import CursorError, Cursors
from services.runtime.errors import Refusal
from services.runtime.feed import Batch, Feeds, Frame, Signal
from services.runtime.identity import caller, person
from services.runtime.pages import page_limit, page_start
from services.runtime.wakeups import Wakeups


class Messages:
    """The messages of a person's own sessions."""

    def __init__(
        self, conversations: Conversations, feeds: Feeds, wakeups: Wakeups, cursors: Cursors
    ) -> None:
        """Takes where messages are, who follows them here and elsewhere, and what makes tokens."""
        self._conversations = conversations
        self._feeds = feeds
        self._wakeups = wakeups
        self._cursors = cursors

    async def AppendMessage(
        self, request: messages_pb2.AppendMessageRequest, _context: object
    ) -> messages_pb2.AppendMessageResponse:
        """Adds a message at the end of a session."""
        role = request.role or Role.ROLE_USER
        if caller().service is None and role != Role.ROLE_USER:
            raise _role_denied()
        conversation = _conversation(request.session_id)
        message_id = UUID(request.message_id) if request.message_id else uuid4()
        body = body_of(request)
        message = await self._conversations.append(conversation, message_id, role=role, body=body)
        self._feeds.wake(conversation.feed)
        self._wakeups.send(conversation.feed)
        return messages_pb2.AppendMessageResponse(message=message)

    async def GetMessage(
        self, request: messages_pb2.GetMessageRequest, _context: object
    ) -> messages_pb2.GetMessageResponse:
        """One message."""
        conversation = _conversation(request.session_id)
        message = await self._conversations.get(conversation, UUID(request.message_id))
        return messages_pb2.GetMessageResponse(message=message)

    async def ListMessages(
        self, request: messages_pb2.ListMessagesRequest, _context: object
    ) -> messages_pb2.ListMessagesResponse:
        """A page of a session's messages."""
        conversation = _conversation(request.session_id)
        purpose = ("messages.list", conversation.feed)
        before = page_start(self._cursors, purpose, request.page_token)
        messages = await self._conversations.older(
            conversation, before=before, limit=page_limit(request.page_size)
        )
        # Sequences are dense from 1: below the first there is nothing.
        more = bool(messages) and messages[-1].sequence > 1
        return messages_pb2.ListMessagesResponse(
            messages=messages,
            next_page_token=self._cursors.make(purpose, messages[-1].sequence) if more else "",
        )

    async def WatchMessages(
        self, request: messages_pb2.WatchMessagesRequest, _context: object
    ) -> AsyncIterator[messages_pb2.WatchMessagesResponse]:
        """A session's messages, live."""
        conversation = _conversation(request.session_id)
        purpose = ("messages.watch", conversation.feed)
        resumed = self._resumed_revision(purpose, request.resume_token)

        async def start() -> tuple[bool, Batch[MessageChange]]:
            newest = page_limit(request.newest)
            if resumed is None:
                return False, await self._conversations.snapshot(conversation, newest)
            if await self._conversations.revision(conversation) < resumed:
                return True, await self._conversations.snapshot(conversation, newest)
            return False, await self._conversations.changes(conversation, resumed)

        async def after(revision: int) -> Batch[MessageChange]:
            return await self._conversations.changes(conversation, revision)

        frames = self._feeds.follow(conversation.feed, start=start, after=after)
        async with aclosing(frames):
            async for frame in frames:
                yield _response(frame, self._cursors.make(purpose, frame.revision))

    def _resumed_revision(self, purpose: tuple[str, ...], token: str) -> int | None:
        if not token:
            return None
        try:
            (revision,) = self._cursors.read(purpose, token)
        except (CursorError, ValueError):
            raise _resume_token_invalid() from None
        return revision


def _conversation(session_id: str) -> Conversation:
    return Conversation(UUID(session_id), person())


def _response(frame: Frame[MessageChange], token: str) -> messages_pb2.WatchMessagesResponse:
    response = messages_pb2.WatchMessagesResponse(resume_token=token, changes=frame.changes)
    match frame.signal:
        case Signal.CURRENT:
            response.current.CopyFrom(Current())
        case Signal.HEARTBEAT:
            response.heartbeat.CopyFrom(Heartbeat())
        case Signal.RESET:
            response.reset.CopyFrom(Reset())
        case None:
            pass
        case _:
            assert_never(frame.signal)
    return response


def _role_denied() -> Refusal:
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.REASON_ROLE_DENIED,
        "With a person's token, only messages of ROLE_USER can be written.",
    )


def _resume_token_invalid() -> Refusal:
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.REASON_RESUME_TOKEN_INVALID,
        "The resume token does not belong to this feed. Watch again without it.",
    )
