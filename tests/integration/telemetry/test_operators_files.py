"""What operators are given to watch a system by knows the system: its metrics and their labels."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import promql_parser
import pytest
import yaml
from inglenook.errors.v1.errors_pb2 import Reason

from contract.folders import DESCRIPTORS, ROOT
from contract.methods import load_methods
from local.stack import Stack, free_ports
from tests.integration.certificates import Authority
from tests.integration.eventually import eventually
from tests.integration.gateways import started_gateway, trusting_as
from tests.integration.telemetry.scraping import PROCESSES, Scrape, scrape, scrape_of

OBSERVABILITY = ROOT / "deploy" / "observability"
RULES = [
    rule
    for group in yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((OBSERVABILITY / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Of Prometheus, which adds them to what it scrapes.
_ITS_OWN_METRICS = {"up"}
_ITS_OWN_LABELS = {"job", "instance"}


@dataclass(frozen=True)
class Selector:
    """A metric that a query reads, and the conditions on its labels."""

    metric: str
    matchers: list[Any]


def _selectors(node: object) -> Iterator[Selector]:
    match node:
        case promql_parser.VectorSelector():
            yield Selector(str(node.name), list(node.matchers.matchers))
        case promql_parser.MatrixSelector():
            yield from _selectors(node.vector_selector)
        case promql_parser.Call():
            for argument in node.args:
                yield from _selectors(argument)
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs)
            yield from _selectors(node.rhs)
        case (
            promql_parser.AggregateExpr()
            | promql_parser.ParenExpr()
            | promql_parser.SubqueryExpr()
            | promql_parser.UnaryExpr()
        ):
            yield from _selectors(node.expr)
        case _:
            pass


def _queries() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            # Grafana's own variables, as it fills them in.
            filled = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".+")
            yield f"{panel['title']} {target['refId']}", filled


QUERIES = dict(_queries())


@pytest.fixture(scope="session")
def gateway_with_certificate(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scrape]:
    """What a gateway shows that answers callers over TLS."""
    folder = tmp_path_factory.mktemp("gateway")
    authority = Authority(folder)
    certificate, key = authority.certify("localhost")
    settings = trusting_as(stack) | {
        "metrics_listen": f"127.0.0.1:{free_ports().gateway}",
        "tls_certificate_file": str(certificate),
        "tls_key_file": str(key),
    }
    # Nobody is called.
    nobody = {"inglenook.users.v1.UsersService": "127.0.0.1:1"}
    with started_gateway(folder, nobody, str(authority.file), **settings):
        yield scrape(settings["metrics_listen"])


@pytest.fixture(scope="session")
def shown(stack: Stack, gateway_with_certificate: Scrape) -> dict[str, list[dict[str, str]]]:
    """The labels of every sample of every process, by the metric's name."""

    def leads() -> bool:
        return "inglenook_outbox_events" in scrape_of(stack, "messages").names

    eventually(leads)
    samples: dict[str, list[dict[str, str]]] = {}
    for read in (*(scrape_of(stack, name) for name in PROCESSES), gateway_with_certificate):
        for family in read.families:
            for sample in family.samples:
                # The parser makes all names of counters end so; Envoy's do not.
                as_shown = re.search(rf"^{sample.name}[ {{]", read.text, re.MULTILINE)
                metric = sample.name if as_shown else sample.name.removesuffix("_total")
                samples.setdefault(metric, []).append(dict(sample.labels))
    return samples


@pytest.mark.parametrize("name", QUERIES)
def test_what_is_asked_for_is_shown(name: str, shown: dict[str, list[dict[str, str]]]) -> None:
    found = list(_selectors(promql_parser.parse(QUERIES[name])))
    assert found
    for selector in found:
        if selector.metric in _ITS_OWN_METRICS:
            continue
        samples = shown[selector.metric]
        for matcher in selector.matchers:
            if matcher.name in _ITS_OWN_LABELS:
                continue
            values = {sample[matcher.name] for sample in samples}
            known = _KNOWN[matcher.name]() if matcher.name in _KNOWN else values
            assert values <= known
            for wanted in _wanted(matcher):
                assert any(re.fullmatch(wanted, value) for value in known), wanted


def _wanted(matcher: Any) -> list[str]:  # noqa: ANN401 - the parser's
    """The patterns of a condition that a label's values shall have, each by itself."""
    pattern = matcher.value if "Re" in str(matcher.op) else re.escape(matcher.value)
    return pattern.split("|") if "(" not in pattern else [pattern]


def _codes() -> set[str]:
    return {code.name for code in grpc.StatusCode}


def _reasons() -> set[str]:
    return {""} | {name.removeprefix("REASON_") for name in Reason.keys()}  # noqa: SIM118


def _methods() -> set[str]:
    return {method.path for method in load_methods(DESCRIPTORS)}


# What a label may hold that need not have happened yet.
_KNOWN: dict[str, Callable[[], set[str]]] = {
    "code": _codes,
    "reason": _reasons,
    "method": _methods,
    "envoy_response_code_class": lambda: {"1", "2", "3", "4", "5"},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_its_part_in_the_runbook(rule: dict[str, Any]) -> None:
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_metric_of_ours_is_on_the_dashboard(shown: dict[str, list[dict[str, str]]]) -> None:
    ours = {name for name in shown if name.startswith("inglenook_")}
    asked = {s.metric for query in QUERIES.values() for s in _selectors(promql_parser.parse(query))}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours} - families == set()


def test_each_alert_has_an_example_that_promtool_can_run() -> None:
    written = yaml.safe_load((OBSERVABILITY / "alerts_test.yml").read_text())
    tried = {
        case["alertname"]
        for test in written["tests"]
        for case in test["alert_rule_test"]
        if "exp_alerts" in case
    }
    assert tried == {rule["alert"] for rule in RULES}


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)


def test_every_part_of_the_compose_file_that_shows_metrics_is_scraped() -> None:
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    shows = {
        f"{name}:{service['environment']['INGLENOOK_METRICS_LISTEN'].rpartition(':')[2]}"
        for name, service in composed.items()
        if "INGLENOOK_METRICS_LISTEN" in service.get("environment", {})
    }
    configured = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())["scrape_configs"]
    assert shows == {
        f"{name}:{found['port']}"
        for job in configured
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    assert all(job["job_name"].startswith("inglenook-") for job in configured)
