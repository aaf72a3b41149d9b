"""Searching and exporting a long conversation."""

import time
from collections.abc import Callable

from inglenook.messages.v1.messages_pb2 import ExportMessagesRequest, SearchMessagesRequest

from bench.bench import CONTENT, Bench, Person
from bench.errors import BenchError
from bench.figures import Figure, Results
from bench.processes import memory
from bench.series import in_turn, series_of

_MEGABYTE = 1e6
_MEBIBYTE = 1 << 20
_ABSENT = "nowhere"
"""A word that no message holds, so that all of them are read."""


def measure(bench: Bench, results: Results) -> None:
    """One caller who reads the longest of the conversations that the pages were read from."""
    size = bench.effort.sizes[-1]
    person = bench.person(f"pages{size}")
    before = memory(bench.pid("messages"))
    measured = in_turn(
        {
            "search": _rate(_searched, bench, person, size),
            "export": _rate(_exported, bench, person, size),
        },
        bench.effort.repeats,
    )
    after = memory(bench.pid("messages"))
    megabytes = [rate * len(CONTENT) / _MEGABYTE for rate in measured["search"].values]
    load = f"1 caller, a conversation of {size:,}; a Python client"
    results.figures += [
        Figure(
            what="SearchMessages, a word that is nowhere",
            load=load,
            unit="MB/s",
            measured=series_of(megabytes),
            against="ExportMessages, in messages",
            ratio=measured["search"].against(measured["export"]),
        ),
        Figure(what="ExportMessages", load=load, unit="/s", measured=measured["export"]),
        *(
            Figure(
                what=f"memory of the messages process {when} searching and exporting {size:,}",
                load="resident",
                unit="MiB",
                measured=series_of([held.resident / _MEBIBYTE]),
            )
            for when, held in (("before", before), ("after", after))
        ),
    ]


def _rate(
    read: Callable[[Bench, Person], int], bench: Bench, person: Person, size: int
) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        count = read(bench, person)
        if count != size:
            raise BenchError(f"{count} of {size} messages were read")
        return count / (time.perf_counter() - started)

    return measure


def _searched(bench: Bench, person: Person) -> int:
    """Searches until everything was read, call by call; gives how many messages that were."""
    count, token = 0, ""
    while True:
        request = SearchMessagesRequest(
            query=_ABSENT, session_id=person.session_id, page_token=token
        )
        read = 0
        for frame in bench.messages.SearchMessages(request, metadata=person.metadata):
            read, token = frame.messages_read, frame.next_page_token
            if frame.hits:
                raise BenchError("a word that is nowhere was found")
        count += read
        if not token:
            return count


def _exported(bench: Bench, person: Person) -> int:
    """Exports; gives how many messages came."""
    request = ExportMessagesRequest(session_id=person.session_id)
    frames = bench.messages.ExportMessages(request, metadata=person.metadata)
    return sum(len(frame.messages) for frame in frames)
