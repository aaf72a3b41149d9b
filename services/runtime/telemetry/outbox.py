"""What a service owes to others: how much waits, since when, and what becomes of deliveries.

One process of a service relays, and it alone shows what waits; all others show nothing of it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime

from prometheus_client import REGISTRY, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg import OperationalError
from psycopg_pool import PoolClosed, PoolTimeout

from services.runtime.outbox import KindRow

DELIVERED, FAILED, NOT_THERE, SET_ASIDE = "delivered", "failed", "not_there", "set_aside"

_LOOK_SECONDS = 2.0
# Looking counts every event: of many that wait it takes a twentieth of the time at most.
_REST_OF_A_LOOK = 19.0
_DELIVERIES = Counter(
    "inglenook_outbox_deliveries",
    "Events, by kind and by what became of a try to deliver them.",
    ["kind", "result"],
)


class _Owed(Collector):
    def __init__(self) -> None:
        self.kinds: Collection[str] = ()
        self.rows: Sequence[KindRow] = ()

    def collect(self) -> Iterator[Metric]:
        events = GaugeMetricFamily(
            "inglenook_outbox_events",
            "Events by state: waiting (all that are to be delivered), failing (those of them that"
            " were tried in vain), set_aside (not tried any more).",
            labels=["kind", "state"],
        )
        oldest = GaugeMetricFamily(
            "inglenook_outbox_oldest_seconds",
            "How long the oldest of the waiting events has waited; 0 when none does.",
            labels=["kind"],
        )
        now = datetime.now(UTC)
        nothing = {kind: KindRow(kind, 0, 0, 0, None) for kind in self.kinds}
        for row in (nothing | {row.kind: row for row in self.rows}).values():
            for state in ("waiting", "failing", "set_aside"):
                events.add_metric([row.kind, state], getattr(row, state))
            age = 0.0 if row.oldest is None else (now - row.oldest).total_seconds()
            oldest.add_metric([row.kind], max(age, 0.0))
        yield from (events, oldest)


_owed = _Owed()
REGISTRY.register(_owed)


async def show_owed(
    kinds: Collection[str], read: Callable[[], Awaitable[Sequence[KindRow]]]
) -> None:
    """Shows what waits, of these kinds at least, until it is cancelled. `read` reads it."""
    for kind in kinds:
        for result in (DELIVERED, FAILED, NOT_THERE, SET_ASIDE):
            _DELIVERIES.labels(kind, result)
    try:
        while True:
            began = time.monotonic()
            try:
                _owed.rows = await read()
                _owed.kinds = kinds
            except (OperationalError, PoolTimeout, PoolClosed):
                # What was seen last stands: it grows older, as it should.
                pass
            rest = _REST_OF_A_LOOK * (time.monotonic() - began)
            await asyncio.sleep(max(rest, _LOOK_SECONDS))
    finally:
        _owed.kinds, _owed.rows = (), ()


def tried(kind: str, events: int, result: str) -> None:
    """Counts what became of a try to deliver so many events."""
    _DELIVERIES.labels(kind, result).inc(events)
