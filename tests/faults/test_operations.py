"""The commands of docs/operations.md, run as they stand there, on systems of their own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import grpc
import psycopg
import pytest
from inglenook.sessions.v1.sessions_pb2 import RecordActivityRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from contract.folders import ROOT
from local.postgres import running_postgres
from local.stack import Stack, free_ports
from local.unprivileged import reachable_binaries
from services import SERVICES
from tests.integration.calls import Person, Refused, refusal_over_grpc
from tests.integration.eventually import eventually, owed, rows

SAID = "It has been a long day."
_BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)


_SIZES = """psql "$DATABASE" --no-align --tuples-only --command "
  SELECT pg_total_relation_size"""


def _commands(beginning: str) -> str:
    """The one block of the page that begins so."""
    (found,) = [block for block in _BLOCKS if block.startswith(beginning)]
    return str(found)


def _dump_of(file: str) -> str:
    """The block that makes one of the two dumps."""
    return _commands(f'pg_dump "$DATABASE" --format=custom --file={file}')


def _run(commands: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Runs commands as an operator would, with PostgreSQL's programs and Python at hand."""
    programs = [str(reachable_binaries(None)), str(Path(sys.executable).parent)]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={
            **environment,
            "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def _person(stack: Stack, name: str) -> Iterator[Person]:
    with closing(Person(stack, name)) as signed_in:
        yield signed_in


def _wrapped_keys(stack: Stack) -> set[str]:
    """All that is stored of data keys, in hexadecimal, as a dump has it."""
    return {
        row[0]
        for service in SERVICES
        for row in rows(stack, f"SELECT encode(wrapped, 'hex') FROM {service}.data_keys")  # noqa: S608
    }


def test_what_was_backed_up_is_restored_and_who_was_erased_since_is_not(reachable: Path) -> None:
    folder = reachable / "backup"
    folder.mkdir()
    with Stack(reachable / "home", free_ports()) as stack:
        database = {"DATABASE": stack.admin_url}
        with _person(stack, "alice") as alice, _person(stack, "bob") as bob:
            kept, erased = alice.new_session(SAID), bob.new_session(SAID)
            alice.say(kept, SAID)
            bob.say(erased, SAID)
            wrapped = _wrapped_keys(stack)
            _run(_dump_of("data.dump"), folder, database)
            bob.call("POST", "/v1/me:erase", {"confirm": "ERASE"})
            eventually(lambda: len(_wrapped_keys(stack)) < len(wrapped))
            eventually(lambda: owed(stack) == 0)
            left = _wrapped_keys(stack)
            _run(_dump_of("keys.dump"), folder, database)
            sizes = _run(_commands(_SIZES), folder, database)
            assert re.fullmatch(r"\d+\|\d+ [kM]B\n", sizes)
        secrets = reachable / "secrets"
        shutil.copytree(stack.home.secrets, secrets)
    data, keys = (
        _run(f"pg_restore --file=- {name}", folder, {}) for name in ("data.dump", "keys.dump")
    )
    # Neither of the two has what opens the other, and neither has a word.
    assert not any(key in data for key in wrapped)
    assert all(key in keys for key in left)
    assert erased in data
    assert erased not in keys
    assert SAID not in data + keys
    with running_postgres(reachable / "database") as server:
        _run(_commands("pg_restore"), folder, {"RESTORED": server.url()})
        home = reachable / "new home"
        home.mkdir()
        shutil.copytree(secrets, home / "secrets")
        with Stack(home, free_ports(), database_url=server.url()) as restored:
            with _person(restored, "alice") as alice, _person(restored, "bob") as bob:
                messages = alice.call("GET", f"/v1/sessions/{kept}/messages")["messages"]
                assert [message["content"] for message in messages] == [SAID]
                assert alice.call("GET", f"/v1/sessions/{kept}")["session"]["title"] == SAID
                alice.say(kept, "It goes on.")
                unreadable = Refused("DATA_LOSS", "DATA_UNREADABLE")
                assert bob.refused("GET", f"/v1/sessions/{erased}/messages") == unreadable
            _look_after(restored, folder)
            query = "SELECT 1 FROM messages.messages WHERE session_id = %s"
            assert not rows(restored, query, erased)


def _look_after(stack: Stack, folder: Path) -> None:
    """Runs the commands for a system that was restored."""
    settings = stack.service("users").environment
    again = _run(_commands("python -m services.users persons"), folder, settings)
    assert again == "Erasing 1 once more, everywhere within moments.\n"
    eventually(lambda: owed(stack) == 0)
    looked = _commands("python -m services.messages keys status")
    for service in SERVICES:
        asked = looked.replace("services.messages", f"services.{service}")
        assert "kek-" in _run(asked, folder, stack.service(service).environment)
    settings = stack.service("messages").environment
    status = _run(_commands("python -m services.messages outbox status"), folder, settings)
    assert status == "Nothing is owed.\nNothing failed.\n"
    retried = _run(_commands("python -m services.messages outbox retry"), folder, settings)
    assert retried == "Trying 0 again.\n"


def test_secrets_that_leaked_are_replaced(reachable: Path) -> None:
    with Stack(reachable / "home", free_ports()) as stack:
        with _person(stack, "alice") as alice:
            session = alice.new_session()
            for _ in range(2):
                alice.say(session, SAID)
            listed = alice.call("GET", f"/v1/sessions/{session}/messages?pageSize=1")
        passwords = {name: stack.home.password(f"inglenook_{name}") for name in SERVICES}
        token = stack.home.service_tokens("messages").token()
        home = stack.home
    for service in SERVICES:
        (home.secrets / "database" / f"inglenook_{service}").unlink()
        home.token_key_file(service).unlink()
    shutil.rmtree(home.service_keys)
    with Stack(home.folder, free_ports()) as stack:
        with _person(stack, "alice") as alice:
            # A new conversation takes the services' own tokens, too.
            alice.say(alice.new_session(), SAID)
            messages = alice.call("GET", f"/v1/sessions/{session}/messages")["messages"]
            assert [message["content"] for message in messages] == [SAID, SAID]
            old_page = f"/v1/sessions/{session}/messages?pageToken={listed['nextPageToken']}"
            assert alice.refused("GET", old_page).reason == "PAGE_TOKEN_INVALID"
        for service, password in passwords.items():
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(_with_password(stack, service, password))
        with grpc.insecure_channel(stack.ports.address("sessions")) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                SessionsServiceStub(channel).RecordActivity(
                    RecordActivityRequest(),
                    metadata=(("authorization", f"Bearer {token}"),),
                    timeout=30,
                )
            assert refusal_over_grpc(refused.value) == Refused("UNAUTHENTICATED", "TOKEN_INVALID")


def _with_password(stack: Stack, service: str, password: str) -> str:
    """The address of a service's database, with another password."""
    parts = urlsplit(stack.service(service).environment["INGLENOOK_DATABASE_URL"])
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(
        parts._replace(netloc=f"inglenook_{service}:{quote(password, safe='')}@{host}")
    )
