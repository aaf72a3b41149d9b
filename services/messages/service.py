"""The methods of MessagesService."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC
from uuid import UUID, uuid4

import grpc
from grpc import aio
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1 import messages_pb2
from inglenook.messages.v1.messages_pb2 import Order, Role

from services.messages.appender import Appender, Said
from services.messages.body import body_of
from services.messages.changes import changed_body
from services.messages.conversations import Conversations
from services.messages.erasing import Erasing
from services.messages.export import Exports
from services.messages.holds import LegalHolds
from services.messages.importing import Importer
from services.messages.live import watched
from services.messages.quota import Quota
from services.messages.search import Searches
from services.messages.standing import StandingRow
from services.messages.stopping import Stopping
from services.messages.streaming import GrowingMessages
from services.messages.tables import Conversation
from services.runtime.audit.listing import AccessListing
from services.runtime.cursors import Cursors
from services.runtime.errors import Refusal
from services.runtime.etags import expected_revision
from services.runtime.identity import caller, person
from services.runtime.locking import Locks
from services.runtime.pages import page_limit, page_start
from services.runtime.streams import Streams
from services.runtime.timestamps import timestamp_of
from services.runtime.watch import Watches

_LENGTH = "x-stored-length"


class Messages:
    """The messages of a person's own sessions."""

    def __init__(
        self,
        *,
        conversations: Conversations,
        appender: Appender,
        growing: GrowingMessages,
        quota: Quota,
        stopping: Stopping,
        searches: Searches,
        exports: Exports,
        erasing: Erasing,
        watches: Watches,
        streams: Streams,
        locks: Locks,
        standings: Callable[[Sequence[Conversation]], Awaitable[Sequence[StandingRow]]],
        holds: LegalHolds,
        cursors: Cursors,
        access_listing: AccessListing,
    ) -> None:
        """Takes what does each part of the work."""
        self._access_listing = access_listing
        self._locks = locks
        self._streams = streams
        self._standings = standings
        self._holds = holds
        self._conversations = conversations
        self._appender = appender
        self._growing = growing
        self._quota = quota
        self._stopping = stopping
        self._importer = Importer(appender)
        self._searches = searches
        self._exports = exports
        self._erasing = erasing
        self._watches = watches
        self._cursors = cursors

    async def AppendMessage(
        self, request: messages_pb2.AppendMessageRequest, _context: object
    ) -> messages_pb2.AppendMessageResponse:
        """Adds a message at the end of a session."""
        role = request.role or Role.ROLE_USER
        _check_role(role)
        said = Said(
            conversation=_conversation(request.session_id),
            message_id=UUID(request.message_id) if request.message_id else uuid4(),
            role=role,
            body=body_of(request),
        )
        message = await self._appender.append(said)
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
        newest_first = request.order != Order.ORDER_OLDEST_FIRST
        purpose = ("messages.list", conversation.feed, "down" if newest_first else "up")
        start = page_start(self._cursors, purpose, request.page_token)
        messages, following = await self._conversations.page(
            conversation,
            newest_first=newest_first,
            first=request.from_sequence if start is None else start,
            limit=page_limit(request.page_size),
        )
        token = "" if following is None else self._cursors.make(purpose, following)
        return messages_pb2.ListMessagesResponse(messages=messages, next_page_token=token)

    async def UpdateMessage(
        self, request: messages_pb2.UpdateMessageRequest, _context: object
    ) -> messages_pb2.UpdateMessageResponse:
        """Changes a message."""

        async def change(body: bytes) -> bytes:
            changed = changed_body(body, request)
            if len(changed) > len(body):
                await self._quota.make_sure(person(), len(changed) - len(body))
            return changed

        message = await self._conversations.change(
            _conversation(request.session_id),
            UUID(request.message_id),
            expected=expected_revision(request.etag),
            allow=lambda row: _check_role(row.role),
            change=change,
        )
        return messages_pb2.UpdateMessageResponse(message=message)

    async def DeleteMessage(
        self, request: messages_pb2.DeleteMessageRequest, _context: object
    ) -> messages_pb2.DeleteMessageResponse:
        """Deletes a message."""
        await self._conversations.delete(
            _conversation(request.session_id),
            UUID(request.message_id),
            expected=expected_revision(request.etag),
        )
        return messages_pb2.DeleteMessageResponse()

    async def ImportMessages(
        self, requests: AsyncIterator[messages_pb2.ImportMessagesRequest], _context: object
    ) -> messages_pb2.ImportMessagesResponse:
        """Brings messages from elsewhere into the caller's sessions."""
        with self._streams.one_more():
            return await self._importer.bring_in(requests)

    async def StreamMessage(
        self,
        requests: AsyncIterator[messages_pb2.StreamMessageRequest],
        context: "aio.ServicerContext[object, object]",
    ) -> messages_pb2.StreamMessageResponse:
        """Adds a message that grows."""
        with self._streams.one_more():
            message = await self._growing.receive(
                requests,
                begun=lambda length: context.send_initial_metadata(((_LENGTH, str(length)),)),
            )
        return messages_pb2.StreamMessageResponse(message=message)

    async def StopMessage(
        self, request: messages_pb2.StopMessageRequest, _context: object
    ) -> messages_pb2.StopMessageResponse:
        """Stops a message that grows."""
        message = await self._stopping.stop(
            _conversation(request.session_id), UUID(request.message_id)
        )
        return messages_pb2.StopMessageResponse(message=message)

    async def SearchMessages(
        self, request: messages_pb2.SearchMessagesRequest, _context: object
    ) -> AsyncIterator[messages_pb2.SearchMessagesResponse]:
        """Finds messages by their words."""
        async with aclosing(self._searches.frames(request)) as frames:
            async for frame in frames:
                yield frame

    async def ExportMessages(
        self, request: messages_pb2.ExportMessagesRequest, _context: object
    ) -> AsyncIterator[messages_pb2.ExportMessagesResponse]:
        """Everything that was said."""
        with self._streams.one_more():
            async with aclosing(self._exports.frames(request)) as frames:
                async for frame in frames:
                    yield frame

    async def GetUsage(
        self, _request: messages_pb2.GetUsageRequest, _context: object
    ) -> messages_pb2.GetUsageResponse:
        """How much the caller keeps."""
        used = await self._quota.used(person())
        return messages_pb2.GetUsageResponse(bytes=used, bytes_limit=self._quota.limit)

    async def DeleteSessionMessages(
        self, request: messages_pb2.DeleteSessionMessagesRequest, _context: object
    ) -> messages_pb2.DeleteSessionMessagesResponse:
        """Destroys everything that was said in a session."""
        conversation = Conversation(UUID(request.session_id), UUID(request.user_id))
        await self._erasing.erase(conversation)
        return messages_pb2.DeleteSessionMessagesResponse()

    async def HoldSession(
        self, request: messages_pb2.HoldSessionRequest, _context: object
    ) -> messages_pb2.HoldSessionResponse:
        """Notes whether a session is under a legal hold."""
        await self._holds.note(
            Conversation(UUID(request.session_id), UUID(request.user_id)),
            held=request.held,
            change_time=request.change_time.ToDatetime(tzinfo=UTC),
        )
        return messages_pb2.HoldSessionResponse()

    async def EraseUser(
        self, request: messages_pb2.EraseUserRequest, _context: object
    ) -> messages_pb2.EraseUserResponse:
        """Erases everything that was said in a person's sessions."""
        erased = await self._erasing.erase_person(UUID(request.user_id))
        return messages_pb2.EraseUserResponse(
            conversations=erased.conversations,
            messages=erased.messages,
            key_ids=map(str, erased.key_ids),
            access_log_entries=erased.access_log_entries,
        )

    async def DescribeConversations(
        self, request: messages_pb2.DescribeConversationsRequest, _context: object
    ) -> messages_pb2.DescribeConversationsResponse:
        """How conversations stand."""
        named = [
            Conversation(UUID(one.session_id), UUID(one.user_id)) for one in request.conversations
        ]
        return messages_pb2.DescribeConversationsResponse(
            conversations=[
                messages_pb2.ConversationStanding(
                    message_count=row.message_count,
                    revision=row.revision,
                    deleted=row.is_deleted,
                    settled=not row.owed,
                    legal_hold=row.is_held,
                    last_activity_time=(
                        None if row.activity_time is None else timestamp_of(row.activity_time)
                    ),
                )
                for row in await self._standings(named)
            ]
        )

    async def ListAccessLog(
        self, request: messages_pb2.ListAccessLogRequest, _context: object
    ) -> messages_pb2.ListAccessLogResponse:
        """What is recorded of those who had to do with a person's data."""
        entries = await self._access_listing.asked(request)
        return messages_pb2.ListAccessLogResponse(entries=entries)

    async def LockUser(
        self, request: messages_pb2.LockUserRequest, _context: object
    ) -> messages_pb2.LockUserResponse:
        """Locks or unlocks a person."""
        await self._locks.note(
            UUID(request.user_id), is_locked=request.locked, revision=request.revision
        )
        return messages_pb2.LockUserResponse()

    async def WatchMessages(
        self, request: messages_pb2.WatchMessagesRequest, _context: object
    ) -> AsyncIterator[bytes]:
        """A session's messages, live."""
        conversation = _conversation(request.session_id)
        feed = watched(self._conversations, conversation, request)
        async with aclosing(self._watches.responses(feed, request)) as responses:
            async for response in responses:
                yield response


def _conversation(session_id: str) -> Conversation:
    return Conversation(UUID(session_id), person())


def _check_role(role: int) -> None:
    """Makes sure that the caller may write messages of a role.

    Raises:
        Refusal: ROLE_DENIED.
    """
    if caller().service is None and role != Role.ROLE_USER:
        raise Refusal(
            grpc.StatusCode.PERMISSION_DENIED,
            Reason.REASON_ROLE_DENIED,
            "With a person's token, only messages of ROLE_USER can be written.",
        )
