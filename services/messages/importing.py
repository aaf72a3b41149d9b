"""ImportMessages: messages from elsewhere, at the end of their sessions, in the order they come."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook.messages.v1.messages_pb2 import (
    ImportMessagesRequest,
    ImportMessagesResponse,
    Message,
    MessageState,
)

from services.messages.appender import Addition, Appender, Said
from services.messages.body import body_of
from services.messages.tables import Conversation
from services.runtime.errors import Refusal
from services.runtime.identity import person

_NAMED_CONFLICTS = 100
# An import gives way to people: it waits for its turn for so long before it gives up.
_BUSY_TRIES = 40
_BUSY_SECONDS = 0.25


class Importer:
    """Brings messages in."""

    def __init__(self, appender: Appender) -> None:
        """Takes what adds messages."""
        self._appender = appender

    async def bring_in(
        self, requests: AsyncIterator[ImportMessagesRequest]
    ) -> ImportMessagesResponse:
        """Adds what comes, and counts what became of it. One request is held at a time.

        Raises:
            Refusal: SESSION_NOT_FOUND, REQUEST_INVALID, SERVER_BUSY when it stays so, or
                EXPORT_INCOMPLETE.
        """
        counts = ImportMessagesResponse()
        wholeness = _Wholeness()
        async for request in requests:
            wholeness.note(request)
            said = [_said(message) for message in request.messages]
            additions = await self._add(said)
            for one, addition in zip(said, additions, strict=True):
                await self._count(counts, one, addition)
        wholeness.check()
        return counts

    async def _add(self, said: Sequence[Said]) -> Sequence[Addition]:
        tries = 0
        while True:
            try:
                return await self._appender.add(said) if said else []
            except Refusal as refusal:
                tries += 1
                if refusal.reason != Reason.REASON_SERVER_BUSY or tries == _BUSY_TRIES:
                    raise
                await asyncio.sleep(_BUSY_SECONDS)

    async def _count(self, counts: ImportMessagesResponse, said: Said, addition: Addition) -> None:
        if addition.is_new:
            counts.imported += 1
        elif await self._appender.is_repeated(said, addition.row):
            counts.present += 1
        else:
            counts.conflicting += 1
            if counts.conflicting <= _NAMED_CONFLICTS:
                counts.conflicting_message_ids.append(str(said.message_id))


class _Wholeness:
    """Whether what came is a whole export, for whoever wants no less."""

    def __init__(self) -> None:
        self._is_asked_for = False
        self._came = 0
        self._given: int | None = None

    def note(self, request: ImportMessagesRequest) -> None:
        self._is_asked_for |= request.whole
        self._came += len(request.messages)
        if request.HasField("end"):
            self._given = request.end.messages

    def check(self) -> None:
        if not self._is_asked_for:
            return
        if self._given is None:
            raise _export_incomplete("its end did not come")
        # More is no harm: what an export that was resumed gave twice is there once.
        if self._came < self._given:
            raise _export_incomplete(f"{self._came} of its {self._given} messages came")


def _export_incomplete(what: str) -> Refusal:
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.REASON_EXPORT_INCOMPLETE,
        f"This is not a whole export: {what}. Export again and repeat it.",
    )


def _said(message: Message) -> Said:
    now = datetime.now(UTC)
    create_time = _time(message.create_time, message.HasField("create_time"), now)
    update_time = _time(message.update_time, message.HasField("update_time"), now)
    return Said(
        conversation=Conversation(UUID(message.session_id), person()),
        message_id=UUID(message.message_id),
        role=message.role,
        body=body_of(message),
        create_time=create_time,
        update_time=max(create_time, update_time) if create_time and update_time else create_time,
        imported=True,
        state=message.state or MessageState.MESSAGE_STATE_COMPLETE,
    )


def _time(timestamp: Timestamp, is_set: bool, now: datetime) -> datetime | None:
    """A time that came with a message; None when it came with none, or one that lies ahead."""
    if not is_set:
        return None
    time = timestamp.ToDatetime(tzinfo=UTC)
    return time if time <= now else None
