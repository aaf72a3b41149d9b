"""What callers are told of a failure inside."""

import grpc
import pytest

from services.runtime.encryption.key_provider import (
    KeyProviderError,
    KeyProviderUnavailableError,
    WrappedKeyError,
)
from services.runtime.errors import refusal_of


def test_keys_that_cannot_be_reached_now_are_worth_another_try() -> None:
    refusal = refusal_of(KeyProviderUnavailableError("Vault does not answer at https://vault"))
    assert (refusal.code, refusal.reason_name) == (
        grpc.StatusCode.UNAVAILABLE,
        "DEPENDENCY_UNAVAILABLE",
    )
    assert "vault" not in refusal.message.lower()


@pytest.mark.parametrize("kind", [KeyProviderError, WrappedKeyError])
def test_keys_that_are_missing_or_wrong_are_a_fault_of_ours(kind: type[KeyProviderError]) -> None:
    refusal = refusal_of(kind("/secrets/keys.json does not hold the key kek-1"))
    assert (refusal.code, refusal.reason_name) == (grpc.StatusCode.INTERNAL, "INTERNAL_FAULT")
    assert "kek-1" not in refusal.message
