"""Whoever can write to the database cannot make a service show one thing for another."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from google.protobuf import json_format
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from local.stack import Stack
from tests.integration.calls import MakePerson, Person, wait_for_log
from tests.integration.encryption.cold import restart

Damage = Callable[[bytes, bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "swapped with another person's": lambda _, others: others,
    "first bit flipped": lambda own, _: bytes([own[0] ^ 1]) + own[1:],
    "key id's bit flipped": lambda own, _: own[:9] + bytes([own[9] ^ 1]) + own[10:],
    "nonce's bit flipped": lambda own, _: own[:20] + bytes([own[20] ^ 1]) + own[21:],
    "last bit flipped": lambda own, _: own[:-1] + bytes([own[-1] ^ 1]),
    "a byte short": lambda own, _: own[:-1],
    "cut to the header": lambda own, _: own[:29],
    "emptied": lambda _own, _: b"",
    "replaced by plaintext": lambda _own, _: b"plain words, for once not encrypted at all",
    "the head of one and the tail of another": lambda own, others: own[:29] + others[29:],
}


@dataclass(frozen=True)
class Stored:
    """A field as it is stored, and how it is read."""

    table: str
    column: str
    key: dict[str, UUID]
    """The row's key."""
    scope: dict[str, UUID]
    """The key of its data keys."""
    path: str
    text: str

    @property
    def service(self) -> str:
        return self.table.partition(".")[0]

    @property
    def data_keys(self) -> str:
        return f"{self.service}.data_keys"


def _message(person: Person, text: str) -> Stored:
    user_id = UUID(person.call("GET", "/v1/me")["user"]["userId"])
    session = person.new_session()
    message = person.say(session, text)["messageId"]
    row = {"session_id": UUID(session), "user_id": user_id}
    path = f"/v1/sessions/{session}/messages/{message}"
    key = {**row, "message_id": UUID(message)}
    return Stored("messages.messages", "body", key, row, path, text)


def _title(person: Person, text: str) -> Stored:
    user_id = UUID(person.call("GET", "/v1/me")["user"]["userId"])
    session = person.new_session(text)
    key = {"user_id": user_id, "session_id": UUID(session)}
    path = f"/v1/sessions/{session}"
    return Stored("sessions.sessions", "title", key, {"user_id": user_id}, path, text)


def _name(person: Person, text: str) -> Stored:
    user_id = UUID(person.call("PATCH", "/v1/me", {"name": text})["user"]["userId"])
    return Stored("users.users", "name", {"user_id": user_id}, {"user_id": user_id}, "/v1/me", text)


FIELDS: dict[str, Callable[[Person, str], Stored]] = {
    "message": _message,
    "title": _title,
    "name": _name,
}


@pytest.fixture
def admin(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        yield connection


def _new_person(person: MakePerson) -> Person:
    return person(f"tampered-{uuid4().hex}")


def _where(key: dict[str, UUID]) -> str:
    return " AND ".join(f"{name} = %({name})s" for name in key)


def _get(admin: psycopg.Connection, table: str, column: str, key: dict[str, UUID]) -> bytes:
    query = f"SELECT {column} FROM {table} WHERE {_where(key)}"  # noqa: S608
    ((value,),) = admin.execute(query.encode(), key).fetchall()
    return bytes(value)


def _set(
    admin: psycopg.Connection, table: str, column: str, key: dict[str, UUID], value: bytes
) -> None:
    query = f"UPDATE {table} SET {column} = %(value)s WHERE {_where(key)}"  # noqa: S608
    assert admin.execute(query.encode(), {**key, "value": value}).rowcount == 1


def _unreadable(stack: Stack, person: Person, stored: Stored) -> dict[str, Any]:
    """Reads what cannot be read; the ids in the answer, in which there is nothing else."""
    answer = person.http.get(stored.path)
    assert answer.status_code == 500, answer.text
    assert stored.text not in answer.text
    status = json_format.ParseDict(answer.json(), Status())
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, info.reason) == (15, "DATA_UNREADABLE")
    request_id = answer.headers["x-request-id"]
    log = wait_for_log(stack, stored.service, request_id)
    assert stored.text not in log
    place = dict(info.metadata)
    # An operator, who has the request's id from the person, finds the row by the log alone.
    lines = [json.loads(line) for line in log.splitlines() if request_id in line]
    (failed,) = [line for line in lines if line["message"] == "a call failed"]
    assert {name: failed[name] for name in place} == place
    return place


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("field", FIELDS)
def test_a_damaged_envelope_is_not_read(
    stack: Stack, person: MakePerson, admin: psycopg.Connection, field: str, damage: Damage
) -> None:
    alice, bob = _new_person(person), _new_person(person)
    stored, other = (FIELDS[field](somebody, f"word-{uuid4().hex}") for somebody in (alice, bob))
    own = _get(admin, stored.table, stored.column, stored.key)
    others = _get(admin, other.table, other.column, other.key)
    _set(admin, stored.table, stored.column, stored.key, damage(own, others))
    found = _unreadable(stack, alice, stored)
    assert found["table"] == stored.table.partition(".")[2]
    assert found["field"] == stored.column
    assert set(found["row"].split("/")) <= set(map(str, stored.key.values()))
    # It was the damage and nothing else.
    assert other.text in bob.http.get(other.path).text
    _set(admin, stored.table, stored.column, stored.key, own)
    assert stored.text in alice.http.get(stored.path).text


@pytest.mark.parametrize("field", FIELDS)
def test_an_envelope_that_was_moved_to_another_row_of_the_same_person_is_not_read(
    stack: Stack, person: MakePerson, admin: psycopg.Connection, field: str
) -> None:
    alice = _new_person(person)
    stored = FIELDS[field](alice, f"word-{uuid4().hex}")
    if field == "message":
        session = stored.path.split("/")[3]
        message = alice.say(session, "another")["messageId"]
        moved = _get(admin, stored.table, "body", {**stored.key, "message_id": UUID(message)})
    elif field == "title":
        moved = _get(admin, stored.table, "title", _title(alice, "another").key)
    else:
        moved = _get(admin, stored.table, "email", stored.key)
    _set(admin, stored.table, stored.column, stored.key, moved)
    assert _unreadable(stack, alice, stored)["field"] == stored.column


@pytest.mark.parametrize("field", FIELDS)
def test_what_does_not_open_fails_all_that_contains_it_until_its_person_takes_it_out(
    stack: Stack, person: MakePerson, admin: psycopg.Connection, field: str
) -> None:
    alice = _new_person(person)
    stored = FIELDS[field](alice, f"word-{uuid4().hex}")
    containing = {
        "message": [stored.path.rpartition("/")[0], "/v1/messages:export", "/v1/me:export"],
        "title": ["/v1/sessions", "/v1/me:export"],
        "name": ["/v1/me", "/v1/me:export"],
    }[field]
    beside = f"/v1/sessions/{alice.new_session('beside')}"
    alice.say(beside.rpartition("/")[2], "beside")
    _set(admin, stored.table, stored.column, stored.key, b"damaged")
    assert not any(_is_whole(alice.http.get(path)) for path in containing)
    for path in (beside, f"{beside}/messages"):
        assert "beside" in alice.http.get(path).text
    match field:
        case "message":
            alice.call("DELETE", stored.path)
        case "title":
            alice.call("PATCH", stored.path, {"title": "as it was"})
        case "name":
            alice.call("PATCH", stored.path, {"name": "as it was"})
    assert all(_is_whole(alice.http.get(path)) for path in containing)


def _is_whole(answer: httpx.Response) -> bool:
    """Whether an answer says all: an export over JSON that fails on its way has no end."""
    is_export = answer.url.path.endswith(":export")
    return answer.status_code == 200 and (not is_export or '"end":' in answer.text)


@pytest.mark.parametrize("field", FIELDS)
def test_a_damaged_data_key_is_not_used(
    stack: Stack, person: MakePerson, admin: psycopg.Connection, field: str
) -> None:
    alice, bob = _new_person(person), _new_person(person)
    stored, other = (FIELDS[field](somebody, f"word-{uuid4().hex}") for somebody in (alice, bob))
    # Else the service would still have it in memory.
    restart(stack, stored.service)
    own = _get(admin, stored.data_keys, "wrapped", stored.scope)
    others = _get(admin, other.data_keys, "wrapped", other.scope)
    ((key_id,),) = admin.execute(
        f"SELECT key_id FROM {stored.data_keys} WHERE {_where(stored.scope)}".encode(),  # noqa: S608
        stored.scope,
    ).fetchall()
    flipped = own[:30] + bytes([own[30] ^ 4]) + own[31:]
    for damaged in (others, flipped, own[:-1], own[:12], b""):
        _set(admin, stored.data_keys, "wrapped", stored.scope, damaged)
        found = _unreadable(stack, alice, stored)
        assert (found["table"], found["field"]) == ("data_keys", "wrapped")
        assert found["row"].rpartition("/")[2] == str(key_id)
    assert other.text in bob.http.get(other.path).text
    _set(admin, stored.data_keys, "wrapped", stored.scope, own)
    assert stored.text in alice.http.get(stored.path).text


@pytest.mark.parametrize("field", FIELDS)
def test_a_data_key_that_was_deleted_takes_its_words_along(
    stack: Stack, person: MakePerson, admin: psycopg.Connection, field: str
) -> None:
    alice = _new_person(person)
    stored = FIELDS[field](alice, f"word-{uuid4().hex}")
    restart(stack, stored.service)
    admin.execute(
        f"DELETE FROM {stored.data_keys} WHERE {_where(stored.scope)}".encode(),  # noqa: S608
        stored.scope,
    )
    assert _unreadable(stack, alice, stored)["field"] == stored.column
