"""What the contract is compiled to for the Python client."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message as AnyMessage
from inglenook.access.v1.access_pb2 import Access
from inglenook.messages.v1 import messages_pb2 as of_the_services
from inglenook_client.contract import services
from inglenook_client.contract.messages.v1 import messages_pb2 as of_the_client

from contract.folders import DESCRIPTORS
from contract.methods import Method, load_methods

METHODS = [method for method in load_methods(DESCRIPTORS) if Access.ACCESS_USER in method.allow]


class Recorder:
    """Notes what is called, in the place of the client's calls."""

    def __init__(self) -> None:
        self.method: Any = None
        self.request: Any = None

    async def unary(self, method: object, request: object) -> None:
        self.method, self.request = method, request

    async def upload(self, method: object, requests: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.method, self.request = method, requests

    def stream(self, method: object, request: object) -> AsyncGenerator[None, None]:
        self.method, self.request = method, request

        async def nothing() -> AsyncGenerator[None, None]:
            return
            yield

        return nothing()


def _function(method: Method, recorder: Recorder) -> Any:  # noqa: ANN401 - of many signatures
    service = getattr(services, method.service.rpartition(".")[2])(recorder)
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in method.name)
    return getattr(service, snake.removeprefix("_"))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_method_that_people_call_is_a_documented_function(method: Method) -> None:
    recorder = Recorder()
    function = _function(method, recorder)
    assert function.__doc__
    needed = {
        name: "text"
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    called = function([]) if method.client_streaming else function(**needed)
    if inspect.isawaitable(called):
        await called
    assert recorder.method.path == method.path
    if not method.client_streaming:
        assert isinstance(recorder.request, AnyMessage)
        assert {name: getattr(recorder.request, name) for name in needed} == needed


def test_only_what_a_request_needs_must_be_given() -> None:
    def needed(method: str) -> list[str]:
        found = next(one for one in METHODS if one.name == method)
        parameters = inspect.signature(_function(found, Recorder())).parameters.values()
        return [one.name for one in parameters if one.default is inspect.Parameter.empty]

    assert needed("AppendMessage") == ["session_id", "content"]
    assert needed("CreateSession") == []
    assert needed("SearchMessages") == ["query"]
    assert needed("EraseMe") == ["confirm"]


async def test_what_is_made_gets_an_id_so_that_making_it_can_be_repeated() -> None:
    recorder = Recorder()
    sessions: Any = services.SessionsService(recorder)  # type: ignore[arg-type]
    await sessions.create_session()
    assert recorder.method.repeatable
    made = recorder.request.session_id
    assert str(UUID(made)) == made
    await sessions.create_session(session_id="mine")
    assert recorder.request.session_id == "mine"
    await sessions.update_session(session_id="mine", title="new")
    assert not recorder.method.repeatable


async def test_a_span_of_time_is_pythons_own() -> None:
    recorder = Recorder()
    sessions: Any = services.SessionsService(recorder)  # type: ignore[arg-type]
    await sessions.create_session(retention=timedelta(days=30))
    assert recorder.request.retention.ToTimedelta() == timedelta(days=30)
    await sessions.update_session(session_id="mine", update_mask=["retention"])
    assert not recorder.request.HasField("retention")


def test_its_messages_live_beside_the_services_own_and_read_the_same_bytes() -> None:
    said = of_the_services.Message(message_id="m", sequence=7, content="hello 🔥")
    read = of_the_client.Message.FromString(said.SerializeToString())
    assert (read.sequence, read.content) == (7, "hello 🔥")
    assert read.DESCRIPTOR.full_name != said.DESCRIPTOR.full_name
    # The rules are the server's: the client carries none of them, nor what defines them.
    assert b"buf/validate" not in of_the_client.DESCRIPTOR.serialized_pb
