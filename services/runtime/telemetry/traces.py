"""Traces: what became of a call in every process it passed, for whoever runs a collector.

They are off, and cost next to nothing, until the environment says where they go; then `spans.py`
makes them. Spans hold names of the contract and of tables, statuses, times and request ids: no
parameter, no id of a thing, and no text of an error, which could quote what it failed on.
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from grpc import aio

from services.runtime.settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from services.runtime.telemetry.spans import Spans

_NOTHING = nullcontext()


class Traces:
    """The traces of a process."""

    def __init__(self) -> None:
        """They are off."""
        self._spans: Spans | None = None

    def begin(self, service: str, settings: TracingSettings) -> None:
        """Turns them on, if the settings say where they go. `service` is who they are of."""
        if not settings.endpoint:
            return
        try:
            # Imported only here: it is large, and most processes do without.
            from services.runtime.telemetry.spans import Spans  # noqa: PLC0415
        except ModuleNotFoundError as error:
            sys.exit(
                f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but the package {error.name} is not"
                " installed: install inglenook[telemetry]"
            )
        self._spans = Spans(service, settings)

    def end(self) -> None:
        """Sends what was not sent yet, and turns them off."""
        if self._spans is not None:
            self._spans.end()
            self._spans = None

    @property
    def server_interceptors(self) -> list[aio.ServerInterceptor]:
        """What makes a span of each call that is served; the first to see it."""
        return [] if self._spans is None else [self._spans.server]

    @property
    def client_interceptors(self) -> list[aio.ClientInterceptor]:
        """What makes a span of each call to another service, and tells it of the trace."""
        return [] if self._spans is None else [self._spans.client]

    def round_trip(self, statements: Callable[[], Iterable[str]]) -> AbstractContextManager[object]:
        """A span of a round trip to the database, if something that is traced makes it.

        `statements` gives the names of the statements.
        """
        return _NOTHING if self._spans is None else self._spans.round_trip(statements)

    def work(self, name: str) -> AbstractContextManager[object]:
        """A trace of its own, of what a process does unasked."""
        return _NOTHING if self._spans is None else self._spans.work(name)

    def here(self) -> "Span | None":
        """The span that this is part of, for `batch`; None when it is not traced."""
        return None if self._spans is None else self._spans.here()

    def batch(
        self, name: str, callers: Callable[[], Iterable["Span | None"]]
    ) -> AbstractContextManager[object]:
        """A span of what is done for several callers at once, if any of them is traced.

        It is part of the first one's trace, and linked with the spans of the others.
        """
        return _NOTHING if self._spans is None else self._spans.batch(name, callers)


traces = Traces()
"""The process's own."""
