"""The feed's engine alone: what is read, kept and told, with a log in memory as what is stored."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

import pytest
from psycopg import OperationalError

from services.runtime.errors import Refusal, session_not_found
from services.runtime.feed import Batch, Feeds, Signal, Start

GUARD = 30.0


class Log:
    """What is stored of a feed: changes by their revisions. Reading can be held up and fail."""

    def __init__(self) -> None:
        self.changes: dict[int, str] = {}
        self.revision = 0
        self.epoch = 1
        self.reads = 0
        self.spelled = 0
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.held_from = 1
        """From which read on they wait until it is open."""
        self.reading = asyncio.Event()

    def add(self, *changes: str) -> None:
        for change in changes:
            self.revision += 1
            self.changes[self.revision] = change


class LogSource:
    """A log as the engine reads it."""

    name = "log"

    def __init__(self, log: Log) -> None:
        self._log = log
        self.epoch = log.epoch

    async def revision(self) -> int:
        if self._log.error is not None:
            raise self._log.error
        return self._log.revision

    async def after(self, revision: int) -> Batch[str]:
        self._log.reads += 1
        found = {r: change for r, change in self._log.changes.items() if r > revision}
        self._log.reading.set()
        if self._log.reads >= self._log.held_from:
            await self._log.open.wait()
        if self._log.error is not None:
            raise self._log.error
        changes = [found[r] for r in sorted(found)]
        return Batch(changes, max(found, default=revision), "gone" in changes)

    def frame(self, revision: int, told: Sequence[str] | Signal) -> bytes:
        self._log.spelled += not isinstance(told, Signal)
        return f"{revision}:{told.value if isinstance(told, Signal) else ','.join(told)}".encode()


class Following:
    """The engine over one log."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.faults = 0
        """So many polls fail, in a way that nobody thought of."""
        self.feeds = Feeds(self._revisions, self._epoch)

    async def _revisions(self, names: Sequence[str]) -> Mapping[str, int]:
        if self.faults:
            self.faults -= 1
            raise RuntimeError("nobody thought of this")
        return dict.fromkeys(names, self.log.revision)

    async def _epoch(self) -> int:
        return self.log.epoch

    async def follow(
        self, *, held: int | None = None, start: Callable[[], Start[str]] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """A follower that holds a revision, by default what is stored; it is current already."""
        await self.feeds.epoch()

        async def begin() -> Start[str]:
            if start is not None:
                return start()
            revision = self.log.revision
            return Start(Batch([], revision if held is None else held), revision)

        return self.feeds.follow(LogSource(self.log), start=begin, heartbeat=GUARD)

    async def current(self) -> AsyncGenerator[bytes, None]:
        follower = await self.follow()
        assert await anext(follower) == f"{self.log.revision}:current".encode()
        return follower

    async def idle(self) -> None:
        """Until everything that can go on without news has gone on."""
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def engine() -> AsyncIterator[Following]:
    following = Following(Log())
    async with following.feeds, asyncio.timeout(GUARD):
        yield following


async def test_many_who_stand_together_share_one_read_and_one_spelling(engine: Following) -> None:
    engine.log.add("a")
    followers = [await engine.current() for _ in range(50)]
    waiting = [asyncio.ensure_future(anext(follower)) for follower in followers]
    await engine.idle()
    engine.log.add("b", "c")
    engine.feeds.learn("log", 3)
    assert await asyncio.gather(*waiting) == [b"3:b,c"] * 50
    assert (engine.log.reads, engine.log.spelled) == (1, 1)


async def test_what_this_process_stored_is_handed_on_without_reading(engine: Following) -> None:
    followers = [await engine.current() for _ in range(50)]
    waiting = [asyncio.ensure_future(anext(follower)) for follower in followers]
    await engine.idle()
    engine.log.add("a")
    engine.feeds.publish("log", 0, Batch(["a"], 1))
    assert await asyncio.gather(*waiting) == [b"1:a"] * 50
    assert (engine.log.reads, engine.log.spelled) == (0, 1)


async def test_what_is_published_out_of_turn_leaves_no_gap(engine: Following) -> None:
    follower = await engine.current()
    engine.log.add("a", "b", "c")
    engine.feeds.publish("log", 2, Batch(["c"], 3))
    engine.feeds.publish("log", 0, Batch(["a"], 1))
    assert await anext(follower) == b"3:a,b,c"


async def test_a_follower_that_leaves_does_not_end_the_read_of_others(engine: Following) -> None:
    follower, leaver = await engine.current(), await engine.current()
    engine.log.add("a")
    engine.log.open.clear()
    leaving = asyncio.ensure_future(anext(leaver))
    await engine.idle()
    engine.feeds.learn("log", 1)
    await engine.log.reading.wait()
    staying = asyncio.ensure_future(anext(follower))
    await engine.idle()
    leaving.cancel()
    await engine.idle()
    engine.log.open.set()
    assert await staying == b"1:a"
    assert engine.log.reads == 1


async def test_a_read_that_fails_fails_for_those_who_wait_and_for_nobody_later(
    engine: Following,
) -> None:
    first, second, sleeper = [await engine.current() for _ in range(3)]
    engine.log.add("a")
    engine.log.error = OperationalError("the database is away")
    engine.feeds.learn("log", 1)
    failed = await asyncio.gather(anext(first), anext(second), return_exceptions=True)
    assert [type(error) for error in failed] == [OperationalError, OperationalError]
    engine.log.error = None
    assert await anext(sleeper) == b"1:a"
    late = await engine.follow(held=0)
    assert await anext(late) == b"1:a"
    for follower in (sleeper, late):
        await follower.aclose()
    assert not engine.feeds.is_followed("log")


async def test_a_poll_that_fails_is_not_the_last_one(engine: Following) -> None:
    follower = await engine.current()
    news = asyncio.ensure_future(anext(follower))
    engine.faults = 1
    engine.feeds.look()
    await engine.idle()
    engine.log.add("a")
    engine.feeds.look()
    assert await news == b"1:a"


async def test_a_start_that_fails_leaves_nothing_behind(engine: Following) -> None:
    def refuse() -> Start[str]:
        raise session_not_found()

    with pytest.raises(Refusal):
        await anext(await engine.follow(start=refuse))
    assert not engine.feeds.is_followed("log")


async def test_whoever_leaves_is_forgotten_and_the_last_takes_all_that_was_kept(
    engine: Following,
) -> None:
    follower = await engine.current()
    engine.log.add("a")
    engine.feeds.publish("log", 0, Batch(["a"], 1))
    assert engine.feeds.kept_bytes > 0
    await follower.aclose()
    assert not engine.feeds.is_followed("log")
    assert engine.feeds.kept_bytes == 0


async def test_who_reads_slowly_holds_nothing_up_and_misses_nothing(engine: Following) -> None:
    slow, quick = await engine.current(), await engine.current()
    for number in range(1, 1001):
        engine.log.add(f"change {number} {'x' * 100_000}")
        engine.feeds.publish("log", number - 1, Batch([engine.log.changes[number]], number))
        assert (await anext(quick)).startswith(f"{number}:change {number} ".encode())
    assert engine.feeds.kept_bytes <= 16 << 20
    engine.log.changes = {number: f"{number}" for number in range(1, 1001)}
    caught_up = await anext(slow)
    assert caught_up == f"1000:{','.join(map(str, range(1, 1001)))}".encode()


async def test_news_that_is_none_is_checked_once_and_what_follows_it_comes(
    engine: Following,
) -> None:
    engine.log.add("a")
    follower = await engine.current()
    news = asyncio.ensure_future(anext(follower))
    await engine.idle()
    engine.feeds.learn("log", 1_000_000)
    await engine.idle()
    assert engine.log.reads == 2
    engine.log.add("b")
    engine.feeds.learn("log", 2)
    assert await news == b"2:b"


async def test_news_while_other_news_is_checked_is_not_lost(engine: Following) -> None:
    follower = await engine.current()
    engine.log.open.clear()
    engine.log.held_from = 2
    news = asyncio.ensure_future(anext(follower))
    await engine.idle()
    engine.feeds.learn("log", 1_000_000)
    await engine.idle()
    assert engine.log.reads == 2  # Both saw that there is nothing; the second was not answered.
    engine.log.add("a")
    engine.feeds.learn("log", 1)
    engine.log.open.set()
    assert await news == b"1:a"


async def test_a_revision_that_left_nothing_behind_is_passed_over(engine: Following) -> None:
    follower = await engine.current()
    news = asyncio.ensure_future(anext(follower))
    await engine.idle()
    engine.log.revision = 5
    engine.feeds.learn("log", 5)
    await engine.idle()
    reads = engine.log.reads
    for _ in range(3):  # As every poll says it again.
        engine.feeds.look()
        await engine.idle()
    assert engine.log.reads == reads
    engine.log.add("a")
    engine.feeds.learn("log", 6)
    assert await news == b"6:a"


async def test_what_was_deleted_elsewhere_is_not_served_from_what_was_kept(
    engine: Following,
) -> None:
    follower = await engine.current()
    engine.log.add("secret")
    engine.feeds.publish("log", 0, Batch(["secret"], 1))
    assert await anext(follower) == b"1:secret"
    engine.log.changes = {}
    engine.log.add("gone")
    engine.feeds.learn("log", 2)
    late = await engine.follow(held=0)
    assert await anext(late) == b"2:gone"


@pytest.mark.parametrize("told", ["not yet", "by a wake-up", "here"])
async def test_what_was_deleted_is_not_served_in_whatever_order_it_is_told(
    engine: Following, told: str
) -> None:
    follower = await engine.current()
    engine.log.changes, engine.log.revision = {2: "gone", 3: "more"}, 3
    said, more = Batch(["secret"], 1), Batch(["more"], 3)
    match told:
        case "not yet":  # Deleted elsewhere, and all that is known is what was said here.
            engine.feeds.publish("log", 0, said)
            engine.feeds.publish("log", 2, more)
        case "by a wake-up":  # Deleted elsewhere, which is heard of first.
            engine.feeds.learn("log", 3)
            engine.feeds.publish("log", 0, said)
        case "here":  # Deleted by another call here, which is told first.
            engine.feeds.publish("log", 1, Batch(["gone"], 2, removes=True))
            engine.feeds.publish("log", 0, said)
            engine.feeds.publish("log", 2, more)
    assert await anext(await engine.follow(held=0)) == b"3:gone,more"
    assert await anext(follower) == b"3:gone,more"


async def test_a_read_from_before_a_deletion_is_shared_with_nobody_who_comes_after_it(
    engine: Following,
) -> None:
    follower = await engine.current()
    engine.log.add("secret")
    engine.log.open.clear()
    early = asyncio.ensure_future(anext(follower))
    await engine.idle()
    engine.feeds.learn("log", 1)
    await engine.log.reading.wait()
    engine.log.changes = {}
    engine.log.add("gone")
    engine.feeds.publish("log", 1, Batch(["gone"], 2, removes=True))
    late = asyncio.ensure_future(anext(await engine.follow(held=0)))
    await engine.idle()
    engine.log.open.set()
    assert await early == b"1:secret"
    assert await late == b"2:gone"
    assert await anext(await engine.follow(held=0)) == b"2:gone"


async def test_what_was_read_before_a_deletion_is_not_kept_after_it(engine: Following) -> None:
    follower = await engine.current()
    engine.log.add("secret")
    engine.log.open.clear()
    early = asyncio.ensure_future(anext(follower))
    await engine.idle()
    engine.feeds.learn("log", 1)
    await engine.log.reading.wait()
    engine.log.changes = {}
    engine.log.add("gone")
    engine.feeds.publish("log", 1, Batch(["gone"], 2, removes=True))
    engine.log.open.set()
    assert await early == b"1:secret"
    assert await anext(await engine.follow(held=0)) == b"2:gone"


async def test_a_feed_that_is_gone_refuses_its_followers(engine: Following) -> None:
    follower = await engine.current()
    engine.log.error = session_not_found()
    engine.feeds.learn("log", 1)
    with pytest.raises(Refusal) as refused:
        await anext(follower)
    assert refused.value.reason_name == "SESSION_NOT_FOUND"


@pytest.mark.parametrize("change", ["epoch", "revision"])
async def test_what_is_stored_went_back_and_followers_end(engine: Following, change: str) -> None:
    engine.log.add("a", "b")
    sleeper = await engine.current()
    waiting = [asyncio.ensure_future(anext(await engine.current())) for _ in range(3)]
    await engine.idle()
    if change == "epoch":
        engine.log.epoch += 1
    else:
        engine.log.revision = 1
    engine.feeds.look()
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, Refusal)
        assert error.reason_name == "DEPENDENCY_UNAVAILABLE"
    assert engine.log.reads == 0
    # Whoever begins anew can, also while one of the old ones has not noticed.
    await engine.current()
    with pytest.raises(Refusal):
        await anext(sleeper)


async def test_a_wake_up_after_what_is_stored_went_back_ends_followers(engine: Following) -> None:
    engine.log.add("a", "b")
    follower, other = await engine.current(), await engine.current()
    engine.log.changes, engine.log.revision = {1: "a"}, 1
    engine.feeds.learn("log", 3)
    for ended in (follower, other):
        with pytest.raises(Refusal):
            await anext(ended)
