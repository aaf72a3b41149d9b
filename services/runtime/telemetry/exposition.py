"""Showing a process's metrics to Prometheus, on a port that only operators reach.

It is a process's own: where a service has several processes, each has its port and is scraped by
itself, and Prometheus adds up what belongs together. One port for all of them would show now one
process's counters and now another's.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import disable_created_metrics, start_http_server


@contextmanager
def exposed_metrics(listen: str) -> Iterator[None]:
    """Answers `GET /metrics` at an address, `127.0.0.1:9464`, or not at all where it is empty.

    It has a thread of its own: a scrape takes a few milliseconds, which no call has to wait.

    Raises:
        RuntimeError: the address cannot be listened on.
    """
    if not listen:
        yield
        return
    # When each series began: it doubles them, and Prometheus has no use for it.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"))
    except OSError as error:
        raise RuntimeError(f"metrics cannot be shown at {listen}: {error.strerror}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
