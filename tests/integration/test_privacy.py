"""Nothing that a person wrote, and no name of theirs, is in the database or in a log."""

from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from local.home import SERVICES
from local.stack import Stack
from tests.integration.calls import MakePerson, Refused, wait_for_log


def _everything_written(stack: Stack) -> bytes:
    """The data folder of PostgreSQL, its WAL among it, and every log."""
    assert stack.postgres is not None
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    files = [*stack.postgres.data.rglob("*"), *stack.home.logs.rglob("*")]
    return b"".join(path.read_bytes() for path in files if path.is_file())


def test_no_word_of_a_person_is_on_disk(stack: Stack, person: MakePerson) -> None:
    alice = person("alice")
    canaries = {name: f"canary-{name}-{uuid4().hex}" for name in "tcmkvnqz"}
    session = alice.new_session(canaries["t"])
    alice.say(
        session,
        canaries["c"],
        model=canaries["m"],
        metadata={canaries["k"]: canaries["v"]},
    )
    alice.call("PATCH", "/v1/me", {"name": canaries["n"]})
    # Refused ones too: an error may quote what it failed on.
    path = f"/v1/sessions/{session}/messages"
    alice.refused("POST", path, {"content": canaries["q"] + "\0"})
    alice.refused("POST", path, {"content": {canaries["z"]: canaries["z"]}})
    last = alice.http.get(path)
    wait_for_log(stack, "gateway", last.headers["x-request-id"])
    written = _everything_written(stack)
    for canary in (*canaries.values(), "alice@example.com"):
        assert canary.encode() not in written
    token = stack.token("alice").encode()
    assert token.rpartition(b".")[2] not in written


def test_the_ids_of_a_conversation_are_on_disk(stack: Stack, person: MakePerson) -> None:
    # So that the search above would find a word if it were there.
    session = person("alice").new_session()
    assert bytes.fromhex(session.replace("-", "")) in _everything_written(stack)


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
