"""Coming from Convex: one person brings theirs, or a service everybody's, as often as they like."""

import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from clients.convex.documents import inglenook_id
from contract.folders import ROOT
from local.stack import Stack
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.convex_app import FIRST_MOMENT, ConvexApp
from tests.integration.calls import MakePerson, Person


@dataclass(frozen=True)
class Done:
    """How a run of the program ended."""

    code: int
    output: str
    complaints: str


def _run(snapshot: Path, *options: str | Path) -> Done:
    command = [sys.executable, "-m", "clients.convex", snapshot, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def as_ann(stack: Stack, tmp_path: Path, ann: str) -> list[str | Path]:
    """The options of a person who brings over what is theirs, through the gateway."""
    token = tmp_path / "token"
    token.write_text(stack.token(ann))
    return ["--gateway", stack.ports.address("gateway"), "--token-file", token]


@pytest.fixture
def as_service(stack: Stack, responder_key: Path) -> list[str | Path]:
    """The options of a service that brings over everybody's, straight to the services."""
    return [
        *("--sessions", stack.ports.address("sessions")),
        *("--messages", stack.ports.address("messages")),
        *("--service", "responder", "--service-key", responder_key),
        *("--service-issuer", "inglenook-responders"),
        *("--people-issuer", DEVELOPMENT_ISSUER),
    ]


@pytest.fixture
def ann() -> str:
    """A person of this test's own."""
    return f"ann-{uuid4().hex}"


@pytest.fixture
def app(ann: str, chance: random.Random) -> ConvexApp:
    """Two people's sessions, in no order."""
    app = ConvexApp()
    for name in (ann, f"other-{ann}"):
        user = app.user(name)
        completed = app.session(user, f"{name}'s first", status="completed", endedAt=FIRST_MOMENT)
        active = app.session(user, f"{name}'s second", updatedAt=FIRST_MOMENT * 1.1)
        for place in range(30):
            for session in (completed, active):
                app.message(
                    session,
                    f"{name} {place}",
                    role="assistant" if place % 2 else "user",
                    modelUsed="listener" if place % 2 else None,
                    metadata={"place": place},
                    timestamp=FIRST_MOMENT + place,
                )
    chance.shuffle(app.messages)
    return app


def _said(person: Person, session: str) -> list[Any]:
    path = f"/v1/sessions/{session}/messages?pageSize=200&order=ORDER_OLDEST_FIRST"
    messages: list[Any] = person.call("GET", path)["messages"]
    return messages


def _expect_all_of(person: Person, name: str) -> None:
    sessions = person.call("GET", "/v1/sessions")["sessions"]
    assert [(session["title"], session["state"]) for session in sessions] == [
        (f"{name}'s second", "SESSION_STATE_ACTIVE"),
        (f"{name}'s first", "SESSION_STATE_COMPLETED"),
    ]
    for session in sessions:
        said = _said(person, session["sessionId"])
        assert [message["content"] for message in said] == [f"{name} {at}" for at in range(30)]
        assert [message["metadata"]["place"] for message in said] == list(range(30))
        assert said[1]["role"] == "ROLE_ASSISTANT"
        assert said[1]["model"] == "listener"
        assert said[0]["createTime"] == "2023-11-14T22:13:20Z"
        assert said[0]["importTime"]


def test_a_person_brings_over_what_is_theirs_and_nothing_else(
    app: ConvexApp, person: MakePerson, tmp_path: Path, ann: str, as_ann: list[str | Path]
) -> None:
    done = _run(app.zipped(tmp_path / "snapshot.zip"), *as_ann)
    assert done.code == 0, done.complaints
    assert "60 imported" in done.output
    _expect_all_of(person(ann), ann)
    assert person(f"other-{ann}").call("GET", "/v1/sessions")["sessions"] == []


def test_a_service_brings_over_everybodys_and_can_do_it_again(
    app: ConvexApp, person: MakePerson, tmp_path: Path, ann: str, as_service: list[str | Path]
) -> None:
    folder = app.unpacked(tmp_path / "snapshot")
    first, second = _run(folder, *as_service), _run(folder, *as_service)
    assert (first.code, second.code) == (0, 0), first.complaints
    assert "120 imported, 0 there already" in first.output
    assert "0 imported, 120 there already" in second.output
    for name in (ann, f"other-{ann}"):
        _expect_all_of(person(name), name)


def test_what_was_changed_here_since_stays_as_it_is(
    app: ConvexApp, person: MakePerson, tmp_path: Path, ann: str, as_ann: list[str | Path]
) -> None:
    snapshot = app.zipped(tmp_path / "snapshot.zip")
    _run(snapshot, *as_ann)
    someone = person(ann)
    active, completed = someone.call("GET", "/v1/sessions")["sessions"]
    someone.call("PATCH", f"/v1/sessions/{active['sessionId']}", {"title": "renamed"})
    someone.call("POST", f"/v1/sessions/{completed['sessionId']}:resume", {})
    path = f"/v1/sessions/{active['sessionId']}/messages"
    changed, deleted = _said(someone, active["sessionId"])[:3:2]
    someone.call("PATCH", f"{path}/{changed['messageId']}", {"content": "changed"})
    someone.call("DELETE", f"{path}/{deleted['messageId']}")
    done = _run(snapshot, *as_ann)
    assert done.code == 3
    assert "0 imported, 59 there already, 1 there with other content" in done.output
    reported = re.fullmatch(r"(\w+): .*\n", done.complaints)
    assert reported is not None
    assert inglenook_id(reported[1]) == deleted["messageId"]
    now = {session["title"]: session for session in someone.call("GET", "/v1/sessions")["sessions"]}
    assert now["renamed"]["state"] == "SESSION_STATE_ACTIVE"
    assert now[f"{ann}'s first"]["state"] == "SESSION_STATE_ACTIVE"
    assert _said(someone, active["sessionId"])[0]["content"] == "changed"


def test_what_is_over_the_limits_is_named_and_the_rest_comes(
    app: ConvexApp, person: MakePerson, tmp_path: Path, ann: str, as_ann: list[str | Path]
) -> None:
    session = app.session(str(app.users[0]["_id"]), "t" * 201, updatedAt=FIRST_MOMENT * 1.2)
    long = app.message(session, "secret" * 10_000)
    app.message(session, "short")
    done = _run(app.zipped(tmp_path / "snapshot.zip"), *as_ann)
    assert done.code == 3
    assert {line.partition(":")[0] for line in done.complaints.splitlines()} == {session, long}
    assert "secret" not in done.output + done.complaints
    latest = person(ann).call("GET", "/v1/sessions")["sessions"][0]
    assert (latest["sessionId"], latest["title"]) == (inglenook_id(session), "")
    assert [message["content"] for message in _said(person(ann), latest["sessionId"])] == ["short"]


def test_a_dump_that_was_not_decrypted_is_refused_and_nothing_is_sent(
    app: ConvexApp, person: MakePerson, tmp_path: Path, ann: str, as_ann: list[str | Path]
) -> None:
    sealed = "q83vEjRWeJq83vASNFZ4mrze8BI0VniavN7wEjRWeJq8" * 4
    # The last of all: whatever is sent before it is seen would be sent.
    message = app.message(str(app.sessions[1]["_id"]), sealed, timestamp=FIRST_MOMENT * 2)
    snapshot = app.zipped(tmp_path / "snapshot.zip")
    done = _run(snapshot, *as_ann)
    assert done.code == 1
    assert message in done.complaints
    assert "decrypt the dump" in done.complaints
    assert sealed not in done.output + done.complaints
    someone = person(ann)
    assert someone.call("GET", "/v1/sessions")["sessions"] == []
    # Unless it is said to be a text.
    assert _run(snapshot, *as_ann, "--is-text", message).code == 0
    assert _said(someone, inglenook_id(str(app.sessions[1]["_id"])))[-1]["content"] == sealed


def test_a_check_sends_nothing(
    app: ConvexApp, person: MakePerson, tmp_path: Path, ann: str, as_ann: list[str | Path]
) -> None:
    done = _run(app.zipped(tmp_path / "snapshot.zip"), *as_ann, "--check-only")
    assert done.code == 0
    assert "60 messages in 2 sessions of 1 people" in done.output
    assert person(ann).call("GET", "/v1/sessions")["sessions"] == []


def test_a_person_who_is_not_in_the_snapshot_is_told_so(
    app: ConvexApp, tmp_path: Path, as_ann: list[str | Path]
) -> None:
    app.users[0]["clerkId"] = "somebody else"
    done = _run(app.zipped(tmp_path / "snapshot.zip"), *as_ann)
    assert done.code == 1
    assert "nobody in the table users is the token's person" in done.complaints


def test_a_token_that_is_not_good_is_said_so(
    app: ConvexApp, stack: Stack, tmp_path: Path, ann: str
) -> None:
    token = tmp_path / "expired"
    token.write_text(stack.token(ann, lifetime=-3600))
    gateway = stack.ports.address("gateway")
    done = _run(app.zipped(tmp_path / "snapshot.zip"), "--gateway", gateway, "--token-file", token)
    assert done.code == 1
    assert "TOKEN_EXPIRED" in done.complaints
    assert token.read_text() not in done.complaints


def test_more_than_one_batch_comes_whole(
    person: MakePerson,
    tmp_path: Path,
    ann: str,
    as_ann: list[str | Path],
    chance: random.Random,
) -> None:
    app = ConvexApp()
    session = app.session(app.user(ann))
    for place in range(2_500):
        app.message(session, f"{place:04} " + "x" * 8_000, timestamp=FIRST_MOMENT + place)
    chance.shuffle(app.messages)
    done = _run(app.zipped(tmp_path / "snapshot.zip"), *as_ann)
    assert done.code == 0, done.complaints
    someone = person(ann)
    path = f"/v1/sessions/{inglenook_id(session)}/messages?pageSize=1&order=ORDER_OLDEST_FIRST"
    for sequence in (1, 1_000, 2_500):
        (message,) = someone.call("GET", f"{path}&fromSequence={sequence}")["messages"]
        assert message["content"][:4] == f"{sequence - 1:04}"
