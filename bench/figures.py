"""What was measured, as it is shown: a figure is a line of the table."""

from dataclasses import dataclass, field

from bench.series import Series


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured."""

    what: str
    load: str
    """What was asked of it, to the number."""
    unit: str
    """What `measured` counts: "/s", "us", "MiB"."""
    measured: Series
    against: str = ""
    """What it is compared with; empty when it stands alone."""
    ratio: Series | None = None
    at_least: float | None = None
    """The budget's bound of the ratio."""
    at_most: float | None = None
    """The budget's bound of the ratio, where less is better."""
    under: float | None = None
    """The budget's bound of what was measured itself."""

    @property
    def met(self) -> bool | None:
        """Whether the budget was kept; None where it has no bound."""
        bounded = self._bounded
        return None if bounded is None else self.keeps(bounded.median)

    @property
    def kept(self) -> tuple[int, int]:
        """How many of the repeats kept the budget, and how many there were."""
        values = () if self._bounded is None else self._bounded.values
        return sum(map(self.keeps, values)), len(values)

    @property
    def target(self) -> str:
        """The budget's bound in words; empty where it has none."""
        if self.under is not None:
            return f"under {self.under:g} {self.unit}"
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "" if self.at_least is None else f"at least {self.at_least:g}"

    def keeps(self, value: float) -> bool:
        """Whether a value of what is bounded is within the budget."""
        if self.under is not None:
            return value < self.under
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is None or value >= self.at_least

    @property
    def _bounded(self) -> Series | None:
        """What the budget bounds: what was measured, or its ratio."""
        if self.under is not None:
            return self.measured
        return self.ratio if self.target else None


@dataclass(slots=True)
class Results:
    """A run's figures."""

    figures: list[Figure] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)
    """The share of each kind of work in the processor time of the messages process."""
    profiled: str = ""
    """How the shares were found."""
    not_measured: dict[str, str] = field(default_factory=dict)
    """The scenarios that could not be measured, and why."""
