"""ListMyAccessLog: the logs of all services as one, newest first."""

from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

from inglenook.audit.v1.audit_pb2 import AccessLogEntry
from inglenook.messages.v1 import messages_pb2
from inglenook.sessions.v1 import sessions_pb2

from services.runtime.audit.listing import AccessListing
from services.runtime.peers import TIMEOUT, answer_of, as_service
from services.runtime.service_tokens import ServiceTokens

if TYPE_CHECKING:
    from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceAsyncStub
    from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceAsyncStub

_NOTHING_LEFT = 1
"""No sequence is before this one."""


class AccessLogs:
    """Lists what all services recorded of a person."""

    def __init__(
        self,
        own: AccessListing,
        sessions: "SessionsServiceAsyncStub",
        messages: "MessagesServiceAsyncStub",
        tokens: ServiceTokens,
    ) -> None:
        """Takes the log of this service, whom else to ask, and what proves who asks."""
        self._own = own
        self._sessions = sessions
        self._messages = messages
        self._tokens = tokens
        self._asked = (self._of_users, self._of_sessions, self._of_messages)

    async def page(
        self, person: UUID, before: Sequence[int] | None, limit: int
    ) -> tuple[list[AccessLogEntry], tuple[int, ...] | None]:
        """A page of entries, and where the next one begins; None when there is none.

        A place is a sequence for each service, before which its entries are; 0 is before none.

        Raises:
            Refusal: DEPENDENCY_UNAVAILABLE.
        """
        places = tuple(before) if before is not None else (0, 0, 0)
        # One more than the page: whether anything is left.
        logs = [
            await ask(person, place, limit + 1) if place != _NOTHING_LEFT else []
            for ask, place in zip(self._asked, places, strict=True)
        ]
        # Times need not grow along a log; the merge keeps each in the order of its sequences.
        newest = merge(*logs, key=lambda entry: entry.time.ToNanoseconds(), reverse=True)
        page = list(islice(newest, limit))
        if sum(map(len, logs)) <= limit:
            return page, None
        return page, tuple(
            _next_place(log, page, place) for log, place in zip(logs, places, strict=True)
        )

    async def _of_users(self, person: UUID, before: int, limit: int) -> Sequence[AccessLogEntry]:
        return await self._own.entries(person, before=before, limit=limit)

    async def _of_sessions(self, person: UUID, before: int, limit: int) -> Sequence[AccessLogEntry]:
        request = sessions_pb2.ListAccessLogRequest(
            user_id=str(person), before_sequence=before, limit=limit
        )
        metadata = as_service(self._tokens)
        asked = self._sessions.ListAccessLog(request, timeout=TIMEOUT, metadata=metadata)
        return (await answer_of(asked)).entries

    async def _of_messages(self, person: UUID, before: int, limit: int) -> Sequence[AccessLogEntry]:
        request = messages_pb2.ListAccessLogRequest(
            user_id=str(person), before_sequence=before, limit=limit
        )
        metadata = as_service(self._tokens)
        asked = self._messages.ListAccessLog(request, timeout=TIMEOUT, metadata=metadata)
        return (await answer_of(asked)).entries


def _next_place(log: Sequence[AccessLogEntry], page: Sequence[AccessLogEntry], place: int) -> int:
    """Where a log goes on after a page: before the oldest of its entries that the page has."""
    if not log:
        return _NOTHING_LEFT
    on_page = [entry.sequence for entry in page if entry.service == log[0].service]
    return on_page[-1] if on_page else place
