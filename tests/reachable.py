"""Folders that PostgreSQL's own user can reach, also when root runs the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder for as long as the block lasts."""
    # Not in pytest's own folder, which each run closes to other users when it starts, also below
    # the feet of another run's PostgreSQL.
    with TemporaryDirectory(prefix="inglenook-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)
