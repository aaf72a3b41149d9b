"""A stack that is watched: it shows its metrics, and its traces are received.

Its parts speak TLS with each other, of which they have something to show, too.
"""

from collections.abc import Iterator

import pytest

from deploy.certificates import make_certificates
from local.stack import Stack, free_ports
from tests.otlp_receiver import Receiver, receiver_of_traces
from tests.reachable import reachable_folder


@pytest.fixture(scope="session")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver_of_traces(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="session")
def stack(receiver: Receiver) -> Iterator[Stack]:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(receiver.certificate),
        # Milliseconds until what was gathered is sent.
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with reachable_folder() as folder:
        make_certificates(folder / "home" / "secrets" / "certificates")
        with Stack(folder / "home", free_ports(metrics=True), settings=settings) as running:
            yield running
