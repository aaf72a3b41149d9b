"""Whoever follows a feed through the gateway, as lines of JSON, through every fault."""

import asyncio
import json
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

import httpx

from tests.faults.calling import Caller, reason_in

_AGAIN_SECONDS = 0.1
_HEARTBEAT_SECONDS = 5
# A stream that is as silent as this is taken for dead, as any client would.
_SILENCE_SECONDS = 12.0
_SIGNALS = {"current", "heartbeat", "reset"}
_AWAY = {"DEPENDENCY_UNAVAILABLE", "SERVER_STOPPING"}
Frame = dict[str, Any]
Held = tuple[Any, ...]
"""What a client keeps of a thing."""


class Follower(ABC):
    """Follows one feed, and holds each frame against the promise of the feed."""

    def __init__(self, caller: Caller, path: str) -> None:
        self.path = path
        self.held: dict[str, Held] = {}
        """What the feed holds, by id, as this client has it."""
        self.ended = ""
        """Why there is nothing more to follow, once there is not."""
        self._caller = caller
        self._token = ""

    async def follow(self) -> None:
        """Follows until the feed ends for good."""
        while not self.ended:
            with suppress(httpx.TransportError):
                await self._follow_once()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow_once(self) -> None:
        query = {"heartbeatSeconds": str(_HEARTBEAT_SECONDS), "resumeToken": self._token}
        query |= {"newest": "200"} if self.is_list else {}
        async with self._caller.http.stream(
            "GET", self.path, params=query, timeout=_SILENCE_SECONDS
        ) as response:
            if response.status_code != httpx.codes.OK:
                await response.aread()
                reason = reason_in(response)
                self.ended = "" if reason in _AWAY else reason
                return
            lines = ""
            async for text in response.aiter_text():
                # A line that was cut in the middle is none.
                *whole, lines = (lines + text).split("\n")
                for line in filter(None, whole):
                    self._take(json.loads(line))

    def _take(self, frame: Frame) -> None:
        changes = frame.get("changes", [])
        signals = _SIGNALS & frame.keys()
        assert bool(changes) != bool(signals), f"{self.path}: {frame}"
        assert "reset" not in signals, f"{self.path}: nothing was put back, yet there was a reset"
        for change in changes:
            self.apply(change)
        self._token = frame["resumeToken"]

    @property
    @abstractmethod
    def is_list(self) -> bool:
        """Whether the feed has more than one thing."""

    @abstractmethod
    def apply(self, change: Frame) -> None:
        """Applies a change to what is held."""


class ListFollower(Follower):
    """Follows a feed of things that come, change and go."""

    def __init__(self, caller: Caller, path: str) -> None:
        super().__init__(caller, path)
        self.deleted: set[str] = set()

    @property
    def is_list(self) -> bool:
        return True

    def _delete(self, thing: str) -> None:
        assert thing not in self.deleted, f"{self.path}: {thing} went twice"
        self.held.pop(thing, None)
        self.deleted.add(thing)

    def _require_alive(self, thing: str) -> None:
        assert thing not in self.deleted, f"{self.path}: {thing} came back"


class MessagesFollower(ListFollower):
    """Follows a conversation."""

    def __init__(self, caller: Caller, session: str) -> None:
        super().__init__(caller, f"/v1/sessions/{session}/messages:watch")
        self._versions: dict[str, int] = {}

    def apply(self, change: Frame) -> None:
        if deleted := change.get("deleted"):
            self._delete(deleted["messageId"])
        elif delta := change.get("delta"):
            self._grow(delta)
        else:
            message = change["upserted"]
            self._require_alive(message["messageId"])
            version = int(message["etag"], 16)
            before = self._versions.get(message["messageId"], 0)
            assert version > before, f"{self.path}: version {version} came after {before}"
            self._versions[message["messageId"]] = version
            self.held[message["messageId"]] = message_held(message)

    def _grow(self, delta: Frame) -> None:
        sequence, content = self.held[delta["messageId"]]
        assert delta.get("offset", 0) == len(content), f"{self.path}: a gap, or twice"
        self.held[delta["messageId"]] = (sequence, content + delta["text"])


class SessionsFollower(ListFollower):
    """Follows a person's sessions."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller, "/v1/sessions:watch")

    def apply(self, change: Frame) -> None:
        if deleted := change.get("deleted"):
            self._delete(deleted["sessionId"])
            return
        session = change["upserted"]
        self._require_alive(session["sessionId"])
        self.held[session["sessionId"]] = session_held(session)


class MeFollower(Follower):
    """Follows a person's profile and current session."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller, "/v1/me:watch")

    @property
    def is_list(self) -> bool:
        return False

    def apply(self, change: Frame) -> None:
        current = change.get("currentSession") or {}
        self.held["me"] = (change["user"]["name"], current.get("sessionId", ""))


def message_held(message: Frame) -> Held:
    """What is held of a message."""
    return int(message["sequence"]), str(message["content"])


def session_held(session: Frame) -> Held:
    """What is held of a session."""
    return session["title"], session["state"], int(session["messageCount"])
