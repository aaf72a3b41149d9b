"""Watchers that are cut, and hold what they saw against the promise of the feed."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import grpc
from inglenook.messages.v1.messages_pb2 import (
    Message,
    MessageChange,
    WatchMessagesRequest,
    WatchMessagesResponse,
)
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub

Metadata = tuple[tuple[str, str], ...]

_AGAIN_SECONDS = 0.1
_CUT_BY_FAULTS = {
    grpc.StatusCode.UNAVAILABLE,  # Killed, stopping, or the database is away.
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,  # How gRPC names a reset in the middle of a frame.
    grpc.StatusCode.UNKNOWN,
}


@dataclass(frozen=True)
class Held:
    """A message as a watcher or the database has it."""

    sequence: int
    revision: int
    content: str


class Watcher:
    """Watches one conversation through every cut, and checks each frame as it comes."""

    def __init__(
        self, name: str, session: str, metadata: Metadata, ports: Callable[[], int]
    ) -> None:
        self.name = name
        self.session = session
        self.held: dict[str, Held] = {}
        self.deleted: set[str] = set()
        self.seen: list[tuple[str, Held]] = []
        """Every version that came, in the order in which it came."""
        self.cuts = 0
        self._metadata = metadata
        self._ports = ports
        self._token = ""
        self._is_cut = False
        self._revision = 0
        self._call: grpc.aio.UnaryStreamCall[WatchMessagesRequest, WatchMessagesResponse] | None
        self._call = None

    async def watch_always(self) -> None:
        while True:
            address = f"127.0.0.1:{self._ports()}"
            async with grpc.aio.insecure_channel(address) as channel:
                request = WatchMessagesRequest(
                    session_id=self.session, newest=200, resume_token=self._token
                )
                stub = MessagesServiceStub(channel)
                self._call = stub.WatchMessages(request, metadata=self._metadata)
                assert self._call is not None
                try:
                    async for frame in self._call:
                        self._apply(frame)
                except grpc.aio.AioRpcError as error:
                    assert error.code() in _CUT_BY_FAULTS, error  # noqa: PT017 - others are caught
                except asyncio.CancelledError:
                    if not self._is_cut:
                        raise
            self._is_cut = False
            self.cuts += 1
            await asyncio.sleep(_AGAIN_SECONDS)

    def cut(self) -> None:
        """Cancels the stream, as a client that closes its laptop."""
        if self._call is not None and not self._call.done():
            self._is_cut = True
            self._call.cancel()

    def _apply(self, frame: WatchMessagesResponse) -> None:
        signal = frame.WhichOneof("signal")
        assert signal != "reset", f"{self.name}: nothing was put back, and yet there was a reset"
        assert bool(frame.changes) != bool(signal), f"{self.name}: {frame}"
        is_snapshot = bool(frame.changes) and not self._token and _is_snapshot(frame)
        revisions = [self._apply_change(change, is_snapshot) for change in frame.changes]
        if is_snapshot:
            self._revision = max(revisions)
        self._token = frame.resume_token

    def _apply_change(self, change: MessageChange, is_snapshot: bool) -> int:
        """Applies a change and gives its revision."""
        match change.WhichOneof("change"):
            case "upserted":
                message_id, held = held_of(change.upserted)
                assert message_id not in self.deleted, f"{self.name}: {message_id} came back"
                if not is_snapshot:
                    self._follows(held.revision)
                self.held[message_id] = held
                self.seen.append((message_id, held))
                return held.revision
            case "deleted":
                message_id = change.deleted.message_id
                assert message_id not in self.deleted, f"{self.name}: {message_id} went twice"
                self.held.pop(message_id, None)
                self.deleted.add(message_id)
                self._revision += 1  # It has no etag; it takes a revision all the same.
                return self._revision
            case "delta":
                delta = change.delta
                held = self.held[delta.message_id]
                assert delta.offset == len(held.content), f"{self.name}: a gap, or twice"
                grown = replace(held, content=held.content + delta.text)
                self.held[delta.message_id] = grown
                self.seen.append((delta.message_id, grown))
                self._revision += 1  # Of one or more, like a deletion.
                return self._revision
        raise AssertionError(f"{self.name}: {change}")

    def _follows(self, revision: int) -> None:
        assert revision > self._revision, (
            f"{self.name}: revision {revision} came after {self._revision}: twice, or out of order"
        )
        self._revision = revision


def _is_snapshot(frame: WatchMessagesResponse) -> bool:
    """Whether a first frame is a snapshot: where nothing was said before, it holds changes."""
    sequences = [change.upserted.sequence for change in frame.changes]
    return min(sequences) > 0 and sequences == sorted(set(sequences))


class Cutter:
    """Cancels watchers at random, until it is cancelled itself."""

    def __init__(self, watchers: list[Watcher], chance: random.Random) -> None:
        self._watchers = watchers
        self._chance = chance

    async def cut_always(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(self._chance.uniform(0.05, 0.4))
                self._chance.choice(self._watchers).cut()


def held_of(message: Message) -> tuple[str, Held]:
    held = Held(message.sequence, int(message.etag, 16), message.content)
    return message.message_id, held
