"""ImportMessages: what comes from elsewhere stands here in the same order, once."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

import grpc
import psutil
import pytest
from inglenook.messages.v1.messages_pb2 import (
    ImportMessagesRequest,
    ImportMessagesResponse,
    Message,
    Role,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack
from tests.integration.calls import ABSENT, MakePerson, Person, Refused, refusal_over_grpc

SAID = datetime(2020, 2, 29, 12, tzinfo=UTC)


def said(session: str, number: int, content: str = "") -> Message:
    message = Message(
        session_id=session,
        message_id=str(uuid5(UUID(session), str(number))),
        role=Role.ROLE_ASSISTANT if number % 2 else Role.ROLE_USER,
        content=content or f"line {number}",
        model="m" if number % 2 else "",
    )
    message.create_time.FromDatetime(SAID)
    message.metadata["number"] = number
    return message


def requests(messages: Iterable[Message], each: int = 7) -> Iterator[ImportMessagesRequest]:
    pending: list[Message] = []
    for message in messages:
        pending.append(message)
        if len(pending) == each:
            yield ImportMessagesRequest(messages=pending)
            pending = []
    yield ImportMessagesRequest(messages=pending)


class Importing:
    """A person who imports."""

    def __init__(self, stack: Stack, channel: grpc.Channel) -> None:
        self._stack = stack
        self._stub = MessagesServiceStub(channel)

    def bring(
        self, sent: Iterable[ImportMessagesRequest], person: str = "alice"
    ) -> ImportMessagesResponse:
        metadata = (("authorization", f"Bearer {self._stack.token(person)}"),)
        return self._stub.ImportMessages(iter(sent), metadata=metadata, timeout=300)

    def refused(self, sent: Iterable[ImportMessagesRequest]) -> Refused:
        with pytest.raises(grpc.RpcError) as refused:
            self.bring(sent)
        return refusal_over_grpc(refused.value)


@pytest.fixture(params=["messages", "gateway"])
def importing(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Importing]:
    with grpc.insecure_channel(stack.ports.address(request.param)) as channel:
        yield Importing(stack, channel)


@pytest.fixture
def straight(stack: Stack) -> Iterator[Importing]:
    with grpc.insecure_channel(stack.ports.address("messages")) as channel:
        yield Importing(stack, channel)


def listed(person: Person, session: str) -> list[Any]:
    path = f"/v1/sessions/{session}/messages?order=ORDER_OLDEST_FIRST&pageSize=200"
    return list(person.call("GET", path)["messages"])


def test_an_import_keeps_order_times_and_roles(importing: Importing, person: MakePerson) -> None:
    alice = person("alice")
    first, second = alice.new_session(), alice.new_session()
    alice.say(first, "said here")
    both = [said(session, number) for number in range(1, 31) for session in (first, second)]
    answer = importing.bring(requests(both))
    assert (answer.imported, answer.present, answer.conflicting) == (60, 0, 0)
    here, *brought = listed(alice, first)
    assert "importTime" not in here
    assert [message["sequence"] for message in brought] == list(range(2, 32))
    assert [message["content"] for message in brought] == [f"line {n}" for n in range(1, 31)]
    assert [message["metadata"]["number"] for message in brought] == list(range(1, 31))
    assert {message["createTime"] for message in brought} == {"2020-02-29T12:00:00Z"}
    assert {message["updateTime"] for message in brought} == {"2020-02-29T12:00:00Z"}
    assert all(message["importTime"] > here["createTime"] for message in brought)
    assert {message["role"] for message in brought} == {"ROLE_USER", "ROLE_ASSISTANT"}
    assert len(listed(alice, second)) == 30


def test_an_import_can_be_repeated_whole_and_from_any_point(
    importing: Importing, person: MakePerson
) -> None:
    alice = person("alice")
    session = alice.new_session()
    messages = [said(session, number) for number in range(1, 21)]
    assert importing.bring(requests(messages[:12])).imported == 12
    answer = importing.bring(requests(messages))
    assert (answer.imported, answer.present, answer.conflicting) == (8, 12, 0)
    twice = importing.bring(requests([messages[3], messages[3]]))
    assert (twice.imported, twice.present) == (0, 2)
    new = said(session, 21)
    assert importing.bring(requests([new, new])).present == 1
    contents = [message["content"] for message in listed(alice, session)]
    assert contents == [f"line {number}" for number in range(1, 22)]


def test_what_is_there_is_left_as_it_is(importing: Importing, person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    messages = [said(session, number) for number in range(6)]
    importing.bring(requests(messages))
    path = f"/v1/sessions/{session}/messages"
    alice.call("DELETE", f"{path}/{messages[1].message_id}")
    alice.call("PATCH", f"{path}/{messages[2].message_id}", {"content": "changed"})
    others = [said(session, 3, "other words"), said(session, 4)]
    others[1].role = Role.ROLE_SYSTEM
    answer = importing.bring(requests([*messages, *others]))
    assert (answer.imported, answer.present, answer.conflicting) == (0, 5, 3)
    assert list(answer.conflicting_message_ids) == [
        messages[number].message_id for number in (1, 3, 4)
    ]
    contents = [message["content"] for message in listed(alice, session)]
    assert contents == ["line 0", "changed", "line 3", "line 4", "line 5"]


def test_an_import_into_a_strangers_session_brings_nothing(
    importing: Importing, person: MakePerson
) -> None:
    bobs = person("bob").new_session()
    nothing = Refused("NOT_FOUND", "SESSION_NOT_FOUND")
    assert importing.refused(requests([said(bobs, 1)])) == nothing
    assert importing.refused(requests([said(ABSENT, 1)])) == nothing
    assert listed(person("bob"), bobs) == []


def _changed(**fields: Any) -> Message:  # noqa: ANN401 - values of any field
    message = said(str(uuid4()), 1)
    message.MergeFrom(Message(metadata=fields.pop("metadata", {})))
    for field, value in fields.items():
        setattr(message, field, value)
    return message


@pytest.mark.parametrize(
    "bad",
    [
        _changed(session_id=""),
        _changed(message_id=""),
        _changed(role=0),
        _changed(content=""),
        _changed(metadata={"more": "x" * 17_000}),
        _changed(metadata={"more": "\0"}),
    ],
)
def test_a_bad_message_ends_an_import_and_what_came_before_is_kept(
    straight: Importing, person: MakePerson, bad: Message
) -> None:
    alice = person("alice")
    session = alice.new_session()
    if bad.session_id:
        bad.session_id = session
    sent = [said(session, 1), bad, said(session, 2)]
    invalid = Refused("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert straight.refused(requests(sent, each=1)) == invalid
    assert [message["content"] for message in listed(alice, session)] == ["line 1"]


def test_a_time_that_lies_ahead_or_is_not_given_is_now(
    straight: Importing, person: MakePerson
) -> None:
    alice = person("alice")
    session = alice.new_session()
    ahead, without, early = (said(session, number) for number in range(3))
    ahead.create_time.FromDatetime(datetime(2199, 1, 1, tzinfo=UTC))
    without.ClearField("create_time")
    early.update_time.FromDatetime(datetime(2019, 1, 1, tzinfo=UTC))
    straight.bring(requests([ahead, without, early]))
    first, second, third = listed(alice, session)
    for message in (first, second):
        assert message["createTime"] == message["updateTime"] == message["importTime"]
    assert third["createTime"] == third["updateTime"] == "2020-02-29T12:00:00Z"


def test_over_http_an_import_is_a_list_of_requests(person: MakePerson) -> None:
    alice = person("alice")
    session = alice.new_session()
    first = {"sessionId": session, "messageId": str(uuid4()), "role": "ROLE_USER", "content": "a"}
    second = first | {"messageId": str(uuid4()), "content": "b"}
    second["createTime"] = "2020-01-01T00:00:00Z"
    body = [{"messages": [first]}, {"messages": [second]}]
    answer = alice.call("POST", "/v1/messages:import", body)
    assert answer["imported"] == "2"
    brought = listed(alice, session)
    assert [message["content"] for message in brought] == ["a", "b"]
    assert brought[1]["createTime"] == "2020-01-01T00:00:00Z"
    bad = alice.http.post("/v1/messages:import", content=json.dumps([{"messages": 7}]))
    assert bad.status_code == 400


def test_a_message_of_a_bad_request_is_named_by_its_place(person: MakePerson) -> None:
    alice = person("alice")
    good = {"sessionId": ABSENT, "messageId": ABSENT, "role": "ROLE_USER", "content": "a"}
    bad = {**good, "messageId": "nonsense"}
    body = [{"messages": [good, bad]}]
    details = alice.http.post("/v1/messages:import", json=body).json()["details"]
    assert details[1]["fieldViolations"][0]["field"] == "messages[1].message_id"


async def test_memory_does_not_grow_with_what_is_imported(stack: Stack, person: MakePerson) -> None:
    session = person("alice").new_session()
    process = psutil.Process(stack.processes.pids()["messages"])
    metadata = (("authorization", f"Bearer {stack.token('alice')}"),)

    async def sent(first: int, last: int) -> AsyncIterator[ImportMessagesRequest]:
        content = "x" * 2_000
        for start in range(first, last, 200):
            messages = [said(session, number, content) for number in range(start, start + 200)]
            yield ImportMessagesRequest(messages=messages)

    async with grpc.aio.insecure_channel(stack.ports.address("messages")) as channel:
        stub: Any = MessagesServiceStub(channel)
        warm = await stub.ImportMessages(sent(0, 2_000), metadata=metadata, timeout=300)
        before = process.memory_info().rss
        more = await stub.ImportMessages(sent(2_000, 12_000), metadata=metadata, timeout=300)
        grown = process.memory_info().rss - before
    assert (warm.imported, more.imported) == (2_000, 10_000)
    assert grown < 7 << 20, "of 20 MB that went through"
