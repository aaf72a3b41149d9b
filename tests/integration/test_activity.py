"""What is said in a session shows in its owner's list: its count, its time, its place."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import grpc
import pytest
from inglenook.sessions.v1.sessions_pb2 import (
    GetSessionRequest,
    RecordActivityRequest,
    Session,
    SessionActivity,
    WatchSessionsRequest,
)
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from local.stack import Stack
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from services.runtime.timestamps import timestamp_of
from tests.integration.calls import MakePerson, Person
from tests.integration.eventually import eventually, owed

NOON = datetime(2100, 1, 1, 12, tzinfo=UTC)


def _session(person: Person, session: str) -> Any:  # noqa: ANN401 - JSON
    return person.call("GET", f"/v1/sessions/{session}")["session"]


def _count(person: Person, session: str) -> int:
    return int(_session(person, session)["messageCount"])


@pytest.fixture
def sessions(stack: Stack) -> Iterator[SessionsServiceStub]:
    with grpc.insecure_channel(stack.ports.address("sessions")) as channel:
        yield SessionsServiceStub(channel)


@pytest.fixture
def as_messages(stack: Stack) -> Callable[[], tuple[tuple[str, str], ...]]:
    """What the messages service's own calls carry."""
    tokens = stack.home.service_tokens("messages")
    return lambda: (("authorization", f"Bearer {tokens.token()}"),)


def test_what_is_said_and_deleted_is_counted_and_moves_the_session_to_the_head(
    stack: Stack, person: MakePerson
) -> None:
    alice = person(f"alice-{uuid4()}")
    first, second = alice.new_session("first"), alice.new_session("second")
    said = [alice.say(first, text) for text in ("one", "two", "three")]
    eventually(lambda: _count(alice, first) == 3)
    assert _session(alice, first)["lastActivityTime"] == said[-1]["createTime"]
    listed = alice.call("GET", "/v1/sessions")["sessions"]
    assert [session["sessionId"] for session in listed] == [first, second]
    alice.call("DELETE", f"/v1/sessions/{first}/messages/{said[-1]['messageId']}")
    eventually(lambda: _count(alice, first) == 2)
    assert _session(alice, first)["lastActivityTime"] == said[-1]["createTime"]
    eventually(lambda: owed(stack) == 0)


def test_what_is_said_makes_no_new_version_of_the_session(person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session("before")
    seen = _session(alice, session)
    alice.say(session, "hello")
    eventually(lambda: _count(alice, session) == 1)
    assert _session(alice, session)["updateTime"] == seen["updateTime"]
    change = {"title": "after", "etag": seen["etag"]}
    assert alice.call("PATCH", f"/v1/sessions/{session}", change)["session"]["messageCount"] == "1"


def test_messages_of_long_ago_do_not_make_a_session_older(person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    opened = _session(alice, session)["lastActivityTime"]
    message = {"sessionId": session, "messageId": str(uuid4()), "role": "ROLE_USER"}
    message |= {"content": "long ago", "createTime": "2001-01-01T00:00:00Z"}
    alice.call("POST", "/v1/messages:import", [{"messages": [message]}])
    eventually(lambda: _count(alice, session) == 1)
    assert _session(alice, session)["lastActivityTime"] == opened


def test_who_watches_sessions_sees_counts_grow_and_never_shrink(
    stack: Stack, person: MakePerson, sessions: SessionsServiceStub
) -> None:
    name = f"watcher-{uuid4()}"
    alice = person(name)
    session = alice.new_session()
    metadata = (("authorization", f"Bearer {stack.token(name)}"),)
    frames = sessions.WatchSessions(WatchSessionsRequest(), metadata=metadata, timeout=60)
    assert next(frames).changes[0].upserted.message_count == 0
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda n: alice.say(session, f"message {n}"), range(100)))
    seen: list[Session] = []
    for frame in frames:
        seen += [change.upserted for change in frame.changes]
        if seen and seen[-1].message_count == 100:
            break
    frames.cancel()
    counts = [one.message_count for one in seen]
    times = [one.last_activity_time.ToNanoseconds() for one in seen]
    assert counts == sorted(counts)
    assert times == sorted(times)
    assert len(seen) < 100


def test_what_was_told_before_changes_nothing_when_it_comes_again_or_late(
    stack: Stack,
    person: MakePerson,
    sessions: SessionsServiceStub,
    as_messages: Callable[[], tuple[tuple[str, str], ...]],
) -> None:
    alice = person("alice")
    session = alice.new_session()
    owner = str(user_id_of(DEVELOPMENT_ISSUER, "alice"))
    mine = (("authorization", f"Bearer {stack.token('alice')}"),)

    def told(revision: int, count: int) -> SessionActivity:
        return SessionActivity(
            user_id=owner,
            session_id=session,
            revision=revision,
            message_count=count,
            last_activity_time=timestamp_of(NOON.replace(minute=revision)),
        )

    def tell(*activities: SessionActivity) -> Session:
        request = RecordActivityRequest(activities=activities)
        sessions.RecordActivity(request, metadata=as_messages())
        asked = GetSessionRequest(session_id=session)
        return sessions.GetSession(asked, metadata=mine).session

    newest = tell(told(4, 4), told(5, 5), told(3, 3))
    assert newest.message_count == 5
    assert newest.last_activity_time == timestamp_of(NOON.replace(minute=5))
    assert tell(told(5, 6)) == newest
    assert tell(told(2, 2)) == newest
    assert tell(told(6, 4)).message_count == 4


def test_activity_of_what_is_nobodys_session_is_let_be(
    sessions: SessionsServiceStub, as_messages: Callable[[], tuple[tuple[str, str], ...]]
) -> None:
    activity = SessionActivity(
        user_id=str(uuid4()),
        session_id=str(uuid4()),
        revision=1,
        message_count=1,
        last_activity_time=timestamp_of(NOON),
    )
    sessions.RecordActivity(RecordActivityRequest(activities=[activity]), metadata=as_messages())
