"""Appends through the gateway against appends straight to the service."""

from functools import partial

from bench.bench import Bench
from bench.figures import Figure, Results
from bench.load import Load
from bench.series import in_turn

_PEOPLE = 4
_CALLERS = 16


def measure(bench: Bench, results: Results) -> None:
    """JSON over HTTP/1.1 and gRPC by the gateway, and gRPC without it."""
    people = [bench.person(f"gateway{number}") for number in range(_PEOPLE)]
    ways = {
        "JSON": [bench.json_append_load(person, _CALLERS) for person in people],
        "gRPC": [bench.append_load(person, _CALLERS, gateway=True) for person in people],
        "straight": [bench.append_load(person, _CALLERS) for person in people],
    }
    measured = in_turn(
        {way: partial(_rate, bench, loads) for way, loads in ways.items()},
        bench.effort.repeats,
    )
    for way in ("JSON", "gRPC"):
        results.figures.append(
            Figure(
                what=f"append through the gateway, {way}",
                load="64 callers, 4 conversations (h2load -c 16 for each)",
                unit="/s",
                measured=measured[way],
                against=f"straight, {measured['straight'].median:,.0f}/s",
                ratio=measured[way].against(measured["straight"]),
                at_least=0.8,
            )
        )


def _rate(bench: Bench, loads: list[Load]) -> float:
    return bench.run_appends(loads).rate
