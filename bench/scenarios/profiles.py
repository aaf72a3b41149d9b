"""Where the messages process's time goes while 64 callers append."""

import threading

from bench import shares
from bench.bench import Bench
from bench.figures import Results
from bench.load import run_loads
from bench.processes import cpu_seconds, cpu_seconds_by_thread

_PEOPLE, _CALLERS = 4, 16
_MARGIN_SECONDS = 2


def measure(bench: Bench, results: Results) -> None:
    """The shares of the main thread by kind of work, and of the threads that gRPC has besides."""
    seconds = bench.effort.profile_seconds
    loads = [bench.append_load(bench.person(f"append{n}"), _CALLERS) for n in range(_PEOPLE)]
    pid = bench.pid("messages")
    load = threading.Thread(target=run_loads, args=(loads, seconds + 2 * _MARGIN_SECONDS))
    load.start()
    try:
        threading.Event().wait(_MARGIN_SECONDS)
        before, threads_before = cpu_seconds(pid), cpu_seconds_by_thread(pid)
        by_kind = shares.profile(pid, seconds)
        taken = cpu_seconds(pid) - before
        main = cpu_seconds_by_thread(pid)[pid] - threads_before[pid]
    finally:
        load.join()
    others = max(0.0, taken - main)
    results.shares = {kind: share * main / (main + others) for kind, share in by_kind.items()}
    results.shares["other threads (gRPC's own)"] = others / (main + others)
    results.profiled = (
        f"64 callers, 4 conversations; {seconds} s, the process was running"
        f" {taken / seconds:.0%} of the time"
    )
