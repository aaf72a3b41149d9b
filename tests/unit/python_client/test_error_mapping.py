"""What gRPC raises becomes what the contract says."""

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from inglenook_client import FieldViolation, InglenookError


def _raised(code: StatusCode, *details: Message) -> InglenookError:
    status = Status()
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    trailer = Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return InglenookError.from_rpc(AioRpcError(code, Metadata(), trailer, "Do this instead."))


def test_a_refusal_says_all_that_the_server_said() -> None:
    error = _raised(
        StatusCode.RESOURCE_EXHAUSTED,
        ErrorInfo(reason="SERVER_BUSY", domain="inglenook", metadata={"length": "7"}),
        RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
        BadRequest(
            field_violations=[BadRequest.FieldViolation(field="title", description="is too long")]
        ),
    )
    assert (error.status, error.reason) == (StatusCode.RESOURCE_EXHAUSTED, "SERVER_BUSY")
    assert (error.retry_delay, error.metadata) == (2.5, {"length": "7"})
    assert error.violations == (FieldViolation("title", "is too long"),)
    assert str(error) == "SERVER_BUSY: Do this instead.; title: is too long"
    assert error.passing


def test_a_quota_that_is_used_up_does_not_pass_by_itself() -> None:
    info = ErrorInfo(reason="QUOTA_EXCEEDED", domain="inglenook", metadata={"quota": "sessions"})
    error = _raised(StatusCode.RESOURCE_EXHAUSTED, info)
    assert (error.reason, error.metadata) == ("QUOTA_EXCEEDED", {"quota": "sessions"})
    assert not error.passing


def test_a_refusal_for_a_reason_that_is_not_known_is_still_a_refusal() -> None:
    info = ErrorInfo(reason="FROM_THE_FUTURE", domain="inglenook")
    error = _raised(StatusCode.NOT_FOUND, info)
    assert (error.status, error.reason, error.passing) == (StatusCode.NOT_FOUND, None, False)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (StatusCode.PERMISSION_DENIED, []),
        (StatusCode.UNIMPLEMENTED, []),
        (StatusCode.NOT_FOUND, [ErrorInfo(reason="SESSION_NOT_FOUND", domain="elsewhere")]),
    ],
)
def test_what_another_system_on_the_way_refuses_is_a_server_that_does_not_answer(
    code: StatusCode, details: list[ErrorInfo]
) -> None:
    error = _raised(code, *details)
    assert (error.status, error.reason, error.passing) == (StatusCode.UNAVAILABLE, None, True)


@pytest.mark.parametrize("code", [StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAUTHENTICATED])
def test_a_call_that_took_too_long_or_had_no_sign_in_is_told_as_such(code: StatusCode) -> None:
    assert _raised(code).status is code


@pytest.mark.parametrize(
    "code", [StatusCode.UNAVAILABLE, StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.CANCELLED]
)
def test_a_broken_connection_is_a_server_that_does_not_answer(code: StatusCode) -> None:
    error = _raised(code)
    assert (error.status, error.passing) == (StatusCode.UNAVAILABLE, True)


def test_a_fault_that_the_server_told_of_is_none_that_passes() -> None:
    error = _raised(StatusCode.INTERNAL, ErrorInfo(reason="INTERNAL_FAULT", domain="inglenook"))
    assert (error.status, error.passing) == (StatusCode.INTERNAL, False)
