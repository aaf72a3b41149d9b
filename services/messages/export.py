"""ExportMessages: all that a person's conversations hold, one after the other.

A frame is a page of rows. The next page is read when the client has taken the frame, so a slow
client slows its export down, and an export of any length holds one page in memory. A resume token
holds a place and how many messages were given up to there, so that the end counts them all.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1.messages_pb2 import (
    ExportEnd,
    ExportMessagesRequest,
    ExportMessagesResponse,
    Message,
)

from services.messages.body import message_of
from services.messages.conversations import Conversations
from services.messages.reading import Walk, body_unless_gone
from services.messages.scans import THE_BEGINNING, MessageScans, Numbers, ScannedRow, Spot
from services.messages.slices import Slices
from services.messages.tables import Conversation
from services.runtime.cursors import CursorError, Cursors
from services.runtime.errors import Refusal, server_stopping
from services.runtime.identity import person

# Tokens of exports that counted nothing were made for another one.
_PURPOSE = "messages.counted-export"


class Exports:
    """The exports of a process."""

    def __init__(
        self,
        scans: MessageScans,
        conversations: Conversations,
        cursors: Cursors,
        *,
        turn: asyncio.Lock,
    ) -> None:
        """Takes what reads rows, what opens them, and what makes resume tokens.

        `turn` is held while a page is read: whoever reads much in this process takes it.
        """
        self._scans = scans
        self._conversations = conversations
        self._cursors = cursors
        self._turn = turn
        self._stopping = False

    def stop(self) -> None:
        """Ends every export after its frame: its token resumes it at another process."""
        self._stopping = True

    async def frames(
        self, request: ExportMessagesRequest
    ) -> AsyncGenerator[ExportMessagesResponse, None]:
        """The messages, a page in each frame, and the end in the last one.

        Raises:
            Refusal: SESSION_NOT_FOUND or RESUME_TOKEN_INVALID; SERVER_STOPPING when this process
                stops before the end.
            UnreadableError: a message does not open.
        """
        walk = self._walk(request)
        given, place = self._resumed(walk, request.resume_token)
        if request.session_id:
            await self._conversations.revision(Conversation(UUID(request.session_id), person()))
        while True:
            async with self._turn:
                rows = await walk.page(place)
                messages = await self._messages(rows)
            if not rows:
                break
            given, place = given + len(messages), walk.place(rows[-1])
            if messages:
                token = self._cursors.make(walk.purpose, given, *place)
                yield ExportMessagesResponse(messages=messages, resume_token=token)
            if self._stopping:
                raise server_stopping()
        token = self._cursors.make(walk.purpose, given, *place)
        yield ExportMessagesResponse(end=ExportEnd(messages=given), resume_token=token)

    async def _messages(self, rows: Sequence[ScannedRow]) -> list[Message]:
        messages = []
        with Slices() as slices:
            for row in rows:
                conversation = Conversation(row.session_id, person())
                body = await body_unless_gone(self._conversations, conversation, row)
                if body is not None:
                    messages.append(message_of(conversation, row, body))
                await slices.pause_if_due()
        return messages

    def _walk(self, request: ExportMessagesRequest) -> Walk:
        exporting = person()
        if not request.session_id:
            return Walk(
                purpose=(_PURPOSE, str(exporting)),
                start=THE_BEGINNING.numbers,
                page=lambda numbers: self._scans.later(exporting, Spot.of(numbers)),
                place=lambda row: row.spot.numbers,
            )
        conversation = Conversation(UUID(request.session_id), exporting)
        return Walk(
            purpose=(_PURPOSE, conversation.feed),
            start=(0,),
            page=lambda numbers: self._scans.later_in(conversation, numbers[0]),
            place=lambda row: (row.sequence,),
        )

    def _resumed(self, walk: Walk, token: str) -> tuple[int, Numbers]:
        """How many messages were given, and the place that they end at."""
        if not token:
            return 0, walk.start
        try:
            given, *place = self._cursors.read(walk.purpose, token)
        except CursorError:
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                Reason.REASON_RESUME_TOKEN_INVALID,
                "The resume token does not belong to this export. Export again without it.",
            ) from None
        return given, tuple(place)
