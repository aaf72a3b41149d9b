"""What the sessions service tells its operators besides what every service does."""

from prometheus_client import Counter

EXPIRED = Counter(
    "inglenook_sessions_expired",
    "Sessions that were deleted since nothing happened in them for as long as they are kept.",
)
