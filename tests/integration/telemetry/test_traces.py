"""A call can be followed through every process it passes, and its trace tells of nobody."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any
from uuid import uuid4

from inglenook.messages.v1.messages_pb2 import AppendMessageRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

from local.stack import Stack
from tests.integration.calls import ABSENT, MakePerson, Person
from tests.integration.certificates import channel_to
from tests.integration.eventually import eventually
from tests.otlp_receiver import Received, Receiver

_APPEND = "inglenook.messages.v1.MessagesService/AppendMessage"
_GET_SESSION = "inglenook.sessions.v1.SessionsService/GetSession"


class _Trace:
    """The trace of a call that came by the gateway, as it comes in."""

    def __init__(self, receiver: Receiver, request_id: str) -> None:
        self._receiver = receiver
        self._request_id = request_id

    @property
    def spans(self) -> list[Received]:
        return self._receiver.trace_of(self._request_id)

    def span(self, service: str, name: str) -> Received:
        """The span of a service that has this in its name, once it came."""

        def found() -> list[Received]:
            return [s for s in self.spans if s.service == service and name in s.span.name]

        eventually(lambda: bool(found()))
        (one,) = found()
        return one


def _post(person: Person, session: str, content: str, **headers: str) -> str:
    """Says something over HTTP; gives the request id of the call."""
    path = f"/v1/sessions/{session}/messages"
    answer = person.http.post(path, json={"content": content}, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-request-id"])


def _append(stack: Stack, session: str, person: str, traceparent: str) -> None:
    """Says something at the messages service itself, as part of a trace."""
    metadata = (("authorization", f"Bearer {stack.token(person)}"), ("traceparent", traceparent))
    with channel_to(stack, "messages", "gateway") as channel:
        request = AppendMessageRequest(session_id=session, content="hello")
        MessagesServiceStub(channel).AppendMessage(request, metadata=metadata, timeout=30)


def test_an_append_is_one_trace_from_the_gateway_to_the_database(
    stack: Stack, person: MakePerson, receiver: Receiver
) -> None:
    alice = person("alice")
    session = alice.new_session()
    alice.say(session, "the first, for which the session is asked for")
    trace = _Trace(receiver, _post(alice, session, "hello"))
    edge = trace.span("gateway", "ingress")
    call = trace.span("messages", _APPEND)
    batch = trace.span("messages", "write batch")
    stored = trace.span("messages", "INSERT messages.messages")
    assert not edge.span.parent_span_id
    assert call.is_within(edge)
    assert batch.is_within(call)
    assert stored.is_within(batch)
    assert call.attributes["rpc.response.status_code"] == "OK"
    assert stored.attributes["db.system.name"] == "postgresql"
    assert not any(spanned.is_fault for spanned in trace.spans)


def test_a_call_to_another_service_is_part_of_the_trace(
    stack: Stack, person: MakePerson, receiver: Receiver
) -> None:
    alice = person("alice")
    trace = _Trace(receiver, _post(alice, alice.new_session(), "hello"))
    asking = trace.span("messages", _GET_SESSION)
    asked = trace.span("sessions", _GET_SESSION)
    assert asking.is_within(trace.span("messages", _APPEND))
    assert asked.is_within(asking)
    assert trace.span("sessions", "SELECT sessions.sessions").is_within(asked)


def test_what_a_service_does_unasked_is_a_trace_of_its_own(
    stack: Stack, person: MakePerson, receiver: Receiver
) -> None:
    alice = person("alice")
    alice.say(alice.new_session(), "hello")
    path = "inglenook.sessions.v1.SessionsService/RecordActivity"

    def delivered() -> list[Received]:
        named = [spanned for spanned in receiver.spans if spanned.span.name == path]
        return [spanned for spanned in named if spanned.service == "sessions"]

    eventually(lambda: bool(delivered()))
    trace = delivered()[-1].span.trace_id
    eventually(
        lambda: any(
            spanned.span.trace_id == trace and spanned.span.name == "deliver activity"
            for spanned in receiver.spans
        )
    )


def test_a_batch_is_linked_with_the_calls_of_all_whose_writes_it_has(
    stack: Stack, person: MakePerson, receiver: Receiver
) -> None:
    alice = person("alice")
    sessions = [alice.new_session() for _ in range(8)]
    for session in sessions:
        alice.say(session, "the first")

    def say(session: str) -> None:
        _append(stack, session, "alice", f"00-{uuid4().hex}-{uuid4().hex[:16]}-01")

    def linked() -> list[Received]:
        return [s for s in receiver.spans if s.span.name == "write batch" and s.span.links]

    def has_come_together() -> bool:
        # Whether two do is up to chance.
        with ThreadPoolExecutor(len(sessions)) as callers:
            list(callers.map(say, sessions))
        return bool(linked())

    eventually(has_come_together)
    batch = linked()[0]
    link = batch.span.links[0]

    def calls() -> list[Received]:
        return [s for s in receiver.spans if s.span.span_id == link.span_id]

    eventually(lambda: bool(calls()))
    (call,) = calls()
    assert call.span.name == _APPEND
    assert call.span.trace_id == link.trace_id != batch.span.trace_id
    assert [back.span_id for back in call.span.links] == [batch.span.span_id]


def test_whoever_saw_a_call_first_decides_whether_it_is_traced(
    stack: Stack, person: MakePerson, receiver: Receiver
) -> None:
    alice = person("alice")
    session = alice.new_session()
    untraced, traced = uuid4().hex, uuid4().hex
    _append(stack, session, "alice", f"00-{untraced}-{uuid4().hex[:16]}-00")
    _append(stack, session, "alice", f"00-{traced}-{uuid4().hex[:16]}-01")

    def names(trace: str) -> set[str]:
        return {s.span.name for s in receiver.spans if s.span.trace_id.hex() == trace}

    eventually(lambda: _APPEND in names(traced))
    assert not names(untraced)


def test_a_stranger_does_not_decide_what_is_traced(
    stack: Stack, person: MakePerson, receiver: Receiver
) -> None:
    alice = person("alice")
    theirs = uuid4().hex
    request_id = _post(
        alice, alice.new_session(), "hello", traceparent=f"00-{theirs}-{uuid4().hex[:16]}-00"
    )
    call = _Trace(receiver, request_id).span("messages", _APPEND)
    assert call.span.trace_id.hex() != theirs


def test_a_refusal_is_the_caller_s_fault(
    stack: Stack, person: MakePerson, receiver: Receiver
) -> None:
    answer = person("alice").http.get(f"/v1/sessions/{ABSENT}/messages")
    trace = _Trace(receiver, answer.headers["x-request-id"])
    call = trace.span("messages", "ListMessages")
    assert call.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert not call.is_fault


def test_the_span_of_a_stream_ends_with_it(
    stack: Stack, person: MakePerson, receiver: Receiver
) -> None:
    alice = person("alice")
    session = alice.new_session()
    with alice.http.stream("GET", f"/v1/sessions/{session}/messages:watch") as answer:
        list(islice(answer.iter_lines(), 1))
        request_id = answer.headers["x-request-id"]
    call = _Trace(receiver, request_id).span("messages", "WatchMessages")
    assert call.attributes["rpc.response.status_code"] == "CANCELLED"
    assert not call.is_fault


def test_traces_tell_of_nobody(stack: Stack, person: MakePerson, receiver: Receiver) -> None:
    canary = f"canary{uuid4().hex}"
    alice = person("alice")
    session = alice.new_session(canary)
    said: Any = alice.say(session, canary, model=canary, metadata={canary: canary})
    listed = alice.http.get(f"/v1/sessions/{session}/messages", params={"pageToken": canary})
    assert listed.status_code == 400
    alice.http.post("/v1/messages:search", json={"query": canary})
    alice.http.post(f"/v1/sessions/{session}/messages", json={"content": canary + "\0"})
    last = alice.http.get(f"/v1/sessions/{session}/messages", headers={"user-agent": canary})
    _Trace(receiver, last.headers["x-request-id"]).span("gateway", "ingress")
    sent = b"".join(receiver.raw)
    assert _APPEND.encode() in sent
    # Where people call from, and with what, is not told by the one who knows.
    assert {s.attributes["peer.address"] for s in receiver.spans if s.span.name == "ingress"} == {
        "-"
    }
    for told in (canary, session, said["messageId"], "alice", "Bearer"):
        assert told.encode() not in sent


def test_without_a_collector_nothing_of_it_is_loaded() -> None:
    program = (
        "import sys, services.messages.__main__, services.users.__main__, gateway.__main__\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
