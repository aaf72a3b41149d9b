"""Durable appends against a bare echo: what is left of the speed of gRPC itself."""

from functools import partial

from bench.bench import Bench
from bench.figures import Figure, Results
from bench.load import Load, Outcome, run_loads
from bench.processes import cpu_seconds
from bench.series import Series, in_turn, series_of

_SHAPES = {1: (1, 1), 16: (4, 4), 64: (4, 16)}
"""By the number of callers: how many conversations there are, and how many callers each has."""
_AT_LEAST = {64: 0.6}


def measure(bench: Bench, results: Results) -> None:
    """1, 16 and 64 callers."""
    for callers, (conversations, each) in _SHAPES.items():
        people = [bench.person(f"append{number}") for number in range(conversations)]
        appends = [bench.append_load(person, each) for person in people]
        echoes = [bench.echo_load(each) for _ in people]
        costs = _Costs(bench)
        measured = in_turn(
            {
                "append": partial(costs.append, appends),
                "echo": partial(costs.echo, echoes),
            },
            bench.effort.repeats,
        )
        said = f"{conversations} h2load -c {each}, each in another conversation"
        results.figures.append(
            Figure(
                what=f"AppendMessage, 300 B, {_people(callers)}",
                load=said,
                unit="/s",
                measured=measured["append"],
                against=f"echo, {measured['echo'].median:,.0f}/s",
                ratio=measured["append"].against(measured["echo"]),
                at_least=_AT_LEAST.get(callers),
            )
        )
        results.figures += costs.figures(callers, said)


class _Costs:
    """The processor time that calls take, beside their rate."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._taken: dict[str, list[float]] = {"messages": [], "postgres": [], "echo": []}

    def append(self, loads: list[Load]) -> float:
        before = self._now()
        outcome = self._bench.run_appends(loads)
        self._note(before, outcome, ("messages", "postgres"))
        return outcome.rate

    def echo(self, loads: list[Load]) -> float:
        before = self._now()
        outcome = run_loads(loads, self._bench.effort.seconds)
        self._note(before, outcome, ("echo",))
        return outcome.rate

    def figures(self, callers: int, load: str) -> list[Figure]:
        """The processor time of a call, by process."""
        series = {name: series_of(values) for name, values in self._taken.items()}
        messages = Figure(
            what=f"its processor time in messages, {_people(callers)}",
            load=load,
            unit="us",
            measured=series["messages"],
            against=f"echo, {series['echo'].median:,.0f} us",
            ratio=series["messages"].against(series["echo"]),
        )
        postgres = Figure(
            what=f"its processor time in PostgreSQL, {_people(callers)}",
            load=load,
            unit="us",
            measured=series["postgres"],
        )
        return [messages, postgres]

    def _now(self) -> dict[str, float]:
        return {
            "messages": cpu_seconds(self._bench.pid("messages")),
            "postgres": cpu_seconds(self._bench.pid("postgres"), children=True),
            "echo": cpu_seconds(self._bench.pid("echo")),
        }

    def _note(self, before: dict[str, float], outcome: Outcome, names: tuple[str, ...]) -> None:
        now = self._now()
        for name in names:
            self._taken[name].append((now[name] - before[name]) / outcome.done * 1e6)


def share_of_echo(bench: Bench, people: int, each: int) -> tuple[Series, Series]:
    """Appends of people with so many callers each: the rate, and its ratio to the echo's."""
    appends = [bench.append_load(bench.person(f"append{n}"), each) for n in range(people)]
    echoes = [bench.echo_load(each) for _ in range(people)]
    measured = in_turn(
        {
            "append": lambda: bench.run_appends(appends).rate,
            "echo": lambda: run_loads(echoes, bench.effort.seconds).rate,
        },
        bench.effort.repeats,
    )
    return measured["append"], measured["append"].against(measured["echo"])


def _people(callers: int) -> str:
    return "1 caller" if callers == 1 else f"{callers} callers"
