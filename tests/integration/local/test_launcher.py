"""`make run`: what it starts it also ends, however it ends itself, and the data stays."""

import signal
from pathlib import Path

import httpx

from local.postgres import running_postgres
from local.stack import Stack
from tests.integration.eventually import eventually
from tests.integration.local.launcher import Launcher
from tests.integration.local.liveness import alive


def test_ctrl_c_stops_all_of_it_and_the_next_run_finds_the_data(reachable: Path) -> None:
    first = Launcher(reachable / "home")
    _, curl = first.welcome()
    token = curl.rpartition("Bearer ")[2].strip().rstrip("'")
    headers = {"authorization": f"Bearer {token}"}
    created = httpx.post(
        f"{first.url}/v1/sessions", headers=headers, json={"title": "kept"}, timeout=30
    )
    assert created.status_code == 200, created.text
    family = first.family()
    assert len(family) >= 6
    assert first.end(signal.SIGINT)[0] == 0
    assert alive(family) == []

    second = Launcher(reachable / "home")
    second.welcome()
    listed = httpx.get(f"{second.url}/v1/sessions", headers=headers, timeout=30).json()["sessions"]
    assert [session["title"] for session in listed] == ["kept"]
    assert second.end(signal.SIGTERM)[0] == 0


def test_a_killed_launcher_leaves_no_orphan(reachable: Path) -> None:
    launcher = Launcher(reachable / "home")
    launcher.welcome()
    family = launcher.family()
    launcher.end(signal.SIGKILL)
    eventually(lambda: alive(family) == [])


def test_a_second_launcher_on_the_same_data_is_refused(stack: Stack) -> None:
    code, _, errors = Launcher(stack.home.folder).end()
    assert code == 1
    assert "runs already" in errors


def test_a_given_database_is_used_and_no_other_is_started(reachable: Path) -> None:
    # A server of its own: roles belong to the server, and each home has its own passwords.
    with running_postgres(reachable / "database") as server:
        launcher = Launcher(reachable / "home", DATABASE_URL=server.url())
        says, _ = launcher.welcome()
        assert "DATABASE_URL" in says
        assert not any(process.name() == "postgres" for process in launcher.family())
        assert launcher.end(signal.SIGTERM)[0] == 0


def test_secrets_are_for_their_owner_alone(stack: Stack) -> None:
    secrets = [path for path in stack.home.secrets.rglob("*") if path.is_file()]
    assert len(secrets) >= 10
    public = {"jwks.json"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in secrets if p.name not in public)
    assert stack.home.secrets.stat().st_mode & 0o077 == 0
