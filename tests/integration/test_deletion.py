"""A deleted session is gone at once, and nothing of it is left soon after."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import grpc
import pytest
from inglenook.messages.v1.messages_pb2 import (
    AppendMessageRequest,
    DeleteSessionMessagesRequest,
    WatchMessagesRequest,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import WatchSessionsRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from inglenook.users.v1.users_pb2 import WatchMeRequest
from inglenook.users.v1.users_pb2_grpc import UsersServiceStub

from local.stack import Stack
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.integration.calls import MakePerson, Person, Refused, refusal_over_grpc
from tests.integration.eventually import eventually, owed, rows, tables_with

GONE = Refused("NOT_FOUND", "SESSION_NOT_FOUND")


@pytest.fixture
def messages(stack: Stack) -> Iterator[MessagesServiceStub]:
    with grpc.insecure_channel(stack.ports.address("messages")) as channel:
        yield MessagesServiceStub(channel)


@pytest.fixture
def sessions(stack: Stack) -> Iterator[SessionsServiceStub]:
    with grpc.insecure_channel(stack.ports.address("sessions")) as channel:
        yield SessionsServiceStub(channel)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _is_purged(stack: Stack, session: str) -> bool:
    """Whether no more than the two marks of the session is left."""
    return tables_with(stack, "session_id", UUID(session)) == {
        "sessions.sessions": 1,
        "messages.conversations": 1,
    }


def _said(person: Person, session: str, count: int) -> list[str]:
    return [person.say(session, f"message {n}")["messageId"] for n in range(count)]


def test_a_deleted_session_is_gone_for_its_owner_at_once_and_its_rows_soon_after(
    stack: Stack, person: MakePerson
) -> None:
    alice = person(f"alice-{uuid4()}")
    session, other = alice.new_session("private"), alice.new_session("other")
    said = _said(alice, session, 3)
    kept = alice.say(other, "stays")
    path = f"/v1/sessions/{session}"
    assert alice.call("DELETE", path) == {}
    assert alice.refused("GET", path) == GONE
    assert alice.refused("PATCH", path, {"title": "again"}) == GONE
    assert alice.refused("POST", f"{path}:complete", {}) == GONE
    listed = alice.call("GET", "/v1/sessions")["sessions"]
    assert [one["sessionId"] for one in listed] == [other]
    eventually(lambda: _is_purged(stack, session))
    assert alice.refused("GET", f"{path}/messages") == GONE
    assert alice.refused("GET", f"{path}/messages/{said[0]}") == GONE
    assert alice.refused("POST", f"{path}/messages", {"content": "more"}) == GONE
    assert alice.refused("DELETE", f"{path}/messages/{said[0]}") == GONE
    imported = {"sessionId": session, "messageId": said[0], "role": "ROLE_USER", "content": "more"}
    assert alice.refused("POST", "/v1/messages:import", [{"messages": [imported]}]) == GONE
    assert rows(stack, "SELECT title FROM sessions.sessions WHERE session_id = %s", session) == [
        (b"",)
    ]
    assert alice.call("GET", f"/v1/sessions/{other}/messages")["messages"] == [kept]
    assert _is_purged(stack, session)


def test_deleting_again_changes_nothing_and_the_id_is_not_given_again(person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    path = f"/v1/sessions/{session}"
    assert alice.call("DELETE", path) == alice.call("DELETE", path)
    reused = Refused("ALREADY_EXISTS", "ID_REUSED")
    assert alice.refused("POST", "/v1/sessions", {"sessionId": session}) == reused
    assert alice.refused("GET", path) == GONE


def test_a_deleted_session_is_not_the_current_one_any_more(person: MakePerson) -> None:
    alice = person(f"alice-{uuid4()}")
    first, second = alice.new_session(), alice.new_session()
    alice.call("PUT", "/v1/me/currentSession", {"sessionId": first})
    alice.call("DELETE", f"/v1/sessions/{first}")
    current = alice.call("GET", "/v1/me/currentSession")["currentSession"]
    assert current["sessionId"] == second


def test_who_watches_themselves_is_told_that_they_are_in_a_deleted_session_no_more(
    stack: Stack, person: MakePerson
) -> None:
    name = f"watcher-{uuid4()}"
    alice = person(name)
    current, other = alice.new_session(), alice.new_session()
    alice.call("PUT", "/v1/me/currentSession", {"sessionId": current})
    with grpc.insecure_channel(stack.ports.address("users")) as channel:
        metadata = _metadata(stack.token(name))
        frames = UsersServiceStub(channel).WatchMe(WatchMeRequest(), metadata=metadata, timeout=60)
        assert next(frames).changes[0].current_session.session_id == current
        assert next(frames).HasField("current")
        alice.call("DELETE", f"/v1/sessions/{other}")
        alice.call("DELETE", f"/v1/sessions/{current}")
        # The first thing that is told is about the one that they were in.
        assert next(frames).changes[0].current_session.session_id == ""
        frames.cancel()
    pointer = "SELECT current_session_id FROM users.users WHERE user_id = %s"
    assert rows(stack, pointer, user_id_of(DEVELOPMENT_ISSUER, name)) == [(None,)]


def test_a_pointer_is_cleared_also_when_the_users_service_comes_back_later(
    stack: Stack, person: MakePerson
) -> None:
    name = f"alice-{uuid4()}"
    alice = person(name)
    session = alice.new_session()
    alice.call("PUT", "/v1/me/currentSession", {"sessionId": session})
    stack.kill("users")
    alice.call("DELETE", f"/v1/sessions/{session}")
    stack.kill("sessions")
    stack.start_again("sessions", "users")
    eventually(lambda: owed(stack) == 0)
    pointer = "SELECT current_session_id FROM users.users WHERE user_id = %s"
    assert rows(stack, pointer, user_id_of(DEVELOPMENT_ISSUER, name)) == [(None,)]


def test_no_pointer_that_races_a_deletion_stays(stack: Stack, person: MakePerson) -> None:
    name = f"alice-{uuid4()}"
    alice = person(name)
    alice.call("GET", "/v1/me")
    for _ in range(8):
        session = alice.new_session()
        noted = {"sessionId": session}
        with ThreadPoolExecutor(5) as callers:
            noting = [
                callers.submit(alice.http.put, "/v1/me/currentSession", json=noted)
                for _ in range(4)
            ]
            callers.submit(alice.call, "DELETE", f"/v1/sessions/{session}").result()
            assert {answer.result().status_code for answer in noting} <= {200, 404}
    eventually(lambda: owed(stack) == 0)
    pointer = "SELECT current_session_id FROM users.users WHERE user_id = %s"
    assert rows(stack, pointer, user_id_of(DEVELOPMENT_ISSUER, name)) == [(None,)]


def test_who_watches_sessions_is_told_of_a_deletion_also_later(
    stack: Stack, person: MakePerson, sessions: SessionsServiceStub
) -> None:
    name = f"watcher-{uuid4()}"
    alice = person(name)
    session = alice.new_session()
    metadata = _metadata(stack.token(name))
    frames = sessions.WatchSessions(WatchSessionsRequest(), metadata=metadata, timeout=60)
    assert next(frames).changes[0].upserted.session_id == session
    left_at = next(frames)
    assert left_at.HasField("current")
    alice.call("DELETE", f"/v1/sessions/{session}")
    assert next(frames).changes[0].deleted.session_id == session
    frames.cancel()
    resumed = WatchSessionsRequest(resume_token=left_at.resume_token)
    again = sessions.WatchSessions(resumed, metadata=metadata, timeout=60)
    assert next(again).changes[0].deleted.session_id == session
    again.cancel()
    fresh = sessions.WatchSessions(WatchSessionsRequest(), metadata=metadata, timeout=60)
    assert next(fresh).HasField("current")
    fresh.cancel()


def test_who_watches_a_conversation_is_told_that_it_is_gone(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub
) -> None:
    alice = person("alice")
    session, silent = alice.new_session(), alice.new_session()
    alice.say(session, "hello")
    metadata = _metadata(stack.token("alice"))
    for watched, before in ((session, 2), (silent, 1)):
        request = WatchMessagesRequest(session_id=watched)
        frames = messages.WatchMessages(request, metadata=metadata, timeout=60)
        for _ in range(before):
            next(frames)
        alice.call("DELETE", f"/v1/sessions/{watched}")
        with pytest.raises(grpc.RpcError) as ended:
            next(frames)
        assert refusal_over_grpc(ended.value) == GONE


def test_appends_that_race_a_deletion_end_and_leave_nothing(
    stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    # Some are begun before the deletion, some by it, some after: in every third, nothing was said.
    for round_number in range(12):
        session = alice.new_session()
        if round_number % 3:
            alice.say(session, "before")
        path = f"/v1/sessions/{session}/messages"
        with ThreadPoolExecutor(9) as callers:
            racing = [
                callers.submit(alice.http.post, path, json={"content": f"{n}"}) for n in range(8)
            ]
            deleting = callers.submit(alice.call, "DELETE", f"/v1/sessions/{session}")
            deleting.result()
            assert {answer.result().status_code for answer in racing} <= {200, 404}
        eventually(lambda session=session: _is_purged(stack, session))  # type: ignore[misc]
        assert alice.refused("POST", path, {"content": "after"}) == GONE
    eventually(lambda: owed(stack) == 0)


def test_what_was_never_begun_cannot_be_begun_by_an_append_that_asked_before(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub
) -> None:
    # The append's question is answered "yours" by the session that is there; the deletion overtakes
    # it before the answer is used. That is what the messages service sees here.
    name = f"alice-{uuid4()}"
    session = person(name).new_session()
    request = DeleteSessionMessagesRequest(
        user_id=str(user_id_of(DEVELOPMENT_ISSUER, name)), session_id=session
    )
    as_sessions = _metadata(stack.home.service_tokens("sessions").token())
    for _ in range(2):
        messages.DeleteSessionMessages(request, metadata=as_sessions)
    append = AppendMessageRequest(session_id=session, content="too late")
    with pytest.raises(grpc.RpcError) as refused:
        messages.AppendMessage(append, metadata=_metadata(stack.token(name)))
    assert refusal_over_grpc(refused.value) == GONE
    eventually(lambda: _is_purged(stack, session))


def test_a_deletion_reaches_the_messages_when_they_come_back(
    stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    session = alice.new_session()
    _said(alice, session, 3)
    stack.kill("messages")
    alice.call("DELETE", f"/v1/sessions/{session}")
    stack.kill("sessions")
    stack.start_again("sessions", "messages")
    eventually(lambda: _is_purged(stack, session))
    eventually(lambda: owed(stack) == 0)
