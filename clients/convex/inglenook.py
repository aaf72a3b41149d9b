"""Inglenook's side of an import: whose calls they are, and what is asked of the API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
import jwt
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from inglenook.messages.v1.messages_pb2 import (
    ImportMessagesRequest,
    ImportMessagesResponse,
    Message,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import (
    CompleteSessionRequest,
    CreateSessionRequest,
    SessionState,
)
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from clients.convex.documents import Session
from services.runtime.identity import user_id_of
from services.runtime.service_tokens import ServiceTokens

Answer = TypeVar("Answer")

_TRIES = 6
_SECONDS_BETWEEN_TRIES = 0.5
_CALL_SECONDS = 50.0
_MESSAGES_IN_A_REQUEST = 200
_BYTES_IN_A_REQUEST = 512 << 10
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
# Of what is exhausted, what waiting does not bring back.
_FOR_GOOD = {"QUOTA_EXCEEDED", "REQUEST_TOO_LARGE"}


class RefusedError(Exception):
    """Inglenook refused a call; the text is its own, with the reason's name."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


class CallerError(Exception):
    """Nobody can be named who makes the calls; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes the calls."""

    token: Callable[[str], str]
    """The token of a call for the person of a subject."""
    subject: str | None
    """The only person whose rows are brought over; None for everybody's."""


def one_person(token_file: Path) -> Caller:
    """A person who brings over what is theirs.

    The file is read for each call, so that whoever keeps the token fresh can write it again.

    Raises:
        CallerError: the file cannot be read, or holds no token.
    """

    def token() -> str:
        try:
            return token_file.read_text().strip()
        except OSError as error:
            raise CallerError(f"{token_file}: {error.strerror}") from None

    try:
        claims = jwt.decode(token(), options={"verify_signature": False})
    except jwt.PyJWTError:
        raise CallerError(f"{token_file} holds no token") from None
    return Caller(lambda _subject: token(), subject=str(claims.get("sub")))


def service(tokens: ServiceTokens, people_issuer: str) -> Caller:
    """A service that acts for each person, who signs in with `people_issuer`."""
    return Caller(
        lambda subject: tokens.token(acting_for=user_id_of(people_issuer, subject)), subject=None
    )


class Inglenook:
    """Inglenook's API, called for one person after the other."""

    def __init__(self, sessions: aio.Channel, messages: aio.Channel, caller: Caller) -> None:
        """Takes the channels to the two services, which may be the gateway's, and who calls."""
        self._sessions = SessionsServiceStub(sessions)
        self._messages = MessagesServiceStub(messages)
        self._caller = caller

    async def open_session(self, subject: str, session: Session) -> None:
        """Opens a session, and completes it if it was; one that is there stays as it is.

        Raises:
            RefusedError: it cannot be opened.
        """
        request = CreateSessionRequest(session_id=session.session_id, title=session.title)
        try:
            created = await self._answer(
                lambda: self._sessions.CreateSession(
                    request, metadata=self._metadata(subject), timeout=_CALL_SECONDS
                )
            )
        except RefusedError as refused:
            if refused.reason != "ID_REUSED":
                raise
            return  # It was renamed since it was brought over.
        there = created.session
        untouched = there.update_time == there.create_time
        if not session.completed or not untouched:
            return
        if there.state == SessionState.SESSION_STATE_ACTIVE:
            completion = CompleteSessionRequest(session_id=session.session_id, etag=there.etag)
            await self._answer(
                lambda: self._sessions.CompleteSession(
                    completion, metadata=self._metadata(subject), timeout=_CALL_SECONDS
                )
            )

    async def bring_in(self, subject: str, messages: Sequence[Message]) -> ImportMessagesResponse:
        """Imports a person's messages, in their order. It can be repeated.

        Raises:
            RefusedError: some or all of them were not stored.
        """
        return await self._answer(
            lambda: self._messages.ImportMessages(
                _requests(messages), metadata=self._metadata(subject), timeout=_CALL_SECONDS
            )
        )

    def _metadata(self, subject: str) -> aio.Metadata:
        return aio.Metadata(("authorization", f"Bearer {self._caller.token(subject)}"))

    async def _answer(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """A call's answer. What fails for a while is tried again: each of the calls may be.

        Raises:
            RefusedError: it is refused, or goes on failing.
        """
        for tries in range(1, _TRIES + 1):
            try:
                return await call()
            except aio.AioRpcError as error:
                refused = _refused(error)
                passes = error.code() in _PASSING and refused.reason not in _FOR_GOOD
                if tries == _TRIES or not passes:
                    raise refused from None
            await asyncio.sleep(_SECONDS_BETWEEN_TRIES * tries)
        raise AssertionError("the last try neither answers nor raises")


@asynccontextmanager
async def connected(
    sessions_address: str, messages_address: str, caller: Caller, *, tls: bool
) -> AsyncIterator[Inglenook]:
    """Inglenook at two addresses, `host:port`; for the gateway they are the same."""
    async with (
        _channel(sessions_address, tls=tls) as sessions,
        _channel(messages_address, tls=tls) as messages,
    ):
        yield Inglenook(sessions, messages, caller)


def _channel(address: str, *, tls: bool) -> aio.Channel:
    if tls:
        return aio.secure_channel(address, grpc.ssl_channel_credentials())
    return aio.insecure_channel(address)


def _requests(messages: Sequence[Message]) -> Iterator[ImportMessagesRequest]:
    request = ImportMessagesRequest()
    size = 0
    for message in messages:
        length = message.ByteSize()
        full = (
            len(request.messages) == _MESSAGES_IN_A_REQUEST or size + length > _BYTES_IN_A_REQUEST
        )
        if request.messages and full:
            yield request
            request, size = ImportMessagesRequest(), 0
        request.messages.append(message)
        size += length
    yield request


def _refused(error: aio.AioRpcError) -> RefusedError:
    info = ErrorInfo()
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    if isinstance(details, bytes):
        for detail in Status.FromString(details).details:
            if detail.Unpack(info):
                return RefusedError(info.reason, error.details() or "")
    return RefusedError(error.code().name, error.details() or "")
