"""What a caller is told when a service that another one calls refuses."""

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from grpc import aio
from inglenook.errors.v1.errors_pb2 import Reason

from services.runtime.errors import (
    FieldViolation,
    Refusal,
    conversation_held,
    quota_exceeded,
    request_invalid,
    server_busy,
)
from services.runtime.peers import refusal_of_peer


def _sent(code: grpc.StatusCode, message: str, status: bytes | None) -> aio.AioRpcError:
    trailers = [] if status is None else [("grpc-status-details-bin", status)]
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*trailers), details=message)


@pytest.mark.parametrize(
    "refusal",
    [
        server_busy(1.25),
        request_invalid([FieldViolation("messages[0].content", "is too long", "string.max_len")]),
        quota_exceeded("sessions", 10, "Delete a session."),
        conversation_held(),
    ],
    ids=lambda refusal: refusal.reason_name,
)
def test_a_refusal_is_passed_on_with_all_that_it_says(refusal: Refusal) -> None:
    told = refusal.status()
    passed_on = refusal_of_peer(_sent(refusal.code, refusal.message, told.SerializeToString()))
    assert MessageToDict(passed_on.status()) == MessageToDict(told)
    assert passed_on.retry_after == refusal.retry_after


@pytest.mark.parametrize("status", [None, b"", b"\xff", Status(code=13).SerializeToString()])
def test_what_is_no_refusal_of_the_contract_is_no_answer(status: bytes | None) -> None:
    told = refusal_of_peer(_sent(grpc.StatusCode.INTERNAL, "SELECT secrets", status))
    assert told.reason == Reason.REASON_DEPENDENCY_UNAVAILABLE
    assert "secrets" not in told.message
