"""`python -m local run`, and the stack behind it: what goes wrong is told, and ends cleanly."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local.stack import Stack, free_ports
from tests.integration.local.launcher import Launcher
from tests.integration.local.liveness import alive
from tests.integration.replicas import reserved_port


def _create_session(stack: Stack) -> int:
    headers = {"authorization": f"Bearer {stack.token('alice')}"}
    url = f"{stack.url}/v1/sessions"
    return httpx.post(url, headers=headers, json={"title": "A talk"}, timeout=30).status_code


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_port_in_use_is_told_with_its_setting(reachable: Path, taken: int) -> None:
    code, output, errors = Launcher(reachable / "home", INGLENOOK_PORT=str(taken)).end()
    assert (code, output) == (1, "")
    assert errors.strip() == (
        f"gateway cannot listen on port {taken}, which is in use: set INGLENOOK_PORT to another"
    )


@pytest.mark.parametrize("given", ["eighty", "0", "70000", "-1"])
def test_what_is_no_port_is_told_with_its_setting(reachable: Path, given: str) -> None:
    code, _, errors = Launcher(reachable / "home", INGLENOOK_SERVICE_PORT=given).end()
    assert code == 1
    assert errors.strip() == f"INGLENOOK_SERVICE_PORT is not a port: {given}"


def test_a_home_that_cannot_be_made_is_told(reachable: Path) -> None:
    (reachable / "file").touch()
    code, _, errors = Launcher(reachable / "file" / "home").end()
    assert code == 1
    assert str(reachable / "file") in errors
    assert "Traceback" not in errors


def test_a_database_that_does_not_answer_is_told(reachable: Path) -> None:
    with reserved_port() as nowhere:
        url = f"postgresql://admin:s3cret@127.0.0.1:{nowhere}/talks"
        code, _, errors = Launcher(reachable / "home", DATABASE_URL=url).end()
    assert code == 1
    assert errors.startswith("the schema users cannot be brought up to date")
    assert "Traceback" not in errors
    assert "s3cret" not in errors


def test_a_url_of_another_database_is_refused_without_showing_its_password(
    reachable: Path,
) -> None:
    code, _, errors = Launcher(
        reachable / "home", DATABASE_URL="mysql://admin:s3cret@db/talks"
    ).end()
    assert (code, errors) == (1, "DATABASE_URL does not begin with postgresql://\n")


def test_ctrl_c_while_everything_starts_is_heeded_before_it_runs(reachable: Path) -> None:
    run = Launcher(reachable / "home")
    run.wait_for("initdb.log")
    family = run.family()
    assert family
    assert run.end(signal.SIGINT)[:2] == (0, "Stopped.\n")
    assert alive(family) == []


def test_when_one_part_dies_all_stop_and_the_part_is_named(reachable: Path) -> None:
    run = Launcher(reachable / "home")
    run.welcome()
    family = run.family()
    (sessions,) = [p for p in family if "services.sessions" in p.cmdline()]
    sessions.kill()
    code, _, errors = run.end()
    assert code == 1
    assert errors.startswith("sessions ended by itself (signal 9). Its log, ")
    assert str(reachable / "home" / "logs" / "sessions.log") in errors
    assert alive(family) == []


def test_the_stack_gets_ready_again_whatever_was_killed_or_restarted(reachable: Path) -> None:
    with Stack(reachable / "home", free_ports()) as stack:
        stack.restart("users")
        for name in ("messages", "postgres", "gateway"):
            stack.kill(name)
            stack.start_again(name)
        # At the first try: connections that the database closed are not used again.
        assert _create_session(stack) == 200
        stack.check()


def test_a_database_that_restarts_is_used_again_at_the_first_call(reachable: Path) -> None:
    with Stack(reachable / "home", free_ports()) as stack:
        headers = {"authorization": f"Bearer {stack.token('alice')}"}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as alice:
            created = alice.post("/v1/sessions", json={"title": "A talk"}).json()["session"]
            path = f"/v1/sessions/{created['sessionId']}/messages"
            alice.post(path, json={"content": "before"})
            with alice.stream("GET", f"{path}:watch") as watch:
                lines = watch.iter_lines()
                assert "before" in next(lines)
                token = json.loads(next(lines))["resumeToken"]
            stack.kill("postgres")
            stack.start_again("postgres")
            assert alice.get("/v1/me").status_code == 200
            assert alice.get("/v1/sessions").status_code == 200
            assert alice.post(path, json={"content": "after"}).status_code == 200
            with alice.stream("GET", f"{path}:watch?resumeToken={token}") as watch:
                missed = json.loads(next(watch.iter_lines()))["changes"]
            assert [change["upserted"]["content"] for change in missed] == ["after"]
