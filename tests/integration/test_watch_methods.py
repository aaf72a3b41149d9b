"""Every Watch method keeps the same promise, whichever way a client comes in."""

import asyncio
from contextlib import aclosing
from itertools import count

import pytest

from local.stack import Stack
from tests.integration.calls import Refused
from tests.integration.streams import FEEDS, WAYS, Frame, RefusedError, current, feed_of

GUARD = 60.0
INVALID = Refused("INVALID_ARGUMENT", "RESUME_TOKEN_INVALID")
OF_ANOTHER = {
    "messages": Refused("NOT_FOUND", "SESSION_NOT_FOUND"),
    "sessions": Refused("NOT_FOUND", "SESSION_NOT_FOUND"),
    "me": Refused("PERMISSION_DENIED", "ACCESS_DENIED"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FEEDS)
async def test_a_watch_is_what_there_is_then_current_then_changes(
    stack: Stack, kind: str, way: str
) -> None:
    feed = await feed_of(stack, kind)
    await feed.change("before")
    async with asyncio.timeout(GUARD), aclosing(feed.watch(way)) as frames:
        snapshot, last = await current(frames)
        assert feed.texts(snapshot)[-1:] == ["before"]
        assert "changes" not in last or last["changes"] == []
        for text in ("one", "two"):
            await feed.change(text)
            assert feed.texts(await anext(frames)) == [text]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FEEDS)
async def test_resuming_brings_what_was_missed_and_nothing_else(
    stack: Stack, kind: str, way: str
) -> None:
    feed = await feed_of(stack, kind)
    await feed.change("known")
    async with asyncio.timeout(GUARD):
        async with aclosing(feed.watch(way)) as frames:
            token = (await current(frames))[-1]["resumeToken"]
        async with aclosing(feed.watch(way, resume_token=token)) as frames:
            assert [feed.texts(frame) for frame in await current(frames)] == [[]]
        await feed.change("missed")
        await feed.change("missed too")
        async with aclosing(feed.watch(way, resume_token=token)) as frames:
            *changes, last = await current(frames)
        # A profile is one item: of two changes, the newest arrives.
        missed = ["missed too"] if kind == "me" else ["missed", "missed too"]
        assert [text for frame in changes for text in feed.texts(frame)] == missed
        async with aclosing(feed.watch(way, resume_token=last["resumeToken"])) as frames:
            assert [feed.texts(frame) for frame in await current(frames)] == [[]]


async def _refusal(stack: Stack, kind: str, way: str, token: str, name: str) -> Refused:
    feed = await feed_of(stack, kind, name)
    with pytest.raises(RefusedError) as refused:
        async with aclosing(feed.watch(way, resume_token=token)) as frames:
            await anext(frames)
    return refused.value.refused


async def _token(stack: Stack, kind: str, name: str) -> str:
    feed = await feed_of(stack, kind, name)
    await feed.change("anything")
    async with aclosing(feed.watch()) as frames:
        return str((await current(frames))[-1]["resumeToken"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FEEDS)
async def test_a_token_that_was_not_given_here_is_refused(
    stack: Stack, kind: str, way: str
) -> None:
    token = await _token(stack, kind, "mona")
    altered = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
    for bad in ("nonsense", "é", token[:-1], token + "A", altered):
        assert await _refusal(stack, kind, way, bad, "mona") == INVALID, bad


@pytest.mark.parametrize("kind", FEEDS)
async def test_a_token_of_another_person_is_refused_as_the_contract_says(
    stack: Stack, kind: str
) -> None:
    token = await _token(stack, kind, "nora")
    for way in WAYS:
        assert await _refusal(stack, kind, way, token, "olga") == OF_ANOTHER[kind]


async def test_a_token_of_another_session_or_method_is_refused(stack: Stack) -> None:
    token = await _token(stack, "messages", "paul")
    # Each feed of messages that is made here is of a session of its own.
    assert await _refusal(stack, "messages", "grpc", token, "paul") == OF_ANOTHER["messages"]
    assert await _refusal(stack, "sessions", "grpc", token, "paul") == INVALID
    assert await _refusal(stack, "me", "grpc", token, "paul") == INVALID


@pytest.mark.parametrize("kind", FEEDS)
async def test_a_watch_ends_with_its_bearers_token_and_goes_on_with_a_fresh_one(
    stack: Stack, kind: str
) -> None:
    feed = await feed_of(stack, kind)
    await feed.change("known")
    frames: list[Frame] = []
    # The services forgive ten seconds of clock difference: the first of these tokens is at its end,
    # and where that came before the watch had begun, the next one is not so near.
    lifetimes = count(-7, 3)
    while not frames:
        ending = stack.token(feed.caller.name, lifetime=next(lifetimes))
        with pytest.raises(RefusedError) as ended:  # noqa: PT012 - the loop is the call
            async with asyncio.timeout(GUARD), aclosing(feed.watch(bearer=ending)) as stream:
                async for frame in stream:
                    frames.append(frame)  # noqa: PERF401 - what came before the end counts
        assert ended.value.refused == Refused("UNAUTHENTICATED", "TOKEN_EXPIRED")
    await feed.change("missed")
    async with aclosing(feed.watch(resume_token=frames[-1]["resumeToken"])) as stream:
        assert feed.texts(await anext(stream)) == ["missed"]


async def test_watch_me_tells_of_the_current_session(stack: Stack) -> None:
    feed = await feed_of(stack, "me")
    created = await feed.caller.call("POST", "/v1/sessions", {"title": "now"})
    session = created["session"]["sessionId"]
    async with asyncio.timeout(GUARD), aclosing(feed.watch()) as frames:
        await current(frames)
        for wanted in (session, "", session):
            await feed.caller.call("PUT", "/v1/me/currentSession", {"sessionId": wanted})
            (change,) = (await anext(frames))["changes"]
            assert change["currentSession"].get("sessionId", "") == wanted


async def test_watch_sessions_tells_of_every_change_of_a_session(stack: Stack) -> None:
    feed = await feed_of(stack, "sessions")
    created = await feed.caller.call("POST", "/v1/sessions", {"title": "old"})
    path = f"/v1/sessions/{created['session']['sessionId']}"
    async with asyncio.timeout(GUARD), aclosing(feed.watch()) as frames:
        await current(frames)
        seen = []
        for verb, suffix, body in (
            ("PATCH", "", {"title": "new"}),
            ("POST", ":complete", {}),
            ("POST", ":resume", {}),
        ):
            await feed.caller.call(verb, path + suffix, body)
            (change,) = (await anext(frames))["changes"]
            seen.append((change["upserted"]["title"], change["upserted"]["state"]))
    active, completed = "SESSION_STATE_ACTIVE", "SESSION_STATE_COMPLETED"
    assert seen == [("new", active), ("new", completed), ("new", active)]


async def test_heartbeats_come_in_the_asked_interval_and_nothing_cuts_a_quiet_watch(
    stack: Stack,
) -> None:
    """An interval that is too short is taken as the shortest one: so many come as of that."""
    feed = await feed_of(stack, "messages")
    now = asyncio.get_running_loop().time

    async def seconds_until_the_second(way: str, asked: int) -> float:
        began = now()
        async with aclosing(feed.watch(way, heartbeat=asked)) as frames:
            await current(frames)
            for _ in range(2):
                assert "heartbeat" in await anext(frames)
        return now() - began

    async with asyncio.timeout(GUARD):
        waited = await asyncio.gather(
            *(seconds_until_the_second(way, asked) for way in WAYS for asked in (1, 5))
        )
    # Two of the shortest intervals, but for what a timer is early.
    assert min(waited) > 9.5
