"""How calls fail. Whatever gRPC raises becomes an `InglenookError` here, and only here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard, get_args

from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import AioRpcError

from inglenook_client.contract.reasons import Reason
from inglenook_client.remedies import Remedy, remedy_of

_DOMAIN = "inglenook"
_DETAILS = "grpc-status-details-bin"
_REASONS = frozenset(get_args(Reason))
_NO_ANSWER = "The server does not answer. Check the connection and try again."
# What comes from elsewhere than a server of the contract, which always says why: from this client
# itself, or from what is busy or away on the way there. All else is no answer: a connection broke
# off, or a proxy forbids a call or does not find it, and may let it pass a moment later.
_WITHOUT_A_WORD = {
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.UNAVAILABLE,
    StatusCode.UNAUTHENTICATED,
}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of a request that broke a rule of the contract."""

    field: str
    description: str


class InglenookError(Exception):
    """A call that failed: what kind of failure, which one, and a sentence that says what to do."""

    def __init__(
        self,
        status: StatusCode,
        message: str,
        *,
        reason: Reason | None = None,
        retry_delay: float | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        """A name of the contract's list; None where no server answered."""
        self.retry_delay = retry_delay
        """After how many seconds the server asks to repeat the call, if it says so."""
        self.metadata = dict(metadata or {})
        """What else the server says about the reason."""
        self.violations = violations

    def __str__(self) -> str:
        broken = "".join(f"; {broken.field}: {broken.description}" for broken in self.violations)
        return f"{self.reason or self.status.name}: {self.message}{broken}"

    @property
    def remedy(self) -> Remedy:
        """What has to come before the same call can succeed."""
        return remedy_of(self.status, self.reason, self.retry_delay)

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed later, with nobody doing anything about it."""
        return self.remedy == "time"

    @classmethod
    def from_rpc(cls, error: AioRpcError) -> "InglenookError":
        """What gRPC raised, as the contract words it."""
        info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
        for detail in _status(error).details:
            for wanted in (info, bad, retry):
                detail.Unpack(wanted)
        if info.domain != _DOMAIN and error.code() not in _WITHOUT_A_WORD:
            return cls(StatusCode.UNAVAILABLE, _NO_ANSWER)
        return cls(
            error.code(),
            error.details() or error.code().name,
            reason=info.reason if info.domain == _DOMAIN and _is_reason(info.reason) else None,
            retry_delay=retry.retry_delay.ToTimedelta().total_seconds()
            if retry.HasField("retry_delay")
            else None,
            metadata=info.metadata,
            violations=tuple(
                FieldViolation(violation.field, violation.description)
                for violation in bad.field_violations
            ),
        )


def _status(error: AioRpcError) -> Status:
    for key, value in error.trailing_metadata():
        if key == _DETAILS and isinstance(value, bytes):
            return Status.FromString(value)
    return Status()


def _is_reason(name: str) -> TypeGuard[Reason]:
    return name in _REASONS
