"""Resume tokens: where in which feed a client stands, handed out to be brought back.

A token is opaque and carries no authority: whoever brings it is checked like anyone else. It is
authenticated, and holds the digest of its feed's name (which names the person too), so that one
that was made up is told from one that was given for another feed.
"""

import hashlib
from dataclasses import dataclass

from services.runtime.cursors import CursorError, Cursors

_PURPOSE = ("resume",)


class OtherFeedError(Exception):
    """The token was given for another feed, or to another person."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a feed."""

    epoch: int
    """Of the database that the revision is of (`epoch.py`)."""
    revision: int


class ResumeTokens:
    """Makes and reads the resume tokens of one feed."""

    def __init__(self, cursors: Cursors, feed: str) -> None:
        """Takes what makes tokens, and the feed's name."""
        self._cursors = cursors
        digest = hashlib.sha256(feed.encode()).digest()
        self._feed = (
            int.from_bytes(digest[:8], "big", signed=True),
            int.from_bytes(digest[8:16], "big", signed=True),
        )

    def make(self, position: Position) -> str:
        """The token of a place in the feed."""
        return self._cursors.make(_PURPOSE, *self._feed, position.epoch, position.revision)

    def read(self, token: str) -> Position:
        """The place that a token names.

        Raises:
            CursorError: it is no resume token of this service's.
            OtherFeedError: it is of another feed.
        """
        numbers = self._cursors.read(_PURPOSE, token)
        match numbers:
            case (high, low, epoch, revision):
                if (high, low) != self._feed:
                    raise OtherFeedError
                return Position(epoch, revision)
            case _:
                raise CursorError
