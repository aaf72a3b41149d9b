"""Places in a list of sessions, as the numbers that a page token holds."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.sessions.store import Place, SessionRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def numbers_of(row: SessionRow) -> tuple[int, int, int]:
    """The place of a session: its last activity in microseconds, and both halves of its id."""
    time = (row.last_activity_time - _EPOCH) // _MICROSECOND
    high, low = row.session_id.bytes[:8], row.session_id.bytes[8:]
    return time, int.from_bytes(high, "big", signed=True), int.from_bytes(low, "big", signed=True)


def place_of(numbers: tuple[int, ...]) -> Place:
    """The place that `numbers_of` gave."""
    time, *halves = numbers
    return _EPOCH + time * _MICROSECOND, UUID(
        bytes=b"".join(half.to_bytes(8, "big", signed=True) for half in halves)
    )
