"""How a reader knows that an export is whole: its last frame says so, however the stream ends."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message as AnyMessage
from inglenook.messages.v1.messages_pb2 import (
    ExportMessagesRequest,
    ExportMessagesResponse,
    ImportMessagesRequest,
    Message,
    Role,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from inglenook.users.v1.users_pb2 import ExportMeRequest, ExportMeResponse, User

from local.stack import Stack
from services.runtime.identity import Call, current_call
from services.users import exporting
from tests.integration.calls import MakePerson, Person, Refused

INCOMPLETE = Refused("INVALID_ARGUMENT", "EXPORT_INCOMPLETE")
# So many large messages that no export of them ends before its reader reads on.
MANY = 400
LARGE = "x" * 49_000
FRAME_HEADER = 5
TRAILERS = 0x80


@dataclass(frozen=True)
class Export:
    """A method that exports."""

    path: str
    method: str
    request: AnyMessage
    response: type[Any]


EXPORTS = {
    "messages": Export(
        "/v1/messages:export",
        "/inglenook.messages.v1.MessagesService/ExportMessages",
        ExportMessagesRequest(),
        ExportMessagesResponse,
    ),
    "me": Export(
        "/v1/me:export",
        "/inglenook.users.v1.UsersService/ExportMe",
        ExportMeRequest(),
        ExportMeResponse,
    ),
}


Over = Callable[[Person, Export, Callable[[], None]], list[Any]]
"""A way to read an export to its end; the function is called after the first frame."""


@pytest.fixture
def ann(person: MakePerson) -> Person:
    """A person of this test's own."""
    return person(f"ann-{uuid4().hex}")


@pytest.fixture(params=EXPORTS)
def export(request: pytest.FixtureRequest) -> Export:
    return EXPORTS[request.param]


@pytest.fixture(scope="module")
def talkative(stack: Stack) -> Iterator[Person]:
    """A person with much to export."""
    with closing(Person(stack, f"ann-{uuid4().hex}")) as ann:
        session = ann.new_session()

        def requests() -> Iterator[ImportMessagesRequest]:
            for _ in range(MANY // 10):
                said = [
                    Message(
                        session_id=session,
                        message_id=str(uuid4()),
                        role=Role.ROLE_USER,
                        content=LARGE,
                    )
                    for _ in range(10)
                ]
                yield ImportMessagesRequest(messages=said)

        metadata = (("authorization", ann.http.headers["authorization"]),)
        with grpc.insecure_channel(stack.ports.address("messages")) as channel:
            done = MessagesServiceStub(channel).ImportMessages(requests(), metadata=metadata)
        assert done.imported == MANY
        yield ann


def _over_json(ann: Person, export: Export, begun: Callable[[], None]) -> list[Any]:
    """The frames of an export, a line of JSON each; `begun` is called after the first."""
    with ann.http.stream("GET", export.path) as answer:
        lines = _pieces(answer.iter_bytes(), lambda held: held.find(b"\n") + 1)
        return _read((json_format.Parse(line, export.response()) for line in lines), begun)


def _over_grpc_web(ann: Person, export: Export, begun: Callable[[], None]) -> list[Any]:
    """The same over gRPC-Web."""
    sent = export.request.SerializeToString()
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    body = b"\0" + len(sent).to_bytes(4, "big") + sent

    def length(held: bytes) -> int:
        size = FRAME_HEADER + int.from_bytes(held[1:FRAME_HEADER], "big")
        return size if FRAME_HEADER <= len(held) >= size else 0

    with ann.http.stream("POST", export.method, content=body, headers=headers) as answer:
        pieces = _pieces(answer.iter_bytes(), length)
        messages = (piece[FRAME_HEADER:] for piece in pieces if not piece[0] & TRAILERS)
        return _read(map(export.response.FromString, messages), begun)


def _pieces(chunks: Iterator[bytes], length: Callable[[bytes], int]) -> Iterator[bytes]:
    """What comes, cut into pieces; `length` is that of the first one, 0 while it is not whole."""
    held = b""
    for chunk in chunks:
        held += chunk
        while size := length(held):
            yield held[:size]
            held = held[size:]


def _read(frames: Iterator[Any], begun: Callable[[], None]) -> list[Any]:
    came = [next(frames)]
    begun()
    try:
        for frame in frames:
            came.append(frame)  # noqa: PERF402 - kept when the connection breaks
    except httpx.RemoteProtocolError:
        # The gateway breaks off what it cannot go on with, where it is not told of an end.
        pass
    return came


def _given(frames: list[Any]) -> int:
    return sum(len(frame.messages) for frame in frames)


@pytest.mark.parametrize("over", [_over_json, _over_grpc_web])
def test_the_last_frame_and_no_other_says_how_much_there_is_however_slowly_it_is_read(
    talkative: Person, export: Export, over: Over
) -> None:
    # As much is waiting meanwhile as may wait.
    *frames, last = over(talkative, export, lambda: time.sleep(1))
    assert len(frames) > 2
    assert not any(frame.HasField("end") for frame in frames)
    assert last.end.messages == _given(frames) == MANY
    assert not last.messages


def test_the_end_of_everything_counts_sessions_too(ann: Person) -> None:
    for _ in range(3):
        ann.new_session()
    *frames, last = _over_json(ann, EXPORTS["me"], lambda: None)
    assert (last.end.sessions, last.end.messages) == (3, 0)
    assert sum(len(frame.sessions) for frame in frames) == 3


@pytest.mark.parametrize("over", [_over_json, _over_grpc_web])
def test_an_export_whose_service_is_killed_half_way_has_no_end(
    stack: Stack, talkative: Person, export: Export, over: Over
) -> None:
    frames = over(talkative, export, lambda: stack.kill("messages"))
    stack.start_again("messages")
    assert _given(frames) < MANY
    assert not any(frame.HasField("end") for frame in frames)


def test_the_end_counts_what_all_calls_gave_that_an_export_was_resumed_by(
    talkative: Person,
) -> None:
    frames = _over_json(talkative, EXPORTS["messages"], lambda: None)
    for number in (0, len(frames) // 2, len(frames) - 1):
        path = f"/v1/messages:export?resumeToken={frames[number].resume_token}"
        rest = [
            json_format.Parse(line, ExportMessagesResponse())
            for line in talkative.http.get(path).text.splitlines()
        ]
        assert _given(frames[: number + 1]) + _given(rest) == rest[-1].end.messages == MANY


def test_a_whole_export_is_imported_where_nothing_less_is_wanted(ann: Person) -> None:
    for path in (export.path for export in EXPORTS.values()):
        requests = [{"whole": True}, *_exported(ann, path)]
        assert ann.call("POST", "/v1/messages:import", requests)["present"] == "3"


def test_an_export_without_its_end_is_taken_unless_a_whole_one_is_wanted(ann: Person) -> None:
    for path in (export.path for export in EXPORTS.values()):
        *frames, _ = _exported(ann, path)
        assert ann.call("POST", "/v1/messages:import", frames)["present"] == "3"
        wanted = [*frames, {"whole": True}]
        assert ann.refused("POST", "/v1/messages:import", wanted) == INCOMPLETE


def test_an_export_that_lacks_messages_is_refused_where_a_whole_one_is_wanted(ann: Person) -> None:
    for path in (export.path for export in EXPORTS.values()):
        *frames, end = _exported(ann, path)
        short = [{"messages": frame["messages"][1:]} for frame in frames]
        assert ann.call("POST", "/v1/messages:import", [*short, end])["present"] == "2"
        refused = ann.http.post("/v1/messages:import", json=[{"whole": True}, *short, end])
        assert "2 of its 3 messages came" in refused.json()["message"]


def _exported(ann: Person, path: str) -> list[dict[str, Any]]:
    """The frames of an export of three messages, as lines of JSON have them."""
    if not ann.call("GET", "/v1/sessions")["sessions"]:
        session = ann.new_session()
        for number in range(3):
            ann.say(session, f"line {number}")
    return [json.loads(line) for line in ann.http.get(path).text.splitlines()]


async def test_a_session_that_is_active_while_everything_is_exported_is_not_passed_over(
    stack: Stack, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_PAGE", 2)
    sessions = [ann.new_session(f"session {n}") for n in range(5)]
    token = ann.http.headers["authorization"].removeprefix("Bearer ")
    serving = current_call.set(Call(request_id="an export", token=token))
    given: list[str] = []
    async with (
        grpc.aio.insecure_channel(stack.ports.address("sessions")) as to_sessions,
        grpc.aio.insecure_channel(stack.ports.address("messages")) as to_messages,
    ):
        export = exporting.Exporting(
            SessionsServiceStub(to_sessions), MessagesServiceStub(to_messages)
        )
        async for frame in export.frames(User()):
            if frame.sessions and not given:
                # The oldest one goes from the last page, which is still to come, to the first one.
                for step in ("complete", "resume"):
                    ann.call("POST", f"/v1/sessions/{sessions[0]}:{step}", {})
            given += [session.session_id for session in frame.sessions]
    current_call.reset(serving)
    assert sorted(given) == sorted(sessions)
    assert frame.end.sessions == len(sessions)
