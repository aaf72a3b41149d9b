"""What tests stand on: one stack for a whole run, started by the code of `make run`."""

from collections.abc import Iterator

import pytest

from local.stack import Stack, free_ports


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    # PostgreSQL's own user must get through to its data.
    for folder in (home, *list(home.parents)[:2]):
        folder.chmod(0o711)
    with Stack(home / "home", free_ports()) as running:
        yield running
