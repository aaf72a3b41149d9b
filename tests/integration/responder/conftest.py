"""Responders with settings of their own, beside the one of the stack, and a person they answer."""

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import grpc
import pytest
from inglenook.messages.v1.messages_pb2 import Message
from inglenook.respond.v1.respond_pb2 import ReplyRequest
from inglenook.respond.v1.respond_pb2_grpc import RespondServiceStub

from local.stack import Stack, free_ports
from services.runtime.service_tokens import ServiceTokens
from tests.integration.calls import MakePerson, Person
from tests.integration.replicas import start_replica
from tests.integration.replying import COMPLETE, Replying
from tests.integration.responder.model_server import ModelServer, model_server

Process = tuple["subprocess.Popen[bytes]", int]
"""A responder's process, and its port."""
StartProcess = Callable[..., Process]
StartResponder = Callable[..., "Answering"]


class Answering:
    """A responder, and a person with a session in which it answers."""

    def __init__(self, process: Process, replying: Replying, person: Person) -> None:
        self.process, port = process
        self.person = person
        self.replying = replying
        """The person's sight of the session."""
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    async def close(self) -> None:
        await self._channel.close()

    def say(self, content: str, *, session: str = "") -> None:
        self.person.say(session or self.replying.session, content)

    async def reply(self, message_id: str = "", *, session: str = "") -> str:
        """Asks for a reply; gives its message's id once it has begun."""
        return str((await self.call(message_id, session=session)).message_id)

    def call(self, message_id: str = "", *, session: str = "") -> Any:  # noqa: ANN401 - a call
        stub: Any = RespondServiceStub(self._channel)
        request = ReplyRequest(
            session_id=session or self.replying.session, message_id=message_id or str(uuid4())
        )
        return stub.Reply(request, metadata=self.replying.as_person, timeout=30)

    async def answer_to(self, content: str) -> Message:
        """What is replied, once all of it is there."""
        self.say(content)
        return await self.replying.get_when(await self.reply(), state=COMPLETE)


@pytest.fixture(scope="module")
def start_process(stack: Stack) -> Iterator[StartProcess]:
    """Starts responders. Those with equal settings are one, unless it shall be the test's own."""
    started: dict[object, Process] = {}
    with ExitStack() as processes:

        def start(*, own: bool = False, **settings: str) -> Process:
            key = object() if own else tuple(sorted(settings.items()))
            if key not in started:
                port = free_ports().gateway
                process = start_replica(stack, port, "responder", **settings)
                processes.callback(process.wait)
                processes.callback(process.kill)
                started[key] = process, port
            return started[key]

        yield start


@pytest.fixture
async def start_responder(
    stack: Stack, responder: ServiceTokens, person: MakePerson, start_process: StartProcess
) -> AsyncIterator[StartResponder]:
    """Gives a responder and a new person with a session; or the person of another one `beside`."""
    opened: list[Answering] = []

    def start(*, own: bool = False, beside: Answering | None = None, **settings: str) -> Answering:
        process = start_process(own=own, **settings)
        if beside is not None:
            opened.append(Answering(process, beside.replying, beside.person))
            return opened[-1]
        name = f"alice-{uuid4()}"
        alice = person(name)
        opened.append(Answering(process, Replying(stack, responder, alice, name), alice))
        return opened[-1]

    yield start
    for answering in opened:
        await answering.close()
        await answering.replying.close()


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server
