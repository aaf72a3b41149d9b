"""Refusals: how a call that cannot be served is answered.

A handler raises a `Refusal`, the interceptor turns it into a `google.rpc.Status` (AIP-193). Nothing
else that is raised reaches a caller as it is: what is not a refusal becomes one here, and its own
text stays inside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from inglenook.errors.v1.errors_pb2 import Reason
from psycopg import OperationalError
from psycopg_pool import PoolClosed, PoolTimeout

from services.runtime.encryption.envelope import UnreadableError
from services.runtime.encryption.key_provider import KeyProviderUnavailableError

DOMAIN = "inglenook"
_PREFIX = "REASON_"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A request's field that breaks a rule: `field` as a path, `rule` as its name."""

    field: str
    description: str
    rule: str


class Refusal(Exception):  # noqa: N818 - an answer of the contract, not a fault of the program
    """A call that cannot be served, as the contract words it."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: Reason.ValueType,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Takes the status, the contract's reason, and what the caller shall do.

        `retry_after` is in seconds: when repeating the call may succeed.
        """
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = metadata or {}
        """What belongs to the reason: ids and figures."""
        self.retry_after = retry_after
        """After how many seconds repeating the call may succeed, if waiting helps at all."""
        self._violations = violations

    @property
    def reason_name(self) -> str:
        """The reason as it is sent: without the enum's prefix."""
        return Reason.Name(self.reason).removeprefix(_PREFIX)

    def status(self) -> Status:
        """The refusal as callers get it."""
        info = ErrorInfo(reason=self.reason_name, domain=DOMAIN, metadata=self.metadata)
        details = [_packed(info)]
        if self._violations:
            listed = [
                BadRequest.FieldViolation(
                    field=violation.field, description=violation.description, reason=violation.rule
                )
                for violation in self._violations
            ]
            details.append(_packed(BadRequest(field_violations=listed)))
        if self.retry_after is not None:
            retry = RetryInfo()
            retry.retry_delay.FromMilliseconds(round(self.retry_after * 1000))
            details.append(_packed(retry))
        return Status(code=self.code.value[0], message=self.message, details=details)


def request_invalid(violations: Sequence[FieldViolation]) -> Refusal:
    """The request breaks rules of the contract."""
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.REASON_REQUEST_INVALID,
        "The request breaks a rule of the contract; see the field violations.",
        violations=violations,
    )


def request_malformed() -> Refusal:
    """The request's bytes are not the method's request message."""
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.REASON_REQUEST_MALFORMED,
        "The request could not be read as this method's request.",
    )


def session_not_found() -> Refusal:
    """The caller has no such session, whoever else may have one."""
    return Refusal(
        grpc.StatusCode.NOT_FOUND,
        Reason.REASON_SESSION_NOT_FOUND,
        "There is no such session among yours.",
    )


def dependency_unavailable() -> Refusal:
    """A part that the call needs does not answer."""
    return Refusal(
        grpc.StatusCode.UNAVAILABLE,
        Reason.REASON_DEPENDENCY_UNAVAILABLE,
        "A part of the system does not answer. Try again shortly.",
    )


def server_stopping() -> Refusal:
    """This process is going away; another one answers."""
    return Refusal(
        grpc.StatusCode.UNAVAILABLE,
        Reason.REASON_SERVER_STOPPING,
        "This server is stopping. Try again: another one answers.",
    )


def server_busy(retry_after: float) -> Refusal:
    """More is waiting than the service can hold; `retry_after` is in seconds."""
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.REASON_SERVER_BUSY,
        "The server is busy. Try again after the delay given.",
        retry_after=retry_after,
    )


def quota_exceeded(quota: str, limit: int, message: str) -> Refusal:
    """The person keeps as much here as one may; `quota` is what there is too much of.

    Time does not heal that, so there is no delay after which to repeat the call: `message` says
    what the person can do.
    """
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.REASON_QUOTA_EXCEEDED,
        message,
        metadata={"quota": quota, "limit": str(limit)},
    )


def legal_hold(message: str) -> Refusal:
    """A legal hold keeps what the caller wants to delete or change: `message` says what."""
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.REASON_LEGAL_HOLD,
        f"{message} Ask whoever runs this system.",
    )


def conversation_held() -> Refusal:
    """The conversation is under a legal hold."""
    return legal_hold(
        "This conversation is under a legal hold: nothing of it can be deleted or changed."
    )


def etag_stale() -> Refusal:
    """What the caller wants to change was changed since the caller read it."""
    return Refusal(
        grpc.StatusCode.ABORTED,
        Reason.REASON_ETAG_STALE,
        "It was changed meanwhile. Read it again and repeat with its new etag.",
    )


def id_reused(thing: str) -> Refusal:
    """A create call repeats an id with other content; `thing` is what the id names."""
    return Refusal(
        grpc.StatusCode.ALREADY_EXISTS,
        Reason.REASON_ID_REUSED,
        f"This id is taken by a {thing} with other content. Use a new id.",
    )


def refusal_of(error: Exception) -> Refusal:
    """What a caller is told of an exception: a refusal itself, of others no more than the kind."""
    match error:
        case Refusal():
            return error
        case UnreadableError(place=place):
            row = "/".join(map(str, place.row))
            return Refusal(
                grpc.StatusCode.DATA_LOSS,
                Reason.REASON_DATA_UNREADABLE,
                "What is stored cannot be read. Give an operator the request id.",
                metadata={"table": place.table, "field": place.field, "row": row},
            )
        case OperationalError() | PoolTimeout() | PoolClosed() | KeyProviderUnavailableError():
            return dependency_unavailable()
        case _:
            return Refusal(
                grpc.StatusCode.INTERNAL,
                Reason.REASON_INTERNAL_FAULT,
                "Something failed on our side. Give an operator the request id.",
            )


def _packed(detail: ErrorInfo | BadRequest | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
