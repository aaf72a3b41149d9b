"""A session in which nothing happens goes once it was kept for long enough, and not before."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx
import psycopg
import pytest
from inglenook.sessions.v1.sessions_pb2 import WatchSessionsRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from local.stack import Stack, free_ports
from services.runtime.database import Database
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from services.sessions.retention import DueRow, Retention
from tests.integration.calls import MakePerson, Person, Refused
from tests.integration.commands import run_command
from tests.integration.eventually import eventually, owed, rows, tables_with
from tests.integration.holding import hold_command
from tests.integration.telemetry.scraping import scrape_of

DAYS = 30
DAY_SECONDS = 86_400
GONE = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
INVALID = Refused("INVALID_ARGUMENT", "REQUEST_INVALID")


@pytest.fixture(scope="module")
def own_stack(reachable_to_all: Path) -> Iterator[Stack]:
    """A stack that keeps sessions for a month, and looks every second for those that are due."""
    settings = {
        "INGLENOOK_RETENTION_DAYS": str(DAYS),
        "INGLENOOK_RETENTION_INTERVAL_SECONDS": "1",
    }
    ports = free_ports(metrics=True)
    with Stack(reachable_to_all / "home", ports, settings=settings) as running:
        yield running


@pytest.fixture
def person(own_stack: Stack) -> Iterator[MakePerson]:
    with ExitStack() as signed_in:
        yield lambda name: signed_in.enter_context(closing(Person(own_stack, name)))


def _idle(stack: Stack, session: str, days: float, *, for_messages: bool = True) -> None:
    """Makes the last activity in a session as long ago, once everything was told."""
    eventually(lambda: owed(stack) == 0)
    ago = timedelta(days=days)
    with psycopg.connect(stack.admin_url) as database:
        if for_messages:
            database.execute(
                "UPDATE messages.conversations SET activity_time = now() - %s"
                " WHERE session_id = %s AND activity_time IS NOT NULL",
                (ago, UUID(session)),
            )
        database.execute(
            "UPDATE sessions.sessions SET last_activity_time = now() - %s WHERE session_id = %s",
            (ago, UUID(session)),
        )


def _is_gone(person: Person, session: str) -> bool:
    return person.http.get(f"/v1/sessions/{session}").status_code == httpx.codes.NOT_FOUND


def _spoken(person: Person, **retention: str) -> str:
    opened = person.call("POST", "/v1/sessions", {"title": "A talk", **retention})
    session: str = opened["session"]["sessionId"]
    person.say(session, "once")
    return session


def _seconds_until_it_expires(session: dict[str, Any]) -> float:
    times = [datetime.fromisoformat(session[name]) for name in ("lastActivityTime", "expireTime")]
    return (times[1] - times[0]).total_seconds()


def test_a_session_that_was_kept_for_long_enough_is_deleted_as_by_its_owner(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person(f"alice-{uuid4()}")
    due, recent = _spoken(alice), _spoken(alice)
    _idle(own_stack, recent, DAYS - 0.01)
    _idle(own_stack, due, DAYS + 0.01)
    eventually(lambda: _is_gone(alice, due))
    # No more than the two marks is left, and no key.
    marks = {"sessions.sessions": 1, "messages.conversations": 1, "sessions.access_log": 1}
    eventually(lambda: tables_with(own_stack, "session_id", UUID(due)) == marks)
    assert alice.refused("GET", f"/v1/sessions/{due}/messages") == GONE
    reused = Refused("ALREADY_EXISTS", "ID_REUSED")
    assert alice.refused("POST", "/v1/sessions", {"sessionId": due}) == reused
    (kept,) = alice.call("GET", "/v1/sessions")["sessions"]
    assert kept["sessionId"] == recent
    (entry,) = alice.call("GET", "/v1/me/accessLog")["entries"]
    assert entry["actor"] == {"kind": "ACTOR_KIND_SERVICE", "name": "sessions"}
    assert (entry["action"], entry["sessionId"]) == ("retention", due)
    assert run_command(own_stack, "sessions", "check").code == 0


def test_who_watches_sees_it_go_and_the_operator_a_number(
    own_stack: Stack, person: MakePerson
) -> None:
    name = f"alice-{uuid4()}"
    session = _spoken(person(name))
    metadata = (("authorization", f"Bearer {own_stack.token(name)}"),)

    def expired() -> float:
        return scrape_of(own_stack, "sessions").value("inglenook_sessions_expired_total")

    before = expired()
    with grpc.insecure_channel(own_stack.ports.address("sessions")) as channel:
        eventually(lambda: owed(own_stack) == 0)
        frames = SessionsServiceStub(channel).WatchSessions(
            WatchSessionsRequest(heartbeat_seconds=60), metadata=metadata, timeout=120
        )
        while not next(frames).HasField("current"):
            pass
        _idle(own_stack, session, DAYS + 1)
        assert next(frames).changes[0].deleted.session_id == session
        frames.cancel()
    assert expired() == before + 1
    log = own_stack.home.logs / "sessions.log"
    # It is said of all that were due, once they are gone.
    told = "sessions were deleted that were kept for long enough"
    eventually(lambda: told in log.read_text())


def test_a_session_may_be_kept_for_less_than_the_others(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person(f"alice-{uuid4()}")
    short, long = _spoken(alice, retention=f"{7 * DAY_SECONDS}s"), _spoken(alice)
    for session in (long, short):
        _idle(own_stack, session, 8)
    eventually(lambda: _is_gone(alice, short))
    assert not _is_gone(alice, long)
    # Shortened, it is due at once.
    path = f"/v1/sessions/{long}"
    alice.call("PATCH", path, {"retention": f"{8 * DAY_SECONDS}s"})
    eventually(lambda: _is_gone(alice, long))


def test_a_session_says_when_it_is_due(person: MakePerson) -> None:
    alice = person(f"alice-{uuid4()}")
    session_id = str(uuid4())
    opening = {"sessionId": session_id, "title": "A talk", "retention": f"{7 * DAY_SECONDS}s"}
    opened = alice.call("POST", "/v1/sessions", opening)["session"]
    assert opened["retention"] == f"{7 * DAY_SECONDS}s"
    assert _seconds_until_it_expires(opened) == 7 * DAY_SECONDS
    assert alice.call("POST", "/v1/sessions", opening)["session"] == opened
    reused = Refused("ALREADY_EXISTS", "ID_REUSED")
    other = {**opening, "retention": f"{8 * DAY_SECONDS}s"}
    assert alice.refused("POST", "/v1/sessions", other) == reused
    path = f"/v1/sessions/{session_id}"
    longer = alice.call("PATCH", path, {"retention": f"{9 * DAY_SECONDS}s"})["session"]
    assert _seconds_until_it_expires(longer) == 9 * DAY_SECONDS
    assert longer["title"] == "A talk"
    stale = {"retention": f"{7 * DAY_SECONDS}s", "etag": opened["etag"]}
    assert alice.refused("PATCH", path, stale) == Refused("ABORTED", "ETAG_STALE")
    both = {"title": "Another", "retention": f"{6 * DAY_SECONDS}s", "etag": longer["etag"]}
    changed = alice.call("PATCH", path, both)["session"]
    assert changed["title"] == "Another"
    assert _seconds_until_it_expires(changed) == 6 * DAY_SECONDS
    cleared = alice.call("PATCH", path, {"updateMask": "retention"})["session"]
    assert cleared["title"] == "Another"
    assert "retention" not in cleared
    assert _seconds_until_it_expires(cleared) == DAYS * DAY_SECONDS
    assert alice.call("GET", path)["session"] == cleared


@pytest.mark.parametrize(
    ("retention", "rule"),
    [
        (f"{(DAYS + 1) * DAY_SECONDS}s", "retention.server_maximum"),
        (f"{DAY_SECONDS + 1}s", "retention.whole_days"),
        (f"{DAY_SECONDS}.5s", "retention.whole_days"),
        ("0s", "duration.gte_lte"),
        (f"-{DAY_SECONDS}s", "duration.gte_lte"),
        (f"{36_501 * DAY_SECONDS}s", "duration.gte_lte"),
    ],
)
def test_a_retention_that_cannot_be_is_refused_and_changes_nothing(
    person: MakePerson, retention: str, rule: str
) -> None:
    alice = person("alice")
    session = alice.new_session()
    path = f"/v1/sessions/{session}"
    before = alice.call("GET", path)
    for verb, where in (("POST", "/v1/sessions"), ("PATCH", path)):
        refused = alice.http.request(verb, where, json={"retention": retention})
        (details,) = [one for one in refused.json()["details"] if "fieldViolations" in one]
        (violation,) = details["fieldViolations"]
        assert (violation["field"], violation["reason"]) == ("retention", rule)
        assert alice.refused(verb, where, {"retention": retention}) == INVALID
    assert alice.call("GET", path) == before


def test_what_is_under_a_legal_hold_stays_until_it_is_lifted(
    own_stack: Stack, person: MakePerson
) -> None:
    name = f"alice-{uuid4()}"
    alice = person(name)
    held, own, due = _spoken(alice), _spoken(alice, retention=f"{DAY_SECONDS}s"), _spoken(alice)
    someone = user_id_of(DEVELOPMENT_ISSUER, name)
    for session in (held, own):
        hold_command(own_stack, "hold", (someone, session))
        assert "expireTime" not in alice.call("GET", f"/v1/sessions/{session}")["session"]
    for session in (held, own, due):
        _idle(own_stack, session, 2 * DAYS)
    eventually(lambda: _is_gone(alice, due))
    due = _spoken(alice, retention=f"{DAY_SECONDS}s")
    _idle(own_stack, due, DAYS)
    eventually(lambda: _is_gone(alice, due))
    assert not _is_gone(alice, held)
    assert not _is_gone(alice, own)
    for session in (held, own):
        hold_command(own_stack, "release", (someone, session))
        eventually(lambda session=session: _is_gone(alice, session))  # type: ignore[misc]


def test_what_the_messages_service_says_is_in_use_stays(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person(f"alice-{uuid4()}")
    used, owing, due = _spoken(alice), _spoken(alice), _spoken(alice)
    # Sessions were not told yet; of one of them messages has still something to tell.
    _idle(own_stack, used, DAYS + 3, for_messages=False)
    eventually(lambda: owed(own_stack) == 0)
    with psycopg.connect(own_stack.admin_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO messages.outbox (session_id, user_id, kind, create_time, due_time, tries)"
            " SELECT session_id, user_id, 'activity', now(), now() + interval '1 day', 1"
            " FROM messages.conversations WHERE session_id = %s",
            (UUID(owing),),
        )
        for session, days in ((owing, DAYS + 2), (due, DAYS + 1)):
            for table, column in (
                ("messages.conversations", "activity"),
                ("sessions.sessions", "last_activity"),
            ):
                database.execute(
                    f"UPDATE {table} SET {column}_time = now() - %s WHERE session_id = %s".encode(),  # noqa: S608
                    (timedelta(days=days), UUID(session)),
                )
        # The others are looked at before it.
        eventually(lambda: _is_gone(alice, due))
        assert not _is_gone(alice, used)
        assert not _is_gone(alice, owing)
        database.execute("DELETE FROM messages.outbox WHERE session_id = %s", (UUID(owing),))
    eventually(lambda: _is_gone(alice, owing))


def test_nothing_goes_while_the_messages_service_cannot_be_asked(
    own_stack: Stack, person: MakePerson
) -> None:
    alice = person(f"alice-{uuid4()}")
    session = _spoken(alice)
    eventually(lambda: owed(own_stack) == 0)
    own_stack.kill("messages")
    _idle(own_stack, session, DAYS + 1)
    log = own_stack.home.logs / "sessions.log"
    eventually(lambda: "what is due cannot be deleted; trying again" in log.read_text())
    assert not _is_gone(alice, session)
    own_stack.start_again("messages")
    eventually(lambda: _is_gone(alice, session))


async def test_a_session_in_which_something_happened_since_it_was_found_stays(
    own_stack: Stack, person: MakePerson
) -> None:
    name = f"alice-{uuid4()}"
    alice = person(name)
    idle, used = _spoken(alice), _spoken(alice)
    for session in (idle, used):
        _idle(own_stack, session, 20)
    someone = user_id_of(DEVELOPMENT_ISSUER, name)
    found = {
        session: DueRow(someone, UUID(session), time)
        for session in (idle, used)
        for ((time,),) in [
            rows(
                own_stack,
                "SELECT last_activity_time FROM sessions.sessions WHERE session_id = %s",
                UUID(session),
            )
        ]
    }
    alice.say(used, "again")
    eventually(lambda: owed(own_stack) == 0)
    url = own_stack.service("sessions").environment["INGLENOOK_DATABASE_URL"]

    async def delete(session: str, days: int) -> bool:
        async with Database(url, pool_size=1, name="a sweeper") as database:
            retention = Retention(database, b"a key of a chain", days)
            return await retention.delete(found[session]) is not None

    assert not await delete(used, 10)
    # Nor is anything deleted that is not due, whoever says that it is.
    assert not await delete(idle, 0)
    assert not await delete(idle, 21)
    assert await delete(idle, 19)
    assert _is_gone(alice, idle)
    assert not _is_gone(alice, used)
