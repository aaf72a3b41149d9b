"""Repeated measurements, and ratios of them.

Things that are compared are measured in turn, so that each pair of neighbours had the same machine;
a ratio is that of each pair, and its median is what counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True)
class Series:
    """The same thing, measured again and again."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value in the middle."""
        return median(self.values)

    @property
    def lowest(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def highest(self) -> float:
        """The largest value."""
        return max(self.values)

    def against(self, other: "Series") -> "Series":
        """The ratio of each value to the other's of the same repeat."""
        pairs = zip(self.values, other.values, strict=True)
        return Series(tuple(mine / theirs for mine, theirs in pairs))


def series_of(values: Sequence[float]) -> Series:
    """A series of at least one value."""
    if not values:
        raise ValueError("nothing was measured")
    return Series(tuple(values))


def in_turn(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, Series]:
    """Measures several things in turn, so many times each; every other round goes backwards."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for repeat in range(repeats):
        names = list(measures) if repeat % 2 == 0 else list(measures)[::-1]
        for name in names:
            values[name].append(measures[name]())
    return {name: series_of(measured) for name, measured in values.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all do not exceed: at 0.99, all but the largest hundredth."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]
