"""Searching: finds what was said, everywhere and only among one's own, at a bounded cost."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from inglenook.messages.v1.messages_pb2 import (
    ImportMessagesRequest,
    Message,
    Role,
    SearchHit,
    SearchMessagesRequest,
    SearchMessagesResponse,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack, free_ports
from services.messages.search import UNDER_WAY_FOR_A_PERSON
from tests.integration.calls import MakePerson, Person, Refused, refusal_over_grpc
from tests.integration.replicas import start_replica

Metadata = tuple[tuple[str, str], ...]
SMALL_BUDGET = 7


@dataclass
class Found:
    """What a search gave, frame by frame."""

    frames: list[SearchMessagesResponse] = field(default_factory=list)

    @property
    def hits(self) -> list[SearchHit]:
        return [hit for frame in self.frames for hit in frame.hits]

    @property
    def matches(self) -> list[str]:
        return [hit.match for hit in self.hits]

    @property
    def token(self) -> str:
        return self.frames[-1].next_page_token


@pytest.fixture
def ann(stack: Stack) -> str:
    """A person of this test's own."""
    return f"ann-{uuid4().hex}"


def _signed_in(stack: Stack, name: str) -> Metadata:
    return (("authorization", f"Bearer {stack.token(name)}"),)


@pytest.fixture
async def messages(stack: Stack) -> AsyncIterator[MessagesServiceStub]:
    async with grpc.aio.insecure_channel(stack.ports.address("messages")) as channel:
        yield MessagesServiceStub(channel)


@pytest.fixture(scope="module")
def frugal(stack: Stack) -> Iterator[str]:
    """A replica whose searches end after a few messages; gives its address."""
    port = free_ports().gateway
    process = start_replica(stack, port, search_messages=str(SMALL_BUDGET))
    yield f"127.0.0.1:{port}"
    process.terminate()
    assert process.wait(60) == 0


def _start(messages: MessagesServiceStub, who: Metadata, **request: Any) -> Any:  # noqa: ANN401
    return messages.SearchMessages(SearchMessagesRequest(**request), metadata=who, timeout=60)


async def _search(
    messages: MessagesServiceStub,
    who: Metadata,
    **request: Any,  # noqa: ANN401 - the request's fields
) -> Found:
    return Found([frame async for frame in _start(messages, who, **request)])


async def _import(
    messages: MessagesServiceStub, who: Metadata, session: str, contents: list[str]
) -> None:
    said = [_said(session, content) for content in contents]
    # One in each request: a request has at most a mebibyte.
    requests = [ImportMessagesRequest(messages=[message]) for message in said]
    call: Any = messages.ImportMessages(iter(requests), metadata=who, timeout=60)
    await call


def _said(session: str, content: str) -> Message:
    message_id = str(uuid4())
    return Message(session_id=session, message_id=message_id, role=Role.ROLE_USER, content=content)


def _three_talks(person: MakePerson, name: str) -> tuple[Person, list[str]]:
    """What is said in turns in three sessions: eighteen lines, each with its number."""
    someone = person(name)
    sessions = [someone.new_session() for _ in range(3)]
    for number in range(18):
        someone.say(sessions[number % 3], f"Été number{number:02}. The rest of the line.")
    return someone, sessions


async def test_what_was_said_is_found_in_every_session_the_newest_first(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    _, sessions = _three_talks(person, ann)
    found = await _search(messages, _signed_in(stack, ann), query="NUMBER ete")
    assert found.matches == ["Été"] * 18
    assert [hit.after for hit in found.hits] == [
        f" number{number:02}. The rest of the line." for number in reversed(range(18))
    ]
    assert [hit.session_id for hit in found.hits] == list(reversed(sessions)) * 6
    assert [hit.sequence for hit in found.hits] == [number // 3 + 1 for number in range(17, -1, -1)]
    assert found.token == ""
    assert found.frames[-1].messages_read == 18


async def test_a_search_in_one_session_stays_there(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    _, sessions = _three_talks(person, ann)
    who = _signed_in(stack, ann)
    found = await _search(messages, who, query="number", session_id=sessions[1])
    assert [hit.sequence for hit in found.hits] == [6, 5, 4, 3, 2, 1]
    assert {hit.session_id for hit in found.hits} == {sessions[1]}
    assert found.frames[-1].messages_read == 6


async def test_another_persons_words_are_never_found(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    word = uuid4().hex
    session = str(uuid4())
    ben = person("search-ben")
    for someone in (person(ann), ben):
        # The same id for a session of each: ids are a person's own.
        someone.call("POST", "/v1/sessions", {"sessionId": session})
    ben.say(session, f"a secret {word}")
    person(ann).say(session, "something else")
    who = _signed_in(stack, ann)
    for where in ({}, {"session_id": session}):
        found = await _search(messages, who, query=word, **where)
        assert found.hits == []
        assert found.frames[-1].messages_read == 1
    (hit,) = (await _search(messages, _signed_in(stack, "search-ben"), query=word)).hits
    assert hit.before == "a secret "


async def test_a_deleted_session_is_not_found_though_its_rows_are_there_still(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    _, sessions = _three_talks(person, ann)
    who = _signed_in(stack, ann)
    assert len((await _search(messages, who, query="number")).hits) == 18
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE messages.conversations SET delete_time = now() WHERE session_id = %s",
            (sessions[0],),
        )
    found = await _search(messages, who, query="number")
    assert {hit.session_id for hit in found.hits} == set(sessions[1:])
    assert found.frames[-1].messages_read == 12


async def test_a_deleted_message_is_not_found_and_a_changed_one_by_its_new_words(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    someone = person(ann)
    session = someone.new_session()
    path = f"/v1/sessions/{session}/messages"
    deleted, changed = (someone.say(session, "the word")["messageId"] for _ in range(2))
    someone.call("DELETE", f"{path}/{deleted}")
    someone.call("PATCH", f"{path}/{changed}", {"content": "another"})
    who = _signed_in(stack, ann)
    for where in ({}, {"session_id": session}):
        assert (await _search(messages, who, query="word", **where)).hits == []
        (hit,) = (await _search(messages, who, query="another", **where)).hits
        assert hit.message_id == changed


@pytest.mark.parametrize("in_one_session", [False, True])
async def test_going_on_after_a_budget_is_spent_covers_everything_exactly_once(
    stack: Stack, person: MakePerson, frugal: str, ann: str, in_one_session: bool
) -> None:
    someone, sessions = _three_talks(person, ann)
    where: dict[str, Any] = {"session_id": sessions[0]} if in_one_session else {}
    if in_one_session:
        for number in range(12):
            someone.say(sessions[0], f"number{number:02} of more")
    who = _signed_in(stack, ann)
    read, hits, token, calls = 0, [], "", 0
    async with grpc.aio.insecure_channel(frugal) as channel:
        stub = MessagesServiceStub(channel)
        while calls == 0 or token:
            found = await _search(stub, who, query="number", page_token=token, **where)
            assert found.frames[-1].messages_read <= SMALL_BUDGET
            read += found.frames[-1].messages_read
            hits += found.hits
            token = found.token
            calls += 1
    assert calls > 2
    assert read == len(hits) == len({hit.message_id for hit in hits}) == 18
    assert sorted(hits, key=lambda hit: hit.create_time.ToNanoseconds(), reverse=True) == hits


async def test_a_page_of_hits_ends_the_call_and_the_next_one_goes_on(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    _three_talks(person, ann)
    who = _signed_in(stack, ann)
    whole = await _search(messages, who, query="number")
    hits: list[SearchHit] = []
    token = ""
    for _ in range(4):
        page = await _search(messages, who, query="number", page_size=5, page_token=token)
        assert len(page.hits) <= 5
        hits += page.hits
        token = page.token
    assert hits == whole.hits
    assert token == ""


async def test_messages_of_the_same_moment_are_read_once_each(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    who = _signed_in(stack, ann)
    sessions = [person(ann).new_session() for _ in range(2)]

    said = [_said(session, "same") for session in sessions for _ in range(10)]
    for message in said:
        message.create_time.FromSeconds(1_700_000_000)
    requests = iter([ImportMessagesRequest(messages=said)])
    call: Any = messages.ImportMessages(requests, metadata=who, timeout=60)
    await call
    places: list[tuple[str, int]] = []
    token = ""
    while len(places) < 20:
        found = await _search(messages, who, query="same", page_size=3, page_token=token)
        places += [(hit.session_id, hit.sequence) for hit in found.hits]
        token = found.token
    assert places == [
        (session, sequence)
        for session in sorted(sessions, reverse=True)
        for sequence in range(10, 0, -1)
    ]


async def test_a_long_search_says_how_far_it_has_got(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    who = _signed_in(stack, ann)
    session = person(ann).new_session()
    await _import(messages, who, session, ["x" * 50_000] * 200)
    found = await _search(messages, who, query="absent")
    assert len(found.frames) > 2
    read = [frame.messages_read for frame in found.frames]
    assert read == sorted(read)
    assert read[-1] == 200
    # Each of its tokens goes on where its frame stood.
    for frame in found.frames[:-1]:
        rest = await _search(messages, who, query="absent", page_token=frame.next_page_token)
        assert frame.messages_read + rest.frames[-1].messages_read == 200


async def test_a_message_that_does_not_open_ends_the_search(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    someone = person(ann)
    session = someone.new_session()
    message = someone.say(session, "altered")["messageId"]
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE messages.messages SET body = set_byte(body, 40, 255 - get_byte(body, 40))"
            " WHERE message_id = %s",
            (message,),
        )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _search(messages, _signed_in(stack, ann), query="altered")
    assert refusal_over_grpc(refused.value) == Refused("DATA_LOSS", "DATA_UNREADABLE")


async def _hold(messages: MessagesServiceStub, who: Metadata) -> Any:  # noqa: ANN401 - a call
    """A search under way whose client takes its first frame and no more."""
    call = _start(messages, who, query="e", page_size=200)
    assert (await call.read()).hits
    return call


async def _hold_if_there_is_room(messages: MessagesServiceStub, who: Metadata) -> Any:  # noqa: ANN401
    try:
        return await _hold(messages, who)
    except grpc.aio.AioRpcError as error:
        if refusal_over_grpc(error).reason != "SERVER_BUSY":
            raise
        return None


@pytest.fixture
async def much(stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str) -> None:
    """So much to find that a search cannot end before its client reads on."""
    # A match of tens of kilobytes, since a letter goes with all of its marks.
    content = "e" + "\u0301" * 49_000
    who = _signed_in(stack, ann)
    await _import(messages, who, person(ann).new_session(), [content] * 100)


async def test_a_persons_searches_under_way_are_few_and_one_that_is_left_makes_room(
    stack: Stack, messages: MessagesServiceStub, ann: str, much: None
) -> None:
    who = _signed_in(stack, ann)
    held = [await _hold(messages, who) for _ in range(UNDER_WAY_FOR_A_PERSON)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _search(messages, who, query="e")
    assert refusal_over_grpc(refused.value) == Refused("RESOURCE_EXHAUSTED", "SERVER_BUSY")
    assert _retry_info(refused.value).retry_delay.ToMilliseconds() > 0
    # Somebody else is not kept from searching.
    other = await _search(messages, _signed_in(stack, "search-other"), query="e")
    assert other.token == ""
    # Its room is free once its reading has stopped: nothing else ends a search that is not read.
    held[0].cancel()
    async with asyncio.timeout(60):
        while True:
            again = await _hold_if_there_is_room(messages, who)
            if again is not None:
                break
    for call in (*held[1:], again):
        call.cancel()


async def test_a_stopping_replica_ends_a_search_with_a_token_that_goes_on_elsewhere(
    stack: Stack, messages: MessagesServiceStub, ann: str, much: None
) -> None:
    who = _signed_in(stack, ann)
    port = free_ports().gateway
    stopping = start_replica(stack, port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        frames = aiter(_start(MessagesServiceStub(channel), who, query="e", page_size=200))
        begun = Found([await anext(frames)])
        stopping.terminate()
        begun.frames += [frame async for frame in frames]
    assert stopping.wait(60) == 0
    assert begun.token
    hits, token = begun.hits, begun.token
    while token:
        # More than once where a processor's time is used up by what is left.
        rest = await _search(messages, who, query="e", page_size=200, page_token=token)
        hits, token = hits + rest.hits, rest.token
    assert [hit.sequence for hit in hits] == list(range(100, 0, -1))


def _retry_info(error: grpc.aio.AioRpcError) -> RetryInfo:
    trailers: dict[str, Any] = dict(error.trailing_metadata())
    info = RetryInfo()
    details = Status.FromString(trailers["grpc-status-details-bin"]).details
    assert any(detail.Unpack(info) for detail in details)
    return info


def test_a_search_over_http_is_a_line_of_json_for_each_frame(person: MakePerson, ann: str) -> None:
    someone = person(ann)
    session = someone.new_session()
    said = someone.say(session, "Grüße aus dem Garten")
    answer = someone.http.post("/v1/messages:search", json={"query": "GRUSSE"})
    frames = [json.loads(line) for line in answer.text.splitlines()]
    (hit,) = [hit for frame in frames for hit in frame["hits"]]
    assert hit == {
        "sessionId": session,
        "messageId": said["messageId"],
        "sequence": 1,
        "role": "ROLE_USER",
        "createTime": said["createTime"],
        "before": "",
        "match": "Grüße",
        "after": " aus dem Garten",
    }
    assert (frames[-1]["messagesRead"], frames[-1]["nextPageToken"]) == ("1", "")


@pytest.mark.parametrize("query", ["", " ", "\u2003\n", "\u0301", "a\0b", "x" * 201])
def test_a_query_without_a_word_or_too_long_is_refused(
    person: MakePerson, ann: str, query: str
) -> None:
    invalid = Refused("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert person(ann).refused("POST", "/v1/messages:search", {"query": query}) == invalid


async def test_a_page_token_is_good_for_its_own_search_only(
    stack: Stack, person: MakePerson, messages: MessagesServiceStub, ann: str
) -> None:
    _, sessions = _three_talks(person, ann)
    who = _signed_in(stack, ann)
    page = await _search(messages, who, query="number", page_size=1)
    others: list[tuple[Metadata, dict[str, Any]]] = [
        (who, {"query": "another"}),
        (who, {"query": "number", "session_id": sessions[0]}),
        (_signed_in(stack, "search-other"), {"query": "number"}),
    ]
    for other, request in others:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _search(messages, other, page_token=page.token, **request)
        assert refusal_over_grpc(refused.value) == Refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
