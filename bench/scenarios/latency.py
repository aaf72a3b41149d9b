"""Live updates: how long after the start of an append the message is with those who watch."""

import time
from functools import partial
from uuid import uuid4

from inglenook.messages.v1.messages_pb2 import AppendMessageRequest

from bench.bench import CONTENT, Bench, Person
from bench.errors import BenchError
from bench.figures import Figure, Results
from bench.series import in_turn, percentile, series_of
from bench.watching import WATCH, Watchers, watches_of

_MANY = 100
_A_SECOND = 20
_UNDER_MILLISECONDS = 50
_SHARES = {"p50": 0.5, "p99": 0.99}


def measure(bench: Bench, results: Results) -> None:
    """1 and 100 watchers of one conversation, in which something is said 20 times a second."""
    with Watchers() as one, Watchers() as many:
        watched = {1: one, _MANY: many}
        taken: dict[tuple[int, str], list[float]] = {}
        people = {count: bench.person(f"latency{count}") for count in watched}
        for count, watchers in watched.items():
            address = bench.stack.ports.address("messages")
            watchers.open(address, WATCH, watches_of(people[count], count))
        in_turn(
            {
                str(count): partial(_measured, bench, people[count], watchers, count, taken)
                for count, watchers in watched.items()
            },
            bench.effort.repeats,
        )
    series = {key: series_of(values) for key, values in taken.items()}
    for count in watched:
        for name in _SHARES:
            is_many = count == _MANY
            alone = series[1, name]
            results.figures.append(
                Figure(
                    what=f"append to arrival, {name}, {_watchers(count)}",
                    load=f"{_A_SECOND} messages a second in one conversation; a Python client",
                    unit="ms",
                    measured=series[count, name],
                    against=f"1 watcher, {alone.median:.2f} ms" if is_many else "",
                    ratio=series[count, name].against(alone) if is_many else None,
                    under=_UNDER_MILLISECONDS if is_many and name == "p99" else None,
                )
            )


def _measured(
    bench: Bench,
    person: Person,
    watchers: Watchers,
    count: int,
    taken: dict[tuple[int, str], list[float]],
) -> float:
    """Notes the percentiles in `taken`, in milliseconds; gives the median.

    Raises:
        BenchError: a message did not come to each watcher once.
    """
    watchers.forget()
    started = _said(bench, person)
    watchers.wait_for(len(started) * count)
    came = watchers.arrived(by_message=True).by_message
    if {message: len(times) for message, times in came.items()} != dict.fromkeys(started, count):
        raise BenchError(f"the messages did not come to each of {count} watchers once")
    latencies = [
        (arrived - started[message]) * 1000 for message, times in came.items() for arrived in times
    ]
    for name, share in _SHARES.items():
        taken.setdefault((count, name), []).append(percentile(latencies, share))
    return percentile(latencies, _SHARES["p50"])


def _said(bench: Bench, person: Person) -> dict[str, float]:
    """Says something so many times a second, however long it takes; when each call began."""
    started: dict[str, float] = {}
    calls = []
    begin = time.monotonic()
    for number in range(bench.effort.seconds * _A_SECOND):
        time.sleep(max(0.0, begin + number / _A_SECOND - time.monotonic()))
        message_id = str(uuid4())
        request = AppendMessageRequest(
            session_id=person.session_id, message_id=message_id, content=CONTENT
        )
        started[message_id] = time.monotonic()
        calls.append(bench.messages.AppendMessage.future(request, metadata=person.metadata))
    for call in calls:
        call.result()
    return started


def _watchers(count: int) -> str:
    return "1 watcher" if count == 1 else f"{count} watchers"
