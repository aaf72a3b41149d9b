"""Waiting for news: told before, told while waiting, not told, and given up."""

import asyncio

import pytest

from services.runtime.news import News

_EVER = 3600.0


async def test_what_was_told_before_is_there_at_once() -> None:
    news = News()
    news.set()
    assert await news.wait(_EVER)
    assert await news.wait(_EVER)


async def test_who_waits_goes_on_when_told() -> None:
    news = News()
    waiting = asyncio.create_task(news.wait(_EVER))
    await asyncio.sleep(0)
    news.set()
    assert await waiting


async def test_what_is_known_is_no_news() -> None:
    news = News()
    news.set()
    news.clear()
    assert not await news.wait(0.001)


async def test_a_time_that_is_over_is_not_waited_for() -> None:
    news = News()
    assert not await news.wait(0)
    assert not await news.wait(-1)
    news.set()
    assert await news.wait(-1)


async def test_what_comes_with_the_last_moment_counts() -> None:
    news = News()
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(news.wait(0.001))
    await asyncio.sleep(0)
    loop.call_later(0.001, news.set)
    await waiting
    assert await news.wait(_EVER)


async def test_who_gave_up_is_not_in_the_way_of_who_waits_next() -> None:
    news = News()
    waiting = asyncio.create_task(news.wait(_EVER))
    await asyncio.sleep(0)
    waiting.cancel()
    news.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await news.wait(_EVER)
