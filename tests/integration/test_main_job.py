"""The main job: a person opens a conversation, says things, and sees them."""

from uuid import UUID, uuid4

import grpc
import pytest
from inglenook.messages.v1.messages_pb2 import AppendMessageRequest, Message, Role
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack
from services.runtime.service_tokens import ServiceTokens
from tests.integration.calls import MakePerson, Refused, refusal_over_grpc


def test_messages_are_numbered_in_the_order_in_which_they_were_said(person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    said = [alice.say(session, f"line {number}") for number in range(1, 6)]
    assert [message["sequence"] for message in said] == [1, 2, 3, 4, 5]
    path = f"/v1/sessions/{session}/messages?pageSize=2"
    first = alice.call("GET", path)
    second = alice.call("GET", f"{path}&pageToken={first['nextPageToken']}")
    third = alice.call("GET", f"{path}&pageToken={second['nextPageToken']}")
    pages = [
        [message["content"] for message in page["messages"]] for page in (first, second, third)
    ]
    assert pages == [["line 5", "line 4"], ["line 3", "line 2"], ["line 1"]]
    assert third["nextPageToken"] == ""


def test_an_append_with_an_id_can_be_repeated(person: MakePerson) -> None:
    alice = person("alice")
    session, message = alice.new_session(), str(uuid4())
    metadata = {"mood": {"score": 0.5, "tags": ["a", None, True]}}
    first = alice.say(session, "once", messageId=message, metadata=metadata)
    assert alice.say(session, "once", messageId=message, metadata=metadata) == first
    assert first["metadata"] == metadata
    path = f"/v1/sessions/{session}/messages"
    assert alice.refused("POST", path, {"messageId": message, "content": "other"}) == Refused(
        "ALREADY_EXISTS", "ID_REUSED"
    )
    assert alice.say(session, "next")["sequence"] == 2
    assert alice.call("GET", f"{path}/{message}")["message"] == first


def test_a_session_with_an_id_can_be_created_again(person: MakePerson) -> None:
    alice, bob = person("alice"), person("bob")
    body = {"sessionId": str(uuid4()), "title": "Mine"}
    first = alice.call("POST", "/v1/sessions", body)
    assert alice.call("POST", "/v1/sessions", body) == first
    assert alice.refused("POST", "/v1/sessions", body | {"title": "Other"}) == Refused(
        "ALREADY_EXISTS", "ID_REUSED"
    )
    # Ids are a person's own: the same one names another session of another person.
    alice.say(body["sessionId"], "hers")
    assert bob.call("POST", "/v1/sessions", body)["session"]["etag"]
    assert bob.call("GET", f"/v1/sessions/{body['sessionId']}/messages")["messages"] == []
    assert bob.say(body["sessionId"], "his")["sequence"] == 1


def test_a_session_goes_through_its_states_and_no_other_way(person: MakePerson) -> None:
    alice = person("alice")
    path = f"/v1/sessions/{alice.new_session()}"
    wrong = Refused("FAILED_PRECONDITION", "SESSION_STATE_WRONG")
    assert alice.refused("POST", f"{path}:resume", {}) == wrong
    completed = alice.call("POST", f"{path}:complete", {})["session"]
    assert completed["state"] == "SESSION_STATE_COMPLETED"
    assert alice.refused("POST", f"{path}:complete", {}) == wrong
    resumed = alice.call("POST", f"{path}:resume", {})["session"]
    assert resumed["state"] == "SESSION_STATE_ACTIVE"


def test_a_change_with_a_stale_etag_changes_nothing(person: MakePerson) -> None:
    alice = person("alice")
    path = f"/v1/sessions/{alice.new_session('first')}"
    seen = alice.call("GET", path)["session"]["etag"]
    alice.call("PATCH", path, {"title": "second", "etag": seen})
    stale = Refused("ABORTED", "ETAG_STALE")
    assert alice.refused("PATCH", path, {"title": "third", "etag": seen}) == stale
    assert alice.refused("POST", f"{path}:complete", {"etag": seen}) == stale
    assert alice.call("GET", path)["session"]["title"] == "second"


def test_a_mask_clears_what_it_names_and_only_that(person: MakePerson) -> None:
    alice = person("alice")
    path = f"/v1/sessions/{alice.new_session('named')}"
    assert alice.call("PATCH", path, {})["session"]["title"] == "named"
    assert alice.call("PATCH", path, {"updateMask": "title"})["session"]["title"] == ""
    invalid = Refused("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert alice.refused("PATCH", path, {"updateMask": "state"}) == invalid


def test_sessions_are_listed_by_their_latest_activity(person: MakePerson) -> None:
    hannah = person("hannah")
    first, second, third = (hannah.new_session(title) for title in ("first", "second", "third"))
    hannah.call("POST", f"/v1/sessions/{first}:complete", {})
    active = hannah.call("GET", "/v1/sessions?state=SESSION_STATE_ACTIVE")["sessions"]
    assert [session["sessionId"] for session in active] == [third, second]
    hannah.call("POST", f"/v1/sessions/{first}:resume", {})
    page = hannah.call("GET", "/v1/sessions?pageSize=2")
    rest = hannah.call("GET", f"/v1/sessions?pageSize=2&pageToken={page['nextPageToken']}")
    listed = [session["sessionId"] for session in (*page["sessions"], *rest["sessions"])]
    assert listed == [first, third, second]


def test_the_current_session_is_the_noted_one_or_else_the_latest_active(
    person: MakePerson,
) -> None:
    dave, path = person("dave"), "/v1/me/currentSession"
    assert dave.call("GET", path)["currentSession"]["sessionId"] == ""
    first, second = dave.new_session(), dave.new_session()
    assert dave.call("GET", path)["currentSession"]["sessionId"] == second
    dave.call("PUT", path, {"sessionId": first})
    assert dave.call("GET", path)["currentSession"]["sessionId"] == first
    others = person("erin").new_session()
    missing = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
    assert dave.refused("PUT", path, {"sessionId": others}) == missing
    assert dave.call("GET", path)["currentSession"]["sessionId"] == first
    dave.call("PUT", path, {})
    assert dave.call("GET", path)["currentSession"]["sessionId"] == second


def test_a_profile_begins_with_what_the_token_states(person: MakePerson) -> None:
    frank = person("frank")
    me = frank.call("GET", "/v1/me")["user"]
    assert (me["name"], me["email"]) == ("Frank", "frank@example.com")
    changed = frank.call("PATCH", "/v1/me", {"name": "Franky", "etag": me["etag"]})["user"]
    assert (changed["name"], changed["userId"]) == ("Franky", me["userId"])
    assert frank.refused("PATCH", "/v1/me", {"name": "F", "etag": me["etag"]}) == Refused(
        "ABORTED", "ETAG_STALE"
    )


def test_a_service_answers_in_a_persons_conversation_and_in_no_other(
    stack: Stack, person: MakePerson, responder: ServiceTokens
) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "hello")
    whose = UUID(alice.call("GET", "/v1/me")["user"]["userId"])
    with grpc.insecure_channel(stack.ports.address("messages")) as channel:
        messages = MessagesServiceStub(channel)

        def answer(acting_for: UUID) -> Message:
            request = AppendMessageRequest(
                session_id=session, role=Role.ROLE_ASSISTANT, content="hello", model="listener"
            )
            metadata = (("authorization", f"Bearer {responder.token(acting_for=acting_for)}"),)
            return messages.AppendMessage(request, metadata=metadata, timeout=20).message

        assert answer(whose).sequence == 2
        with pytest.raises(grpc.RpcError) as refused:
            answer(uuid4())
    assert refusal_over_grpc(refused.value) == Refused("NOT_FOUND", "SESSION_NOT_FOUND")
    listed = alice.call("GET", f"/v1/sessions/{session}/messages")["messages"]
    assert [(message["role"], message["model"]) for message in listed] == [
        ("ROLE_ASSISTANT", "listener"),
        ("ROLE_USER", ""),
    ]
