"""`python -m services.<name> keys …`, against services that run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from local.stack import Stack
from services import SERVICES
from services.runtime.encryption.data_keys import bound_to
from services.runtime.encryption.key_file import KeyFile, make_key_file
from tests.integration.calls import MakePerson, Person
from tests.integration.encryption.cold import restart
from tests.integration.eventually import eventually, rows


def _command(service: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"services.{service}", "keys", *arguments]


def _keys(
    stack: Stack, service: str, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(service, *arguments),
        env={**stack.service(service).environment, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _done(stack: Stack, service: str, *arguments: str) -> list[str]:
    done = _keys(stack, service, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _write(person: Person, number: int) -> tuple[str, str]:
    """Writes with every service; what was said, and where."""
    text = f"number {number}"
    session = person.new_session(text)
    person.say(session, text)
    person.call("PATCH", "/v1/me", {"name": text})
    return session, text


@contextmanager
def _writing(person: Person, written: list[tuple[str, str]]) -> Iterator[None]:
    """Goes on writing meanwhile."""
    enough = Event()

    def write() -> None:
        while not enough.is_set():
            written.append(_write(person, len(written)))

    thread = Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


@pytest.mark.parametrize("service", SERVICES)
def test_keys_are_rotated_and_retired_while_the_services_run(
    stack: Stack, person: MakePerson, service: str
) -> None:
    alice = person(f"alice-{uuid4().hex}")
    written = [_write(alice, 0)]
    path = stack.home.key_file(service)
    (old,) = [line.split()[0] for line in _done(stack, service, "status") if " active " in line]
    refused = _keys(stack, service, "retire", old)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"{service}: {old} is the active key: run `keys add` and `keys rotate` first\n"
    )

    with _writing(alice, written):
        new = _done(stack, service, "add")[0].removeprefix("Added ").removesuffix(".")
        output = _done(stack, service, "rotate")
        assert output[0] == f"{new} is the active key now."
        assert output[-1] == f"Every data key is wrapped by {new}."
        assert any(line.startswith("Re-wrapped ") for line in output)
        _done(stack, service, "retire", old)
    assert old not in path.read_text()
    states = {line.split()[0]: line.split()[1:] for line in _done(stack, service, "status")}
    assert states[old] == ["retired", "0"]
    assert states[new][0] == "active"

    # Also by a service that has no data key in memory.
    restart(stack, service)
    written.append(_write(alice, len(written)))
    for session, text in written:
        path_of = f"/v1/sessions/{session}"
        assert alice.call("GET", path_of)["session"]["title"] == text
        (message,) = alice.call("GET", f"{path_of}/messages")["messages"]
        assert message["content"] == text
    assert alice.call("GET", "/v1/me")["user"]["name"] == written[-1][1]


def _add_data_keys(stack: Stack, path: Path, count: int) -> None:
    """Data keys of people who never were, under the active KEK of a file of its own."""
    # One by one would take the test longer than what it tests.
    keys = KeyFile(path)
    with psycopg.connect(stack.admin_url, autocommit=True) as admin, admin.cursor() as cursor:
        names = "user_id, key_id, kek_id, wrapped, uses, create_time"
        with cursor.copy(f"COPY users.data_keys ({names}) FROM STDIN".encode()) as copy:
            for _ in range(count):
                person, key_id = uuid4(), uuid4()
                wrapped = _wrapped(keys, person, key_id)
                copy.write_row([person, key_id, *wrapped, 0, "now"])


def _wrapped(keys: KeyFile, person: UUID, key_id: UUID) -> tuple[str, bytes]:
    wrapping = keys.wrap(os.urandom(32), bound_to((person,), key_id))
    try:
        wrapping.send(None)
    except StopIteration as done:
        return done.value.kek_id, done.value.ciphertext
    raise AssertionError("a key file waits for nobody")


def test_a_rotation_killed_half_way_is_finished_by_the_next_run(stack: Stack) -> None:
    path = stack.home.key_file("users")
    _add_data_keys(stack, path, 2_000)
    old = _active_kek(path)
    _done(stack, "users", "add")
    command = _command("users", "rotate")
    environment = stack.service("users").environment
    with psycopg.connect(stack.admin_url) as holding:
        # It comes as far as this data key in the midst of them, and no further.
        holding.execute(
            "SELECT 1 FROM users.data_keys WHERE (user_id, key_id) ="
            " (SELECT user_id, key_id FROM users.data_keys ORDER BY 1, 2 OFFSET 1000 LIMIT 1)"
            " FOR UPDATE"
        )
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as rotating:
            eventually(lambda: _rewraps(stack) == ["Lock"])
            rotating.kill()
            output, _ = rotating.communicate()
        assert "Re-wrapped " in output
    # The server ends what it was asked for, also for somebody who is gone.
    eventually(lambda: _rewraps(stack) == [])
    with psycopg.connect(stack.admin_url) as admin:
        query = "SELECT count(*) FROM users.data_keys WHERE kek_id = %s"
        ((left,),) = admin.execute(query, (old,)).fetchall()
        assert 0 < left < 2_000
        refused = _keys(stack, "users", "retire", old)
        assert f"{old} still wraps {left:,} data keys: run `keys rotate` first" in refused.stderr
        assert refused.returncode == 1
        assert _done(stack, "users", "rotate")[-1].startswith("Every data key is wrapped by ")
        admin.rollback()
        assert admin.execute(query, (old,)).fetchall() == [(0,)]
    _done(stack, "users", "retire", old)


def _rewraps(stack: Stack) -> list[str | None]:
    """What each statement that re-wraps data keys waits for at the moment."""
    query = "SELECT wait_event_type FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s"
    return [kind for (kind,) in rows(stack, query, "%UPDATE users.data_keys%unchanged%")]


def _active_kek(path: Path) -> str:
    asking = KeyFile(path).active()
    try:
        asking.send(None)
    except StopIteration as done:
        return str(done.value)
    raise AssertionError("a key file waits for nobody")


@pytest.mark.parametrize("service", SERVICES)
def test_the_commands_say_what_they_lack(stack: Stack, tmp_path: Path, service: str) -> None:
    gone = tmp_path / "gone.json"
    done = _keys(stack, service, "status", INGLENOOK_KEY_FILE=str(gone))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{service}: cannot read the key file {gone}: No such file or directory\n"
    )
    nowhere = "postgresql://nobody@127.0.0.1:9/nothing"
    done = _keys(stack, service, "status", INGLENOOK_DATABASE_URL=nowhere)
    assert done.returncode == 1
    assert f"{service}: the database does not answer\n" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_rotate_without_a_new_key_changes_nothing(stack: Stack, service: str) -> None:
    before = stack.home.key_file(service).read_text()
    _done(stack, service, "rotate")
    assert stack.home.key_file(service).read_text() == before


def test_a_service_does_not_read_the_keys_of_another(stack: Stack, tmp_path: Path) -> None:
    # One schema's data keys are of no use to another service's keys.
    make_key_file(tmp_path / "keys.json")
    with psycopg.connect(stack.admin_url) as admin:
        rows = [
            admin.execute(
                sql.SQL("SELECT kek_id FROM {}").format(sql.Identifier(name, "key_encryption_keys"))
            ).fetchall()
            for name in SERVICES
        ]
    ids = [row[0] for found in rows for row in found]
    assert len(ids) == len(set(ids))
