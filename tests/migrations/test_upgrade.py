"""From the last release to this version, with data in it and people at it.

The last release runs as it was, out of git; this version's migrations go over its database while
its services serve; then this version takes its place.
"""

import io
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from contract.folders import ROOT
from local.home import Home
from local.postgres import ADMIN, DATABASE
from services import SERVICES
from services.runtime.development_issuer import development_token
from services.runtime.migration import migrate
from services.runtime.settings import MigrationSettings
from tests.integration.local.launcher import Launcher
from tests.migrations.released import COMMIT

_FOLDERS = ("contract", "gateway", "local", "protos", "services")


class Talker(threading.Thread):
    """A person who talks without a pause, and notes what was acknowledged and what was not."""

    def __init__(self, url: str, home: Home, name: str) -> None:
        super().__init__()
        self.said: dict[str, list[str]] = {}
        """By session, what was acknowledged, in its order."""
        self.failures: list[str] = []
        self._http = signed_in(url, home, name)
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.is_set():
            session = str(uuid4())
            self._call("POST", "/v1/sessions", {"sessionId": session, "title": "A talk"})
            self.said[session] = []
            for content in ("It has been", "a long", "day."):
                path = f"/v1/sessions/{session}/messages"
                if self._call("POST", path, {"content": content}):
                    self.said[session].append(content)
            self._call("GET", "/v1/sessions")
            self._call("PUT", "/v1/me/currentSession", {"sessionId": session})

    def stop(self) -> None:
        self._enough.set()
        self.join(30)
        self._http.close()

    def _call(self, verb: str, path: str, body: object = None) -> bool:
        answer = self._http.request(verb, path, json=body)
        if not answer.is_success:
            self.failures.append(f"{verb} {path}: {answer.text}")
        return answer.is_success


def signed_in(url: str, home: Home, name: str) -> httpx.Client:
    token = development_token(home.development_issuer, name, lifetime=3600)
    return httpx.Client(
        base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    )


@pytest.fixture
def release(reachable: Path) -> Path:
    """The files of the last release, with its contract compiled."""
    folder = reachable / "release"
    archive = subprocess.run(
        ["git", "archive", COMMIT, *_FOLDERS], cwd=ROOT, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    command = [sys.executable, "-m", "contract.compile"]
    subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, check=True)
    return folder


def test_the_last_release_serves_while_its_database_is_migrated_and_this_version_goes_on(
    release: Path, reachable: Path
) -> None:
    home = Home(reachable / "home")
    before = Launcher(home.folder, root=release)
    before.welcome()
    people = [Talker(before.url, home, name) for name in ("ann", "ben", "cora")]
    for person in people:
        person.start()
    for service in SERVICES:
        migrate(_settings(home, service), service, ROOT / "services" / service / "migrations")
    seen = [len(person.said) for person in people]
    while any(len(p.said) < talks + 3 for p, talks in zip(people, seen, strict=True)):
        assert all(person.is_alive() for person in people)
        time.sleep(0.05)
    for person in people:
        person.stop()
    assert [person.failures for person in people] == [[], [], []]
    assert before.end(signal.SIGINT)[0] == 0

    after = Launcher(home.folder)
    after.welcome()
    for person, name in zip(people, ("ann", "ben", "cora"), strict=True):
        with signed_in(after.url, home, name) as http:
            for session, said in person.said.items():
                path = f"/v1/sessions/{session}/messages"
                messages = http.get(path, params={"order": "ORDER_OLDEST_FIRST"}).json()["messages"]
                assert [message["content"] for message in messages] == said
                more = http.post(path, json={"content": "And more."})
                assert more.json()["message"]["sequence"] == len(said) + 1
    assert after.end(signal.SIGINT)[0] == 0


def _settings(home: Home, service: str) -> MigrationSettings:
    def url(role: str) -> str:
        password = quote(home.password(role), safe="")
        socket = quote(str(home.run / "postgres"), safe="")
        return f"postgresql://{role}:{password}@/{DATABASE}?host={socket}&port=5432"

    return MigrationSettings(
        database_url=url(f"inglenook_{service}"), admin_database_url=url(ADMIN)
    )
