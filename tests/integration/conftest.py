"""Signing people in."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from local.stack import Stack
from tests.integration.calls import MakePerson, Person


@pytest.fixture
def person(stack: Stack) -> Iterator[MakePerson]:
    with ExitStack() as signed_in:
        yield lambda name: signed_in.enter_context(closing(Person(stack, name)))
