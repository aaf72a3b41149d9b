"""A person who does everything that a person can do, on two devices, while everything breaks.

Each step is repeated until it is answered, or given up at the first silence, as people do. What may
be stored in the end is kept in mind (`beliefs.py`); a refusal that nothing this person did explains
is a fault of the system.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from uuid import UUID

from tests.faults.beliefs import Belief, MessageBelief, SessionBelief
from tests.faults.calling import Answer, Caller, UnansweredError
from tests.faults.following import (
    Follower,
    MeFollower,
    MessagesFollower,
    SessionsFollower,
)

CANARY = "canary-of-"
"""What every word of theirs begins with, so that it can be looked for where it must not be."""
ACTIVE, COMPLETED = "SESSION_STATE_ACTIVE", "SESSION_STATE_COMPLETED"

_GIVES_UP = 0.25
_GONE = "SESSION_NOT_FOUND"
_ERASED = "PERSON_ERASED"
_RACING = 4
_SESSIONS_AT_ONCE = 4
Step = Callable[[], Awaitable[None]]


class Life:
    """A person: what they have, and what they believe of it. Use as `async with`."""

    def __init__(self, name: str, url: str, token: str, chance: random.Random) -> None:
        self.name = name
        self.sessions: dict[str, SessionBelief] = {}
        self.called: Belief[str] = Belief("")
        """What they are called."""
        self.current: Belief[str] = Belief("")
        """The session they are in."""
        self.erasing = False
        """Whether they asked to be erased."""
        self.followers: dict[str, Follower] = {}
        """By session id, and `sessions` and `me`."""
        self.caller = Caller(url, token)
        self.chance = chance
        self._following: list[asyncio.Task[None]] = []
        self._open = AsyncExitStack()

    async def __aenter__(self) -> "Life":
        await self._open.enter_async_context(self.caller)
        me = await self.caller.until_answered("GET", "/v1/me")
        self.called.settle(me.body["user"]["name"])
        self.follow("me", MeFollower(self.caller))
        self.follow("sessions", SessionsFollower(self.caller))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        await self._open.aclose()

    async def live(self, over: asyncio.Event) -> None:
        """Goes on until it is over."""
        devices = [Device(self, is_first=first) for first in (True, False)]
        async with asyncio.TaskGroup() as using:
            for device in devices:
                using.create_task(device.use(over))

    async def erase(self) -> None:
        """Erases everything of theirs, while other devices still write."""
        self.erasing = True
        body = {"confirm": "ERASE"}
        await self.caller.until_answered("POST", "/v1/me:erase", body)

    def follow(self, what: str, follower: Follower) -> None:
        self.followers[what] = follower
        self._following.append(asyncio.create_task(follower.follow(), name=follower.path))

    def require_followed(self) -> None:
        """Makes sure that nobody who follows saw what must not be."""
        for task in self._following:
            if task.done():
                task.result()

    def words(self) -> str:
        """Something new to say, once or at some length."""
        return f"{CANARY}{self.name} {self.chance.getrandbits(64):x} " * self.chance.choice(
            [1, 1, 1, 1, 20, 400]
        )

    def new_id(self) -> str:
        return str(UUID(int=self.chance.getrandbits(128), version=4))


class Device:
    """One of a person's devices: it has sessions of its own."""

    def __init__(self, life: Life, *, is_first: bool) -> None:
        self._life = life
        self._chance = life.chance
        self._mine: dict[str, SessionBelief] = {}
        self._steps: list[tuple[int, Step]] = [
            (24, self._say),
            (8, self._edit),
            (3, self._take_back),
            (3, self._open_session),
            (3, self._rename),
            (3, self._complete_or_resume),
            (2, self._delete_session),
            (3, self._look_up),
        ]
        if is_first:
            self._steps += [(2, self._rename_me), (2, self._go_to), (1, self._where_am_i)]

    async def use(self, over: asyncio.Event) -> None:
        weights, steps = zip(*self._steps, strict=True)
        await self._open_session()
        while not over.is_set():
            (step,) = self._chance.choices(steps, weights)
            await step()
            await asyncio.sleep(self._chance.uniform(0, 0.05))

    async def _open_session(self) -> None:
        if len(self._alive()) >= _SESSIONS_AT_ONCE:
            return
        session, title = self._life.new_id(), self._life.words()[:200]
        belief = SessionBelief(title=Belief(title))
        self._mine[session] = self._life.sessions[session] = belief
        answer = await self._ask("POST", "/v1/sessions", {"sessionId": session, "title": title})
        if self._is_done(answer, {}):
            belief.added = True
            if self._chance.random() < 0.5:
                self._life.follow(session, MessagesFollower(self._life.caller, session))

    async def _say(self) -> None:
        if alive := self._alive():
            session = self._chance.choice(alive)
            await self._say_in(session)

    async def _say_in(self, session: str, *, patient: bool = False) -> None:
        message, content = self._life.new_id(), self._life.words()
        belief = MessageBelief(content=Belief(content))
        self._mine[session].messages[message] = belief
        path = f"/v1/sessions/{session}/messages"
        body = {"messageId": message, "content": content}
        answer = await self._ask("POST", path, body, patient=patient)
        if self._is_done(answer, {_GONE: self._may_be_gone(session)}):
            belief.added = True

    async def _edit(self) -> None:
        session, message, belief = self._some_message()
        if belief is None:
            return
        content = self._life.words()
        path = f"/v1/sessions/{session}/messages/{message}"
        answer = await self._ask(
            "PATCH", path, {"content": content}, lambda: belief.content.doubt(content)
        )
        explained = {_GONE: self._may_be_gone(session), "MESSAGE_NOT_FOUND": belief.deleting}
        if self._is_done(answer, explained):
            belief.content.settle(content)

    async def _take_back(self) -> None:
        session, message, belief = self._some_message()
        if belief is None:
            return
        belief.deleting = True
        answer = await self._ask("DELETE", f"/v1/sessions/{session}/messages/{message}")
        if self._is_done(answer, {_GONE: self._may_be_gone(session)}):
            belief.deleted = True

    async def _rename(self) -> None:
        alive = self._alive()
        if not alive:
            return
        session, title = self._chance.choice(alive), self._life.words()[:200]
        belief = self._mine[session].title
        answer = await self._ask(
            "PATCH", f"/v1/sessions/{session}", {"title": title}, lambda: belief.doubt(title)
        )
        if self._is_done(answer, {_GONE: self._may_be_gone(session)}):
            belief.settle(title)

    async def _complete_or_resume(self) -> None:
        alive = self._alive()
        if not alive:
            return
        session = self._chance.choice(alive)
        belief = self._mine[session].state
        verb, state = ("complete", COMPLETED) if belief.settled == ACTIVE else ("resume", ACTIVE)
        path = f"/v1/sessions/{session}:{verb}"
        answer = await self._ask("POST", path, {}, lambda: belief.doubt(state))
        explained = {
            _GONE: self._may_be_gone(session),
            "SESSION_STATE_WRONG": not belief.is_certain,
        }
        self._is_done(answer, explained)
        if answer is not None:
            belief.settle(state)

    async def _delete_session(self) -> None:
        """Deletes one while more is being said in it."""
        alive = self._alive()
        if len(alive) < 2:
            return
        session = self._chance.choice(alive)
        self._mine[session].deleting = True
        answer, *_ = await asyncio.gather(
            self._ask("DELETE", f"/v1/sessions/{session}"),
            *(self._say_in(session, patient=True) for _ in range(self._chance.randrange(_RACING))),
        )
        if self._is_done(answer, {}):
            self._mine[session].deleted = True

    async def _look_up(self) -> None:
        """What was answered can be read at once."""
        session, message, belief = self._some_message()
        if belief is None:
            return
        answer = await self._ask("GET", f"/v1/sessions/{session}/messages/{message}")
        explained = {_GONE: self._may_be_gone(session), "MESSAGE_NOT_FOUND": belief.deleting}
        if self._is_done(answer, explained):
            assert answer is not None
            content = answer.body["message"]["content"]
            assert belief.content.allows(content), f"{content!r}, not {belief.content}"

    async def _rename_me(self) -> None:
        name = self._life.words()[:200]
        belief = self._life.called
        answer = await self._ask("PATCH", "/v1/me", {"name": name}, lambda: belief.doubt(name))
        if self._is_done(answer, {}):
            belief.settle(name)

    async def _go_to(self) -> None:
        alive = self._alive()
        if not alive:
            return
        session = self._chance.choice(alive)
        belief = self._life.current
        body = {"sessionId": session}
        answer = await self._ask(
            "PUT", "/v1/me/currentSession", body, lambda: belief.doubt(session)
        )
        if self._is_done(answer, {_GONE: self._may_be_gone(session)}):
            belief.settle(session)

    async def _where_am_i(self) -> None:
        answer = await self._ask("GET", "/v1/me/currentSession")
        self._is_done(answer, {})

    async def _ask(
        self,
        verb: str,
        path: str,
        body: object = None,
        unanswered: Callable[[], None] = lambda: None,
        *,
        patient: bool = False,
    ) -> Answer | None:
        """Calls until an answer comes, or gives up at the first silence; then None."""
        if patient or self._chance.random() > _GIVES_UP:
            return await self._life.caller.until_answered(verb, path, body, unanswered)
        try:
            answer = await self._life.caller.once(verb, path, body)
        except UnansweredError:
            unanswered()
            return None
        return answer

    def _is_done(self, answer: Answer | None, explained: dict[str, bool]) -> bool:
        """Whether it was done; if not, what this person did explains it, by reason."""
        if answer is None or answer.reason == "SERVER_BUSY":
            return False
        if not answer.is_refusal:
            return True
        erased = self._life.erasing and answer.reason in {_ERASED, _GONE}
        assert erased or explained.get(answer.reason, False), f"{self._life.name}: {answer}"
        return False

    def _alive(self) -> list[str]:
        return [session for session, belief in self._mine.items() if belief.is_certain]

    def _may_be_gone(self, session: str) -> bool:
        return self._mine[session].deleting

    def _some_message(self) -> tuple[str, str, MessageBelief | None]:
        alive = self._alive()
        if alive:
            session = self._chance.choice(alive)
            messages = self._mine[session].messages
            there = [message for message, belief in messages.items() if belief.is_certain]
            if there:
                message = self._chance.choice(there)
                return session, message, messages[message]
        return "", "", None
