"""How much a run measures."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often things are measured, and on how much data."""

    name: str
    seconds: int
    """How long each load runs."""
    repeats: int
    """How often each is measured, in turn with what it is compared with."""
    profile_seconds: int
    sizes: tuple[int, int, int]
    """Messages in the conversations that pages are read from."""
    imported: int
    """Messages that are imported and exported while the memory is looked at."""
    stored: tuple[int, int]
    """Messages in the table when appends are compared by it."""
    idle: tuple[int, int]
    """Watchers that are open while the memory is looked at."""
    idle_repeats: int
    """How often that is done, each time with processes that were just started."""
    storm: int
    """Watchers that resume at once."""


FULL = Effort(
    name="full",
    seconds=3,
    repeats=5,
    profile_seconds=10,
    sizes=(100, 10_000, 100_000),
    imported=100_000,
    stored=(10_000, 1_000_000),
    idle=(1_000, 10_000),
    idle_repeats=2,
    storm=2_000,
)
QUICK = Effort(
    name="quick",
    seconds=1,
    repeats=3,
    profile_seconds=4,
    sizes=(100, 1_000, 10_000),
    imported=10_000,
    stored=(10_000, 100_000),
    idle=(500, 2_000),
    idle_repeats=1,
    storm=500,
)
