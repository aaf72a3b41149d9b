"""A stack whose every link goes through a proxy, and that has two processes of messages."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from local.home import PROGRAMS as RUNNING
from local.processes import ProcessSpec
from local.stack import Ports, Stack, free_ports
from services import SERVICES
from tests.faults.proxy import Proxy

POSTGRES = "postgres"
GATEWAY = "gateway"
SECOND = "messages-2"
PROGRAMS = (GATEWAY, *RUNNING, SECOND)
"""What can be killed and started again, besides PostgreSQL."""

_READY_SECONDS = 60.0

Link = tuple[str, str]
"""Who calls whom."""
_CALLS = {
    GATEWAY: RUNNING,
    **{name: tuple(other for other in SERVICES if other != name) for name in RUNNING},
}


class Links:
    """The proxies, one for each link. Use as `async with`."""

    def __init__(self, home: Path, ports: Ports, second_port: int) -> None:
        self._open = AsyncExitStack()
        targets: dict[str, list[int | Path]] = {name: [getattr(ports, name)] for name in RUNNING}
        targets["messages"].append(second_port)
        self.proxies: dict[Link, Proxy] = {
            (caller, called): Proxy(*targets[called])
            for caller, all_called in _CALLS.items()
            for called in all_called
        }
        socket = home / "run" / POSTGRES / ".s.PGSQL.5432"
        self.proxies |= {(service, POSTGRES): Proxy(socket) for service in SERVICES}

    async def __aenter__(self) -> "Links":
        for proxy in self.proxies.values():
            await self._open.enter_async_context(proxy)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._open.aclose()

    def address(self, caller: str, called: str) -> str:
        """Where a caller reaches whom it calls."""
        return f"127.0.0.1:{self.proxies[caller, called].port}"


class LinkedStack(Stack):
    """The stack; use as any other, inside of its links."""

    def __init__(self, home: Path, ports: Ports, settings: dict[str, str]) -> None:
        super().__init__(home, ports, settings=settings)
        self._second_port = free_ports().gateway
        self.links = Links(home, ports, self._second_port)

    def program(self, name: str) -> ProcessSpec:
        """One of `PROGRAMS`, as a process."""
        return self.gateway() if name == GATEWAY else self.service(name)

    def service(self, name: str) -> ProcessSpec:
        """A service as a process, which reaches others through the links."""
        if name == SECOND:
            first = self.service("messages")
            listen = {"INGLENOOK_LISTEN": f"127.0.0.1:{self._second_port}"}
            return replace(
                first,
                name=SECOND,
                environment={**first.environment, **listen},
                log=first.log.with_name(f"{SECOND}.log"),
            )
        spec = super().service(name)
        called = {
            f"INGLENOOK_{other.upper()}_ADDRESS": self.links.address(name, other)
            for other in _CALLS[name]
        }
        environment = {**spec.environment, **called}
        if name in SERVICES:
            database = environment["INGLENOOK_DATABASE_URL"]
            environment["INGLENOOK_DATABASE_URL"] = self._linked(name, database)
        return replace(spec, environment=environment)

    def gateway(self) -> ProcessSpec:
        """The gateway as a process, which reaches the services through the links."""
        spec = super().gateway()
        upstreams = spec.environment["INGLENOOK_UPSTREAMS"]
        for name in RUNNING:
            linked = self.links.address(GATEWAY, name)
            upstreams = upstreams.replace(self.ports.address(name), linked)
        return replace(spec, environment={**spec.environment, "INGLENOOK_UPSTREAMS": upstreams})

    def start_all(self) -> None:
        """Starts the stack, and the second process of messages."""
        self.__enter__()
        self.processes.start(self.service(SECOND))

    def wait_until_ready(self) -> None:
        """Waits until the gateway answers, and the services behind it."""
        self.processes.wait_until_ready(GATEWAY, _READY_SECONDS)

    def _linked(self, name: str, url: str) -> str:
        """A database's URL, by a service's link instead of the socket."""
        parts = urlsplit(url)
        credentials = parts.netloc.rpartition("@")[0]
        query = [(k, v) for k, v in parse_qsl(parts.query) if k not in {"host", "port"}]
        address = self.links.address(name, POSTGRES)
        return urlunsplit(parts._replace(netloc=f"{credentials}@{address}", query=urlencode(query)))
