"""What is measured: the whole system on this machine, people who call it, and an echo beside it."""

import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import psycopg
from google.protobuf.message import Message
from inglenook.messages.v1.messages_pb2 import AppendMessageRequest
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2 import CreateSessionRequest
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from bench.echo import METHOD, SERVICE
from bench.effort import Effort
from bench.errors import BenchError
from bench.load import Load, Outcome, grpc_frame, run_loads
from local.environment import inherited_environment
from local.processes import ProcessSpec
from local.stack import Stack

CONTENT = "x" * 300
"""What is appended: 300 bytes."""
_GRPC = {"content-type": "application/grpc", "te": "trailers"}
_METHODS = "inglenook.messages.v1.MessagesService"
_READY_SECONDS = 30.0
_SETTLING_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with a conversation of their own."""

    name: str
    token: str
    session_id: str

    @property
    def headers(self) -> dict[str, str]:
        """What proves who they are."""
        return {"authorization": f"Bearer {self.token}"}

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The same, as gRPC takes it."""
        return tuple(self.headers.items())


class Bench:
    """A running stack, and what is needed to measure it."""

    def __init__(self, stack: Stack, folder: Path, effort: Effort) -> None:
        """Takes a running stack, a folder for payloads, and how much to measure."""
        self.stack = stack
        self.effort = effort
        self.database = psycopg.connect(stack.admin_url, autocommit=True)
        self._folder = folder
        self._people: dict[str, Person] = {}
        self._sessions = grpc.insecure_channel(stack.ports.address("sessions"))
        self._messages = grpc.insecure_channel(stack.ports.address("messages"))
        self._echo_address = f"127.0.0.1:{_free_port()}"
        self.streams_address = f"127.0.0.1:{_free_port()}"
        """Where the bare server of streams answers, once it was started."""

    def close(self) -> None:
        """Closes what this opened; the stack runs on."""
        self._sessions.close()
        self._messages.close()
        self.database.close()

    @property
    def messages(self) -> MessagesServiceStub:
        """The messages service, called directly."""
        return MessagesServiceStub(self._messages)

    def pid(self, name: str) -> int:
        """A process's id; of the gateway, Envoy's, which it runs."""
        pid = self.stack.processes.pids()[name]
        return psutil.Process(pid).children()[0].pid if name == "gateway" else pid

    def start_echo(self) -> None:
        """Starts the echo, which answers with as many bytes as an append's answer has."""
        response = self.append_once(self.person("echo"))
        self._start("echo", [self._echo_address, str(response)])

    def start_streams(self) -> None:
        """Starts the bare server of streams, anew where it runs."""
        if "streams" in self.stack.processes.pids():
            self.stack.processes.stop("streams")
        self._start("streams", [self.streams_address])

    def _start(self, name: str, arguments: list[str]) -> None:
        """Starts a program of the bench that listens on the first of its arguments."""
        spec = ProcessSpec(
            name=name,
            command=[sys.executable, "-m", f"bench.{name}", *arguments],
            environment=inherited_environment(),
            log=self.stack.home.logs / f"{name}.log",
            ready=lambda: _answers(arguments[0]),
        )
        self.stack.processes.start(spec)
        self.stack.processes.wait_until_ready(name, _READY_SECONDS)

    def person(self, name: str) -> Person:
        """Someone with a conversation in which something was said."""
        if name not in self._people:
            token = self.stack.token(name)
            metadata = (("authorization", f"Bearer {token}"),)
            created = SessionsServiceStub(self._sessions).CreateSession(
                CreateSessionRequest(), metadata=metadata
            )
            self._people[name] = Person(name, token, created.session.session_id)
            self.append_once(self._people[name])
        return self._people[name]

    def append_once(self, person: Person) -> int:
        """Appends a message; gives the size of the answer."""
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                # Also just after a restart, when the channel still knows the old process.
                answer = self.messages.AppendMessage(
                    _append(person),
                    metadata=person.metadata,
                    wait_for_ready=True,
                    timeout=_READY_SECONDS,
                )
            except grpc.RpcError as error:
                # Just after the start the service may not have reached the others yet.
                code = error.code() if isinstance(error, grpc.Call) else None
                if code is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise
                time.sleep(_SETTLING_SECONDS)
            else:
                return answer.ByteSize()

    def append_load(self, person: Person, callers: int, *, gateway: bool = False) -> Load:
        """Callers that append to a person's conversation."""
        return self.load(person, "AppendMessage", _append(person), callers, gateway=gateway)

    def json_append_load(self, person: Person, callers: int) -> Load:
        """Callers that append to a person's conversation in JSON over HTTP/1.1, by the gateway."""
        path = f"/v1/sessions/{person.session_id}/messages"
        return Load(
            url=f"http://{self.stack.ports.address('gateway')}{path}",
            payload=self._payload("append.json", f'{{"content": "{CONTENT}"}}'.encode()),
            headers={**person.headers, "content-type": "application/json"},
            callers=callers,
            http1=True,
        )

    def echo_load(self, callers: int) -> Load:
        """Callers of the echo, with the bytes of an append."""
        frame = grpc_frame(_append(self.person("echo")).SerializeToString())
        url = f"http://{self._echo_address}/{SERVICE}/{METHOD}"
        # The same headers as an append's, so that they cost as much.
        headers = {**_GRPC, **self.person("echo").headers}
        return Load(url, self._payload("echo", frame), headers, callers)

    def load(
        self, person: Person, method: str, request: Message, callers: int, *, gateway: bool = False
    ) -> Load:
        """Callers of a method of the messages service, directly or by the gateway."""
        address = self.stack.ports.address("gateway" if gateway else "messages")
        payload = self._payload(f"{method}-{person.name}", grpc_frame(request.SerializeToString()))
        url = f"http://{address}/{_METHODS}/{method}"
        return Load(url, payload, {**_GRPC, **person.headers}, callers)

    def run_appends(self, loads: Sequence[Load]) -> Outcome:
        """Runs loads that append, and makes sure that what they did is stored.

        Raises:
            BenchError: it is not: the service refused some, which h2load does not see.
        """
        before = self._counted()
        outcome = run_loads(loads, self.effort.seconds)
        time.sleep(_SETTLING_SECONDS)
        stored = self._counted() - before
        # Those under way when the time is over are cut off, and stored or not.
        if not outcome.done <= stored <= outcome.started:
            raise BenchError(
                f"{outcome.done} appends were answered of {outcome.started}, {stored} are stored"
            )
        return outcome

    def _counted(self) -> int:
        """How many messages are stored of the people who call."""
        sessions = [person.session_id for person in self._people.values()]
        query = "SELECT count(*) FROM messages.messages WHERE session_id = ANY(%s::uuid[])"
        row = self.database.execute(query, (sessions,)).fetchone()
        return 0 if row is None else int(row[0])

    def _payload(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path


def _append(person: Person) -> AppendMessageRequest:
    return AppendMessageRequest(session_id=person.session_id, content=CONTENT)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
