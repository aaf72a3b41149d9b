"""The use of the pools of database connections, read when somebody asks."""

from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg_pool import AsyncConnectionPool

_LABELS = ["pool"]
_COUNTED = {
    "requests_num": ("requests", "Times that a connection was asked for."),
    "requests_queued": ("queued", "Times that none was free, so that one had to be waited for."),
    "requests_errors": ("timeouts", "Times that none came free in time."),
    "connections_lost": ("lost", "Connections that broke."),
    "connections_errors": ("failures", "Attempts to connect that failed."),
}


class _Pools(Collector):
    def __init__(self) -> None:
        self._by_name: WeakValueDictionary[str, AsyncConnectionPool[Any]] = WeakValueDictionary()

    def add(self, name: str, pool: AsyncConnectionPool[Any]) -> None:
        self._by_name[name] = pool

    def collect(self) -> Iterator[Metric]:
        stats = {name: pool.get_stats() for name, pool in list(self._by_name.items())}
        connections = GaugeMetricFamily(
            "inglenook_pool_connections", "Connections, by state.", labels=[*_LABELS, "state"]
        )
        limit = GaugeMetricFamily(
            "inglenook_pool_limit", "The most connections there may be.", labels=_LABELS
        )
        waiting = GaugeMetricFamily(
            "inglenook_pool_waiting", "Who waits for a connection now.", labels=_LABELS
        )
        waited = CounterMetricFamily(
            "inglenook_pool_wait_seconds", "Time spent waiting for connections.", labels=_LABELS
        )
        for name, now in stats.items():
            idle = now.get("pool_available", 0)
            connections.add_metric([name, "idle"], idle)
            connections.add_metric([name, "in_use"], now.get("pool_size", 0) - idle)
            limit.add_metric([name], now.get("pool_max", 0))
            waiting.add_metric([name], now.get("requests_waiting", 0))
            waited.add_metric([name], now.get("requests_wait_ms", 0) / 1000)
        yield from (connections, limit, waiting, waited)
        for counted, (metric, meaning) in _COUNTED.items():
            family = CounterMetricFamily(f"inglenook_pool_{metric}", meaning, labels=_LABELS)
            for name, now in stats.items():
                family.add_metric([name], now.get(counted, 0))
            yield family


_pools = _Pools()
REGISTRY.register(_pools)


def show_pool(name: str, pool: AsyncConnectionPool[Any]) -> None:
    """Shows a pool's use, for as long as there is the pool."""
    _pools.add(name, pool)
