"""Asking the sessions service whether sessions are there: what `check` compares pointers with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from inglenook.sessions.v1.sessions_pb2 import DescribeSessionsRequest, SessionName

from services.runtime.peers import TIMEOUT, as_service
from services.runtime.service_tokens import ServiceTokens

if TYPE_CHECKING:
    from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceAsyncStub

AT_ONCE = 500
"""How many sessions can be asked about at once."""


async def gone(
    sessions: "SessionsServiceAsyncStub",
    tokens: ServiceTokens,
    named: Sequence[tuple[UUID, UUID]],
) -> set[tuple[UUID, UUID]]:
    """Which sessions, by person and session, are not there, and everybody was told so.

    Raises:
        AioRpcError: the sessions service does not answer.
    """
    request = DescribeSessionsRequest(
        sessions=[
            SessionName(user_id=str(person), session_id=str(session)) for person, session in named
        ]
    )
    metadata = as_service(tokens)
    answer = await sessions.DescribeSessions(request, timeout=TIMEOUT, metadata=metadata)
    standings = zip(named, answer.sessions, strict=True)
    return {name for name, standing in standings if standing.settled and not standing.exists}
