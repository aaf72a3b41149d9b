"""`make run`: what it starts it also ends, however it ends itself, and the data stays."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from contract.compile import ROOT
from local.home import Home
from local.postgres import EmbeddedPostgres
from local.processes import Processes
from local.stack import Stack, free_ports


class Launcher:
    """A `make run` of its own, in a home of its own."""

    def __init__(self, home: Path, **settings: str) -> None:
        ports = free_ports()
        self.url = f"http://localhost:{ports.gateway}"
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("INGLENOOK_")},
            "INGLENOOK_HOME": str(home),
            "INGLENOOK_PORT": str(ports.gateway),
            "INGLENOOK_SERVICE_PORT": str(_first_of_three_free_ports()),
            **settings,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local", "run"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def welcome(self) -> list[str]:
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(2)]
        assert lines[1].startswith("curl "), lines + self.process.stdout.readlines()
        return lines

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        code = self.process.wait(40)
        self.process.stdout.close()
        return code


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o711)
    return tmp_path / "home"


def _first_of_three_free_ports() -> int:
    """Three in a row, as the launcher takes them."""
    while True:
        first = free_ports().users
        with ExitStack() as probes:
            try:
                for port in range(first, first + 3):
                    probe = probes.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return first


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_ctrl_c_stops_all_of_it_and_the_next_run_finds_the_data(home: Path) -> None:
    first = Launcher(home)
    curl = first.welcome()[1]
    token = curl.rpartition("Bearer ")[2].strip().rstrip("'")
    headers = {"authorization": f"Bearer {token}"}
    created = httpx.post(f"{first.url}/v1/sessions", headers=headers, json={"title": "kept"})
    assert created.status_code == 200, created.text
    family = first.family()
    assert len(family) >= 6
    assert first.end(signal.SIGINT) == 0
    assert _alive(family) == []

    second = Launcher(home)
    second.welcome()
    listed = httpx.get(f"{second.url}/v1/sessions", headers=headers).json()["sessions"]
    assert [session["title"] for session in listed] == ["kept"]
    assert second.end(signal.SIGTERM) == 0


def test_a_killed_launcher_leaves_no_orphan(home: Path) -> None:
    launcher = Launcher(home)
    launcher.welcome()
    family = launcher.family()
    launcher.end(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _alive(family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _alive(family) == []


def test_a_second_launcher_on_the_same_data_is_refused(stack: Stack) -> None:
    second = Launcher(stack.home.folder)
    output, _ = second.process.communicate(timeout=30)
    assert second.process.returncode == 1
    assert "runs already" in output


def test_a_given_database_is_used_and_no_other_is_started(home: Path) -> None:
    # A server of its own: roles belong to the server, and each home has its own passwords.
    own = Home(home.with_name("database"))
    own.prepare()
    processes = Processes()
    server = EmbeddedPostgres(own, processes)
    try:
        server.start()
        _run_with_database(home, server.url())
    finally:
        processes.stop_all()
        server.remove_socket_folder()


def _run_with_database(home: Path, url: str) -> None:
    launcher = Launcher(home, DATABASE_URL=url)
    lines = launcher.welcome()
    assert "DATABASE_URL" in lines[0]
    assert not any(process.name() == "postgres" for process in launcher.family())
    assert launcher.end(signal.SIGTERM) == 0


def test_secrets_are_for_their_owner_alone(stack: Stack) -> None:
    secrets = [path for path in stack.home.secrets.rglob("*") if path.is_file()]
    assert len(secrets) >= 10
    public = {"jwks.json"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in secrets if p.name not in public)
    assert stack.home.secrets.stat().st_mode & 0o077 == 0
