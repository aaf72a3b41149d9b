"""What helps after a refusal, as the contract says of each reason by its status and its example."""

import re

import pytest
from google.protobuf import json_format
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from inglenook.errors.v1.errors_pb2 import Reason
from inglenook_client import InglenookError, Remedy
from inglenook_client.remedies import BY_REASON

from contract.folders import PROTOS

_NAMES = [name.removeprefix("REASON_") for name in Reason.keys()[1:]]


def _example(name: str) -> Status:
    """The error that the contract shows for a reason."""
    text = (PROTOS / "inglenook/errors/v1/errors.proto").read_text()
    found = re.search(rf"((?:  //     .*\n)+)  REASON_{name} = ", text)
    assert found
    return json_format.Parse(re.sub(r"^  //", "", found[1], flags=re.MULTILINE), Status())


def _remedy_in_the_contract(name: str) -> Remedy:
    example = _example(name)
    if example.code == Code.UNAUTHENTICATED and name.startswith("TOKEN_"):
        return "token"
    if example.code == Code.INTERNAL:
        return "unknown"
    asks_to_wait = any(detail.TypeName() == "google.rpc.RetryInfo" for detail in example.details)
    return "time" if asks_to_wait or example.code == Code.UNAVAILABLE else "change"


def test_every_reason_of_the_contract_has_its_remedy_and_there_are_no_others() -> None:
    assert sorted(BY_REASON) == sorted(_NAMES)


@pytest.mark.parametrize("name", _NAMES)
def test_the_remedy_of_a_reason_is_the_contracts(name: str) -> None:
    assert {reason: remedy for reason, remedy in BY_REASON.items() if reason == name} == {
        name: _remedy_in_the_contract(name)
    }


@pytest.mark.parametrize(
    ("status", "retry_delay", "remedy"),
    [
        (StatusCode.NOT_FOUND, None, "change"),
        (StatusCode.RESOURCE_EXHAUSTED, None, "unknown"),
        (StatusCode.RESOURCE_EXHAUSTED, 0.25, "time"),
        (StatusCode.FAILED_PRECONDITION, 2.0, "change"),
        (StatusCode.UNAVAILABLE, None, "time"),
        (StatusCode.UNAUTHENTICATED, None, "token"),
        (StatusCode.INTERNAL, None, "unknown"),
    ],
)
def test_a_reason_that_is_not_known_says_no_more_than_its_status_and_whether_to_wait(
    status: StatusCode, retry_delay: float | None, remedy: Remedy
) -> None:
    error = InglenookError(status, "from the future", retry_delay=retry_delay)
    assert (error.remedy, error.passing) == (remedy, remedy == "time")
