"""The calls that a process has answered, how long that took, and the streams that are open."""

from contextlib import AbstractContextManager
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from contract.methods import Method

_CALLS = Counter(
    "inglenook_calls",
    "Calls that were answered, by method, gRPC status and, of refusals, the contract's reason.",
    ["method", "code", "reason"],
)
_SECONDS = Histogram(
    "inglenook_call_duration_seconds",
    "How long calls took that are one request and one response, refused ones among them.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_STREAMS = Gauge("inglenook_open_streams", "Streams of responses that are open.", ["method"])

# What alerts look for: counted from 0, since a series that begins at 1 has not risen.
_FAULTS = (
    ("INTERNAL", "INTERNAL_FAULT"),
    ("DATA_LOSS", "DATA_UNREADABLE"),
    ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE"),
)
_durations: dict[str, Histogram] = {}
"""By the path of a method; of those alone whose caller does not decide how long they take."""


def expect(method: Method) -> None:
    """Gets ready to count a method's calls."""
    for code, reason in (("OK", ""), *_FAULTS):
        _counter(method.path, code, reason)
    if method.server_streaming:
        _STREAMS.labels(method.path)
    elif not method.client_streaming:
        _durations[method.path] = _SECONDS.labels(method.path)


def answered(method: str, code: str, seconds: float, reason: str = "") -> None:
    """Counts a call: its method's path, the status by name, the duration, and the reason."""
    _counter(method, code, reason).inc()
    duration = _durations.get(method)
    if duration is not None:
        duration.observe(seconds)


def open_stream(method: str) -> AbstractContextManager[None]:
    """Counts a stream as open, for as long as the block lasts."""
    return _STREAMS.labels(method).track_inprogress()


@cache
def _counter(method: str, code: str, reason: str) -> Counter:
    # Found once: finding takes longer than counting.
    return _CALLS.labels(method, code, reason)
