"""Signing people in, and more processes than one."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from local.stack import Stack, free_ports
from tests.integration.calls import MakePerson, Person
from tests.integration.replicas import start_replica


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
    assert process.wait(30) == 0
