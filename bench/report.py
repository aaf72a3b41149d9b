"""Showing a run: as a table, as JSON, and as `docs/benchmarks.md`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.explanations import explained
from bench.figures import Figure, Results
from bench.series import Series

_HUNDREDS = 100
_HEADINGS = ("what", "load", "measured (min to max)", "against", "ratio (min to max)", "target", "")
_DOCUMENT = """\
# Benchmarks

Written by `make bench`, the {effort} run of {date}. Absolute figures are one machine's on one day;
what counts are the ratios, each of two things that were measured in turn in the same run.

{figures}

{shares}

{missed}

## The machine

{machine}

## How to repeat it

    make bench          # about 12 minutes
    make bench QUICK=1  # about 3 minutes, and rough

It needs Linux and `h2load` (`apt-get install nghttp2-client`); everything else comes with
`make install`. It starts a system of its own, with PostgreSQL from its wheel and `fsync` on, in a
temporary folder, calls it on loopback only, and removes it. Run it on a machine that does nothing
else: the load, the services, PostgreSQL and the gateway share its cores. Each run leaves all its
measurements as JSON in `bench/results/`.

## How to read it

- **measured** is the median of {repeats} repeats of {seconds} s each, with the lowest and the
  highest. What is repeated otherwise says so in its line.
- **ratio** is the median of the repeats' own ratios: the things that are compared are measured in
  turn, forwards and backwards, so each pair had the same machine. The wider its spread, the less
  it says.
- **target** is the budget. No test fails on it.
- The load is `h2load`, which is no Python and takes little of the machine. A caller sends its next
  request as soon as the last was answered. h2load does not see a gRPC refusal, so after each
  repeat the appends that it counted are compared with the rows that are stored (those under way at
  the end may be in them), and the bytes of pages with what they must have.
- The **bare stream** is one of a `grpc.aio` server on uvloop that sends the bytes that it was asked
  with, once or for ever, and knows nothing of feeds. The watchers are one process, in Python; their
  memory is in no figure, and their speed bounds what is pushed, to the service's streams and to the
  bare ones alike. Latency runs from the start of the append call to the frame in the watcher's
  hands, by the clock that both processes share. Memory is resident, over that of the process when
  ten watchers were open. The gateway gets 100 streams on a connection; one for each would cost it
  more.
- The **echo** is a bare `grpc.aio` server on uvloop, one process like the messages service: bytes
  in, as many bytes out as an append's answer has, and it looks at nothing. What an append adds to
  it is authentication, validation, encryption, a durable write, an answer and a line of log.
- Processor time is that of all threads of a process, for each call. It suffers least when the
  machine is busy with something else.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """When, how and on what a run was made."""

    date: str
    effort: str
    repeats: int
    seconds: int
    machine: Mapping[str, str]


def table(rows: Iterable[Sequence[str]], headings: Sequence[str]) -> str:
    """A table in Markdown, its columns aligned."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(_line(cells, widths) for cells in ruled)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def figures_table(figures: Iterable[Figure]) -> str:
    """The figures, a line each."""
    return table((_row(figure) for figure in figures), _HEADINGS)


def shares_table(shares: Mapping[str, float]) -> str:
    """The shares of the messages process's time, the largest first."""
    ordered = sorted(shares.items(), key=lambda share: -share[1])
    return table(((kind, f"{share:.1%}") for kind, share in ordered), ("work", "share"))


def document(run: Run, results: Results) -> str:
    """`docs/benchmarks.md`."""
    return _DOCUMENT.format(
        effort=run.effort,
        date=run.date,
        repeats=run.repeats,
        seconds=run.seconds,
        figures=figures_table(results.figures),
        shares=_shares_section(results),
        missed=_missed_section(results),
        machine=table(run.machine.items(), ("part", "value")),
    )


def write(run: Run, results: Results, *, folder: Path, page: Path | None) -> Path:
    """Writes the JSON into a folder, and the page where it is asked for; gives the JSON's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.date.replace(':', '').replace(' ', '-')}-{run.effort}.json"
    written = {"run": asdict(run), **asdict(results)}
    path.write_text(json.dumps(written, indent=2) + "\n")
    if page is not None:
        page.parent.mkdir(exist_ok=True)
        page.write_text(document(run, results))
    return path


def _row(figure: Figure) -> tuple[str, ...]:
    met = {None: "", True: "met", False: "missed"}[figure.met]
    ratio = "" if figure.ratio is None else _with_spread(figure.ratio, "")
    measured = _with_spread(figure.measured, figure.unit)
    return figure.what, figure.load, measured, figure.against, ratio, figure.target, met


def _with_spread(series: Series, unit: str) -> str:
    separator = "" if unit in {"", "/s"} else " "
    shown = f"{_number(series.median)}{separator}{unit}"
    if len(series.values) == 1:
        return shown
    return f"{shown} ({_number(series.lowest)} to {_number(series.highest)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= _HUNDREDS else f"{value:.2f}"


def _shares_section(results: Results) -> str:
    if not results.shares:
        return ""
    return (
        "## Where the time of the messages process goes\n\n"
        f"Under appends: {results.profiled}.\n\n{shares_table(results.shares)}"
    )


def _missed_section(results: Results) -> str:
    paragraphs = explained(results)
    paragraphs += [f"Not measured: {name}. {why}" for name, why in results.not_measured.items()]
    if not paragraphs:
        return "Every target was met."
    return "## What was missed\n\n" + "\n\n".join(paragraphs)
