"""Exporting: everything that a person said and was told, whole and in order, however often cut."""

import json
import random
import re
import subprocess
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from inglenook.messages.v1.messages_pb2 import (
    ExportMessagesRequest,
    ExportMessagesResponse,
    ImportMessagesRequest,
    ImportMessagesResponse,
    ListMessagesRequest,
    Message,
    Role,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack, free_ports
from tests.integration.calls import (
    ABSENT,
    MakePerson,
    Refused,
    refusal_in,
    refusal_over_grpc,
)
from tests.integration.replicas import start_replica

Metadata = tuple[tuple[str, str], ...]
FRAME_BYTES = 256 << 10
LARGEST_MESSAGE_BYTES = 250_000


@pytest.fixture
async def messages(stack: Stack) -> AsyncIterator[MessagesServiceStub]:
    async with grpc.aio.insecure_channel(stack.ports.address("messages")) as channel:
        yield MessagesServiceStub(channel)


@pytest.fixture
def ann(stack: Stack) -> str:
    """A person of this test's own."""
    return f"ann-{uuid4().hex}"


def _signed_in(stack: Stack, name: str) -> Metadata:
    return (("authorization", f"Bearer {stack.token(name)}"),)


def _start(messages: MessagesServiceStub, who: Metadata, **request: str) -> Any:  # noqa: ANN401
    return messages.ExportMessages(ExportMessagesRequest(**request), metadata=who, timeout=60)


async def _frames(
    messages: MessagesServiceStub, who: Metadata, **request: str
) -> list[ExportMessagesResponse]:
    return [frame async for frame in _start(messages, who, **request)]


def _all(frames: list[ExportMessagesResponse]) -> list[Message]:
    return [message for frame in frames for message in frame.messages]


async def _import(
    messages: MessagesServiceStub, who: Metadata, said: list[Message]
) -> ImportMessagesResponse:
    requests = [ImportMessagesRequest(messages=[message]) for message in said]
    call: Any = messages.ImportMessages(iter(requests), metadata=who, timeout=60)
    response: ImportMessagesResponse = await call
    return response


def _said(session: str, content: str) -> Message:
    message = Message(
        session_id=session,
        message_id=str(uuid4()),
        role=Role.ROLE_ASSISTANT,
        content=content,
        model="listener",
    )
    message.metadata["mood"] = 0.5
    message.create_time.FromSeconds(1_700_000_000)
    return message


@pytest.fixture
async def much(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> list[Message]:
    """What stands in seven sessions in the order of an export: more than a frame of it, two ways.

    Some sessions hold many small messages, some a few large ones, and in one nothing is left.
    """
    someone, who = person(ann), _signed_in(stack, ann)
    sizes = [[10] * 450, [], [20_000] * 30, [50_000], [10] * 3, [300] * 5, [10]]
    sessions = [someone.new_session() for _ in sizes]
    for session, lengths in zip(sessions, sizes, strict=True):
        said = [
            _said(session, f"{number:05}" + "é" * length)
            for number, length in enumerate(length - 5 for length in lengths)
        ]
        assert (await _import(messages, who, said)).imported == len(lengths)
    gone = f"/v1/sessions/{sessions[-1]}/messages"
    (last,) = someone.call("GET", gone)["messages"]
    someone.call("DELETE", f"{gone}/{last['messageId']}")
    return [
        message
        for session in sorted(sessions)
        for message in reversed(await _listed(messages, who, session))
    ]


async def _listed(messages: MessagesServiceStub, who: Metadata, session: str) -> list[Message]:
    listed: list[Message] = []
    token = ""
    while True:
        request = ListMessagesRequest(session_id=session, page_size=200, page_token=token)
        call: Any = messages.ListMessages(request, metadata=who)
        page = await call
        listed += page.messages
        token = page.next_page_token
        if not token:
            return listed


async def test_an_export_is_every_message_whole_session_by_session_in_order(
    stack: Stack, messages: MessagesServiceStub, ann: str, much: list[Message]
) -> None:
    frames = await _frames(messages, _signed_in(stack, ann))
    assert _all(frames) == much
    assert len(much) == 489
    assert len(frames) > 4
    for frame in frames[:-1]:
        assert frame.messages
        assert len(frame.messages) <= 200
        assert frame.ByteSize() < FRAME_BYTES + LARGEST_MESSAGE_BYTES


async def test_a_resumed_export_gives_exactly_the_rest(
    stack: Stack, messages: MessagesServiceStub, ann: str, much: list[Message]
) -> None:
    who = _signed_in(stack, ann)
    given = 0
    for frame in await _frames(messages, who):
        given += len(frame.messages)
        rest = await _frames(messages, who, resume_token=frame.resume_token)
        assert _all(rest) == much[given:]
    assert given == len(much)


async def test_an_export_that_is_cut_anywhere_and_resumed_equals_one_that_was_not(
    stack: Stack,
    messages: MessagesServiceStub,
    ann: str,
    much: list[Message],
    chance: random.Random,
) -> None:
    who = _signed_in(stack, ann)
    for _ in range(5):
        given: list[Message] = []
        token = ""
        while len(given) < len(much):
            call = _start(messages, who, resume_token=token)
            for _ in range(chance.randint(1, 3)):
                frame = await call.read()
                if frame is grpc.aio.EOF:
                    break
                given += frame.messages
                token = frame.resume_token
            call.cancel()
        assert given == much


async def test_a_stopping_replica_ends_an_export_and_another_one_resumes_it(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    who = _signed_in(stack, ann)
    session = person(ann).new_session()
    # So much that an export cannot end before its client reads on.
    said = [_said(session, f"{number:05}" + "x" * 49_000) for number in range(200)]
    await _import(messages, who, said)
    given: list[ExportMessagesResponse] = []
    port = free_ports().gateway
    stopping = start_replica(stack, port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        frames = aiter(_start(MessagesServiceStub(channel), who))
        given.append(await anext(frames))
        stopping.terminate()
        with pytest.raises(grpc.aio.AioRpcError) as ended:  # noqa: PT012 - the loop is the call
            async for frame in frames:
                given.append(frame)  # noqa: PERF401 - kept when the call fails
    assert stopping.wait(30) == 0
    assert refusal_over_grpc(ended.value) == Refused("UNAVAILABLE", "SERVER_STOPPING")
    given += await _frames(messages, who, resume_token=given[-1].resume_token)
    assert [message.message_id for message in _all(given)] == [
        message.message_id for message in said
    ]


async def test_an_export_of_one_session_is_that_session(
    stack: Stack, messages: MessagesServiceStub, ann: str, much: list[Message]
) -> None:
    who = _signed_in(stack, ann)
    for session in {message.session_id for message in much}:
        frames = await _frames(messages, who, session_id=session)
        expected = [message for message in much if message.session_id == session]
        assert _all(frames) == expected
        for frame in frames:
            rest = await _frames(messages, who, session_id=session, resume_token=frame.resume_token)
            last = frame.messages[-1].sequence if frame.messages else expected[-1].sequence
            assert _all(rest) == [said for said in expected if said.sequence > last]


async def test_what_an_export_gives_can_be_imported_as_it_is(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str, much: list[Message]
) -> None:
    other = f"other-{ann}"
    someone, who = person(other), _signed_in(stack, other)
    for session in {message.session_id for message in much}:
        someone.call("POST", "/v1/sessions", {"sessionId": session})
    frames = await _frames(messages, _signed_in(stack, ann))
    requests = [ImportMessagesRequest(whole=True)]
    # An export's frame is a request, but for the token.
    requests += [ImportMessagesRequest(messages=frame.messages, end=frame.end) for frame in frames]
    call: Any = messages.ImportMessages(iter(requests), metadata=who, timeout=60)
    assert (await call).imported == len(much)
    brought = _all(await _frames(messages, who))
    assert [(m.message_id, m.content, m.model, m.metadata, m.create_time) for m in brought] == [
        (m.message_id, m.content, m.model, m.metadata, m.create_time) for m in much
    ]


async def test_deleted_messages_are_left_out(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    someone = person(ann)
    session = someone.new_session()
    ids = [someone.say(session, f"line {number}")["messageId"] for number in range(5)]
    for number in (0, 2, 4):
        someone.call("DELETE", f"/v1/sessions/{session}/messages/{ids[number]}")
    for where in ({}, {"session_id": session}):
        exported = _all(await _frames(messages, _signed_in(stack, ann), **where))
        assert [message.sequence for message in exported] == [2, 4]


async def test_a_person_who_said_nothing_gets_an_empty_export(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    who = _signed_in(stack, ann)
    for where in ({}, {"session_id": person(ann).new_session()}):
        (frame,) = await _frames(messages, who, **where)
        assert frame.HasField("end")
        assert not frame.messages
        assert frame.end.messages == 0


async def test_another_persons_messages_are_never_exported(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    session = str(uuid4())
    for name in (ann, f"other-{ann}"):
        someone = person(name)
        someone.call("POST", "/v1/sessions", {"sessionId": session})
        someone.say(session, f"said by {name}")
    for where in ({}, {"session_id": session}):
        exported = _all(await _frames(messages, _signed_in(stack, ann), **where))
        assert [message.content for message in exported] == [f"said by {ann}"]


async def test_a_resume_token_is_good_for_its_own_export_only(
    stack: Stack, messages: MessagesServiceStub, person: MakePerson, ann: str
) -> None:
    someone = person(ann)
    session, another = someone.new_session(), someone.new_session()
    for one in (session, another):
        someone.say(one, "something")
    who = _signed_in(stack, ann)
    of_all = (await _frames(messages, who))[0].resume_token
    of_one = (await _frames(messages, who, session_id=session))[0].resume_token
    refused_ones: list[tuple[Metadata, dict[str, str]]] = [
        (who, {"resume_token": of_one}),
        (who, {"resume_token": of_all, "session_id": session}),
        (who, {"resume_token": of_one, "session_id": another}),
        (who, {"resume_token": of_all[:-1]}),
        (who, {"resume_token": "made up"}),
        (_signed_in(stack, f"other-{ann}"), {"resume_token": of_all}),
    ]
    for other, request in refused_ones:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _frames(messages, other, **request)
        invalid = Refused("INVALID_ARGUMENT", "RESUME_TOKEN_INVALID")
        assert refusal_over_grpc(refused.value) == invalid


def test_an_export_over_http_is_a_line_of_json_for_each_frame(person: MakePerson, ann: str) -> None:
    someone = person(ann)
    session = someone.new_session()
    said = [someone.say(session, f"line {number}") for number in range(3)]
    frames = [
        json.loads(line) for line in someone.http.get("/v1/messages:export").text.splitlines()
    ]
    assert [message for frame in frames for message in frame["messages"]] == said
    assert frames[-1]["end"] == {"messages": "3"}
    path = f"/v1/messages:export?resumeToken={frames[0]['resumeToken']}"
    assert json.loads(someone.http.get(path).text) == frames[-1]
    missing = someone.http.get(f"/v1/messages:export?sessionId={ABSENT}")
    assert refusal_in(missing) == Refused("NOT_FOUND", "SESSION_NOT_FOUND")


def test_how_an_export_over_http_2_ended_is_in_its_trailers(
    stack: Stack, person: MakePerson, ann: str
) -> None:
    someone = person(ann)
    session = someone.new_session()
    first, second = (someone.say(session, text)["messageId"] for text in ("one", "two"))

    def status() -> str:
        command = ["curl", "--silent", "--verbose", "--http2-prior-knowledge", "--header"]
        command += [f"authorization: Bearer {stack.token(ann)}", f"{stack.url}/v1/me:export"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "< HTTP/2 200" in done.stderr
        return str(re.findall(r"^< grpc-status: (\d+)", done.stderr, re.MULTILINE)[-1])

    assert status() == "0"
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        database.execute(
            "UPDATE messages.messages SET body = (SELECT body FROM messages.messages"
            " WHERE message_id = %s) WHERE message_id = %s",
            (first, second),
        )
    assert status() == str(grpc.StatusCode.DATA_LOSS.value[0])
