"""Where the parts speak TLS, a token counts with the certificate of who carries it alone."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx
import pytest
from inglenook.access.v1.access_pb2 import Access
from inglenook.messages.v1.messages_pb2 import AppendMessageRequest, ListMessagesRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import CompleteSessionRequest, GetSessionRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from contract.folders import DESCRIPTORS
from contract.methods import Method, load_methods
from deploy.certificates import PARTS, make_certificates
from local.home import PROGRAMS
from local.stack import Stack, free_ports
from services import SERVICES
from tests.integration.calls import Person, Refused, program_of, refusal_in, refusal_over_grpc
from tests.integration.certificates import channel_to
from tests.integration.eventually import eventually

MISPLACED = Refused("UNAUTHENTICATED", "TOKEN_INVALID")
METHODS = load_methods(DESCRIPTORS)
OPEN_TO_SERVICES = [
    method for method in METHODS if method.allow & {Access.ACCESS_SERVICE, Access.ACCESS_DELEGATE}
]
OPEN_TO_PEOPLE = [method for method in METHODS if Access.ACCESS_USER in method.allow]


@pytest.fixture(scope="module")
def certified(reachable_to_all: Path) -> Iterator[Stack]:
    """A stack whose parts speak TLS with each other."""
    home = reachable_to_all / "home"
    make_certificates(home / "secrets" / "certificates")
    with Stack(home, free_ports()) as running:
        yield running


@pytest.fixture
def name() -> str:
    return f"someone-{uuid4()}"


@pytest.fixture
def someone(certified: Stack, name: str) -> Iterator[Person]:
    with closing(Person(certified, name)) as signed_in:
        yield signed_in


def _token_of(stack: Stack, service: str, someone: Person) -> tuple[tuple[str, str], ...]:
    person = UUID(someone.call("GET", "/v1/me")["user"]["userId"])
    token = stack.home.service_tokens(service).token(acting_for=person)
    return (("authorization", f"Bearer {token}"),)


def _refused(call: Any, request: Any, metadata: Any) -> Refused:  # noqa: ANN401 - any method's
    with pytest.raises(grpc.RpcError) as refused:
        call(request, metadata=metadata, timeout=20)
    return refusal_over_grpc(refused.value)


def _reason(stack: Stack, method: Method, part: str, metadata: Any) -> Refused | None:  # noqa: ANN401
    """Why a call of a method that says nothing is refused; None where it is not."""
    with channel_to(stack, program_of(method), part) as channel:
        shape = "stream" if method.client_streaming else "unary"
        shape += "_stream" if method.server_streaming else "_unary"
        call: Any = getattr(channel, shape)(method.path)
        request = iter([b""]) if method.client_streaming else b""
        try:
            answer = call(request, metadata=metadata, timeout=20)
            if method.server_streaming:
                next(answer)
                answer.cancel()
        except grpc.RpcError as error:
            return refusal_over_grpc(error)
    return None


@pytest.mark.parametrize("part", PARTS)
def test_a_services_token_counts_with_its_own_certificate_and_no_other(
    certified: Stack, someone: Person, part: str
) -> None:
    session = someone.new_session()
    someone.say(session, "It has been a long day.")
    asked = ListMessagesRequest(session_id=session)
    with channel_to(certified, "messages", part) as channel:
        call: Any = MessagesServiceStub(channel).ListMessages
        for service in PROGRAMS:
            metadata = _token_of(certified, service, someone)
            if service == part:
                read = call(asked, metadata=metadata, timeout=20)
                assert [message.content for message in read.messages] == ["It has been a long day."]
            else:
                assert _refused(call, asked, metadata) == MISPLACED
    actors = {one["actor"]["name"] for one in someone.call("GET", "/v1/me/accessLog")["entries"]}
    assert actors == {part} & set(PROGRAMS)


@pytest.mark.parametrize(
    "method", OPEN_TO_SERVICES, ids=lambda method: f"{method.service}/{method.name}"
)
def test_every_method_that_is_open_to_services_asks_for_the_certificate_of_the_token(
    certified: Stack, someone: Person, method: Method
) -> None:
    metadata = _token_of(certified, "responder", someone)
    for part in {"gateway", *SERVICES} - method.passed_on_by:
        assert _reason(certified, method, part, metadata) == MISPLACED


@pytest.mark.parametrize(
    "method", OPEN_TO_PEOPLE, ids=lambda method: f"{method.service}/{method.name}"
)
def test_every_method_that_is_open_to_people_asks_for_the_gateways_certificate(
    certified: Stack, name: str, method: Method
) -> None:
    metadata = (("authorization", f"Bearer {certified.token(name)}"),)
    for part in set(PROGRAMS) - method.passed_on_by:
        assert _reason(certified, method, part, metadata) == MISPLACED
    for part in {"gateway", *method.passed_on_by}:
        assert _reason(certified, method, part, metadata) != MISPLACED


def test_what_messages_was_called_with_it_passes_on_to_ask_whose_session_it_is_and_for_no_more(
    certified: Stack, someone: Person
) -> None:
    session = someone.new_session()
    metadata = _token_of(certified, "responder", someone)
    with channel_to(certified, "messages", "responder") as channel:
        # The first in its session: messages asks sessions about it with the responder's token.
        append = AppendMessageRequest(session_id=session, content="How was your day?")
        MessagesServiceStub(channel).AppendMessage(append, metadata=metadata, timeout=20)
    with channel_to(certified, "sessions", "messages") as channel:
        sessions: Any = SessionsServiceStub(channel)
        sessions.GetSession(GetSessionRequest(session_id=session), metadata=metadata, timeout=20)
        complete = CompleteSessionRequest(session_id=session)
        assert _refused(sessions.CompleteSession, complete, metadata) == MISPLACED


def test_what_a_person_asks_of_one_service_about_the_others_is_answered_over_tls(
    someone: Person,
) -> None:
    session = someone.new_session()
    someone.say(session, "It has been a long day.")
    someone.call("PUT", "/v1/me/currentSession", {"sessionId": session})
    assert someone.call("GET", "/v1/me/currentSession")["currentSession"]["sessionId"] == session
    someone.call("DELETE", f"/v1/sessions/{session}")
    other = someone.new_session()
    # Of the one that is gone, and the latest instead: users asks sessions both.
    assert someone.call("GET", "/v1/me/currentSession")["currentSession"]["sessionId"] == other
    someone.say(other, "And a short night.")
    assert "And a short night." in someone.http.get("/v1/me:export").text


def test_a_reply_is_written_over_tls_by_the_responders_own_name(
    certified: Stack, someone: Person
) -> None:
    session = someone.new_session()
    someone.say(session, "It has been a long day.")
    someone.call("POST", f"/v1/sessions/{session}:reply", {})

    def roles() -> list[str]:
        found = someone.call("GET", f"/v1/sessions/{session}/messages")["messages"]
        return [message["role"] for message in found]

    eventually(lambda: roles() == ["ROLE_ASSISTANT", "ROLE_USER"])
    actors = {one["actor"]["name"] for one in someone.call("GET", "/v1/me/accessLog")["entries"]}
    assert actors == {"responder"}


def test_the_gateway_passes_on_no_services_token(certified: Stack, someone: Person) -> None:
    session = someone.new_session()
    someone.say(session, "It has been a long day.")
    for service in PROGRAMS:
        headers = dict(_token_of(certified, service, someone))
        answer = httpx.get(f"{certified.url}/v1/sessions/{session}/messages", headers=headers)
        assert refusal_in(answer) == MISPLACED
