"""What one person may keep and hold open: so much, and then a refusal that says what to do."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx
import pytest
from inglenook.messages.v1.messages_pb2 import (
    AppendMessageRequest,
    StreamMessageHeader,
    StreamMessageRequest,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import CreateSessionRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from clients.convex.documents import Session
from clients.convex.inglenook import Caller, Inglenook, RefusedError
from local.stack import PROTO_SERVICES, Stack
from services.messages.quota import Quota
from services.messages.usage import UsageStore
from services.runtime.database import Database
from services.runtime.service_tokens import ServiceTokens
from tests.integration.calls import Person, Refused, refusal_in, refusal_over_grpc
from tests.integration.eventually import eventually
from tests.integration.gateways import started_gateway, trusting_as
from tests.integration.replicas import reserved_port, start_replica
from tests.integration.test_usage import stored_bytes

QUOTA = Refused("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
TOO_MANY = Refused("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
SESSIONS = 3
AT_ONCE = 12
BYTES = 20_000
TEXT = "x" * 4_000
FITTING = BYTES // len(TEXT) - 1
"""How many messages of that text there is room for: an envelope takes somewhat more."""
OWN_SETTINGS = {
    "users": {"streams_per_person": "1"},
    "sessions": {"sessions_per_person": str(SESSIONS)},
    "messages": {"streams_per_person": "1", "bytes_per_person": str(BYTES)},
}


@dataclass(frozen=True)
class Narrow:
    """Processes that leave a person little, behind a gateway of their own."""

    stack: Stack
    url: str
    ports: dict[str, int]

    def person(self, name: str) -> Person:
        """Somebody who calls there."""
        person = Person(self.stack, name)
        person.http.base_url = httpx.URL(self.url)
        return person

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.ports[service]}"


def stop(process: "Popen[bytes]") -> None:
    process.terminate()
    assert process.wait(60) == 0


@pytest.fixture(scope="module")
def narrow(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Narrow]:
    folder: Path = tmp_path_factory.mktemp("narrow")
    with ExitStack() as running:
        ports = {service: running.enter_context(reserved_port()) for service in OWN_SETTINGS}
        for service, settings in OWN_SETTINGS.items():
            running.callback(stop, start_replica(stack, ports[service], service, **settings))
        upstreams = {PROTO_SERVICES[name]: f"127.0.0.1:{port}" for name, port in ports.items()}
        gateway = running.enter_context(started_gateway(folder, upstreams, **trusting_as(stack)))
        yield Narrow(stack, gateway.url, ports)


@pytest.fixture
def alice(narrow: Narrow) -> Iterator[Person]:
    """A person of this test's own."""
    with closing(narrow.person(f"alice-{uuid4()}")) as alice:
        yield alice


def acting_for(service: ServiceTokens, person: Person) -> tuple[tuple[str, str]]:
    """The metadata of a service's call for a person."""
    user_id = UUID(person.call("GET", "/v1/me")["user"]["userId"])
    return (("authorization", f"Bearer {service.token(acting_for=user_id)}"),)


def details_of(answer: httpx.Response) -> dict[str, dict[str, object]]:
    """The details of a refusal, by their type."""
    assert answer.status_code == 429, answer.text
    return {str(one["@type"]).rpartition(".")[2]: one for one in answer.json()["details"]}


def test_a_person_has_so_many_sessions_and_deleting_one_makes_room(
    narrow: Narrow, alice: Person
) -> None:
    mine = [alice.new_session() for _ in range(SESSIONS)]
    refused = alice.http.post("/v1/sessions", json={"title": "One more"})
    assert refusal_in(refused) == QUOTA
    details = details_of(refused)
    assert details["ErrorInfo"]["metadata"] == {"quota": "sessions", "limit": str(SESSIONS)}
    assert "RetryInfo" not in details
    assert "retry-after" not in refused.headers
    listed = alice.call("GET", "/v1/sessions")["sessions"]
    assert {one["sessionId"] for one in listed} == set(mine)
    with closing(narrow.person(f"bob-{uuid4()}")) as bob:
        bob.new_session()

    alice.call("DELETE", f"/v1/sessions/{mine[0]}")
    alice.new_session()
    assert alice.refused("POST", "/v1/sessions", {}) == QUOTA


def test_a_call_that_opened_a_session_can_be_repeated_when_there_is_room_for_no_more(
    alice: Person,
) -> None:
    request = {"sessionId": str(uuid4()), "title": "A talk"}
    opened = alice.call("POST", "/v1/sessions", request)
    for _ in range(SESSIONS - 1):
        alice.new_session()
    assert alice.call("POST", "/v1/sessions", request) == opened
    other = {**request, "title": "Another"}
    assert alice.refused("POST", "/v1/sessions", other) == Refused("ALREADY_EXISTS", "ID_REUSED")
    new = {**request, "sessionId": str(uuid4())}
    assert alice.refused("POST", "/v1/sessions", new) == QUOTA


def test_sessions_opened_at_once_are_as_many_as_may_be_and_no_more(
    narrow: Narrow, stack: Stack
) -> None:
    # Their very first ones: there is no row of the person's yet that would keep them apart.
    metadata = (("authorization", f"Bearer {stack.token(f'ann-{uuid4()}')}"),)
    with (
        grpc.insecure_channel(narrow.address("sessions")) as channel,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        stub = SessionsServiceStub(channel)
        calls = [
            pool.submit(partial(stub.CreateSession, metadata=metadata), CreateSessionRequest())
            for _ in range(AT_ONCE)
        ]
        refused = [error for call in calls if (error := call.exception()) is not None]
    assert len(refused) == AT_ONCE - SESSIONS
    assert all(
        isinstance(error, grpc.RpcError) and refusal_over_grpc(error) == QUOTA for error in refused
    )


def test_a_limit_of_zero_is_none_and_whoever_has_more_than_may_be_keeps_them(
    narrow: Narrow, stack: Stack, alice: Person
) -> None:
    with reserved_port() as port:
        process = start_replica(stack, port, "sessions", sessions_per_person="0")
        metadata = (("authorization", alice.http.headers["authorization"]),)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(SESSIONS + 2):
                SessionsServiceStub(channel).CreateSession(
                    CreateSessionRequest(), metadata=metadata
                )
        stop(process)
    assert alice.refused("POST", "/v1/sessions", {}) == QUOTA
    assert len(alice.call("GET", "/v1/sessions")["sessions"]) == SESSIONS + 2


@contextmanager
def opened(alice: Person, watch: str) -> Iterator[None]:
    """A watch that is open, and has brought something."""
    with alice.http.stream("GET", watch) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        yield


def _refused_stream(alice: Person, verb: str, path: str, body: object = None) -> httpx.Response:
    with alice.http.stream(verb, path, json=body) as answer:
        answer.read()
        return answer


def test_every_method_that_streams_counts_and_says_when_to_try_again(alice: Person) -> None:
    session = alice.new_session()
    watching = {"/v1/me:watch": ["/v1/me:export"]}
    watching[f"/v1/sessions/{session}/messages:watch"] = ["/v1/messages:export"]
    for watch, others in watching.items():
        with opened(alice, watch):
            for path in (watch, *others):
                refused = _refused_stream(alice, "GET", path)
                assert refusal_in(refused) == TOO_MANY
                assert details_of(refused)["RetryInfo"]["retryDelay"] == "5s"
                assert refused.headers["retry-after"] == "5"
            if "messages" in watch:
                assert alice.refused("POST", "/v1/messages:import", [{"messages": []}]) == TOO_MANY


def test_replies_that_grow_count_too(
    narrow: Narrow, responder: ServiceTokens, alice: Person
) -> None:
    session = alice.new_session()
    with opened(alice, f"/v1/sessions/{session}/messages:watch"):
        metadata = acting_for(responder, alice)
        header = StreamMessageHeader(session_id=session, message_id=str(uuid4()))
        with (
            grpc.insecure_channel(narrow.address("messages")) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            MessagesServiceStub(channel).StreamMessage(
                iter([StreamMessageRequest(header=header)]), metadata=metadata
            )
    assert refusal_over_grpc(refused.value) == TOO_MANY


def fill(alice: Person, session: str, times: int = FITTING) -> list[str]:
    """Says as much as there is room for, and gives the messages' ids."""
    return [str(alice.say(session, TEXT)["messageId"]) for _ in range(times)]


def refused_to_say(alice: Person, session: str, **more: object) -> httpx.Response:
    path = f"/v1/sessions/{session}/messages"
    return alice.http.post(path, json={"content": TEXT, **more})


def test_a_person_keeps_so_many_bytes_and_deleting_a_message_makes_room_at_once(
    narrow: Narrow, alice: Person
) -> None:
    session = alice.new_session()
    said = fill(alice, session)
    refused = refused_to_say(alice, session)
    assert refusal_in(refused) == QUOTA
    details = details_of(refused)
    assert details["ErrorInfo"]["metadata"] == {"quota": "bytes", "limit": str(BYTES)}
    assert "RetryInfo" not in details
    assert "retry-after" not in refused.headers
    with closing(narrow.person(f"bob-{uuid4()}")) as bob:
        bob.say(bob.new_session(), TEXT)

    alice.call("DELETE", f"/v1/sessions/{session}/messages/{said[0]}")
    alice.say(session, TEXT)
    assert refusal_in(refused_to_say(alice, session)) == QUOTA
    path = f"/v1/sessions/{session}/messages"
    assert len(alice.call("GET", path)["messages"]) == FITTING
    assert alice.http.get("/v1/messages:export").text.count(TEXT) == FITTING


def test_a_refusal_and_the_room_that_there_is_are_the_same_whichever_process_is_asked(
    narrow: Narrow, stack: Stack, alice: Person
) -> None:
    session = alice.new_session()
    alice.say(session, "So that this process knows what there is.")
    elsewhere = httpx.URL(stack.url)
    with httpx.Client(base_url=elsewhere, headers=alice.http.headers, timeout=60) as http:
        path = f"/v1/sessions/{session}/messages"
        answers = [http.post(path, json={"content": TEXT}) for _ in range(FITTING + 1)]
        for answer in answers:
            assert answer.status_code == 200, answer.text
        assert refusal_in(refused_to_say(alice, session)) == QUOTA
        for answer in answers[:2]:
            http.delete(f"{path}/{answer.json()['message']['messageId']}")
    alice.say(session, TEXT)


class CountedReads(UsageStore):
    """Reads how much people keep, and counts how often."""

    reads = 0

    async def total(self, person: UUID) -> int:
        self.reads += 1
        return await super().total(person)


async def test_who_is_far_from_the_limit_is_looked_at_once_and_who_reaches_it_before_each_refusal(
    stack: Stack,
) -> None:
    url = stack.service("messages").environment["INGLENOOK_DATABASE_URL"]
    ann = uuid4()
    async with Database(url, pool_size=2, name="test quota") as database:
        usage = CountedReads(database)
        quota = Quota(usage, limit=1 << 30)
        assert all(await asyncio.gather(*(quota.admits(ann, len(TEXT)) for _ in range(AT_ONCE))))
        assert all([await quota.admits(ann, len(TEXT)) for _ in range(AT_ONCE)])
        assert usage.reads == 1
        assert not await quota.admits(ann, 2 << 30)
        assert not await quota.admits(ann, 2 << 30)
        assert usage.reads == 3


def test_what_was_stored_can_be_said_again_when_there_is_room_for_no_more(alice: Person) -> None:
    session, message_id = alice.new_session(), str(uuid4())
    first = alice.say(session, TEXT, messageId=message_id)
    fill(alice, session, FITTING - 1)
    assert refusal_in(refused_to_say(alice, session)) == QUOTA
    assert alice.say(session, TEXT, messageId=message_id) == first
    path = f"/v1/sessions/{session}/messages"
    other = {"content": "Another.", "messageId": message_id}
    assert alice.refused("POST", path, other) == Refused("ALREADY_EXISTS", "ID_REUSED")


def test_an_import_of_what_is_there_goes_through_and_one_of_too_much_keeps_what_came_before(
    alice: Person,
) -> None:
    session = alice.new_session()

    def some(count: int) -> dict[str, list[dict[str, str]]]:
        named = {"sessionId": session, "role": "ROLE_USER", "content": TEXT}
        return {"messages": [{**named, "messageId": str(uuid4())} for _ in range(count)]}

    mine, more = some(FITTING), some(1)
    assert alice.refused("POST", "/v1/messages:import", [mine, more]) == QUOTA
    path = f"/v1/sessions/{session}/messages"
    assert len(alice.call("GET", path)["messages"]) == FITTING
    assert alice.call("POST", "/v1/messages:import", [mine])["present"] == str(FITTING)
    both = {"messages": [*mine["messages"], *more["messages"]]}
    assert alice.refused("POST", "/v1/messages:import", [both]) == QUOTA


def test_a_message_may_get_shorter_and_no_longer_when_there_is_room_for_no_more(
    alice: Person,
) -> None:
    session = alice.new_session()
    (first, *_) = fill(alice, session)
    path = f"/v1/sessions/{session}/messages/{first}"
    assert alice.refused("PATCH", path, {"content": TEXT * 2}) == QUOTA
    assert alice.call("GET", path)["message"]["content"] == TEXT
    assert alice.call("PATCH", path, {"content": "Less."})["message"]["content"] == "Less."
    alice.call("PATCH", path, {"content": TEXT})


def test_a_reply_is_refused_where_there_is_no_room_for_it_or_ends_where_the_room_does(
    narrow: Narrow, responder: ServiceTokens, alice: Person
) -> None:
    session, message_id = alice.new_session(), str(uuid4())
    fill(alice, session)
    metadata = acting_for(responder, alice)
    header = StreamMessageHeader(session_id=session, message_id=message_id)

    def stored(**wanted: str) -> bool:
        answer = alice.http.get(f"/v1/sessions/{session}/messages/{message_id}")
        return answer.is_success and wanted.items() <= answer.json()["message"].items()

    def growing() -> Iterator[StreamMessageRequest]:
        yield StreamMessageRequest(header=header)
        yield StreamMessageRequest(text="It begins.")
        eventually(lambda: stored(content="It begins."))
        yield StreamMessageRequest(text=TEXT)
        while True:  # It is told with what comes next.
            time.sleep(0.02)
            yield StreamMessageRequest(text=".")

    with grpc.insecure_channel(narrow.address("messages")) as channel:
        stub = MessagesServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.StreamMessage(growing(), metadata=metadata, timeout=60)
        assert refusal_over_grpc(refused.value) == QUOTA
        eventually(lambda: stored(content="It begins.", state="MESSAGE_STATE_INTERRUPTED"))

        header.message_id = str(uuid4())
        texts = [StreamMessageRequest(text=text) for text in ("It begins.", TEXT)]
        at_once = [StreamMessageRequest(header=header), *texts]
        with pytest.raises(grpc.RpcError) as refused:
            stub.StreamMessage(iter(at_once), metadata=metadata)
        assert refusal_over_grpc(refused.value) == QUOTA
        # What it takes changes when it is interrupted, and the next one is about single bytes.
        alice.call("DELETE", f"/v1/sessions/{session}/messages/{header.message_id}")

        header.message_id = str(uuid4())
        alice.say(session, TEXT[: BYTES - stored_bytes(narrow.stack, session) - 60])
        with pytest.raises(grpc.RpcError) as refused:
            stub.StreamMessage(iter([StreamMessageRequest(header=header)]), metadata=metadata)
        assert refusal_over_grpc(refused.value) == QUOTA
    others = alice.call("GET", f"/v1/sessions/{session}/messages")["messages"]
    assert header.message_id not in {message["messageId"] for message in others}


def test_as_many_bytes_as_one_likes_are_kept_where_the_limit_is_zero(
    stack: Stack, alice: Person
) -> None:
    session = alice.new_session()
    fill(alice, session)
    metadata = (("authorization", alice.http.headers["authorization"]),)
    request = AppendMessageRequest(session_id=session, content=TEXT)
    with reserved_port() as port:
        process = start_replica(stack, port, bytes_per_person="0")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(FITTING):
                MessagesServiceStub(channel).AppendMessage(request, metadata=metadata)
        stop(process)
    assert refusal_in(refused_to_say(alice, session)) == QUOTA


class Counting(grpc.aio.UnaryUnaryClientInterceptor):
    """Counts the calls that are made."""

    def __init__(self) -> None:
        self.calls = 0

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,  # noqa: ANN401 - any method's
    ) -> Any:  # noqa: ANN401 - any method's
        self.calls += 1
        return await continuation(client_call_details, request)


async def test_who_brings_sessions_over_does_not_knock_again_where_there_is_no_room(
    narrow: Narrow, alice: Person
) -> None:
    for _ in range(SESSIONS):
        alice.new_session()
    token = alice.http.headers["authorization"].removeprefix("Bearer ")
    counting = Counting()
    async with grpc.aio.insecure_channel(
        narrow.address("sessions"), interceptors=[counting]
    ) as channel:
        inglenook = Inglenook(channel, channel, Caller(lambda _subject: token, subject=None))
        session = Session(str(uuid4()), "alice", "A talk", completed=False, time=0)
        with pytest.raises(RefusedError, match="QUOTA_EXCEEDED"):
            await inglenook.open_session("alice", session)
    assert counting.calls == 1
