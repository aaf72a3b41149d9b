"""When a session is due, from what it and the server were given."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.sessions.retention import expire_time
from services.sessions.store import SessionRow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _session(*, days: int | None, is_held: bool = False) -> SessionRow:
    return SessionRow(
        user_id=UUID(int=1),
        session_id=UUID(int=2),
        title=b"",
        state=1,
        revision=1,
        version=1,
        message_count=0,
        create_time=NOON - timedelta(days=3),
        update_time=NOON + timedelta(days=3),
        last_activity_time=NOON,
        delete_time=None,
        is_held=is_held,
        retention_days=days,
    )


@pytest.mark.parametrize(
    ("own", "server", "kept"),
    [
        (None, 0, None),
        (7, 0, 7),
        (None, 30, 30),
        (7, 30, 7),
        # The server's was shortened since.
        (60, 30, 30),
        (36_500, 0, 36_500),
    ],
)
def test_the_shorter_of_the_two_counts_from_the_last_activity(
    own: int | None, server: int, kept: int | None
) -> None:
    expected = None if kept is None else NOON + timedelta(days=kept)
    assert expire_time(_session(days=own), server) == expected


def test_what_is_held_is_never_due() -> None:
    assert expire_time(_session(days=7, is_held=True), 30) is None
