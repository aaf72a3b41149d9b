"""Frames that were made for one follower of a feed and are good for others.

All feeds of a process share one bound: what is kept is a saving, never a backlog. A follower that
comes too late for a frame reads what is stored.
"""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """What follows a revision."""

    revision: int
    """The revision that stands after it."""
    payload: bytes
    """As it is sent; empty when there is nothing to tell."""


class KeptFrames:
    """The latest frames of all feeds, up to so many bytes."""

    def __init__(self, maximum_bytes: int) -> None:
        self._maximum_bytes = maximum_bytes
        self._bytes = 0
        self._frames: OrderedDict[tuple[str, int], Frame] = OrderedDict()
        self._of_feed: dict[str, set[int]] = {}

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self._bytes

    def get(self, feed: str, after: int) -> Frame | None:
        """The frame that follows a revision of a feed, if it is kept."""
        return self._frames.get((feed, after))

    def keep(self, feed: str, after: int, frame: Frame) -> None:
        """Keeps a frame, and lets go of the oldest ones where that is too many."""
        self._drop(feed, after)
        self._frames[feed, after] = frame
        self._of_feed.setdefault(feed, set()).add(after)
        self._bytes += len(frame.payload)
        while self._bytes > self._maximum_bytes:
            self._drop(*next(iter(self._frames)))

    def forget(self, feed: str) -> None:
        """Lets go of a feed's frames."""
        for after in list(self._of_feed.get(feed, ())):
            self._drop(feed, after)

    def _drop(self, feed: str, after: int) -> None:
        frame = self._frames.pop((feed, after), None)
        if frame is None:
            return
        self._bytes -= len(frame.payload)
        afters = self._of_feed[feed]
        afters.remove(after)
        if not afters:
            del self._of_feed[feed]
