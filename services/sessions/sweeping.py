"""Deleting what is due: one process of the service looks now and then, and deletes bit by bit.

What this service knows of a session's activity was told to it, and may be late. So the messages
service is asked before anything is deleted, and what it says is in use stays. Something that is
said between its answer and the deletion goes with the rest, as with a deletion by the owner.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from grpc import aio
from inglenook.messages.v1.messages_pb2 import (
    ConversationName,
    ConversationStanding,
    DescribeConversationsRequest,
)

from services.runtime.background import ended
from services.runtime.database import Database
from services.runtime.leadership import lead
from services.runtime.peers import TIMEOUT
from services.sessions.metrics import EXPIRED
from services.sessions.retention import DueRow, Retention
from services.sessions.store import SessionRow

if TYPE_CHECKING:
    from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceAsyncStub

_log = logging.getLogger(__name__)

_AT_ONCE = 200
_AFTER_A_FAILURE_SECONDS = 60.0


class Sweeper:
    """Deletes what is due, for as long as this process leads: `async with Sweeper(…)`."""

    def __init__(
        self,
        database: Database,
        retention: Retention,
        messages: "MessagesServiceAsyncStub",
        credentials: Callable[[], aio.Metadata],
        deleted: Callable[[SessionRow], None],
        *,
        interval: float,
    ) -> None:
        """Takes what finds and deletes, whom to ask before, and what proves who asks.

        `deleted` is called with each session that was deleted; `interval` is in seconds.
        """
        self._database = database
        self._retention = retention
        self._messages = messages
        self._credentials = credentials
        self._deleted = deleted
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Sweeper":
        self._task = asyncio.create_task(
            lead(self._database, "sessions retention", self._sweep_again_and_again),
            name="retention",
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            await ended(self._task)

    async def _sweep_again_and_again(self) -> None:
        while True:
            pause = self._interval
            try:
                await self._sweep()
            except Exception:  # noqa: BLE001 - whatever it is, it must be tried again
                _log.warning("what is due cannot be deleted; trying again", exc_info=True)
                pause = min(pause, _AFTER_A_FAILURE_SECONDS)
            await asyncio.sleep(pause)

    async def _sweep(self) -> None:
        """Deletes everything that is due, once.

        Raises:
            AioRpcError: the messages service does not answer.
            psycopg.Error, PoolTimeout, PoolClosed: the database does not.
        """
        count = 0
        async for due in self._due():
            for row in await self._unused(due):
                deleted = await self._retention.delete(row)
                if deleted is not None:
                    self._deleted(deleted)
                    EXPIRED.inc()
                    count += 1
        if count:
            _log.info(
                "sessions were deleted that were kept for long enough", extra={"count": count}
            )

    async def _due(self) -> AsyncIterator[Sequence[DueRow]]:
        for find in (self._retention.due_by_server, self._retention.due_by_own):
            page = await find(limit=_AT_ONCE)
            while page:
                yield page
                page = await find(page[-1], limit=_AT_ONCE)

    async def _unused(self, due: Sequence[DueRow]) -> list[DueRow]:
        """Those in which nothing happened of which this service was not told."""
        names = [
            ConversationName(user_id=str(row.user_id), session_id=str(row.session_id))
            for row in due
        ]
        request = DescribeConversationsRequest(conversations=names)
        answer = await self._messages.DescribeConversations(
            request, timeout=TIMEOUT, metadata=self._credentials()
        )
        standings = zip(due, answer.conversations, strict=True)
        return [row for row, standing in standings if not _is_used(row, standing)]


def _is_used(row: DueRow, standing: ConversationStanding) -> bool:
    last = standing.last_activity_time.ToDatetime(tzinfo=UTC)
    is_later = standing.HasField("last_activity_time") and last > row.last_activity_time
    return is_later or not standing.settled
