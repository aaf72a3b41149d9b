"""What the web app shows when a system is run for the first time."""

from local.demonstration import PERSON, tell_example
from local.stack import Stack
from tests.integration.calls import MakePerson


def test_the_demo_person_finds_one_example_also_after_the_next_start(
    stack: Stack, person: MakePerson
) -> None:
    for _ in range(2):
        tell_example(stack)
    demo = person(PERSON)
    (session,) = demo.call("GET", "/v1/sessions")["sessions"]
    messages = demo.call("GET", f"/v1/sessions/{session['sessionId']}/messages")["messages"]
    assert [message["role"] for message in messages] == [
        "ROLE_USER",
        "ROLE_ASSISTANT",
        "ROLE_USER",
        "ROLE_ASSISTANT",
        "ROLE_USER",
    ]
    assert {message["state"] for message in messages} == {"MESSAGE_STATE_COMPLETE"}


def test_an_example_that_was_deleted_does_not_come_back(stack: Stack, person: MakePerson) -> None:
    tell_example(stack)
    demo = person(PERSON)
    for session in demo.call("GET", "/v1/sessions")["sessions"]:
        demo.call("DELETE", f"/v1/sessions/{session['sessionId']}")
    tell_example(stack)
    assert demo.call("GET", "/v1/sessions")["sessions"] == []
