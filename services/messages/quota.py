"""How many bytes a person may keep: asked before anything is stored.

It is a quota, and no bound on a single byte. What a person has is read from the database and then
known for a while, as long as others would need to fill what is left; what is on its way meanwhile
in other processes, or in this one while it reads, may go past the limit by its own size. Nobody is
refused by what is known: that is read anew first, so deleting makes room at once.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID
from weakref import WeakValueDictionary

from services.messages.usage import UsageStore
from services.runtime.errors import Refusal, quota_exceeded

_KNOWN_PEOPLE = 10_000
_LONGEST_SECONDS = 60.0
_OTHERS_BYTES_PER_SECOND = 16 << 20


@dataclass(slots=True)
class _Known:
    total: int
    until: float
    """By the clock of the caller, in seconds."""


class KnownTotals:
    """What is known of how many bytes people keep: of a bounded number of them, for a while."""

    def __init__(self, limit: int, *, people: int = _KNOWN_PEOPLE) -> None:
        """Takes how many bytes a person may keep, and how many people are known at most."""
        self._limit = limit
        self._people = people
        self._known: OrderedDict[UUID, _Known] = OrderedDict()

    def has_room(self, person: UUID, size: int, *, now: float) -> bool:
        """Whether it is known that so many bytes more are within the limit."""
        known = self._known.get(person)
        return known is not None and now < known.until and known.total + size <= self._limit

    def learn(self, person: UUID, total: int, *, now: float) -> None:
        """Notes what a person has as it was just read."""
        seconds = max(self._limit - total, 0) / _OTHERS_BYTES_PER_SECOND
        self._known[person] = _Known(total, now + min(seconds, _LONGEST_SECONDS))
        self._known.move_to_end(person)
        if len(self._known) > self._people:
            self._known.popitem(last=False)

    def add(self, person: UUID, size: int) -> None:
        """Notes that a person gets so many bytes more."""
        known = self._known.get(person)
        if known is not None:
            known.total += size


class Quota:
    """Lets people keep so many bytes, and no more."""

    def __init__(self, usage: UsageStore, limit: int) -> None:
        """Takes what reads how much people keep, and how many bytes each may; 0 is any number."""
        self._usage = usage
        self.limit = limit
        self._totals = KnownTotals(limit)
        # So that those who come together for one person ask one after the other, and mostly once.
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def used(self, person: UUID) -> int:
        """How many bytes a person keeps."""
        return await self._usage.total(person)

    async def admits(self, person: UUID, size: int) -> bool:
        """Whether a person may keep so many bytes more; if so, they count as kept from now on."""
        if not self.limit:
            return True
        if not self._totals.has_room(person, size, now=time.monotonic()):
            async with self._turns.setdefault(person, asyncio.Lock()):
                if not await self._has_room(person, size):
                    return False
        self._totals.add(person, size)
        return True

    async def make_sure(self, person: UUID, size: int) -> None:
        """Makes sure that a person may keep so many bytes more.

        Raises:
            Refusal: QUOTA_EXCEEDED.
        """
        if not await self.admits(person, size):
            raise self.exceeded()

    def exceeded(self) -> Refusal:
        """Why somebody may not keep more."""
        return quota_exceeded(
            "bytes",
            self.limit,
            f"You keep as much as one person may: {self.limit} bytes, encrypted."
            " Delete messages or sessions and try again.",
        )

    async def _has_room(self, person: UUID, size: int) -> bool:
        if self._totals.has_room(person, size, now=time.monotonic()):
            return True  # Who was before us in the turn has read it.
        total = await self._usage.total(person)
        self._totals.learn(person, total, now=time.monotonic())
        return total + size <= self.limit
