"""Checking what a service stores: derived figures are made anew from the truth, and compared."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.runtime.database import Database, Statement


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """Something that is not as it should be: `about` are ids, `found` and `expected` figures."""

    about: str
    found: int
    expected: int


@dataclass(frozen=True, slots=True)
class Check:
    """Something that is always so; the statement finds where it is not."""

    promise: str
    differences: Statement[DifferenceRow]


class DifferencesError(Exception):
    """A check found differences; the text says how many."""


async def check_lines(database: Database, checks: Sequence[Check]) -> AsyncIterator[str]:
    """What each check finds.

    Raises:
        DifferencesError: one found a difference.
    """
    differences = 0
    for check in checks:
        rows = await database.all(check.differences, {})
        differences += len(rows)
        yield f"{'ok' if not rows else f'{len(rows):,} not so':<12}  {check.promise}"
        for row in rows:
            yield f"    {row.about}: {row.found}, expected {row.expected}"
    if differences:
        raise DifferencesError(f"{differences:,} differences were found")
