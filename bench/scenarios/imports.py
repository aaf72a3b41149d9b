"""Importing many messages: how fast, and what it does to the memory of the process."""

import time

from bench.bench import Bench
from bench.figures import Figure, Results
from bench.moving import bring_in
from bench.processes import memory
from bench.series import series_of

_STREAMS = 5
_MEBIBYTE = 1 << 20


def measure(bench: Bench, results: Results) -> None:
    """The import in streams, one after the other, into one conversation of a fresh process."""
    person = bench.person("import")
    bench.stack.restart("messages")
    bench.append_once(person)
    before = memory(bench.pid("messages"))
    each = bench.effort.imported // _STREAMS
    rates = []
    for _ in range(_STREAMS):
        started = time.perf_counter()
        bring_in(bench, person, each)
        rates.append(each / (time.perf_counter() - started))
    after = memory(bench.pid("messages"))
    load = f"{_STREAMS} streams of {each:,}, 300 B each, one after the other; a Python client"
    results.figures.append(
        Figure(what="ImportMessages", load=load, unit="/s", measured=series_of(rates))
    )
    held = {
        "before": before.resident,
        f"after importing {bench.effort.imported:,}": after.resident,
        "at most until then": after.peak,
    }
    results.figures += [
        Figure(
            what=f"memory of the messages process {when}",
            load="resident",
            unit="MiB",
            measured=series_of([size / _MEBIBYTE]),
        )
        for when, size in held.items()
    ]
