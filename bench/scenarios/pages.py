"""Pages of long conversations: the newest, and one from the middle."""

from inglenook.messages.v1.messages_pb2 import ListMessagesRequest

from bench.bench import Bench, Person
from bench.errors import BenchError
from bench.figures import Figure, Results
from bench.load import Load, run_loads
from bench.moving import bring_in
from bench.series import in_turn

_PAGE = 50
_CALLERS = 16
_AT_LEAST = 0.9
_LITTLE = 0.98


def measure(bench: Bench, results: Results) -> None:
    """The newest 50 by how long the conversation is, and 50 from the middle of the longest."""
    readings = {}
    for size in bench.effort.sizes:
        person = bench.person(f"pages{size}")
        bring_in(bench, person, size - 1)  # One was said to begin the conversation.
        readings[f"newest 50 of {size:,}"] = _Reading(bench, person, size)
    longest = bench.effort.sizes[-1]
    middle = _Reading(bench, bench.person(f"pages{longest}"), longest, longest // 2)
    readings[f"50 from the middle of {longest:,}"] = middle
    bench.database.execute("VACUUM ANALYZE messages.messages")
    measured = in_turn(
        {name: reading.rate for name, reading in readings.items()}, bench.effort.repeats
    )
    first, *others = readings
    against = f"{first}, {measured[first].median:,.0f}/s"
    for name in (first, *others):
        is_first = name == first
        results.figures.append(
            Figure(
                what=f"ListMessages: {name}",
                load=f"{_CALLERS} callers, one conversation",
                unit="/s",
                measured=measured[name],
                against="" if is_first else against,
                ratio=None if is_first else measured[name].against(measured[first]),
                at_least=None if is_first else _AT_LEAST,
            )
        )


class _Reading:
    """Callers that read one page."""

    def __init__(self, bench: Bench, person: Person, size: int, from_sequence: int = 0) -> None:
        request = ListMessagesRequest(
            session_id=person.session_id, page_size=_PAGE, from_sequence=from_sequence
        )
        page = bench.messages.ListMessages(request, metadata=person.metadata)
        first = page.messages[0].sequence if page.messages else 0
        if len(page.messages) != _PAGE or first != (from_sequence or size):
            raise BenchError(
                f"a page of {size} messages holds {len(page.messages)}, from sequence {first}"
            )
        self._bytes = page.ByteSize()
        self._seconds = bench.effort.seconds
        self._load: Load = bench.load(person, "ListMessages", request, _CALLERS)

    def rate(self) -> float:
        outcome = run_loads([self._load], self._seconds)
        # A refusal would be a 2xx too, and small.
        if outcome.data_bytes < outcome.done * self._bytes * _LITTLE:
            raise BenchError(f"pages of {self._bytes} bytes came as {outcome.data_bytes} in all")
        return outcome.rate
