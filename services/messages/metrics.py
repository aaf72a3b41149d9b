"""What the messages service tells its operators besides what every service does."""

from collections.abc import Callable

from prometheus_client import Gauge, Histogram

BATCH_WRITES = Histogram(
    "inglenook_writer_batch_writes",
    "How many writes a batch had, which commit together.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
BATCH_SECONDS = Histogram(
    "inglenook_writer_batch_duration_seconds",
    "How long a batch took until it was on disk.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
SEARCHES = Gauge("inglenook_searches_under_way", "Searches that are under way.")
_WAITING = Gauge("inglenook_writer_waiting", "Writes that wait for a batch.")
_WAITING_BYTES = Gauge("inglenook_writer_waiting_bytes", "Their sizes together.")
_GROWING = Gauge("inglenook_growing_messages", "Messages that grow at this process.")


def show_backlog(writes: Callable[[], int], size: Callable[[], int]) -> None:
    """Shows how many writes wait, and how many bytes they have."""
    _WAITING.set_function(writes)
    _WAITING_BYTES.set_function(size)


def show_growing(messages: Callable[[], int]) -> None:
    """Shows how many messages grow."""
    _GROWING.set_function(messages)
