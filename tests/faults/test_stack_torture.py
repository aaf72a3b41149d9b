"""The promise of the whole, held against everything that can happen to its parts.

People do all that they can do through the gateway, on two devices each, and replies grow, while any
program of the stack is killed, stopped for a while or cut off, at random: PostgreSQL and single
connections to it among them. In the end what was answered is there once, what was not is there
whole or not at all, all figures agree, everybody who follows holds what is stored, nothing is owed,
and nothing is left of what is gone. `make torture ROUNDS=50` goes on for longer; INGLENOOK_SEED
repeats what was tried.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.stack import free_ports
from services.runtime.identity import user_id_of
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.faults.beliefs import Belief, SessionBelief
from tests.faults.breaking import Breaker
from tests.faults.following import Held, MessagesFollower, message_held, session_held
from tests.faults.linked_stack import LinkedStack
from tests.faults.living import CANARY, Life
from tests.faults.replying import Replier
from tests.faults.stored import complaints, data_keys, differences, files_with, growing, orphans
from tests.integration.eventually import owed, rows, tables_with

ROUNDS = int(os.environ.get("INGLENOOK_TORTURE_ROUNDS") or 1)
PEOPLE = 4
FAULTS = 12
GUARD = 300.0
CONVERGENCE = 240.0
ERASED_TRACES = {
    "users.erased_people": 1,
    "users.receipts": 1,
    "sessions.erased_people": 1,
    "messages.erased_people": 1,
}
Metadata = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
async def linked(
    reachable_to_all: Path, trusting_responder: dict[str, str]
) -> AsyncIterator[LinkedStack]:
    stack = LinkedStack(reachable_to_all / "home", free_ports(), trusting_responder)
    async with stack.links:
        try:
            await asyncio.to_thread(stack.start_all)
            yield stack
        finally:
            await asyncio.to_thread(stack.stop)


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_everything_that_was_answered_is_there_once_whatever_breaks(
    linked: LinkedStack, responder: ServiceTokens, chance: random.Random, number: int
) -> None:
    chance = random.Random(chance.getrandbits(64) + number)  # noqa: S311 - not for secrets
    lives = [_life(linked, chance) for _ in range(PEOPLE)]
    *staying, leaving = lives
    breaker = Breaker(linked, chance)
    async with AsyncExitStack() as begun:
        for life in lives:
            await begun.enter_async_context(life)
        repliers = [await _replier(life, responder, linked, chance) for life in staying]
        over = asyncio.Event()
        async with asyncio.timeout(GUARD), asyncio.TaskGroup() as living:
            for life in lives:
                living.create_task(life.live(over), name=life.name)
            for _, replier in repliers:
                living.create_task(_reply(replier, over))
            # Who has said nothing before something breaks may come to say nothing at all.
            while not all(map(_was_heard, lives)):  # noqa: ASYNC110 - a life tells of no event
                await asyncio.sleep(0.05)
            keys = living.create_task(_leave(linked, leaving, chance))
            await breaker.break_things(FAULTS)
            over.set()
        print(*breaker.done, sep="\n")  # noqa: T201 - shown when the test fails
        assert breaker.died == []
        await _converged(linked, staying, leaving)
        for life, (session, replier) in zip(staying, repliers, strict=True):
            await _require_as_believed(life, session, replier)
        await _require_erased(linked, leaving, keys.result())
    assert complaints(linked) == []
    assert await differences(linked) == []
    assert orphans(linked) == {}
    assert files_with(linked.home.folder, CANARY.encode()) == []


def _life(linked: LinkedStack, chance: random.Random) -> Life:
    name = f"person-{chance.getrandbits(32):x}"
    return Life(name, linked.url, linked.token(name), chance)


def _was_heard(life: Life) -> bool:
    """Whether something that a person said was answered."""
    said = (belief for session in life.sessions.values() for belief in session.messages.values())
    return any(belief.added for belief in said)


async def _replier(
    life: Life, tokens: ServiceTokens, linked: LinkedStack, chance: random.Random
) -> tuple[str, Replier]:
    """Whoever replies to a person, in a session of its own that stays."""
    session, title = life.new_id(), life.words()[:200]
    opened = {"sessionId": session, "title": title}
    await life.caller.until_answered("POST", "/v1/sessions", opened)
    life.sessions[session] = SessionBelief(added=True, title=Belief(title))
    life.follow(session, MessagesFollower(life.caller, session))
    person = user_id_of(DEVELOPMENT_ISSUER, life.name)

    def credentials() -> Metadata:
        return (("authorization", f"Bearer {tokens.token(acting_for=person)}"),)

    port = linked.links.proxies["responder", "messages"].port
    return session, Replier(session, credentials, lambda: port, chance)


async def _reply(replier: Replier, over: asyncio.Event) -> None:
    while not over.is_set():
        await replier.reply(1)


async def _leave(linked: LinkedStack, life: Life, chance: random.Random) -> dict[str, str]:
    """Has a person erased, and gives the data keys that were theirs."""
    await asyncio.sleep(chance.uniform(3, 8))
    person = user_id_of(DEVELOPMENT_ISSUER, life.name)
    while True:
        try:
            keys = await asyncio.to_thread(data_keys, linked, person)
            break
        except psycopg.OperationalError:
            await asyncio.sleep(0.2)
    await life.erase()
    return keys


async def _converged(linked: LinkedStack, staying: list[Life], leaving: Life) -> None:
    """Waits until nothing is under way any more, and everybody holds what is stored."""
    deadline = time.monotonic() + CONVERGENCE
    while True:
        for life in (*staying, leaving):
            life.require_followed()
        missing = [what async for what in _missing(linked, staying, leaving)]
        if not missing:
            return
        assert time.monotonic() < deadline, missing
        await asyncio.sleep(0.5)


async def _missing(
    linked: LinkedStack, staying: list[Life], leaving: Life
) -> AsyncIterator[object]:
    """What is still to come."""
    if count := await asyncio.to_thread(owed, linked):
        yield f"{count} events are owed"
    if count := await asyncio.to_thread(growing, linked):
        yield f"{count} messages grow"
    for what, follower in leaving.followers.items():
        if follower.ended not in {"PERSON_ERASED", "SESSION_NOT_FOUND"}:
            yield f"{leaving.name} follows {what}: {follower.ended}"
    for life in staying:
        there = await _sessions(life)
        stored: dict[str, dict[str, Held]]
        stored = {"sessions": {key: session_held(session) for key, session in there.items()}}
        stored["me"] = {"me": await _me(linked, life)}
        for session in there.keys() & life.followers.keys():
            messages = await _messages(life, session)
            stored[session] = {key: message_held(message) for key, message in messages.items()}
        for what, follower in life.followers.items():
            if what not in stored and follower.ended != "SESSION_NOT_FOUND":
                yield f"{life.name} follows {what}, which is gone"
            if what in stored and (follower.ended or follower.held != stored[what]):
                yield (
                    f"{life.name} follows {what}, ended: {follower.ended!r}",
                    follower.held,
                    stored[what],
                )


async def _me(linked: LinkedStack, life: Life) -> tuple[str, str]:
    me = await life.caller.until_answered("GET", "/v1/me")
    query = "SELECT current_session_id FROM users.users WHERE user_id = %s"
    ((current,),) = await asyncio.to_thread(rows, linked, query, me.body["user"]["userId"])
    return me.body["user"]["name"], str(current or "")


async def _sessions(life: Life) -> dict[str, Any]:
    return await _all(life, "/v1/sessions", "sessions", "sessionId")


async def _messages(life: Life, session: str) -> dict[str, Any]:
    return await _all(life, f"/v1/sessions/{session}/messages", "messages", "messageId")


async def _all(life: Life, path: str, what: str, key: str) -> dict[str, Any]:
    """All pages of a list, by the things' ids."""
    found: list[Any] = []
    token = ""
    while True:
        page = await life.caller.until_answered("GET", f"{path}?pageSize=200&pageToken={token}")
        assert not page.is_refusal, page
        found += page.body[what]
        token = page.body["nextPageToken"]
        if not token:
            break
    by_id = {thing[key]: thing for thing in found}
    assert len(by_id) == len(found)
    return by_id


async def _require_as_believed(life: Life, session_of_replies: str, replier: Replier) -> None:
    """What is stored of a person is what they may believe."""
    me = await life.caller.until_answered("GET", "/v1/me")
    assert life.called.allows(me.body["user"]["name"])
    there = await _sessions(life)
    for session, belief in life.sessions.items():
        if belief.is_certain:
            assert session in there, f"{life.name}: {session} was opened, and is not there"
        if belief.deleted:
            assert session not in there, f"{life.name}: {session} was deleted, and is there"
        if session in there:
            assert belief.title.allows(there[session]["title"])
            assert belief.state.allows(there[session]["state"])
            replies = replier if session == session_of_replies else None
            await _require_said(life, session, int(there[session]["messageCount"]), replies)
    assert set(there) <= set(life.sessions)
    where = await life.caller.until_answered("GET", "/v1/me/currentSession")
    current = where.body["currentSession"]["sessionId"]
    noted = life.current
    if noted.is_certain and noted.settled in there:
        assert current == noted.settled
    assert not current or current in there


async def _require_said(life: Life, session: str, count: int, replier: Replier | None) -> None:
    """What is stored of a session is what its owner may believe."""
    stored = await _messages(life, session)
    said = life.sessions[session].messages
    for message, belief in said.items():
        if belief.is_certain:
            assert message in stored, f"{life.name}: {session}/{message} is lost"
        if belief.deleted:
            assert message not in stored
        if message in stored:
            assert belief.content.allows(stored[message]["content"])
    replies = {} if replier is None else replier.texts
    assert stored.keys() <= said.keys() | replies.keys()
    for message, text in replies.items():
        content = stored[message]["content"]
        is_complete = replier is not None and message in replier.complete
        assert content == text if is_complete else text.startswith(content)
    assert count == len(stored)
    sequences = {key: int(message["sequence"]) for key, message in stored.items()}
    assert len(set(sequences.values())) == len(sequences)
    # What was answered before the next thing was said stands before it.
    in_order = [sequences[key] for key, belief in said.items() if belief.added and key in sequences]
    assert in_order == sorted(in_order)


async def _require_erased(linked: LinkedStack, life: Life, keys: dict[str, str]) -> None:
    """Nothing is left of a person but the memory that they were erased, and a receipt."""
    person = user_id_of(DEVELOPMENT_ISSUER, life.name)
    traces = await asyncio.to_thread(tables_with, linked, "user_id", person)
    assert traces == ERASED_TRACES
    answer = await life.caller.until_answered("POST", "/v1/me:erase", {"confirm": "ERASE"})
    receipt = answer.body["receipt"]
    assert receipt["complete"]
    # Those of sessions that were deleted before are not this erasure's.
    gone = {session for session, belief in life.sessions.items() if belief.deleting}
    destroyed = {key for key, session in keys.items() if session not in gone}
    assert destroyed <= set(receipt["keyIds"])
    certain = [belief for belief in life.sessions.values() if belief.is_certain]
    possible = [belief for belief in life.sessions.values() if not belief.deleted]
    assert len(certain) <= int(receipt["sessions"]) <= len(possible)
    for verb, path, body in (
        ("GET", "/v1/me", None),
        ("PATCH", "/v1/me", {"name": "again"}),
        ("POST", "/v1/sessions", {"title": "again"}),
    ):
        refused = await life.caller.until_answered(verb, path, body)
        assert refused.reason == "PERSON_ERASED"
    assert await asyncio.to_thread(tables_with, linked, "user_id", person) == traces
