"""What is listed of an access log: as the contract has it."""

from typing import Protocol
from uuid import UUID

from inglenook.audit.v1.audit_pb2 import AccessLogEntry, Actor

from services.runtime.audit.chain import Entry
from services.runtime.audit.log import AccessLog
from services.runtime.database import Database
from services.runtime.timestamps import timestamp_of

_NO_BOUND = (1 << 63) - 1


class Asked(Protocol):
    """A request for a part of a person's log: each service has its own."""

    user_id: str
    before_sequence: int
    limit: int


class AccessListing:
    """Lists a service's access log."""

    def __init__(self, database: Database, log: AccessLog) -> None:
        """Takes where it is."""
        self._database = database
        self._log = log

    async def asked(self, request: Asked) -> list[AccessLogEntry]:
        """What another service asks for."""
        return await self.entries(
            UUID(request.user_id), before=request.before_sequence, limit=request.limit
        )

    async def entries(self, person: UUID, *, before: int, limit: int) -> list[AccessLogEntry]:
        """A person's newest entries before a sequence, or before none where it is 0."""
        rows = await self._database.all(
            self._log.newest, {"person": person, "before": before or _NO_BOUND, "limit": limit}
        )
        return [_stated(self._log.service, row) for row in rows]


def _stated(service: str, entry: Entry) -> AccessLogEntry:
    return AccessLogEntry(
        service=service,
        sequence=entry.sequence,
        time=timestamp_of(entry.time),
        actor=Actor(kind=entry.actor_kind, name=entry.actor),
        action=entry.action,
        session_id="" if entry.session_id is None else str(entry.session_id),
        request_id=entry.request_id,
    )
