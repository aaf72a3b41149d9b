"""A stack that is watched: it shows its metrics."""

from collections.abc import Iterator

import pytest

from local.stack import Stack, free_ports
from tests.reachable import reachable_folder


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with (
        reachable_folder() as folder,
        Stack(folder / "home", free_ports(metrics=True)) as running,
    ):
        yield running
