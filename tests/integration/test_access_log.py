"""Whoever else has to do with what is a person's is recorded, and listed to them."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
from google.protobuf import descriptor_pool, message_factory
from inglenook.access.v1.access_pb2 import Access
from inglenook.messages.v1.messages_pb2 import (
    AppendMessageRequest,
    ListMessagesRequest,
    SearchMessagesRequest,
    StreamMessageHeader,
    StreamMessageRequest,
    WatchMessagesRequest,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import CompleteSessionRequest, GetSessionRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from contract.folders import DESCRIPTORS
from contract.methods import Method, load_methods
from local.stack import Stack, free_ports
from services import SERVICES
from services.runtime.service_tokens import ServiceTokens
from tests.integration.calls import MakePerson, Person, Refused, refusal_over_grpc
from tests.integration.commands import run_command
from tests.integration.eventually import eventually, owed, rows, tables_with

ISSUER = "inglenook-responders"
SAID = "It has been a long day."
MESSAGES = "inglenook.messages.v1.MessagesService"
SESSIONS = "inglenook.sessions.v1.SessionsService"
# What a service may call for a person.
OPEN = [
    method
    for method in load_methods(DESCRIPTORS)
    if not method.bookkeeping and method.allow & {Access.ACCESS_SERVICE, Access.ACCESS_DELEGATE}
]


@pytest.fixture(scope="module")
def own_stack(reachable_to_all: Path, responder_key: Path) -> Iterator[Stack]:
    """A stack whose logs are these tests' to tamper with."""
    trusted = {
        "issuer": ISSUER,
        "jwks_file": str(responder_key / "jwks.json"),
        "audiences": ["inglenook"],
        "algorithms": ["EdDSA"],
        "kind": "service",
    }
    settings = {"INGLENOOK_ISSUERS": json.dumps([trusted])}
    with Stack(reachable_to_all / "home", free_ports(), settings=settings) as running:
        yield running


@pytest.fixture
def person(own_stack: Stack) -> Iterator[MakePerson]:
    with ExitStack() as signed_in:
        yield lambda name: signed_in.enter_context(closing(Person(own_stack, name)))


class Responder:
    """The service that answers people, acting for one of them."""

    def __init__(self, stack: Stack, tokens: ServiceTokens, person: UUID) -> None:
        self._tokens = tokens
        self._person = person
        self._messages = grpc.insecure_channel(stack.ports.address("messages"))
        self._sessions = grpc.insecure_channel(stack.ports.address("sessions"))
        self.messages: Any = MessagesServiceStub(self._messages)
        self.sessions: Any = SessionsServiceStub(self._sessions)

    def __enter__(self) -> "Responder":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._messages.close()
        self._sessions.close()

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        token = self._tokens.token(acting_for=self._person)
        return (("authorization", f"Bearer {token}"), ("x-request-id", request_id))

    def read(self, session: str, request_id: str = "reading") -> Any:  # noqa: ANN401 - a response
        asked = ListMessagesRequest(session_id=session)
        return self.messages.ListMessages(asked, metadata=self.metadata(request_id), timeout=30)


@pytest.fixture
def acting_for(
    own_stack: Stack, responder: ServiceTokens
) -> Iterator[Callable[[Person], Responder]]:
    with ExitStack() as opened:
        yield lambda person: opened.enter_context(Responder(own_stack, responder, _id(person)))


def _id(person: Person) -> UUID:
    return UUID(person.call("GET", "/v1/me")["user"]["userId"])


def _log(person: Person) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = person.call("GET", "/v1/me/accessLog")["entries"]
    return entries


def _someone(person: MakePerson) -> tuple[Person, str]:
    """Someone new, and a session in which they said something."""
    someone = person(f"someone-{uuid4()}")
    session = someone.new_session()
    someone.say(session, SAID)
    return someone, session


def test_what_a_person_does_by_themselves_is_not_in_their_log(
    own_stack: Stack, person: MakePerson
) -> None:
    someone, session = _someone(person)
    someone.call("GET", f"/v1/sessions/{session}/messages")
    someone.call("PUT", "/v1/me/currentSession", {"sessionId": session})
    someone.call("GET", "/v1/me/currentSession")
    someone.http.get("/v1/me:export")
    someone.call("DELETE", f"/v1/sessions/{session}")
    eventually(lambda: owed(own_stack) == 0)
    assert someone.call("GET", "/v1/me/accessLog") == {"entries": [], "nextPageToken": ""}


def test_what_a_service_does_for_a_person_is_in_their_log_and_in_nobody_elses(
    person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    someone, session = _someone(person)
    other, _ = _someone(person)
    acting = acting_for(someone)
    assert acting.read(session, "r1").messages[0].content == SAID
    header = StreamMessageHeader(session_id=session, message_id=str(uuid4()))
    parts = [StreamMessageRequest(header=header)]
    parts += [StreamMessageRequest(text=text) for text in ("Tell me ", "more.")]
    acting.messages.StreamMessage(iter(parts), metadata=acting.metadata("r2"), timeout=30)
    watching = acting.messages.WatchMessages(
        WatchMessagesRequest(session_id=session), metadata=acting.metadata("r3"), timeout=30
    )
    next(watching)
    watching.cancel()
    list(
        acting.messages.SearchMessages(
            SearchMessagesRequest(query="long"), metadata=acting.metadata("r4"), timeout=30
        )
    )
    acting.sessions.CompleteSession(
        CompleteSessionRequest(session_id=session), metadata=acting.metadata("r5"), timeout=30
    )
    entries = _log(someone)
    found = [(one["action"], one["sessionId"], one["requestId"]) for one in entries]
    assert found == [
        (f"{SESSIONS}/CompleteSession", session, "r5"),
        (f"{MESSAGES}/SearchMessages", "", "r4"),
        (f"{MESSAGES}/WatchMessages", session, "r3"),
        (f"{MESSAGES}/StreamMessage", session, "r2"),
        (f"{MESSAGES}/ListMessages", session, "r1"),
    ]
    assert {one["actor"]["kind"] for one in entries} == {"ACTOR_KIND_SERVICE"}
    assert {one["actor"]["name"] for one in entries} == {"responder"}
    of_messages = [one["sequence"] for one in entries if one["service"] == "messages"]
    assert of_messages == ["4", "3", "2", "1"]
    assert _log(other) == []


@pytest.mark.parametrize("method", OPEN, ids=lambda method: f"{method.service}/{method.name}")
def test_every_method_that_services_may_call_is_recorded_before_it_is_served(
    own_stack: Stack, person: MakePerson, responder: ServiceTokens, method: Method
) -> None:
    someone = person("asked-for")
    absent, request_id = str(uuid4()), str(uuid4())
    request = _naming(method, absent)
    token = responder.token(acting_for=_id(someone))
    metadata = (("authorization", f"Bearer {token}"), ("x-request-id", request_id))
    service = method.service.split(".")[1]
    with grpc.insecure_channel(own_stack.ports.address(service)) as channel:
        shape = "stream" if method.client_streaming else "unary"
        shape += "_stream" if method.server_streaming else "_unary"
        call: Any = getattr(channel, shape)(method.path)
        sent = iter([request]) if method.client_streaming else request
        refused = None
        try:
            answer = call(sent, metadata=metadata, timeout=30)
            if method.server_streaming:
                next(answer, None)
                answer.cancel()
        except grpc.RpcError as error:
            refused = refusal_over_grpc(error).reason
    assert refused not in {"ACCESS_DENIED", "REQUEST_INVALID"}
    # Messages may have asked sessions about it, in the same name.
    entries = [one for one in _log(someone) if one["requestId"] == request_id]
    (entry,) = [one for one in entries if one["service"] == service]
    assert entry["action"] == method.path.removeprefix("/")
    assert entry["sessionId"] in {absent, ""}


def _naming(method: Method, session: str) -> bytes:
    """A request that names the session wherever it can, and else says the least."""
    pool = descriptor_pool.Default()
    if method.name == "StreamMessage":
        header = StreamMessageHeader(session_id=session, message_id=str(uuid4()))
        return StreamMessageRequest(header=header).SerializeToString()
    request = message_factory.GetMessageClass(pool.FindMessageTypeByName(method.request))()
    values = {"session_id": session, "message_id": str(uuid4()), "content": "x", "query": "x"}
    for field in request.DESCRIPTOR.fields:
        if field.name in values:
            setattr(request, field.name, values[field.name])
    raw: bytes = request.SerializeToString()
    return raw


def test_the_log_is_paged_through_in_order_however_the_services_have_their_parts(
    person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    someone, session = _someone(person)
    acting = acting_for(someone)
    get = GetSessionRequest(session_id=session)
    for n in range(7):
        if n in {1, 2, 5}:
            acting.sessions.GetSession(get, metadata=acting.metadata(f"{n}"), timeout=30)
        else:
            acting.read(session, f"{n}")
    for size in (1, 2, 3, 7, 8):
        seen: list[str] = []
        token, pages = "", 0
        while True:
            path = f"/v1/me/accessLog?pageSize={size}&pageToken={token}"
            page = someone.call("GET", path)
            seen += [entry["requestId"] for entry in page["entries"]]
            token, pages = page["nextPageToken"], pages + 1
            if not token:
                break
        assert seen == ["6", "5", "4", "3", "2", "1", "0"]
        assert pages == -(-7 // size)


def test_a_page_token_is_good_for_its_person_alone(
    person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    someone, session = _someone(person)
    acting = acting_for(someone)
    for _ in range(2):
        acting.read(session)
    token = someone.call("GET", "/v1/me/accessLog?pageSize=1")["nextPageToken"]
    other, _ = _someone(person)
    refused = other.refused("GET", f"/v1/me/accessLog?pageToken={token}")
    assert refused == Refused("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


def test_calls_that_come_together_are_all_recorded_without_a_gap(
    own_stack: Stack, person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    people = [_someone(person) for _ in range(3)]
    acting = [(acting_for(someone), session) for someone, session in people]
    asked = [(service, session, f"{n}") for n in range(40) for service, session in acting]
    with ThreadPoolExecutor(16) as callers:
        list(callers.map(lambda one: one[0].read(one[1], one[2]), asked))
    for someone, _ in people:
        found = rows(
            own_stack,
            "SELECT sequence, request_id FROM messages.access_log WHERE user_id = %s"
            " ORDER BY sequence",
            _id(someone),
        )
        assert [sequence for sequence, _ in found] == list(range(1, 41))
        assert {request for _, request in found} == {f"{n}" for n in range(40)}
    assert run_command(own_stack, "messages", "audit", "verify").code == 0


def test_what_cannot_be_recorded_is_not_served(
    own_stack: Stack, person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    someone, session = _someone(person)
    acting = acting_for(someone)
    acting.read(session)
    role = "inglenook_messages"
    with psycopg.connect(own_stack.admin_url, autocommit=True) as admin:
        admin.execute(f"REVOKE INSERT ON messages.access_log FROM {role}".encode())
        try:
            with pytest.raises(grpc.RpcError) as read:
                acting.read(session)
            append = AppendMessageRequest(session_id=session, content="unseen")
            with pytest.raises(grpc.RpcError) as written:
                acting.messages.AppendMessage(append, metadata=acting.metadata("x"), timeout=30)
            # A person's own calls need no record.
            said = someone.call("GET", f"/v1/sessions/{session}/messages")["messages"]
        finally:
            admin.execute(f"GRANT INSERT ON messages.access_log TO {role}".encode())
    assert refusal_over_grpc(read.value) == Refused("INTERNAL", "INTERNAL_FAULT")
    assert refusal_over_grpc(written.value) == Refused("INTERNAL", "INTERNAL_FAULT")
    assert [message["content"] for message in said] == [SAID]
    acting.read(session)


def test_a_call_waits_for_its_record_and_is_refused_when_the_database_fails_to_take_it(
    own_stack: Stack, person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    someone, session = _someone(person)
    acting, owner = acting_for(someone), _id(someone)
    acting.read(session)
    with (
        psycopg.connect(own_stack.admin_url) as admin,
        ThreadPoolExecutor(1) as callers,
    ):
        held = "SELECT 1 FROM messages.access_log_heads WHERE user_id = %s FOR UPDATE"
        admin.execute(held.encode(), (owner,))
        reading = callers.submit(acting.read, session)
        waits = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND query LIKE '%%access_log_heads%%'"
        )
        eventually(lambda: rows(own_stack, waits) == [(True,)])
        error = reading.exception(30)
    assert isinstance(error, grpc.RpcError)
    assert refusal_over_grpc(error) == Refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")
    assert len(_log(someone)) == 1
    acting.read(session)
    assert len(_log(someone)) == 2


@pytest.mark.parametrize("service", SERVICES)
def test_the_services_role_adds_entries_and_can_do_nothing_else_to_them(
    own_stack: Stack, service: str
) -> None:
    url = own_stack.service(service).environment["INGLENOOK_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as role:
        for forbidden in (
            f"UPDATE {service}.access_log SET actor = 'nobody'",  # noqa: S608
            f"DELETE FROM {service}.access_log",  # noqa: S608
            f"TRUNCATE {service}.access_log",
            f"DROP FUNCTION {service}.erase_access_log",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                role.execute(forbidden.encode())


def test_the_function_that_erases_a_log_erases_nobodys_who_was_not_erased(
    own_stack: Stack, person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    someone, session = _someone(person)
    acting_for(someone).read(session)
    url = own_stack.service("messages").environment["INGLENOOK_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as role:
        asked = role.execute(b"SELECT messages.erase_access_log(%s)", (_id(someone),))
        assert asked.fetchone() == (0,)
    assert len(_log(someone)) == 1


def test_an_erased_persons_log_goes_with_them_and_the_receipt_counts_it(
    own_stack: Stack, person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    someone, session = _someone(person)
    acting, owner = acting_for(someone), _id(someone)
    for _ in range(3):
        acting.read(session)
    complete = CompleteSessionRequest(session_id=session)
    acting.sessions.CompleteSession(complete, metadata=acting.metadata("x"), timeout=30)
    someone.call("POST", "/v1/me:erase", {"confirm": "ERASE"})
    eventually(lambda: owed(own_stack) == 0)
    receipt = someone.call("POST", "/v1/me:erase", {"confirm": "ERASE"})["receipt"]
    assert receipt["accessLogEntries"] == "4"
    # Whoever still has a token to act for them finds nothing, and leaves nothing.
    with pytest.raises(grpc.RpcError):
        acting.read(session)
    memory = {"users.erased_people": 1, "users.receipts": 1}
    memory |= {"sessions.erased_people": 1, "messages.erased_people": 1}
    eventually(lambda: tables_with(own_stack, "user_id", owner) == memory)
    assert run_command(own_stack, "messages", "audit", "verify").code == 0


@dataclass(frozen=True)
class Tampering:
    """What somebody with the database's highest rights does to a log of five entries."""

    name: str
    changes: list[str]
    """Statements about `%(person)s`."""
    told: list[str]
    """What `audit verify` says of it."""


PUT_BACK = "the head is not what was recorded: what followed may have been removed"
OTHER = "is not what was recorded"
TAMPERINGS = [
    Tampering(
        "removed",
        ["DELETE FROM messages.access_log WHERE user_id = %(person)s AND sequence = 2"],
        ["entry 2 is missing"],
    ),
    Tampering(
        "cut off",
        ["DELETE FROM messages.access_log WHERE user_id = %(person)s AND sequence > 3"],
        ["entries 4 to 5 are missing"],
    ),
    Tampering(
        "cut off, and the head put where it ends",
        [
            "DELETE FROM messages.access_log WHERE user_id = %(person)s AND sequence > 3",
            (
                "UPDATE messages.access_log_heads AS head SET sequence = 3, hash = last.hash"
                " FROM messages.access_log AS last WHERE head.user_id = %(person)s"
                " AND last.user_id = %(person)s AND last.sequence = 3"
            ),
        ],
        [PUT_BACK],
    ),
    Tampering(
        "altered",
        [
            (
                "UPDATE messages.access_log SET actor = 'nobody'"
                " WHERE user_id = %(person)s AND sequence = 4"
            )
        ],
        [f"entry 4 {OTHER}"],
    ),
    Tampering(
        "reordered",
        [
            (
                "UPDATE messages.access_log SET sequence = -sequence"
                " WHERE user_id = %(person)s AND sequence IN (2, 3)"
            ),
            (
                "UPDATE messages.access_log SET sequence = 5 + sequence"
                " WHERE user_id = %(person)s AND sequence < 0"
            ),
        ],
        [f"entry 2 {OTHER}", f"entry 3 {OTHER}", f"entry 4 {OTHER}"],
    ),
    Tampering(
        "without its head",
        ["DELETE FROM messages.access_log_heads WHERE user_id = %(person)s"],
        ["entries without a head: 5"],
    ),
    Tampering(
        "longer than its head knows",
        [
            (
                "INSERT INTO messages.access_log SELECT user_id, 6, time, actor_kind, actor,"
                " action, session_id, request_id, hash FROM messages.access_log"
                " WHERE user_id = %(person)s AND sequence = 5"
            )
        ],
        ["entries beyond the head: 1"],
    ),
]


@pytest.fixture
def as_it_was(own_stack: Stack) -> Iterator[psycopg.Connection]:
    """The database, for whoever may do everything; the logs are put back in the end."""
    tables = ("access_log", "access_log_heads")
    with psycopg.connect(own_stack.admin_url, autocommit=True) as admin:
        for table in tables:
            admin.execute(f"CREATE TABLE {table}_copy AS TABLE messages.{table}".encode())
        yield admin
        for table in tables:
            admin.execute(f"TRUNCATE messages.{table}".encode())
            admin.execute(f"INSERT INTO messages.{table} TABLE {table}_copy".encode())
            admin.execute(f"DROP TABLE {table}_copy".encode())


def test_whatever_is_done_to_a_log_behind_the_services_back_is_told(
    own_stack: Stack,
    person: MakePerson,
    acting_for: Callable[[Person], Responder],
    request: pytest.FixtureRequest,
) -> None:
    people: dict[UUID, Tampering] = {}
    for tampering in TAMPERINGS:
        someone, session = _someone(person)
        for n in range(5):
            acting_for(someone).read(session, f"{n}")
        people[_id(someone)] = tampering
    whole = run_command(own_stack, "messages", "audit", "verify")
    assert whole.code == 0, whole.told
    admin: psycopg.Connection = request.getfixturevalue("as_it_was")
    for owner, tampering in people.items():
        for change in tampering.changes:
            admin.execute(change.encode(), {"person": owner})
    done = run_command(own_stack, "messages", "audit", "verify")
    *lines, last = done.told.splitlines()
    told = {
        tampering.name: [
            line.removeprefix(f"{owner}: ") for line in lines if line.startswith(f"{owner}: ")
        ]
        for owner, tampering in people.items()
    }
    assert told == {tampering.name: tampering.told for tampering in TAMPERINGS}
    assert len(lines) == sum(len(tampering.told) for tampering in TAMPERINGS)
    assert last.startswith(f"messages: the access logs of {len(TAMPERINGS)} of ")
    assert done.code == 1


def test_logs_that_began_under_a_former_token_key_are_proven_by_it(
    own_stack: Stack,
    person: MakePerson,
    acting_for: Callable[[Person], Responder],
    tmp_path: Path,
) -> None:
    someone, session = _someone(person)
    acting_for(someone).read(session)
    key, other = own_stack.home.token_key_file("messages"), tmp_path / "other"
    other.write_bytes(own_stack.home.token_key_file("users").read_bytes())
    anew = run_command(own_stack, "messages", "audit", "verify", token_key_file=str(other))
    assert f"{_id(someone)}: entry 1 is not what was recorded" in anew.told
    former = ("audit", "verify", "--former-key", str(key))
    assert run_command(own_stack, "messages", *former, token_key_file=str(other)).code == 0


def test_a_log_is_proven_while_more_is_recorded(
    own_stack: Stack, person: MakePerson, acting_for: Callable[[Person], Responder]
) -> None:
    someone, session = _someone(person)
    acting = acting_for(someone)
    ends: list[bool] = []

    def read_on() -> None:
        while not ends:
            acting.read(session)

    with ThreadPoolExecutor(4) as callers:
        reading = [callers.submit(read_on) for _ in range(4)]
        try:
            found = [run_command(own_stack, "messages", "audit", "verify") for _ in range(2)]
        finally:
            ends.append(True)
        for one in reading:
            one.result()
    assert [done.code for done in found] == [0, 0], found
