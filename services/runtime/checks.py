"""Checking what a service stores: derived figures are made anew from the truth, and compared.

The truth is in the service's own tables (`Check`), or another service has it (`Comparison`).
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class Comparison:
    """Something that is always so between services, once the one was told what the other owes it.

    What is still owed, or changes while it is looked at, is no difference.
    """

    promise: str
    differences: Callable[[], AsyncIterator[DifferenceRow]]
    """Finds where it is not so, asking about a bounded number of things at a time."""


class DifferencesError(Exception):
    """A check found differences; the text says how many."""


async def check_lines(
    database: Database, checks: Sequence[Check], comparisons: Sequence[Comparison]
) -> AsyncIterator[str]:
    """What each check and comparison finds.

    Raises:
        DifferencesError: one found a difference.
        AioRpcError: another service does not answer.
    """
    differences = 0
    for check in checks:
        rows = await database.all(check.differences, {})
        differences += len(rows)
        for line in _told(check.promise, rows):
            yield line
    for comparison in comparisons:
        rows = [row async for row in comparison.differences()]
        differences += len(rows)
        for line in _told(comparison.promise, rows):
            yield line
    if differences:
        raise DifferencesError(f"{differences:,} differences were found")


def _told(promise: str, rows: Sequence[DifferenceRow]) -> Iterator[str]:
    yield f"{'ok' if not rows else f'{len(rows):,} not so':<12}  {promise}"
    for row in rows:
        yield f"    {row.about}: {row.found}, expected {row.expected}"
