"""When the certificate ends that callers are shown."""

from collections.abc import Iterator
from datetime import datetime

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class _Shown(Collector):
    """Has no sample where no certificate is shown: 0 would be one that ended in 1970."""

    def __init__(self) -> None:
        self.not_after: datetime | None = None

    def collect(self) -> Iterator[Metric]:
        if self.not_after is None:
            return
        yield GaugeMetricFamily(
            "inglenook_certificate_not_after_seconds",
            "When the certificate ends that callers are shown, in seconds since 1970.",
            value=self.not_after.timestamp(),
        )


_shown = _Shown()
REGISTRY.register(_shown)


def show_end(not_after: datetime) -> None:
    """Shows when the certificate ends that callers are shown from now on."""
    _shown.not_after = not_after
