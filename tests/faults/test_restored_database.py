"""A database that was put back to an older state is never taken for the one that clients knew."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from local.stack import Stack, free_ports
from tests.integration.calls import Refused
from tests.integration.streams import FEEDS, Feed, Frame, RefusedError, current, feed_of

GUARD = 60.0


@pytest.fixture
def own_stack(reachable: Path) -> Iterator[Stack]:
    """A stack whose database is this test's to put back."""
    with Stack(reachable / "home", free_ports()) as running:
        yield running


class Backup:
    """A copy of the data files, taken while the server stood still."""

    def __init__(self, stack: Stack) -> None:
        assert stack.postgres is not None
        self._stack = stack
        self._data = stack.postgres.data
        self._copy = self._data.with_name("postgres.backup")
        stack.processes.stop("postgres")
        subprocess.run(["cp", "-a", self._data, self._copy], check=True)
        stack.start_again("postgres")

    def restore(self, *, as_recovery: bool) -> None:
        """Puts it back: by PostgreSQL's recovery, or just so, as the files were."""
        self._stack.processes.stop("postgres")
        shutil.rmtree(self._data)
        self._copy.rename(self._data)
        if as_recovery:
            # From an archive that has nothing newer: what comes now is another timeline.
            with (self._data / "postgresql.auto.conf").open("a") as settings:
                settings.write("restore_command = 'false'\n")
            signal = self._data / "recovery.signal"
            signal.touch()
            owner = self._data.stat()
            shutil.chown(signal, owner.st_uid, owner.st_gid)
        self._stack.start_again("postgres")


async def _ends(frames: AsyncGenerator[Frame, None]) -> Refused:
    with pytest.raises(RefusedError) as ended:
        async for _ in frames:
            pass
    return ended.value.refused


async def _texts(feed: Feed) -> list[str]:
    async with aclosing(feed.watch()) as frames:
        return [text for frame in await current(frames) for text in feed.texts(frame)]


@pytest.mark.parametrize("as_recovery", [True, False], ids=["another timeline", "the same files"])
async def test_after_a_restore_streams_end_and_old_tokens_give_a_reset_and_a_fresh_snapshot(
    own_stack: Stack, as_recovery: bool
) -> None:
    feeds = {kind: await feed_of(own_stack, kind) for kind in FEEDS}
    for feed in feeds.values():
        await feed.change("kept")
    backup = await asyncio.to_thread(Backup, own_stack)
    for feed in feeds.values():
        await feed.change("lost")
        await feed.change("lost too")
    async with asyncio.timeout(2 * GUARD):
        streams = {kind: feed.watch() for kind, feed in feeds.items()}
        tokens = {kind: (await current(streams[kind]))[-1]["resumeToken"] for kind in FEEDS}
        await asyncio.to_thread(backup.restore, as_recovery=as_recovery)
        for stream in streams.values():
            assert (await _ends(stream)).code == "UNAVAILABLE"
        if as_recovery:
            # New changes take the revisions that the lost ones had: only the epoch can tell.
            for feed in feeds.values():
                for text in ("new", "newer", "newest"):
                    await feed.change(text)
        for kind, feed in feeds.items():
            async with aclosing(feed.watch(resume_token=tokens[kind])) as frames:
                reset, *snapshot, last = await current(frames)
            assert "reset" in reset
            told = [text for frame in snapshot for text in feed.texts(frame)]
            assert told == await _texts(feed)
            assert "lost" not in told
            # From the reset on, and from the end on, nothing is amiss any more.
            async with aclosing(feed.watch(resume_token=reset["resumeToken"])) as frames:
                *changes, _ = await current(frames)
            assert [text for frame in changes for text in feed.texts(frame)] == told
            async with aclosing(feed.watch(resume_token=last["resumeToken"])) as frames:
                assert len(await current(frames)) == 1
