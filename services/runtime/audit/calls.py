"""What is recorded of calls: each that a service makes for a person, unless it is bookkeeping.

The contract decides, so that a method that is added to a proto is recorded without a line of code.
"""

from datetime import UTC, datetime
from functools import reduce
from typing import Any, cast
from uuid import UUID

from google.protobuf.message import Message
from inglenook.access.v1 import access_pb2
from inglenook.audit.v1.audit_pb2 import ActorKind

from contract.methods import ContractError, Method
from services.runtime.audit.chain import Access
from services.runtime.audit.recorder import AccessRecorder
from services.runtime.identity import Identity

_SERVICE_ALONE = {access_pb2.ACCESS_SERVICE}
_BY_SERVICES = {access_pb2.ACCESS_SERVICE, access_pb2.ACCESS_DELEGATE}
_SESSION = "session_id"


class RecordedCalls:
    """Records the calls of a server."""

    def __init__(self, recorder: AccessRecorder | None) -> None:
        """Takes who records; None for a server none of whose methods are open to services."""
        self._recorder = recorder
        self._paths: dict[str, tuple[str, ...]] = {}
        """By the recorded method: the fields that lead to the session in its request, or none."""

    def expect(self, method: Method, request: type[Message]) -> None:
        """Makes a method known.

        Raises:
            ContractError: its calls must be recorded, and nobody does.
        """
        if method.bookkeeping or not method.allow & _BY_SERVICES:
            return
        if self._recorder is None:
            raise ContractError(f"{method.path} is open to services, and nobody records its calls")
        self._paths[method.path] = _path_to_session(request)

    async def record(
        self, method: Method, identity: Identity | None, request: Message, request_id: str
    ) -> None:
        """Records a call before it is served, or the first request of a stream.

        Raises:
            Refusal: SERVER_BUSY.
            psycopg.Error: it may have been recorded or not.
            PoolTimeout: it was not.
        """
        path = self._paths.get(method.path)
        if path is None or self._recorder is None or identity is None or identity.service is None:
            return
        session = reduce(getattr, path, request) if path else ""
        await self._recorder.record(
            Access(
                user_id=_person(method, identity, request),
                time=datetime.now(UTC),
                actor_kind=ActorKind.ACTOR_KIND_SERVICE,
                actor=identity.service,
                action=method.path.removeprefix("/"),
                session_id=UUID(str(session)) if session else None,
                request_id=request_id,
            )
        )


def _person(method: Method, identity: Identity, request: Message) -> UUID:
    """Whom a call is about: as the request says where people never call, else as the token does."""
    if method.allow == _SERVICE_ALONE or identity.user_id is None:
        return UUID(cast("Any", request).user_id)  # `methods_of` made sure that there is one.
    return identity.user_id


def _path_to_session(request: type[Message]) -> tuple[str, ...]:
    """The fields that lead to the one session a request may name, by itself or in a part."""
    if _SESSION in request.DESCRIPTOR.fields_by_name:
        return (_SESSION,)
    for field in request.DESCRIPTOR.fields:
        part = field.message_type
        if part is not None and not field.is_repeated and _SESSION in part.fields_by_name:
            return (field.name, _SESSION)
    return ()
