"""Live updates: what a watcher costs while nothing happens, in memory."""

import time
from collections.abc import Mapping

from bench.bench import Bench
from bench.figures import Figure, Results
from bench.processes import memory
from bench.series import Series, series_of
from bench.streams import HOLD
from bench.watching import WATCH, Watch, Watchers, bare_watches, watches_of_many

_AT_MOST = 1.6
_FIRST = 50
"""Watchers that are open before: the first ones bring what a process needs only once."""
_SETTLING_SECONDS = 1.0
_KIBIBYTE = 1 << 10


def measure(bench: Bench, results: Results) -> None:
    """1,000 and 10,000 watchers, each of another conversation, in processes just started."""
    watches = watches_of_many(bench, _FIRST + bench.effort.idle[-1], "idle")
    rounds = [_round(bench, watches) for _ in range(bench.effort.idle_repeats)]
    for count in bench.effort.idle:
        held = {
            name: series_of([one[name, count] for one in rounds])
            for name in ("streams", "messages", "gateway")
        }
        results.figures += [_figure(name, count, held) for name in ("messages", "gateway")]


def _round(bench: Bench, watches: list[Watch]) -> dict[tuple[str, int], float]:
    """The KiB of a watcher in each process, by how many there are."""
    address = bench.stack.ports.address
    bench.start_streams()
    held = _held(bench, "streams", bench.streams_address, HOLD, bare_watches(bench, len(watches)))
    _restart_messages(bench)
    held |= _held(bench, "messages", address("messages"), WATCH, watches)
    # Again: what of the memory of ten thousand streams comes back is no part of this.
    _restart_messages(bench)
    bench.stack.restart("gateway")
    return held | _held(bench, "gateway", address("gateway"), WATCH, watches)


def _restart_messages(bench: Bench) -> None:
    bench.stack.restart("messages")
    # The gateway may call it ready that has not begun, since it asks only now and then.
    bench.append_once(bench.person("idle"))


def _held(
    bench: Bench, name: str, address: str, path: str, watches: list[Watch]
) -> dict[tuple[str, int], float]:
    pid = bench.pid(name)
    held = {}
    with Watchers() as watchers:
        watchers.open(address, path, watches[:_FIRST])
        time.sleep(_SETTLING_SECONDS)
        before = memory(pid).resident
        opened = 0
        for count in bench.effort.idle:
            watchers.open(address, path, watches[_FIRST + opened : _FIRST + count])
            opened = count
            time.sleep(_SETTLING_SECONDS)
            held[name, count] = (memory(pid).resident - before) / count / _KIBIBYTE
    return held


def _figure(name: str, count: int, held: Mapping[str, Series]) -> Figure:
    return Figure(
        what=f"memory of an idle watcher in {name}, {count:,} open",
        load=f"each of another conversation, 100 on a connection{_way(name)}",
        unit="KiB",
        measured=held[name],
        against=f"bare streams, {held['streams'].median:.2f} KiB",
        ratio=held[name].against(held["streams"]),
        at_most=_AT_MOST,
    )


def _way(name: str) -> str:
    return ", through the gateway" if name == "gateway" else ""
