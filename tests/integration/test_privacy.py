"""Nothing that a person wrote, and no name of theirs, is in the database or in a log."""

import re
from itertools import islice
from typing import Any, cast
from uuid import uuid4

import grpc
import psycopg
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from inglenook.access.v1.access_pb2 import Access
from inglenook.messages.v1.messages_pb2 import Role
from inglenook.respond.v1 import respond_pb2  # noqa: F401 - known to the descriptor pool
from inglenook.sessions.v1 import sessions_pb2  # noqa: F401 - known to the descriptor pool
from inglenook.users.v1 import users_pb2  # noqa: F401
from psycopg import sql

from contract.folders import DESCRIPTORS
from contract.methods import Method, load_methods
from local.stack import Stack
from services import SERVICES
from tests.integration.calls import MakePerson, Person, Refused, program_of, wait_for_log
from tests.integration.eventually import everything_written


class Canaries:
    """Requests of any method with a canary in every text, and what came of calling with them."""

    def __init__(self, alice: Person) -> None:
        self._alice = alice
        self.session = alice.new_session()
        self._ids: dict[str, str] = {}
        self.planted: list[str] = []
        self.accepted: set[str] = set()
        self.complaints = ""
        """All that was refused, as the caller got it."""

    def canary(self) -> str:
        self.planted.append(f"canary-{uuid4().hex}")
        return self.planted[-1]

    def call_everywhere(self, stack: Stack, method: Method, *, fit: bool) -> None:
        """Calls a method at its service, and through the gateway."""
        descriptor = descriptor_pool.Default().FindMessageTypeByName(method.request)
        for name in (program_of(method), "gateway"):
            self._ids = {"session_id": self.session, "message_id": str(uuid4())}
            if method.name == "CreateSession":
                self._ids["session_id"] = str(uuid4())
            elif method.name == "DeleteSession":
                self._ids["session_id"] = self._alice.new_session()
            elif method.name not in {"AppendMessage", "ImportMessages", "Reply"}:
                self._ids["message_id"] = self._alice.say(self.session, "here")["messageId"]
            request = self.request(descriptor, fit=fit)
            self._call(stack, name, method, request)

    def request(self, descriptor: Descriptor, *, fit: bool) -> Message:
        """A request with a canary in every text that a person could write; unless `fit`, in every
        other text too, where none belongs.
        """
        request = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if field.message_type is None:
                if field.type == field.TYPE_STRING:
                    setattr(request, field.name, self._text(field.name, fit=fit))
                elif field.name == "role":
                    request.role = Role.ROLE_USER  # type: ignore[attr-defined]
            elif field.name == "metadata_patch" and fit:
                continue  # Not together with metadata.
            elif isinstance(struct := getattr(request, field.name), Struct):
                struct[self.canary()] = [self.canary(), {self.canary(): self.canary()}]
            elif isinstance(mask := getattr(request, field.name), FieldMask):
                mask.paths.extend([] if fit else [self.canary()])
            elif field.is_repeated:
                getattr(request, field.name).append(self.request(field.message_type, fit=fit))
        return request

    def _text(self, field: str, *, fit: bool) -> str:
        written = field in {"content", "model", "title", "name", "email", "query"}
        if written or not fit:
            return self.canary()
        return "ERASE" if field == "confirm" else self._ids.get(field, "")

    def _call(self, stack: Stack, name: str, method: Method, request: Message) -> None:
        raw = request.SerializeToString()
        # Alice is needed again.
        caller = f"one-to-erase-{uuid4()}" if method.name == "EraseMe" else "alice"
        metadata = (("authorization", f"Bearer {stack.token(caller)}"),)
        with grpc.insecure_channel(stack.ports.address(name)) as channel:
            try:
                _first_answer(channel, method, raw, metadata)
                self.accepted.add(method.name)
            except grpc.RpcError as error:
                self.complaints += f"{error!r} {cast('Any', error).trailing_metadata()}"


def _first_answer(
    channel: grpc.Channel, method: Method, raw: bytes, metadata: tuple[tuple[str, str], ...]
) -> bytes:
    make = getattr(
        channel,
        f"{'stream' if method.client_streaming else 'unary'}"
        f"_{'stream' if method.server_streaming else 'unary'}",
    )
    sent = iter([raw]) if method.client_streaming else raw
    answer = make(method.path)(sent, metadata=metadata, timeout=20)
    return b"".join(islice(answer, 1)) if method.server_streaming else answer


@pytest.mark.parametrize("fit", [True, False], ids=["accepted", "refused"])
def test_no_word_of_a_person_is_on_disk_or_in_an_error(
    stack: Stack, person: MakePerson, fit: bool
) -> None:
    alice = person("alice")
    canaries = Canaries(alice)
    # What people may call: the others are told nothing that a person wrote, but for the webhook,
    # which has a test of its own.
    methods = [method for method in load_methods(DESCRIPTORS) if Access.ACCESS_USER in method.allow]
    for method in methods:
        canaries.call_everywhere(stack, method, fit=fit)
    if fit:
        assert canaries.accepted == {method.name for method in methods}
    # Over HTTP too: an error of the gateway's may quote what it failed on.
    path = f"/v1/sessions/{canaries.session}/messages"
    for body in (
        {"content": canaries.canary() + "\0"},
        {"content": {canaries.canary(): canaries.canary()}},
        {"content": "a", "role": canaries.canary()},
    ):
        canaries.complaints += alice.http.post(path, json=body).text
    last = alice.http.get(path)
    wait_for_log(stack, "gateway", last.headers["x-request-id"])
    written = everything_written(stack)
    assert not re.findall(rb"canary-[0-9a-f]{32}", written)
    assert b"alice@example.com" not in written
    assert canaries.complaints
    assert "canary-" not in canaries.complaints
    token = stack.token("alice").encode()
    assert token.rpartition(b".")[2] not in written


def test_the_ids_of_a_conversation_are_on_disk(stack: Stack, person: MakePerson) -> None:
    # So that the search above would find a word if it were there.
    session = person("alice").new_session()
    assert bytes.fromhex(session.replace("-", "")) in everything_written(stack)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reaches_its_own_schema_only(stack: Stack, service: str) -> None:
    url = stack.service(service).environment["INGLENOOK_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        for schema in SERVICES:
            query = sql.SQL("TABLE {}").format(sql.Identifier(schema, "data_keys"))
            if schema == service:
                connection.execute(query)
                continue
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query)
        for forbidden in (
            f"CREATE TABLE {service}.more (id int)",
            f"TRUNCATE {service}.alembic_version",
            "CREATE TABLE public.more (id int)",
            "CREATE TEMPORARY TABLE more (id int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)


def test_an_envelope_that_was_moved_to_another_row_does_not_open(
    stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    session = alice.new_session()
    first, second = (alice.say(session, text)["messageId"] for text in ("one", "two"))
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE messages.messages SET body = (SELECT body FROM messages.messages"
            " WHERE message_id = %s) WHERE message_id = %s",
            (first, second),
        )
    path = f"/v1/sessions/{session}/messages"
    assert alice.call("GET", f"{path}/{first}")["message"]["content"] == "one"
    unreadable = Refused("DATA_LOSS", "DATA_UNREADABLE")
    assert alice.refused("GET", f"{path}/{second}") == unreadable
