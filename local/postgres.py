"""PostgreSQL from its wheel, on real files: for one machine and for tests.

It answers on a Unix socket only, and asks everyone for a password.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from local.environment import inherited_environment
from local.errors import ProcessDiedError, StackError
from local.home import Home
from local.lock import locked
from local.processes import Processes, ProcessSpec
from local.unprivileged import postgres_owner, reachable_binaries, reachable_folder

ADMIN = "inglenook_admin"
DATABASE = "inglenook"
_NAME = "postgres"
_PORT = 5432
# Of a Unix socket's path: 107 on Linux, 103 on macOS.
_SOCKET_BYTES = 103
_START_SECONDS = 60.0
# The processes of a server that was killed end by themselves, once each has noticed. Until then its
# memory is in use, and another server does not begin.
_STILL_THERE = "shared memory block"
_CLEARING_SECONDS = 10.0
_CLEARING_POLL_SECONDS = 0.1
_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0777",  # Who may enter is decided by password.
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    # What people wrote stays out of the log: statements and their parameters, and the errors that
    # quote them, which whoever sent the statement is told anyway.
    "log_statement": "none",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class EmbeddedPostgres:
    """A server whose data lies in a home; see `Home`."""

    def __init__(self, home: Home, processes: Processes) -> None:
        """Takes a home that was prepared, and what the server's process is one of.

        Raises:
            StackError: there is nobody to run the server as.
        """
        self._home = home
        self._processes = processes
        self._owner = postgres_owner()
        self._base = reachable_folder(home.folder, self._owner)
        self._socket_folder: Path | None = None
        self.data = self._base / "postgres"
        """Where the data is: in the home, unless the server's user cannot reach that."""

    def start(self) -> None:
        """Makes the data folder on first run, starts the server, and waits until it answers.

        Raises:
            ProcessDiedError: the server ended, or the data folder could not be made.
            StackError: it does not answer, or not to the password of this home.
            StopRequestedError: the launcher was told to stop.
        """
        if not self.data.exists():
            self._initialise()
        socket_folder = self._make_socket_folder()
        settings = _SETTINGS | {"unix_socket_directories": str(socket_folder)}
        arguments = ["-D", str(self.data), *(f"--{key}={value}" for key, value in settings.items())]
        self._run(self._program("postgres", arguments))
        self._make_database()

    def stop(self) -> None:
        """Stops the server and removes its socket."""
        self._processes.stop(_NAME)
        self.remove_socket_folder()

    def remove_socket_folder(self) -> None:
        """Removes a socket folder that was made outside the home."""
        if self._socket_folder is not None and not self._socket_folder.is_relative_to(self._base):
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        self._socket_folder = None

    def url(self, role: str = ADMIN, database: str = DATABASE) -> str:
        """The URL of a database for a role.

        Raises:
            RuntimeError: the server was not started.
        """
        if self._socket_folder is None:
            raise RuntimeError("the server was not started")
        password = quote(self._home.password(role), safe="")
        socket = quote(str(self._socket_folder))
        return f"postgresql://{role}:{password}@/{database}?host={socket}&port={_PORT}"

    def _run(self, server: ProcessSpec) -> None:
        """Runs the server, once nothing is left of one that was killed."""
        deadline = time.monotonic() + _CLEARING_SECONDS
        while True:
            self._processes.start(server)
            try:
                self._processes.wait_until_ready(_NAME, _START_SECONDS)
            except ProcessDiedError as death:
                if _STILL_THERE not in str(death) or time.monotonic() > deadline:
                    raise
                time.sleep(_CLEARING_POLL_SECONDS)
            else:
                return

    def _program(self, program: str, arguments: list[str]) -> ProcessSpec:
        return ProcessSpec(
            name=program,
            command=[str(reachable_binaries(self._owner) / program), *arguments],
            environment=inherited_environment(),
            log=self._home.logs / f"{program}.log",
            ready=self._answers,
            stop_signal=signal.SIGINT,  # "Fast": ends connections instead of waiting for them.
            user=None if self._owner is None else self._owner.user,
            group=None if self._owner is None else self._owner.group,
            folder=Path("/"),
        )

    def _initialise(self) -> None:
        # Made beside and renamed, so that a first run that was cut leaves no half database.
        draft = self.data.with_name("postgres.draft")
        password = self.data.with_name("postgres.password")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._home.password(ADMIN))
        if self._owner is not None:
            self._owner.give(draft)
            self._owner.give(password)
        arguments = [
            *("-D", str(draft), "-U", ADMIN, f"--pwfile={password}", "-A", "scram-sha-256"),
            *("-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ]
        try:
            self._processes.run_to_end(self._program("initdb", arguments))
        finally:
            password.unlink()
        draft.rename(self.data)
        _sync(self.data.parent)

    def _make_socket_folder(self) -> Path:
        """The folder of the socket; the same one however often the server is started."""
        if self._socket_folder is not None:
            return self._socket_folder
        run = self._base / "run"
        run.mkdir(exist_ok=True)
        run.chmod(0o711)
        folder = run / "postgres"
        if len(str(folder / f".s.PGSQL.{_PORT}").encode()) > _SOCKET_BYTES:
            # Not where TMPDIR says, which can be as long.
            folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="inglenook-"))
            self._processes.remove_at_end(folder)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        if self._owner is not None:
            self._owner.give(folder)
        self._socket_folder = folder
        return folder

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(database="postgres")).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise StackError(
                    f"the passwords in {self._home.secrets} are not those of the data in"
                    f" {self.data}: put back the ones it was made with"
                ) from None
            return False
        return True

    def _make_database(self) -> None:
        with psycopg.connect(self.url(database="postgres"), autocommit=True) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
            ).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")


@contextmanager
def running_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server alone, with its data, passwords and log in a home at `folder`, for as long.

    Raises as `EmbeddedPostgres.start` does.
    """
    home = Home(folder.resolve())
    with locked(home) as lock:
        home.prepare()
        processes = Processes(held=[lock])
        server = EmbeddedPostgres(home, processes)
        try:
            server.start()
            yield server
        finally:
            processes.stop_all()
            server.remove_socket_folder()


def _sync(folder: Path) -> None:
    """Has a rename in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
