"""Appends through the gateway against appends straight to the service."""

from functools import partial

from bench.bench import Bench
from bench.figures import Figure, Results
from bench.load import Load
from bench.processes import cpu_seconds
from bench.series import in_turn, series_of

_PEOPLE = 4
_CALLERS = 16
_LOAD = "4 h2load -c 16, each in another conversation"


def measure(bench: Bench, results: Results) -> None:
    """JSON over HTTP/1.1 and gRPC by the gateway, and gRPC without it."""
    people = [bench.person(f"gateway{number}") for number in range(_PEOPLE)]
    ways = {
        "JSON": [bench.json_append_load(person, _CALLERS) for person in people],
        "gRPC": [bench.append_load(person, _CALLERS, gateway=True) for person in people],
        "straight": [bench.append_load(person, _CALLERS) for person in people],
    }
    envoy: dict[str, list[float]] = {way: [] for way in ways}
    measured = in_turn(
        {way: partial(_rate, bench, loads, envoy[way]) for way, loads in ways.items()},
        bench.effort.repeats,
    )
    for way in ("JSON", "gRPC"):
        results.figures.append(
            Figure(
                what=f"append through the gateway, {way}",
                load=_LOAD,
                unit="/s",
                measured=measured[way],
                against=f"straight, {measured['straight'].median:,.0f}/s",
                ratio=measured[way].against(measured["straight"]),
                at_least=0.8,
            )
        )
        results.figures.append(
            Figure(
                what=f"processor time in Envoy, append through the gateway, {way}",
                load=_LOAD,
                unit="us",
                measured=series_of(envoy[way]),
            )
        )


def _rate(bench: Bench, loads: list[Load], envoy: list[float]) -> float:
    """The rate; notes in `envoy` the microseconds that the gateway took for each call."""
    before = cpu_seconds(bench.pid("gateway"))
    outcome = bench.run_appends(loads)
    envoy.append((cpu_seconds(bench.pid("gateway")) - before) / outcome.done * 1e6)
    return outcome.rate
