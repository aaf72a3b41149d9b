"""The calls to whoever keeps the key-encryption keys."""

from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from prometheus_client import Counter, Histogram

from services.runtime.encryption.key_provider import (
    KeyProvider,
    KeyProviderUnavailableError,
    WrappedKey,
)

Result = TypeVar("Result")

_OPERATIONS = ("active", "wrap", "unwrap")
_RESULTS = ("ok", "unavailable", "refused")
_CALLS = Counter(
    "inglenook_key_provider_calls",
    "Calls to the keeper of the key-encryption keys, by what became of them.",
    ["operation", "result"],
)
_SECONDS = Histogram(
    "inglenook_key_provider_duration_seconds",
    "How long these calls took.",
    ["operation"],
    buckets=(0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
for _operation in _OPERATIONS:
    _SECONDS.labels(_operation)
    for _result in _RESULTS:
        _CALLS.labels(_operation, _result)


class MeasuredKeyProvider(KeyProvider):
    """A key provider whose calls are counted."""

    def __init__(self, provider: KeyProvider) -> None:
        """Takes the one that does the work."""
        self._provider = provider

    async def active(self) -> str:
        """As the provider does it."""
        return await _measured("active", self._provider.active())

    async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
        """As the provider does it."""
        return await _measured("wrap", self._provider.wrap(secret, associated_data))

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """As the provider does it."""
        return await _measured("unwrap", self._provider.unwrap(wrapped, associated_data))


async def _measured(operation: str, call: Awaitable[Result]) -> Result:
    started = perf_counter()
    result = "refused"
    try:
        answer = await call
        result = "ok"
    except KeyProviderUnavailableError:
        result = "unavailable"
        raise
    finally:
        _SECONDS.labels(operation).observe(perf_counter() - started)
        _CALLS.labels(operation, result).inc()
    return answer
