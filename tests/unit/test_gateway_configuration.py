"""What the gateway writes for Envoy, where no test here could see Envoy do it."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.methods import load_methods
from gateway.envoy import bootstrap
from gateway.settings import GatewaySettings
from services.runtime.settings import TracingSettings

_ISSUER = {
    "issuer": "https://sign-in.example",
    "jwks_url": "https://sign-in.example/jwks",
    "audiences": ["app"],
}


@pytest.fixture
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The clusters of a gateway whose every neighbour is on another host, by their names."""
    monkeypatch.setenv("INGLENOOK_ISSUERS", json.dumps([_ISSUER]))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4317")
    settings = GatewaySettings(
        upstreams={"inglenook.users.v1.UsersService": ("users.example:50051",)},
        upstream_ca_file=tmp_path / "ca.pem",
        bootstrap_file=tmp_path / "envoy.json",
    )
    written: Any = bootstrap(settings, TracingSettings(), load_methods(settings.descriptors))
    return {cluster["name"]: cluster for cluster in written["static_resources"]["clusters"]}


@pytest.mark.parametrize("name", ["issuer-0", "collector"])
def test_a_host_with_addresses_of_both_kinds_is_reached_where_there_is_no_way_for_ipv6(
    clusters: dict[str, Any], name: str
) -> None:
    assert clusters[name]["type"] == "STRICT_DNS"
    assert clusters[name]["dns_lookup_family"] == "V4_PREFERRED"


def test_every_cluster_by_name_says_which_addresses_it_takes(clusters: dict[str, Any]) -> None:
    by_name = {name for name, cluster in clusters.items() if cluster["type"] == "STRICT_DNS"}
    assert by_name == {"users.example:50051", "issuer-0", "collector"}
    assert all("dns_lookup_family" in clusters[name] for name in by_name)
