"""The real server, started and stopped by the code of `make run`."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from local.environment import inherited_environment
from local.errors import ProcessDiedError, StackError
from local.home import Home
from local.postgres import ADMIN, EmbeddedPostgres, running_postgres
from local.processes import Processes
from tests.integration.eventually import eventually
from tests.integration.local.liveness import alive

# Runs a server in the home that its argument names, tells its URL, and waits.
_LAUNCHER = """
import pathlib, sys, time
from local.postgres import running_postgres
with running_postgres(pathlib.Path(sys.argv[1])) as server:
    print(server.url(), flush=True)
    time.sleep(60)
"""


def _postmaster(data: Path) -> psutil.Process:
    return psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))


def _processes_of(data: Path) -> list[psutil.Process]:
    return [_postmaster(data), *_postmaster(data).children()]


def _one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture(scope="module")
def server(reachable_to_all: Path) -> object:
    with running_postgres(reachable_to_all / "home") as running:
        yield running


def test_data_survives_a_restart(reachable: Path) -> None:
    with (
        running_postgres(reachable) as server,
        psycopg.connect(server.url(), autocommit=True) as connection,
    ):
        connection.execute("CREATE TABLE talk AS SELECT 'kept' AS title")
    with running_postgres(reachable) as server:
        assert _one(server.url(), "SELECT title FROM talk") == "kept"


def test_a_clean_stop_leaves_no_process_and_no_socket(reachable: Path) -> None:
    with running_postgres(reachable) as server:
        # A client that stays connected does not hold up the end: whatever is killed for that leaves
        # its PID file behind.
        client = psycopg.connect(server.url())
        running = _processes_of(server.data)
        assert len(running) > 3
    client.close()
    assert alive(running) == []
    assert not (server.data / "postmaster.pid").exists()
    assert list((reachable / "run" / "postgres").iterdir()) == []


def test_a_killed_launcher_leaves_no_server_and_the_next_run_finds_what_was_committed(
    reachable: Path,
) -> None:
    command = [sys.executable, "-c", _LAUNCHER, str(reachable)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        url = launcher.stdout.readline().strip()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE talk AS SELECT 'kept' AS title")
        left = _processes_of(reachable / "postgres")
        launcher.kill()
    # At once: the next run waits for what the killed one left behind.
    with running_postgres(reachable) as server:
        assert alive(left) == []
        assert _one(server.url(), "SELECT title FROM talk") == "kept"


def test_a_killed_server_recovers_what_was_committed(reachable: Path) -> None:
    home = Home(reachable)
    home.prepare()
    processes = Processes()
    server = EmbeddedPostgres(home, processes)
    try:
        server.start()
        with psycopg.connect(server.url()) as connection:
            connection.execute("CREATE TABLE talk AS SELECT 'kept' AS title")
        processes.kill("postgres")
        server.start()
        assert _one(server.url(), "SELECT title FROM talk") == "kept"
    finally:
        processes.stop_all()


def test_a_server_waits_for_what_is_left_of_one_that_was_killed(reachable: Path) -> None:
    home = Home(reachable)
    home.prepare()
    processes = Processes()
    server = EmbeddedPostgres(home, processes)

    def is_refused() -> bool:
        return "shared memory block" in (home.logs / "postgres.log").read_text()

    try:
        server.start()
        with psycopg.connect(server.url()) as connection, ThreadPoolExecutor(1) as starter:
            busy = psutil.Process(connection.info.backend_pid)
            busy.suspend()
            processes.kill("postgres")
            starting = starter.submit(server.start)
            try:
                eventually(is_refused)
            finally:
                busy.resume()
            starting.result()
        assert _one(server.url(), "SELECT 1") == 1
    finally:
        processes.stop_all()


def test_the_server_does_not_run_as_root(server: EmbeddedPostgres) -> None:
    assert 0 not in _postmaster(server.data).uids()
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700


def test_what_was_written_stays_out_of_the_log(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE secret (text text PRIMARY KEY, short varchar(3))")
        connection.execute("INSERT INTO secret VALUES (%s)", ["an-open-heart"])
        for statement, parameter in (
            ("INSERT INTO secret VALUES (%s)", "an-open-heart"),
            ("INSERT INTO secret VALUES ('x', NULL), (NULL, %s)", "heart"),
            ("SELECT %s::integer", "an-open-heart"),
            ("SELECT 'an-open-heart' || nonsense(%s)", "an-open-heart"),
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(statement.encode(), [parameter])
    log = (server.data.parent / "logs" / "postgres.log").read_text()
    assert "ready to accept connections" in log
    assert "heart" not in log


def test_a_commit_is_on_disk_before_it_is_acknowledged(server: EmbeddedPostgres) -> None:
    assert _one(server.url(), "SHOW fsync") == "on"
    assert _one(server.url(), "SHOW synchronous_commit") == "on"
    assert _one(server.url(), "SHOW full_page_writes") == "on"


def test_text_is_utf_8_and_sorted_the_same_on_every_system(server: EmbeddedPostgres) -> None:
    settings = (
        "SELECT concat_ws(' ', pg_encoding_to_char(encoding), datlocprovider, datlocale)"
        " FROM pg_database WHERE datname = current_database()"
    )
    assert _one(server.url(), settings) == "UTF8 b C.UTF-8"


def test_the_server_listens_on_no_network(server: EmbeddedPostgres) -> None:
    assert _postmaster(server.data).net_connections("inet") == []
    assert _one(server.url(), "SHOW listen_addresses") == ""


def test_nobody_enters_without_the_password(server: EmbeddedPostgres) -> None:
    password = server._home.password(ADMIN)
    wrong = server.url().replace(server.url().split(":")[2].split("@")[0], "guessed")
    assert password not in wrong
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_lost_passwords_are_told_as_such(reachable: Path) -> None:
    with running_postgres(reachable):
        pass
    (reachable / "secrets" / "database" / ADMIN).unlink()
    with (
        pytest.raises(StackError, match="are not those of the data"),
        running_postgres(reachable),
    ):
        pass


def test_a_home_with_a_long_path_works_and_its_socket_folder_goes_away(reachable: Path) -> None:
    home = reachable / ("deep" * 30)
    home.mkdir(mode=0o711)
    with running_postgres(home) as server:
        socket = Path(str(psycopg.conninfo.conninfo_to_dict(server.url())["host"]))
        assert not socket.is_relative_to(home)
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert _one(server.url(), "SELECT 1") == 1
    assert not socket.exists()


def test_a_killed_launcher_leaves_no_socket_folder(reachable: Path) -> None:
    home = reachable / ("deep" * 30)
    home.mkdir(mode=0o711)
    command = [sys.executable, "-c", _LAUNCHER, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        url = launcher.stdout.readline().strip()
        socket = Path(str(psycopg.conninfo.conninfo_to_dict(url)["host"]))
        assert socket.exists()
        launcher.kill()
    eventually(lambda: not socket.exists())


def test_a_first_run_that_was_cut_is_begun_anew(reachable: Path) -> None:
    half = reachable / "postgres.draft"
    half.mkdir(mode=0o700)
    (half / "PG_VERSION").write_text("18\n")
    with running_postgres(reachable) as server:
        assert _one(server.url(), "SELECT 1") == 1
    assert not half.exists()


def test_a_server_that_cannot_start_is_told_with_its_log(reachable: Path) -> None:
    with running_postgres(reachable) as server:
        pass
    (server.data / "postgresql.conf").write_text("no_such_setting = 1\n")
    with (
        pytest.raises(ProcessDiedError, match=r"postgres ended by itself(.|\n)*no_such_setting"),
        running_postgres(reachable),
    ):
        pass


def test_the_shell_s_own_settings_of_postgresql_do_not_matter(
    reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere", "PGDATA": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    assert "PGPORT" not in inherited_environment()
    with running_postgres(reachable) as server:
        assert _one(server.url(), "SELECT 1") == 1
    assert os.environ["PGPORT"] == "1"
