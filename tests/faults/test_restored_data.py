"""A backup of the data, put back beside the keys of today, brings back nothing that was erased."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import httpx
import psycopg
import pytest
from psycopg import sql

from local.stack import Stack, free_ports
from services import SERVICES
from services.runtime.encryption.envelope import key_id_of
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.integration.calls import MakePerson, Person, Refused
from tests.integration.commands import Done, run_command
from tests.integration.eventually import eventually, owed, rows, tables_with

KEYS = {"data_keys", "key_encryption_keys"}
# What is backed up with the keys and never put back to an older state: see docs/operations.md.
KEPT_APART = KEYS | {"erased_people", "receipts"}
ENVELOPES = [("users", "users", "name"), ("sessions", "sessions", "title")]
ENVELOPES += [("messages", "messages", "body")]
UNREADABLE = Refused("DATA_LOSS", "DATA_UNREADABLE")
MEMORY = {"users.erased_people": 1, "users.receipts": 1}
MEMORY |= {"sessions.erased_people": 1, "messages.erased_people": 1}

Copies = dict[tuple[str, str], bytes]


@pytest.fixture(scope="module")
def own_stack(reachable_to_all: Path) -> Iterator[Stack]:
    """A stack whose database is these tests' to put back."""
    with Stack(reachable_to_all / "home", free_ports()) as running:
        yield running


@pytest.fixture
def person(own_stack: Stack) -> Iterator[MakePerson]:
    with ExitStack() as signed_in:
        yield lambda name: signed_in.enter_context(closing(Person(own_stack, name)))


def _copy(stack: Stack) -> Copies:
    """Every row of every table of the services, as of one moment."""
    with psycopg.connect(stack.admin_url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)"
            " AND tablename <> 'alembic_version'",
            (list(SERVICES),),
        ).fetchall()
        copies = {}
        for schema, table in tables:
            query = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, table))
            with connection.cursor().copy(query) as copy:
                copies[schema, table] = b"".join(bytes(part) for part in copy)
    return copies


def _put_back(stack: Stack, copies: Copies, *, but: set[str]) -> None:
    """Puts tables back to what they were, while no service runs."""
    for service in SERVICES:
        stack.processes.stop(service)
    with psycopg.connect(stack.admin_url) as connection:
        for (schema, table), copied in copies.items():
            if table in but:
                continue
            name = sql.Identifier(schema, table)
            connection.execute(sql.SQL("TRUNCATE {}").format(name))
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(name)) as copy:
                copy.write(copied)
    for service in SERVICES:
        stack.processes.start(stack.service(service))
        with grpc.insecure_channel(stack.ports.address(service)) as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
    eventually(lambda: httpx.get(f"{stack.url}/readyz").status_code == 200)


def _talk(person: Person, word: str) -> str:
    """Words in every service; gives the session."""
    person.call("PATCH", "/v1/me", {"name": f"name {word}"})
    session = person.new_session(f"title {word}")
    person.say(session, f"message {word}")
    return session


def _words(person: Person, session: str) -> list[Any]:
    return [
        person.call("GET", "/v1/me")["user"]["name"],
        person.call("GET", f"/v1/sessions/{session}")["session"]["title"],
        *(
            message["content"]
            for message in person.call("GET", f"/v1/sessions/{session}/messages")["messages"]
        ),
    ]


def _sealed_with(stack: Stack, owner: UUID) -> set[UUID | None]:
    """The data keys that a person's words are sealed with."""
    return {
        key_id_of(envelope)
        for schema, table, field in ENVELOPES
        for (envelope,) in rows(
            stack,
            f"SELECT {field} FROM {schema}.{table} WHERE user_id = %s",  # noqa: S608
            owner,
        )
    }


def _keys_there(stack: Stack) -> set[UUID]:
    return {
        key
        for service in SERVICES
        for (key,) in rows(stack, f"SELECT key_id FROM {service}.data_keys")  # noqa: S608
    }


def test_erased_words_cannot_be_read_in_a_restored_backup_and_the_others_can(
    own_stack: Stack, person: MakePerson
) -> None:
    gone, stays = person("gone"), person("stays")
    owner = user_id_of(DEVELOPMENT_ISSUER, "gone")
    theirs, kept = _talk(gone, "of one who is erased"), _talk(stays, "that stays")
    eventually(lambda: owed(own_stack) == 0)
    backup = _copy(own_stack)
    sealed = _sealed_with(own_stack, owner)
    assert len(sealed) == 3
    assert sealed <= _keys_there(own_stack)

    gone.call("POST", "/v1/me:erase", {"confirm": "ERASE"})
    eventually(lambda: tables_with(own_stack, "user_id", owner) == MEMORY)
    receipt = gone.call("POST", "/v1/me:erase", {"confirm": "ERASE"})["receipt"]
    stays.say(kept, "after the backup")
    _put_back(own_stack, backup, but=KEPT_APART)

    # Every row is back, and nothing is left that would open it.
    assert _sealed_with(own_stack, owner) == sealed
    assert not sealed & _keys_there(own_stack)
    path = f"/v1/sessions/{theirs}"
    for call in ("/v1/me", "/v1/sessions", path, f"{path}/messages"):
        assert gone.refused("GET", call) == UNREADABLE
    assert _words(stays, kept) == ["name that stays", "title that stays", "message that stays"]
    stays.say(kept, "and on")

    # What the backup brought back is found, and goes once more.
    assert run_command(own_stack, "users", "check").code == 1
    again = run_command(own_stack, "users", "persons", "erase-again")
    assert again == Done(0, "Erasing 1 once more, everywhere within moments.\n")
    eventually(lambda: tables_with(own_stack, "user_id", owner) == MEMORY)
    eventually(lambda: owed(own_stack) == 0)
    for service in SERVICES:
        assert run_command(own_stack, service, "check").code == 0
    assert gone.call("POST", "/v1/me:erase", {"confirm": "ERASE"})["receipt"] == receipt


def test_who_puts_back_the_keys_of_that_day_too_reads_it_all(
    own_stack: Stack, person: MakePerson
) -> None:
    # Why the keys are backed up apart, and their backups kept for no longer than is promised.
    gone = person("gone too")
    session = _talk(gone, "of one who is erased")
    backup = _copy(own_stack)
    gone.call("POST", "/v1/me:erase", {"confirm": "ERASE"})
    owner = user_id_of(DEVELOPMENT_ISSUER, "gone too")
    eventually(lambda: tables_with(own_stack, "user_id", owner) == MEMORY)
    _put_back(own_stack, backup, but=KEPT_APART - KEYS)
    assert _words(gone, session)[1:] == [
        "title of one who is erased",
        "message of one who is erased",
    ]
