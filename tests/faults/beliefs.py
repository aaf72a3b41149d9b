"""What somebody may believe of what is stored, having heard some answers and missed others.

A call that was answered was done. One that was not may have been done, may not have been, and may
still be: it can be on its way for as long as something hangs.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Belief(Generic[Value]):
    """What a value may be."""

    def __init__(self, settled: Value) -> None:
        self.settled = settled
        """What the last answer was about."""
        self._doubtful: set[Value] = set()

    def doubt(self, value: Value) -> None:
        """Setting it to this was not answered."""
        self._doubtful.add(value)

    def settle(self, value: Value) -> None:
        """Setting it to this was answered."""
        self.settled = value

    def allows(self, value: Value) -> bool:
        return value == self.settled or value in self._doubtful

    @property
    def is_certain(self) -> bool:
        return not self._doubtful

    def __repr__(self) -> str:
        return f"{self.settled!r}, or one of {self._doubtful}"


@dataclass
class Existence:
    """Whether a thing with an id of its own is there."""

    added: bool = False
    """Adding it was answered; else it was only tried."""
    deleting: bool = False
    """Deleting it was tried."""
    deleted: bool = False
    """Deleting it was answered."""

    @property
    def is_certain(self) -> bool:
        return self.added and not self.deleting

    @property
    def is_impossible(self) -> bool:
        return self.deleted


@dataclass
class MessageBelief(Existence):
    """A message."""

    content: Belief[str] = field(default_factory=lambda: Belief(""))


@dataclass
class SessionBelief(Existence):
    """A session, and what was said in it, in the order in which it was."""

    title: Belief[str] = field(default_factory=lambda: Belief(""))
    state: Belief[str] = field(default_factory=lambda: Belief("SESSION_STATE_ACTIVE"))
    messages: dict[str, MessageBelief] = field(default_factory=dict)
