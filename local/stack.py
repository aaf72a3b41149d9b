"""The whole stack: what runs, with which settings, in which order."""

import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import httpx
import psycopg
from pydantic import ValidationError

import services
from local.environment import inherited_environment
from local.errors import StackError
from local.home import PROGRAMS, Home
from local.lock import locked
from local.postgres import EmbeddedPostgres
from local.processes import Processes, ProcessSpec
from local.sign_in import SignIn
from services import SERVICES
from services.runtime.development_issuer import development_token
from services.runtime.migration import migrate
from services.runtime.probe import is_serving
from services.runtime.settings import SERVICES_ISSUER, MigrationSettings, TransportSettings

_SERVICES_FOLDER = Path(services.__file__).resolve().parent
_READY_SECONDS = 60.0
# Below those that systems give to outgoing connections: one of these would soon have the port of a
# service that is being restarted.
PORTS = range(20_000, 32_768)
_given: set[int] = set()
PROTO_SERVICES = {
    "users": "inglenook.users.v1.UsersService",
    "sessions": "inglenook.sessions.v1.SessionsService",
    "messages": "inglenook.messages.v1.MessagesService",
    "responder": "inglenook.respond.v1.RespondService",
}
"""By the name of a program, the service of the contract that it serves."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports on loopback. Where one for metrics is 0, none are shown."""

    gateway: int = 8080
    users: int = 50051
    sessions: int = 50052
    messages: int = 50053
    responder: int = 50054
    gateway_metrics: int = 0
    users_metrics: int = 0
    sessions_metrics: int = 0
    messages_metrics: int = 0
    responder_metrics: int = 0

    def address(self, name: str) -> str:
        """The address of a process."""
        return f"127.0.0.1:{getattr(self, name)}"

    def metrics_address(self, name: str) -> str:
        """The address that shows a process's metrics, or nothing when none does."""
        shown = f"{name}_metrics"
        return self.address(shown) if getattr(self, shown) else ""


def free_ports(*, metrics: bool = False) -> Ports:
    """Ports that nothing listens on now; with `metrics`, those that show them too.

    None is given twice by a process: it is free until whoever it was given to listens on it.
    """
    count = len(fields(Ports)) if metrics else len(("gateway", *PROGRAMS))
    left = sorted(set(PORTS) - _given)
    drawn = iter(SystemRandom().sample(left, len(left)))
    with ExitStack() as open_sockets:
        return Ports(*(_next_free(drawn, open_sockets) for _ in range(count)))


def _next_free(ports: Iterator[int], open_sockets: ExitStack) -> int:
    for port in ports:
        probe = open_sockets.enter_context(socket.socket())
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise StackError("There is no free port on this machine.")


class Stack:
    """PostgreSQL, the services and the gateway on one machine: `with Stack(…) as stack`."""

    def __init__(
        self,
        home: Path,
        ports: Ports,
        *,
        database_url: str | None = None,
        settings: Mapping[str, str] | None = None,
        web: Path | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        """Takes where data and keys are.

        With `database_url`, which is of a role that may create roles and schemas, no PostgreSQL is
        started. `settings` are more environment variables for the services and the gateway: where
        they name an issuer of people's tokens, there is no development issuer. `web` is the built
        web app, which is then served, and signs anyone in where there is a development issuer.
        `stop_requested` is asked while something is waited for.
        """
        self.home = Home(home.resolve())
        self.ports = ports
        self.postgres: EmbeddedPostgres | None = None
        """The server that was started, if one was."""
        self.admin_url = database_url or ""
        """The database's URL, as a role that may create roles and schemas."""
        self._settings = {} if settings is None else dict(settings)
        self._web = web
        self._web_settings: dict[str, str] = {}
        self._stop_requested = stop_requested
        self._cleanup = ExitStack()

    def __enter__(self) -> "Stack":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops everything, the last started first; does nothing when that was done."""
        self._cleanup.close()

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return f"http://localhost:{self.ports.gateway}"

    @property
    def is_for_development(self) -> bool:
        """Whether the development issuer signs anyone in as anyone."""
        issuers = [issuer for issuer in self._given_issuers() if isinstance(issuer, dict)]
        return not any(issuer.get("kind", "user") == "user" for issuer in issuers)

    def token(self, person: str, *, lifetime: float = 24 * 3600) -> str:
        """A token that signs its bearer in as a person, for so many seconds."""
        return development_token(self.home.development_issuer, person, lifetime=lifetime)

    def check(self) -> None:
        """Makes sure that every process runs.

        Raises:
            ProcessDiedError: one does not.
            StopRequestedError: the launcher was told to stop.
        """
        self.processes.check()

    def kill(self, name: str) -> None:
        """Ends a process at once, as a crash would; `start_again` brings it back."""
        self.processes.kill(name)

    def restart(self, name: str) -> None:
        """Stops a process and starts it again."""
        self.processes.stop(name)
        self.start_again(name)

    def start_again(self, *names: str) -> None:
        """Starts processes that were stopped or killed, and waits until the stack is ready."""
        for name in names:
            if name == "gateway":
                self.processes.start(self.gateway())
            elif name == "postgres" and self.postgres is not None:
                self.postgres.start()
            else:
                self.processes.start(self.service(name))
        for name in names:
            # The gateway may not have noticed yet that the one before is gone.
            if name in PROGRAMS:
                self.processes.wait_until_ready(name, _READY_SECONDS)
        self._wait_until_ready()

    def _start(self) -> None:
        lock = self._cleanup.enter_context(locked(self.home))
        self.home.prepare()
        self._require_free_ports()
        self.processes = Processes(stop_requested=self._stop_requested, held=[lock])
        self._cleanup.callback(self._stop)
        if not self.admin_url:
            self.admin_url = self._start_postgres()
        if self._web is not None:
            self._web_settings = {"INGLENOOK_WEB_FOLDER": str(self._web)}
            if self.is_for_development:
                self._web_settings["INGLENOOK_DEVELOPMENT_SIGN_IN"] = self._start_sign_in()
        # First, since it takes a while to start and needs nobody for that.
        self.processes.start(self.gateway())
        for name in SERVICES:
            self.processes.check()
            self._migrate(name)
        for name in PROGRAMS:
            self.processes.start(self.service(name))
        self._wait_until_ready()

    def _stop(self) -> None:
        self.processes.stop_all()
        if self.postgres is not None:
            self.postgres.remove_socket_folder()

    def _require_free_ports(self) -> None:
        for name in ("gateway", *PROGRAMS):
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

    def _start_sign_in(self) -> str:
        sign_in = SignIn(self.home.development_issuer)
        self._cleanup.callback(sign_in.close)
        return sign_in.address

    def _migrate(self, name: str) -> None:
        """Brings a service's schema up to date, here: a process for each would start for longer."""
        try:
            settings = MigrationSettings(
                database_url=self._role_url(name), admin_database_url=self.admin_url
            )
            migrate(settings, name, _SERVICES_FOLDER / name / "migrations")
        except ValidationError as error:
            # Its own text would quote the URL, and the password in it.
            raise StackError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        except psycopg.Error as error:
            raise StackError(f"the schema {name} cannot be brought up to date: {error}") from None

    def service(self, name: str) -> ProcessSpec:
        """A service as a process; the responder is one, and stores nothing."""
        environment = self._environment() | {
            "INGLENOOK_LISTEN": self.ports.address(name),
            "INGLENOOK_METRICS_LISTEN": self.ports.metrics_address(name),
            "INGLENOOK_SERVICE_KEY": str(self.home.service_keys / name),
            "INGLENOOK_USERS_ADDRESS": self.ports.address("users"),
            "INGLENOOK_SESSIONS_ADDRESS": self.ports.address("sessions"),
            "INGLENOOK_MESSAGES_ADDRESS": self.ports.address("messages"),
        }
        if name in SERVICES:
            environment |= {
                "INGLENOOK_DATABASE_URL": self._role_url(name),
                "INGLENOOK_KEY_FILE": str(self.home.key_file(name)),
                "INGLENOOK_TOKEN_KEY_FILE": str(self.home.token_key_file(name)),
            }
        tls = self.home.certificates / name / "tls"
        if tls.exists():
            environment |= {
                "INGLENOOK_TLS_CERTIFICATE_FILE": str(tls / "certificate.pem"),
                "INGLENOOK_TLS_KEY_FILE": str(tls / "key.pem"),
                "INGLENOOK_TLS_CA_FILE": str(tls / "ca.pem"),
            }
        folder = "services" if name in SERVICES else "examples"
        command = [sys.executable, "-m", f"{folder}.{name}"]
        log = self.home.logs / f"{name}.log"
        address, transport = self.ports.address(name), transport_of(environment)
        return ProcessSpec(
            name, command, environment, log, ready=lambda: is_serving(address, transport)
        )

    def gateway(self) -> ProcessSpec:
        """The gateway as a process."""
        upstreams = {PROTO_SERVICES[name]: self.ports.address(name) for name in PROGRAMS}
        environment = (
            self._web_settings
            | self._environment()
            | {
                "INGLENOOK_LISTEN": self.ports.address("gateway"),
                "INGLENOOK_METRICS_LISTEN": self.ports.metrics_address("gateway"),
                "INGLENOOK_UPSTREAMS": json.dumps(upstreams),
                "INGLENOOK_BOOTSTRAP_FILE": str(self.home.run / "envoy.json"),
            }
        )
        tls = self.home.certificates / "gateway" / "tls"
        if tls.exists():
            environment |= {
                "INGLENOOK_UPSTREAM_CERTIFICATE_FILE": str(tls / "certificate.pem"),
                "INGLENOOK_UPSTREAM_KEY_FILE": str(tls / "key.pem"),
                "INGLENOOK_UPSTREAM_CA_FILE": str(tls / "ca.pem"),
            }
        command = [sys.executable, "-m", "gateway"]
        log = self.home.logs / "gateway.log"
        return ProcessSpec("gateway", command, environment, log, ready=self._is_ready)

    def _environment(self) -> dict[str, str]:
        """What every process gets: what it needs to run, our defaults, the given settings."""
        defaults = {
            "INGLENOOK_ENVIRONMENT": "development",
            # There is nobody else to call.
            "INGLENOOK_LAME_DUCK_SECONDS": "0",
            # And whoever calls, calls from here.
            "INGLENOOK_ADDRESS_REQUESTS_PER_MINUTE": "0",
            "INGLENOOK_PERSON_REQUESTS_PER_MINUTE": "0",
        }
        if self.is_for_development:
            defaults["INGLENOOK_DEVELOPMENT_ISSUER"] = str(self.home.development_issuer)
        trusted = {"INGLENOOK_ISSUERS": json.dumps([*self._given_issuers(), self._own_issuer()])}
        return inherited_environment() | defaults | self._settings | trusted

    def _given_issuers(self) -> list[object]:
        try:
            given = json.loads(self._settings.get("INGLENOOK_ISSUERS") or "[]")
        except ValueError:
            given = None
        if not isinstance(given, list):
            raise StackError("INGLENOOK_ISSUERS is not a JSON list")
        return given

    def _own_issuer(self) -> dict[str, object]:
        """The services' own issuer, which each of them trusts beside the given ones."""
        return {
            "issuer": SERVICES_ISSUER,
            "jwks_file": str(self.home.service_keys / "jwks.json"),
            "audiences": ["inglenook"],
            "algorithms": ["EdDSA"],
            "kind": "service",
        }

    def _role_url(self, service: str) -> str:
        """The admin's URL as a service's own role."""
        role = f"inglenook_{service}"
        parts = urlsplit(self.admin_url)
        host = parts.netloc.rpartition("@")[2]
        password = quote(self.home.password(role), safe="")
        # libpq takes user and password from the query too, and prefers them.
        query = [(k, v) for k, v in parse_qsl(parts.query) if k not in {"user", "password"}]
        return urlunsplit(
            parts._replace(
                netloc=f"{role}:{password}@{host}", query=urlencode(query, quote_via=quote)
            )
        )

    def _wait_until_ready(self) -> None:
        self.processes.wait_until_ready("gateway", _READY_SECONDS)

    def _is_ready(self) -> bool:
        """Whether the gateway answers, and every service behind it."""
        url = f"http://{self.ports.address('gateway')}/readyz"
        try:
            # Not through a proxy that the environment names.
            return httpx.get(url, timeout=2.0, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def transport_of(environment: Mapping[str, str]) -> TransportSettings:
    """How a process with these settings is spoken to."""
    names = ("tls_certificate_file", "tls_key_file", "tls_ca_file")
    return TransportSettings.model_validate(
        {name: environment.get(f"INGLENOOK_{name.upper()}") for name in names}
    )
