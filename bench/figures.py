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

    @property
    def met(self) -> bool | None:
        """Whether the budget was kept; None where it has no bound."""
        if self.ratio is None or self.at_least is None:
            return None
        return self.ratio.median >= self.at_least


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
