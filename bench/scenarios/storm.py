"""Live updates: many watchers whose connections broke come back at once."""

from bench.bench import Bench
from bench.figures import Figure, Results
from bench.series import in_turn
from bench.streams import HOLD
from bench.watching import WATCH, Watchers, bare_watches, watches_of_many


def measure(bench: Bench, results: Results) -> None:
    """Each resumes by its token, on new connections; until the last of them is current."""
    count = bench.effort.storm
    bench.start_streams()
    with Watchers() as watchers, Watchers() as bare:
        address = bench.stack.ports.address("messages")
        watchers.open(address, WATCH, watches_of_many(bench, count, "storm"))
        bare.open(bench.streams_address, HOLD, bare_watches(bench, count))
        measured = in_turn({"messages": watchers.resume, "bare": bare.resume}, bench.effort.repeats)
    results.figures.append(
        Figure(
            what=f"{count:,} watchers resume at once, until all are current",
            load="each of another conversation, 100 on a connection; a Python client",
            unit="s",
            measured=measured["messages"],
            against=f"bare streams, {measured['bare'].median:.2f} s",
            ratio=measured["messages"].against(measured["bare"]),
        )
    )
