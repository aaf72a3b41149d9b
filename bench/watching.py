"""Watchers to measure with: the process that `watchers.py` is, and what it is told to watch."""

import json
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from uuid import UUID, uuid4

from google.protobuf.message import Message
from inglenook.feed.v1.feed_pb2 import Current
from inglenook.messages.v1.messages_pb2 import WatchMessagesRequest, WatchMessagesResponse

from bench.bench import Bench, Person
from bench.errors import BenchError
from local.environment import inherited_environment
from services.runtime.identity import user_id_of
from services.runtime.settings import DEVELOPMENT_ISSUER

WATCH = "/inglenook.messages.v1.MessagesService/WatchMessages"
TOKEN_BYTES = 80
"""About the size of a resume token."""
_HEARTBEAT_SECONDS = 60
_OF_A_PERSON = 50
"""Conversations that a person watches: fewer than the streams that a person may have."""
_AT_ONCE = 500
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Watch:
    """What a watcher asks for."""

    request: Message
    authorization: str = ""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has come to all watchers of a process together."""

    frames: int
    bytes: int
    changes: int
    first: float
    last: float
    """When the first and the last frame came, on the monotonic clock."""
    by_message: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """When each message came, to one watcher after the other."""


class Watchers:
    """A process of watchers: `with Watchers() as watchers`."""

    def __enter__(self) -> "Watchers":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.watchers"],
            env=inherited_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Killed: nothing of it is needed, and closing ten thousand streams one by one takes long.
        self._process.kill()
        self._process.communicate()

    def open(
        self, address: str, path: str, watches: Sequence[Watch], *, at_once: int = _AT_ONCE
    ) -> float:
        """Opens streams, so many at once, then the next; gives the seconds until all are current.

        Raises:
            BenchError: a stream ended.
        """
        asked = [
            (b64encode(watch.request.SerializeToString()).decode(), watch.authorization)
            for watch in watches
        ]
        answer = self._ask("open", address=address, path=path, watches=asked, at_once=at_once)
        return float(answer["seconds"])

    def resume(self) -> float:
        """Closes all and has them resume at once; gives the seconds until all are current."""
        return float(self._ask("resume")["seconds"])

    def close(self) -> None:
        """Closes all streams."""
        self._ask("close")

    def forget(self) -> None:
        """Forgets what has come until now."""
        self._ask("forget")

    def arrived(self, *, by_message: bool = False) -> Arrived:
        """What has come since it was last forgotten.

        Raises:
            BenchError: a stream ended.
        """
        return Arrived(**self._ask("report", by_message=by_message))

    def wait_for(self, changes: int) -> None:
        """Waits until so many changes have come to all together.

        Raises:
            BenchError: they do not come, or more do.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (came := self.arrived().changes) != changes:
            if came > changes or time.monotonic() > deadline:
                raise BenchError(f"{came} changes came to the watchers, where {changes} were made")
            time.sleep(_LOOK_SECONDS)

    def _ask(self, command: str, **arguments: object) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "they ended"}
        if "error" in answer:
            raise BenchError(f"watchers cannot {command}: {answer['error']}")
        return answer


def watches_of(person: Person, count: int) -> list[Watch]:
    """So many watches of a person's conversation, without what was said in it before."""
    request = WatchMessagesRequest(
        session_id=person.session_id, newest=1, heartbeat_seconds=_HEARTBEAT_SECONDS
    )
    return [Watch(request, person.headers["authorization"])] * count


def watches_of_many(bench: Bench, count: int, name: str) -> list[Watch]:
    """Watches of as many conversations, in which nothing was said yet."""
    return [
        watch
        for number in range(count // _OF_A_PERSON)
        for watch in _watches_of_one(bench, f"{name}{number}")
    ]


def bare_watches(bench: Bench, count: int) -> list[Watch]:
    """What is asked of the bare server: a frame like the one that says `current`."""
    frame = WatchMessagesResponse(current=Current(), resume_token="x" * TOKEN_BYTES)
    # The same headers as a watch has, so that they cost as much.
    return [Watch(frame, bench.person("echo").headers["authorization"])] * count


def _watches_of_one(bench: Bench, name: str) -> list[Watch]:
    """Makes conversations of somebody; the service would make their rows when something is said."""
    user_id = user_id_of(DEVELOPMENT_ISSUER, name)
    sessions = [uuid4() for _ in range(_OF_A_PERSON)]
    _insert(bench, user_id, sessions)
    authorization = f"Bearer {bench.stack.token(name)}"
    return [
        Watch(
            WatchMessagesRequest(session_id=str(session), heartbeat_seconds=_HEARTBEAT_SECONDS),
            authorization,
        )
        for session in sessions
    ]


def _insert(bench: Bench, user_id: UUID, sessions: Sequence[UUID]) -> None:
    bench.database.execute(
        "INSERT INTO messages.conversations"
        " (session_id, user_id, last_sequence, message_count, revision, create_time)"
        " SELECT session_id, %s, 0, 0, 0, now() FROM unnest(%s::uuid[]) AS session_id",
        (user_id, sessions),
    )
