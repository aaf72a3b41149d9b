"""Live updates: how many changes a messages process pushes, against bare streams."""

import time

from inglenook.feed.v1.feed_pb2 import Current
from inglenook.messages.v1.messages_pb2 import (
    ListMessagesRequest,
    MessageChange,
    WatchMessagesResponse,
)

from bench.bench import Bench, Person
from bench.figures import Figure, Results
from bench.processes import cpu_seconds
from bench.series import in_turn, series_of
from bench.streams import PUSH
from bench.watching import TOKEN_BYTES, WATCH, Arrived, Watch, Watchers, watches_of

_WATCHERS = 100
_CALLERS = 16
_MICROSECONDS = 1e6


def measure(bench: Bench, results: Results) -> None:
    """100 watchers of one conversation, while appends come as fast as they go."""
    person = bench.person("pushes")
    bench.start_streams()
    load = bench.append_load(person, _CALLERS)
    together: list[float] = []
    taken: dict[str, list[float]] = {"messages": [], "streams": []}

    def noted(name: str, before: float, arrived: Arrived) -> float:
        """Notes the processor time of each change in `taken`; gives the rate."""
        taken[name].append(
            (cpu_seconds(bench.pid(name)) - before) / arrived.changes * _MICROSECONDS
        )
        return arrived.changes / (arrived.last - arrived.first)

    with Watchers() as watchers, Watchers() as bare:
        address = bench.stack.ports.address("messages")
        watchers.open(address, WATCH, watches_of(person, _WATCHERS))
        frame = Watch(_frame(bench, person))

        def pushed() -> float:
            watchers.forget()
            held = _revision(bench, person)
            before = cpu_seconds(bench.pid("messages"))
            bench.run_appends([load])
            watchers.wait_for((_revision(bench, person) - held) * _WATCHERS)
            arrived = watchers.arrived()
            together.append(arrived.changes / arrived.frames)
            return noted("messages", before, arrived)

        def bare_pushed() -> float:
            bare.open(bench.streams_address, PUSH, [frame] * _WATCHERS)
            bare.forget()
            before = cpu_seconds(bench.pid("streams"))
            time.sleep(bench.effort.seconds)
            arrived = bare.arrived()
            rate = noted("streams", before, arrived)
            bare.close()
            return rate

        measured = in_turn({"messages": pushed, "bare": bare_pushed}, bench.effort.repeats)
    said = f"{_WATCHERS} watchers of one conversation, h2load -c {_CALLERS} appends to it"
    size = frame.request.ByteSize()
    processor = {name: series_of(values) for name, values in taken.items()}
    results.figures += [
        Figure(
            what="changes pushed to 100 watchers",
            load=said,
            unit="/s",
            measured=measured["messages"],
            against=f"bare streams, frames of {size} B, {measured['bare'].median:,.0f}/s",
            ratio=measured["messages"].against(measured["bare"]),
        ),
        Figure(
            what="their processor time in messages, the appends' in it",
            load=said,
            unit="us",
            measured=processor["messages"],
            against=f"bare streams, {processor['streams'].median:.2f} us",
            ratio=processor["messages"].against(processor["streams"]),
        ),
        Figure(what="changes in a frame", load=said, unit="", measured=series_of(together)),
    ]


def _frame(bench: Bench, person: Person) -> WatchMessagesResponse:
    """A frame with one change, as the service sends it."""
    request = ListMessagesRequest(session_id=person.session_id, page_size=1)
    message = bench.messages.ListMessages(request, metadata=person.metadata).messages[0]
    # Also `current`, which the service says in a frame before: its watchers wait for that.
    return WatchMessagesResponse(
        changes=[MessageChange(upserted=message)],
        current=Current(),
        resume_token="x" * TOKEN_BYTES,
    )


def _revision(bench: Bench, person: Person) -> int:
    """How many changes there have been in a person's conversation."""
    query = "SELECT revision FROM messages.conversations WHERE session_id = %s"
    row = bench.database.execute(query, (person.session_id,)).fetchone()
    return 0 if row is None else int(str(row[0]))
