"""Watch methods: a feed as a stream of responses, from a snapshot or from a resume token."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from inglenook.errors.v1.errors_pb2 import Reason

from services.runtime.cursors import CursorError, Cursors
from services.runtime.errors import Refusal
from services.runtime.feed import Batch, Feeds, Signal, Start
from services.runtime.resume_tokens import OtherFeedError, Position, ResumeTokens
from services.runtime.streams import Streams

Change = TypeVar("Change", bound=Message)

_HEARTBEAT_SECONDS = 15
_SHORTEST_HEARTBEAT = 5
_LONGEST_HEARTBEAT = 60


class WatchRequest(Protocol):
    """What the requests of all Watch methods have."""

    @property
    def resume_token(self) -> str:
        """The last one that the client got, or empty."""

    @property
    def heartbeat_seconds(self) -> int:
        """After how many seconds of silence a heartbeat is sent; 0 for the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Generic[Change]):
    """A feed that can be watched."""

    name: str
    """Its name, with the person's id in it: nobody else's feed has it."""
    response: Callable[..., Message]
    """The method's response, which has `changes`, a signal, and `resume_token`."""
    revision: Callable[[], Awaitable[int]]
    """Reads the feed's revision; refuses who may not watch it."""
    snapshot: Callable[[], Awaitable[Batch[Change]]]
    """Reads what a client begins with; refuses who may not watch it."""
    after: Callable[[int], Awaitable[Batch[Change]]]
    """Reads the changes above a revision, as many as fit a frame."""
    token_of_another: Refusal
    """What the bearer of another feed's token is told."""


class Watches:
    """The streams of a process's Watch methods."""

    def __init__(self, feeds: Feeds, cursors: Cursors, streams: Streams) -> None:
        """Takes who follows what, what makes tokens, and what counts streams."""
        self._feeds = feeds
        self._cursors = cursors
        self._streams = streams

    async def responses(
        self, watched: Watched[Change], request: WatchRequest
    ) -> AsyncGenerator[bytes, None]:
        """The serialised responses of a Watch method.

        Raises:
            Refusal: RESUME_TOKEN_INVALID, TOO_MANY_STREAMS, SERVER_STOPPING,
                DEPENDENCY_UNAVAILABLE, or what the feed refuses.
        """
        with self._streams.one_more():
            tokens = ResumeTokens(self._cursors, watched.name)
            resumed = _position(tokens, request.resume_token, watched.token_of_another)
            epoch = await self._feeds.epoch()

            async def start() -> Start[Change]:
                if resumed is None:
                    return _begun(await watched.snapshot())
                revision = await watched.revision()
                if resumed.epoch != epoch or resumed.revision > revision:
                    return _begun(await watched.snapshot(), reset=True)
                return Start(Batch([], resumed.revision), revision)

            frames = self._feeds.follow(
                _Source(watched, tokens, epoch),
                start=start,
                heartbeat=_heartbeat(request.heartbeat_seconds),
            )
            async with aclosing(frames):
                async for frame in frames:
                    yield frame


class _Source(Generic[Change]):
    """A watched feed, as the engine follows it."""

    def __init__(self, watched: Watched[Change], tokens: ResumeTokens, epoch: int) -> None:
        self._watched = watched
        self._tokens = tokens
        self.epoch = epoch

    @property
    def name(self) -> str:
        return self._watched.name

    async def revision(self) -> int:
        return await self._watched.revision()

    async def after(self, revision: int) -> Batch[Change]:
        return await self._watched.after(revision)

    def frame(self, revision: int, told: Sequence[Change] | Signal) -> bytes:
        token = self._tokens.make(Position(self.epoch, revision))
        if not isinstance(told, Signal):
            return self._watched.response(changes=told, resume_token=token).SerializeToString()
        response = self._watched.response(resume_token=token)
        getattr(response, told.value).SetInParent()
        return response.SerializeToString()


def _begun(snapshot: Batch[Change], *, reset: bool = False) -> Start[Change]:
    return Start(snapshot, snapshot.revision, reset)


def _position(tokens: ResumeTokens, token: str, of_another: Refusal) -> Position | None:
    if not token:
        return None
    try:
        return tokens.read(token)
    except CursorError:
        raise resume_token_invalid() from None
    except OtherFeedError:
        raise of_another from None


def _heartbeat(asked: int) -> float:
    return min(max(asked or _HEARTBEAT_SECONDS, _SHORTEST_HEARTBEAT), _LONGEST_HEARTBEAT)


def resume_token_invalid() -> Refusal:
    """The resume token was not given by this service."""
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.REASON_RESUME_TOKEN_INVALID,
        "The resume token does not belong to this feed. Watch again without it.",
    )
