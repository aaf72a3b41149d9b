"""`python -m bench [--quick]`: measures a system of its own on this machine."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import grpc

from bench.bench import Bench
from bench.effort import FULL, QUICK, Effort
from bench.errors import BenchError
from bench.figures import Results
from bench.load import h2load_version
from bench.machine import described, sync_milliseconds
from bench.report import Run, figures_table, shares_table, write
from bench.scenarios import (
    appends,
    gateway,
    hot,
    idle,
    imports,
    latency,
    pages,
    profiles,
    pushes,
    searches,
    stored,
    storm,
)
from local.errors import StackError, StopRequestedError
from local.stack import Stack, free_ports

_ROOT = Path(__file__).resolve().parent.parent
_SCENARIOS: dict[str, Callable[[Bench, Results], None]] = {
    "appends": appends.measure,
    "hot conversation": hot.measure,
    "gateway": gateway.measure,
    "profile": profiles.measure,
    "import and memory": imports.measure,
    "pages": pages.measure,
    "search and export": searches.measure,
    "latency of live updates": latency.measure,
    "pushes to watchers": pushes.measure,
    "memory of idle watchers": idle.measure,
    "reconnect storm": storm.measure,
    "stored messages": stored.measure,
}


def main() -> None:
    """Measures, prints the table, and writes it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a rough run of about 3 minutes")
    parser.add_argument("--only", choices=sorted(_SCENARIOS), help="one scenario; writes no page")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        h2load_version()
        run, results = _measured(effort, arguments.only)
    except (BenchError, StackError) as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, StopRequestedError):
        sys.exit("Stopped; nothing was written.")
    print(figures_table(results.figures))
    if results.shares:
        print(f"\nThe messages process, {results.profiled}:\n\n{shares_table(results.shares)}")
    whole = not arguments.quick and arguments.only is None
    page = _ROOT / "docs" / "benchmarks.md" if whole else None
    path = write(run, results, folder=_ROOT / "bench" / "results", page=page)
    print(f"\nWritten to {path.relative_to(_ROOT)}" + (" and docs/benchmarks.md" if page else ""))
    if results.not_measured:
        sys.exit("\n".join(f"{name}: {why}" for name, why in results.not_measured.items()))


def _measured(effort: Effort, only: str | None) -> tuple[Run, Results]:
    results = Results()
    with tempfile.TemporaryDirectory(prefix="inglenook-bench-") as folder:
        # PostgreSQL's own user must get through, when root runs this.
        Path(folder).chmod(0o711)
        with (
            Stack(Path(folder) / "home", free_ports()) as stack,
            closing(Bench(stack, Path(folder), effort)) as bench,
        ):
            syncs = sync_milliseconds(Path(folder))
            machine = described(bench.database) | {
                "fdatasync of a page": f"{syncs.median:.2f} ms (median of {len(syncs.values)})"
            }
            bench.start_echo()
            for name, measure in _SCENARIOS.items():
                if only in (None, name):
                    _measure_one(name, measure, bench, results)
    run = Run(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        effort=effort.name,
        repeats=effort.repeats,
        seconds=effort.seconds,
        machine=machine,
    )
    return run, results


def _measure_one(
    name: str, measure: Callable[[Bench, Results], None], bench: Bench, results: Results
) -> None:
    """Measures one scenario; when it cannot be, the others are, and the run fails at its end."""
    started = time.perf_counter()
    print(f"{name} … ", end="", flush=True)
    try:
        measure(bench, results)
    except (BenchError, grpc.RpcError) as error:
        results.not_measured[name] = str(error)
    print(f"{time.perf_counter() - started:.0f} s", flush=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
