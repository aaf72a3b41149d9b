"""What every feed has in common: a snapshot, then changes, in frames that can be resumed after."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, Self, TypeVar

Change = TypeVar("Change")
Change_co = TypeVar("Change_co", covariant=True)


class Frame(Protocol[Change_co]):
    """A frame of a feed, whatever changes it brings."""

    @property
    def changes(self) -> Sequence[Change_co]:
        """What changed, in the order in which it was stored."""

    @property
    def resume_token(self) -> str:
        """Watching again with it continues exactly after this frame."""

    def HasField(self, field_name: Literal["current", "reset"]) -> bool:  # noqa: N802 - protobuf's name
        """Whether the frame is that signal."""


@dataclass(frozen=True, slots=True)
class Held(ABC, Generic[Change]):
    """What is held of a feed. It does not change; a frame makes another one of it."""

    changes: tuple[Change, ...] = ()
    """What happened since the one that was given before this one; at first, the snapshot."""
    current: bool = False
    """Whether all is there that was stored when the feed was opened."""
    resume_token: str = ""
    """Watching again with it continues exactly after what is held."""

    def apply(self, frame: Frame[Change]) -> Self:
        """What is held after a frame."""
        held = type(self)() if frame.HasField("reset") else self
        opening = not held.current and frame.HasField("current")
        changed = held.changed(frame.changes)
        return replace(
            changed.opened() if opening else changed,
            changes=(*held.changes, *frame.changes),
            current=held.current or opening,
            resume_token=frame.resume_token,
        )

    def settled(self) -> Self:
        """The same, once its changes were seen."""
        return replace(self, changes=())

    @abstractmethod
    def changed(self, changes: Sequence[Change]) -> Self:
        """What is held after some changes."""

    def opened(self) -> Self:
        """What is held once the snapshot is complete."""
        return self
