"""How many streams a person has open at a process, whichever methods they are of."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import grpc
from inglenook.errors.v1.errors_pb2 import Reason

from services.runtime.errors import Refusal
from services.runtime.identity import person

_RETRY_SECONDS = 5.0


class Streams:
    """Counts a process's streams by whose they are."""

    def __init__(self, per_person: int) -> None:
        """Takes how many one person may have."""
        self._per_person = per_person
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Counts a stream of the caller's as open.

        Raises:
            Refusal: TOO_MANY_STREAMS.
        """
        whose = person()
        if self._open[whose] >= self._per_person:
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                Reason.REASON_TOO_MANY_STREAMS,
                "Too many of your streams are open. Close one and try again.",
                retry_after=_RETRY_SECONDS,
            )
        self._open[whose] += 1
        try:
            yield
        finally:
            self._open[whose] -= 1
            if not self._open[whose]:
                del self._open[whose]
