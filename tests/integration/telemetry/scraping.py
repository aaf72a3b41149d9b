"""Reading metrics as Prometheus does."""

from dataclasses import dataclass

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from local.stack import Stack
from services import SERVICES

PROCESSES = ("gateway", *SERVICES)


@dataclass(frozen=True)
class Scrape:
    """The metrics that a process showed."""

    text: str
    families: list[Metric]

    def value(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 when there are none."""
        return sum(
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {sample.name for family in self.families for sample in family.samples}


def scrape(address: str) -> Scrape:
    """What is shown at an address."""
    answer = httpx.get(f"http://{address}/metrics", trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text, list(text_string_to_metric_families(answer.text)))


def scrape_of(stack: Stack, name: str) -> Scrape:
    """What a process of the stack shows."""
    return scrape(stack.ports.metrics_address(name))
