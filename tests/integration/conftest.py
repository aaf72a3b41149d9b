"""Signing people in, and more processes than one."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing

import pytest

from local.stack import Stack, free_ports
from services.runtime.service_tokens import ServiceTokens
from tests.integration.calls import MakePerson, Person
from tests.integration.replicas import start_replica
from tests.integration.replying import Replying


@pytest.fixture
def person(stack: Stack) -> Iterator[MakePerson]:
    with ExitStack() as signed_in:
        yield lambda name: signed_in.enter_context(closing(Person(stack, name)))


@pytest.fixture
def replica(stack: Stack) -> Iterator[int]:
    """A second process of the messages service; gives its port."""
    port = free_ports().gateway
    process = start_replica(stack, port)
    yield port
    process.terminate()
    assert process.wait(60) == 0


@pytest.fixture
async def replying(
    stack: Stack, responder: ServiceTokens, person: MakePerson
) -> AsyncIterator[Replying]:
    reply = Replying(stack, responder, person("alice"))
    yield reply
    await reply.close()
