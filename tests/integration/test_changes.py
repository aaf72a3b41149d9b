"""Changing and deleting what was said, and listing it both ways."""

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from local.stack import Stack
from tests.integration.calls import ABSENT, MakePerson, Person, Refused

INVALID = Refused("INVALID_ARGUMENT", "REQUEST_INVALID")
STALE = Refused("ABORTED", "ETAG_STALE")
NO_MESSAGE = Refused("NOT_FOUND", "MESSAGE_NOT_FOUND")
REUSED = Refused("ALREADY_EXISTS", "ID_REUSED")


class Talk:
    """A session, and what a person does in it."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.session = person.new_session()
        self.path = f"/v1/sessions/{self.session}/messages"

    def say(self, content: str, **more: object) -> Any:  # noqa: ANN401 - JSON
        return self.person.say(self.session, content, **more)

    def change(self, message: Any, **body: object) -> Any:  # noqa: ANN401 - JSON
        path = f"{self.path}/{message['messageId']}"
        return self.person.call("PATCH", path, body)["message"]

    def not_changed(self, message: Any, **body: object) -> Refused:  # noqa: ANN401 - JSON
        return self.person.refused("PATCH", f"{self.path}/{message['messageId']}", body)

    def delete(self, message: Any, etag: str = "") -> None:  # noqa: ANN401 - JSON
        path = f"{self.path}/{message['messageId']}?etag={etag}"
        assert self.person.call("DELETE", path) == {}

    def contents(self, query: str = "") -> list[str]:
        listed = self.person.call("GET", f"{self.path}?{query}")["messages"]
        return [message["content"] for message in listed]


@pytest.fixture
def talk(person: MakePerson) -> Talk:
    return Talk(person("alice"))


def test_a_change_keeps_the_messages_place(talk: Talk) -> None:
    first, second = talk.say("one"), talk.say("two")
    changed = talk.change(first, content="ONE", model="m")
    assert (changed["content"], changed["model"], changed["sequence"]) == ("ONE", "m", 1)
    assert changed["createTime"] == first["createTime"]
    assert changed["updateTime"] > first["updateTime"]
    assert changed["etag"] not in (first["etag"], second["etag"])
    assert talk.contents() == ["two", "ONE"]


def test_a_change_that_changes_nothing_is_no_change(talk: Talk) -> None:
    message = talk.say("one", metadata={"a": 1})
    assert talk.change(message, content="one", metadata={"a": 1}) == message
    assert talk.change(message) == message


def test_metadata_is_replaced_or_merged(talk: Talk) -> None:
    message = talk.say("one", metadata={"mood": "low", "inner": {"a": 1, "b": 2}, "gone": True})
    patch = {"mood": "better", "inner": {"b": None, "moodScore": 3}, "gone": None, "empty": {}}
    merged = talk.change(message, metadataPatch=patch)["metadata"]
    assert merged == {"mood": "better", "inner": {"a": 1, "moodScore": 3}, "empty": {}}
    assert talk.change(message, metadata={"only": [1]})["metadata"] == {"only": [1]}
    assert talk.change(message, updateMask="metadata").get("metadata") is None
    assert talk.change(message, content="two", updateMask="model")["content"] == "one"


def test_a_bad_change_is_refused_and_nothing_is_changed(talk: Talk) -> None:
    message = talk.say("one", metadata={"kept": "x" * 9_000})
    assert talk.not_changed(message, content="") == INVALID
    assert talk.not_changed(message, updateMask="content") == INVALID
    assert talk.not_changed(message, updateMask="role") == INVALID
    assert talk.not_changed(message, updateMask="metadata.mood", metadata={"mood": 1}) == INVALID
    assert talk.not_changed(message, metadataPatch={"more": "x" * 9_000}) == INVALID
    assert talk.not_changed(message, metadataPatch={"nul": "\0"}) == INVALID
    assert talk.not_changed(message, metadata={}, metadataPatch={}) == INVALID
    assert talk.not_changed(message, content="two", etag="nonsense") == STALE
    assert talk.not_changed({"messageId": ABSENT}, content="two") == NO_MESSAGE
    path = f"{talk.path}/{message['messageId']}"
    assert talk.person.call("GET", path)["message"] == message


def test_of_two_changes_of_what_was_seen_the_second_is_refused(talk: Talk) -> None:
    message = talk.say("one")
    changed = talk.change(message, content="two", etag=message["etag"])
    assert talk.not_changed(message, content="three", etag=message["etag"]) == STALE
    path = f"{talk.path}/{message['messageId']}?etag={message['etag']}"
    assert talk.person.refused("DELETE", path) == STALE
    talk.delete(message, changed["etag"])


def test_a_deleted_message_leaves_its_place_empty(talk: Talk) -> None:
    first, second, third = (talk.say(text) for text in ("one", "two", "three"))
    talk.delete(second)
    talk.delete(second)
    assert talk.contents() == ["three", "one"]
    assert talk.person.refused("GET", f"{talk.path}/{second['messageId']}") == NO_MESSAGE
    assert talk.not_changed(second, content="again") == NO_MESSAGE
    assert talk.say("four")["sequence"] == 4
    talk.delete(third)
    talk.delete(first)
    assert talk.contents() == ["four"]
    path = f"{talk.path}/{ABSENT}"
    assert talk.person.refused("DELETE", path) == NO_MESSAGE


def test_nothing_of_a_deleted_message_is_left_in_its_row(talk: Talk, stack: Stack) -> None:
    message = talk.say("one")
    talk.change(message, content="two")
    talk.delete(message)
    with psycopg.connect(stack.admin_url) as connection:
        row = connection.execute(
            "SELECT body, original FROM messages.messages WHERE message_id = %s",
            (message["messageId"],),
        ).fetchone()
        counted = connection.execute(
            "SELECT last_sequence, message_count, revision FROM messages.conversations"
            " WHERE session_id = %s",
            (talk.session,),
        ).fetchone()
    assert row == (None, None)
    assert counted == (1, 0, 3)


def test_an_append_repeated_after_a_change_is_known(talk: Talk) -> None:
    message_id = str(uuid4())
    first = talk.say("one", messageId=message_id)
    talk.change(first, content="two")
    changed = talk.change(first, content="three")
    assert talk.say("one", messageId=message_id) == changed
    for content in ("two", "three"):
        body = {"messageId": message_id, "content": content}
        assert talk.person.refused("POST", talk.path, body) == REUSED
    talk.delete(first)
    body = {"messageId": message_id, "content": "one"}
    assert talk.person.refused("POST", talk.path, body) == REUSED
    assert talk.contents() == []


def test_a_person_changes_only_what_a_person_said(talk: Talk) -> None:
    message = {"sessionId": talk.session, "messageId": str(uuid4()), "content": "a reply"}
    message |= {"role": "ROLE_ASSISTANT"}
    talk.person.call("POST", "/v1/messages:import", [{"messages": [message]}])
    denied = Refused("PERMISSION_DENIED", "ROLE_DENIED")
    assert talk.not_changed(message, content="other words") == denied
    talk.delete(message)
    assert talk.contents() == []


def test_a_stranger_changes_and_deletes_nothing(talk: Talk, person: MakePerson) -> None:
    message = talk.say("mine")
    path, bob = f"{talk.path}/{message['messageId']}", person("bob")
    nothing = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
    assert bob.refused("PATCH", path, {"content": "his"}) == nothing
    assert bob.refused("DELETE", path) == nothing
    assert talk.contents() == ["mine"]


def test_a_session_is_walked_both_ways_from_any_message(talk: Talk) -> None:
    messages = [talk.say(f"line {number}") for number in range(1, 10)]
    talk.delete(messages[4])
    down = ["line 9", "line 8", "line 7", "line 6", "line 4", "line 3", "line 2", "line 1"]

    def walk(query: str) -> list[str]:
        walked: list[str] = []
        token = ""
        while True:
            page = talk.person.call("GET", f"{talk.path}?pageSize=3&{query}&pageToken={token}")
            walked += [message["content"] for message in page["messages"]]
            token = page["nextPageToken"]
            if not token:
                return walked
            assert len(page["messages"]) == 3

    assert walk("") == walk("order=ORDER_NEWEST_FIRST") == down
    assert walk("order=ORDER_OLDEST_FIRST") == down[::-1]
    assert walk("fromSequence=5") == walk("fromSequence=4") == down[4:]
    assert walk("order=ORDER_OLDEST_FIRST&fromSequence=5") == down[3::-1]
    assert walk("order=ORDER_OLDEST_FIRST&fromSequence=10") == []
    forwards = "pageSize=3&order=ORDER_OLDEST_FIRST"
    token = talk.person.call("GET", f"{talk.path}?{forwards}")["nextPageToken"]
    other = f"{talk.path}?pageSize=3&pageToken={token}"
    assert talk.person.refused("GET", other) == Refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


def test_a_watcher_sees_changes_and_deletions(talk: Talk) -> None:
    first, second = talk.say("one"), talk.say("two")
    token = _frames(talk, until="current")[-1]["resumeToken"]
    talk.change(first, content="ONE")
    talk.delete(second)
    talk.say("three")
    (frame,) = _frames(talk, until="changes", token=token)
    upserted, deleted, new = frame["changes"]
    assert upserted["upserted"]["content"] == "ONE"
    assert deleted["deleted"] == {"messageId": second["messageId"], "sequence": 2}
    assert new["upserted"]["sequence"] == 3
    snapshot = _frames(talk, until="current")[0]["changes"]
    assert [change["upserted"]["content"] for change in snapshot] == ["ONE", "three"]


def _frames(talk: Talk, *, until: str, token: str = "") -> list[Any]:
    """The frames of a watch, up to the first that has `until`."""
    frames = []
    url = f"{talk.path}:watch?resumeToken={token}"
    with talk.person.http.stream("GET", url) as lines:
        for line in lines.iter_lines():
            frames.append(json.loads(line))
            if frames[-1].get(until):
                return frames
            if until in frames[-1] and until != "changes":
                return frames
    raise AssertionError(f"the watch ended before {until}")
