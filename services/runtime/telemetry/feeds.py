"""How soon watchers get what was stored."""

from collections.abc import Callable
from time import perf_counter

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_LAG = Histogram(
    "inglenook_feed_lag_seconds",
    "From when this process knew of a change that was stored, to when a watcher that waited had it."
    " For what this process stored itself, that is from the commit.",
    buckets=_BUCKETS,
)
WAKEUP_DELAY = Histogram(
    "inglenook_wakeup_delay_seconds",
    "From a commit in any process to when a wake-up told this one of it, by the clocks of both.",
    buckets=_BUCKETS,
)
FOUND_BY_LOOKING = Counter(
    "inglenook_feed_changes_found_by_looking",
    "Times that a feed had news of which no wake-up had told: wake-ups get lost.",
)
_FOLLOWED = Gauge("inglenook_feeds_followed", "Feeds that somebody watches at this process.")
_KEPT = Gauge("inglenook_feed_kept_bytes", "Frames that are kept for other watchers.")


class Lag:
    """How long a watcher that waited was without what was there for it.

    Whoever does not wait, since its client takes its time, lags by its own doing.
    """

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = 0.0

    def told(self, at: float) -> None:
        """There is news since `at`, by `time.perf_counter`, and the watcher waited for it."""
        self._since = at

    def handed(self) -> None:
        """The watcher has it."""
        if self._since:
            _LAG.observe(perf_counter() - self._since)
            self._since = 0.0


def show_feeds(followed: Callable[[], int], kept_bytes: Callable[[], int]) -> None:
    """Shows how many feeds are followed, and how many bytes of frames are kept."""
    _FOLLOWED.set_function(followed)
    _KEPT.set_function(kept_bytes)
