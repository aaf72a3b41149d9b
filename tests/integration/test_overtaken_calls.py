"""A call that others overtake is done, or refused for what it met."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from local.stack import Stack
from tests.integration.calls import MakePerson
from tests.integration.eventually import eventually, waits_for_a_lock

_SECOND = "overtakes second"


@contextmanager
def _overtaken(stack: Stack, session: str, first: str, second: str) -> Iterator[None]:
    """What is called meanwhile, and changes the session, is overtaken twice.

    `first` is committed while the call waits for the session's row, and `second` once the call has
    found it so, and before it looks why.
    """
    change = "UPDATE sessions.sessions SET {} WHERE session_id = %s"
    with (
        psycopg.connect(stack.admin_url) as one,
        psycopg.connect(stack.admin_url, application_name=_SECOND) as two,
        ThreadPoolExecutor(1) as others,
    ):
        one.execute(change.format(first).encode(), (UUID(session),))

        def overtake_twice() -> None:
            eventually(lambda: waits_for_a_lock(stack, "sessions"))
            with ThreadPoolExecutor(1) as queue:
                # Whoever wants to read the table from now on stands behind it.
                locked = queue.submit(two.execute, b"LOCK TABLE sessions.sessions")
                eventually(lambda: waits_for_a_lock(stack, _SECOND))
                one.commit()
                locked.result()
            two.execute(change.format(second).encode(), (UUID(session),))
            two.commit()

        overtaking = others.submit(overtake_twice)
        yield
        overtaking.result()


@pytest.mark.parametrize(
    ("call", "first", "second"),
    [
        (("POST", ":complete", {}), "state = 2", "state = 1"),
        (("PATCH", "", {"title": "renamed"}), "is_held = true", "is_held = false"),
        (("DELETE", "", None), "is_held = true", "is_held = false"),
    ],
)
def test_what_stood_in_the_way_of_a_change_and_does_not_any_more_is_no_reason_to_refuse_it(
    stack: Stack,
    person: MakePerson,
    call: tuple[str, str, object],
    first: str,
    second: str,
) -> None:
    alice = person(f"alice-{uuid4()}")
    session = alice.new_session("as it was")
    path = f"/v1/sessions/{session}"
    verb, suffix, body = call
    with _overtaken(stack, session, first, second):
        answer = alice.call(verb, f"{path}{suffix}", body)
    if verb == "DELETE":
        assert answer == {}
        assert alice.refused("GET", path).reason == "SESSION_NOT_FOUND"
    else:
        assert alice.call("GET", path) == answer
