"""The whole stack: what runs, with which settings, in which order."""

import fcntl
import json
import os
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

import services
from local.home import SERVICES, Home
from local.postgres import EmbeddedPostgres
from local.processes import Processes, ProcessSpec, inherited_environment
from services.runtime.development_issuer import development_token
from services.runtime.migration import migrate
from services.runtime.settings import MigrationSettings

_SERVICES_FOLDER = Path(services.__file__).resolve().parent
_READY_SECONDS = 60.0
_PROTO_SERVICES = {
    "users": "inglenook.users.v1.UsersService",
    "sessions": "inglenook.sessions.v1.SessionsService",
    "messages": "inglenook.messages.v1.MessagesService",
}


class StackError(Exception):
    """The stack cannot run as it is; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports on loopback."""

    gateway: int = 8080
    users: int = 50051
    sessions: int = 50052
    messages: int = 50053

    def address(self, name: str) -> str:
        """The address of a process."""
        return f"127.0.0.1:{getattr(self, name)}"


def free_ports() -> Ports:
    """Ports that nothing listens on now."""
    with ExitStack() as open_sockets:
        probes = [open_sockets.enter_context(socket.socket()) for _ in range(4)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return Ports(*(probe.getsockname()[1] for probe in probes))


class Stack:
    """PostgreSQL, the services and the gateway on one machine: `with Stack(…) as stack`."""

    def __init__(self, home: Path, ports: Ports, *, database_url: str | None = None) -> None:
        """Takes where data and keys are; with `database_url`, no PostgreSQL is started.

        `database_url` is of a role that may create roles and schemas.
        """
        self.home = Home(home.resolve())
        self.ports = ports
        self.postgres: EmbeddedPostgres | None = None
        """The server that was started, if one was."""
        self._given_database_url = database_url
        self._cleanup = ExitStack()

    def __enter__(self) -> "Stack":
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return f"http://localhost:{self.ports.gateway}"

    def token(self, person: str, *, lifetime: float = 24 * 3600) -> str:
        """A token that signs its bearer in as a person, for so many seconds."""
        return development_token(self.home.development_issuer, person, lifetime=lifetime)

    def check(self) -> None:
        """Makes sure that every process runs.

        Raises:
            ProcessDiedError: one does not.
        """
        self.processes.check()

    def restart(self, name: str) -> None:
        """Stops a process and starts it again."""
        self.processes.stop(name)
        self.start_again(name)

    def start_again(self, name: str) -> None:
        """Starts a process that was stopped or killed, and waits until the stack is ready."""
        spec = self._gateway() if name == "gateway" else self.service(name)
        self.processes.start(spec)
        self._wait_until_ready()

    def _start(self) -> None:
        self.home.prepare()
        self._lock()
        self._require_free_ports()
        self.processes = Processes()
        self._cleanup.callback(self._stop)
        self.admin_url = self._given_database_url or self._start_postgres()
        # First, since it takes a while to start and needs nobody for that.
        self.processes.start(self._gateway())
        for name in SERVICES:
            self._migrate(name)
        for name in SERVICES:
            self.processes.start(self.service(name))
        self._wait_until_ready()

    def _stop(self) -> None:
        self.processes.stop_all()
        if self.postgres is not None:
            self.postgres.remove_socket_folder()

    def _lock(self) -> None:
        file = self._cleanup.enter_context((self.home.run / "lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"Inglenook runs already with the data in {self.home.folder}:"
                " stop it first, or set INGLENOOK_HOME to another folder"
            ) from None

    def _require_free_ports(self) -> None:
        for name in ("gateway", *SERVICES):
            with socket.socket() as probe:
                # As the servers do: a port that only old connections linger on is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", getattr(self.ports, name)))
                except OSError:
                    setting = "INGLENOOK_PORT" if name == "gateway" else "INGLENOOK_SERVICE_PORT"
                    raise StackError(
                        f"{name} cannot listen on port {getattr(self.ports, name)}, which is in"
                        f" use: set {setting} to another"
                    ) from None

    def _start_postgres(self) -> str:
        postgres = EmbeddedPostgres(self.home, self.processes)
        self.postgres = postgres
        postgres.start()
        return postgres.url()

    def _migrate(self, name: str) -> None:
        """Brings a service's schema up to date, here: a process for each would start for longer."""
        settings = MigrationSettings(
            database_url=self._role_url(name), admin_database_url=self.admin_url
        )
        migrate(settings, name, _SERVICES_FOLDER / name / "migrations")

    def service(self, name: str) -> ProcessSpec:
        """A service as a process."""
        environment = self._environment() | {
            "INGLENOOK_LISTEN": self.ports.address(name),
            "INGLENOOK_DATABASE_URL": self._role_url(name),
            "INGLENOOK_KEY_FILE": str(self.home.key_file(name)),
            "INGLENOOK_TOKEN_KEY_FILE": str(self.home.token_key_file(name)),
            "INGLENOOK_SESSIONS_ADDRESS": self.ports.address("sessions"),
        }
        command = [sys.executable, "-m", f"services.{name}"]
        return ProcessSpec(name, command, environment, self.home.logs / f"{name}.log")

    def _gateway(self) -> ProcessSpec:
        upstreams = {_PROTO_SERVICES[name]: self.ports.address(name) for name in SERVICES}
        environment = self._environment() | {
            "INGLENOOK_LISTEN": self.ports.address("gateway"),
            "INGLENOOK_UPSTREAMS": json.dumps(upstreams),
            "INGLENOOK_BOOTSTRAP_FILE": str(self.home.run / "envoy.json"),
        }
        command = [sys.executable, "-m", "gateway"]
        return ProcessSpec("gateway", command, environment, self.home.logs / "gateway.log")

    def _environment(self) -> dict[str, str]:
        """What every process gets: what it needs to run, our defaults, the user's settings."""
        own = {name: value for name, value in os.environ.items() if name.startswith("INGLENOOK_")}
        return (
            inherited_environment()
            | {
                "INGLENOOK_ENVIRONMENT": "development",
                "INGLENOOK_DEVELOPMENT_ISSUER": str(self.home.development_issuer),
            }
            | own
        )

    def _role_url(self, service: str) -> str:
        """The admin's URL as a service's own role."""
        role = f"inglenook_{service}"
        parts = urlsplit(self.admin_url)
        host = parts.netloc.rpartition("@")[2]
        password = quote(self.home.password(role), safe="")
        return urlunsplit(parts._replace(netloc=f"{role}:{password}@{host}"))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        url = f"http://{self.ports.address('gateway')}/readyz"
        while True:
            self.processes.check()
            try:
                if httpx.get(url, timeout=2.0).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # Nothing listens yet; the deadline says when that is a fault.
            if time.monotonic() > deadline:
                raise StackError(f"not ready after {_READY_SECONDS:.0f} s: see {self.home.logs}")
            time.sleep(0.05)
