"""TLS at the gateway: to its callers, and to the services."""

import json
import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from gateway.settings import GatewaySettings
from local.stack import Stack
from tests.integration.certificates import Authority
from tests.integration.eventually import eventually
from tests.integration.gateways import served, started_gateway, trusting_as

SERVICE = "inglenook.users.v1.UsersService"
HANDLERS: dict[str, Any] = {
    "GetMe": grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


def serial_at(port: int, authority: Authority) -> str:
    """The serial number of the certificate that is shown at a port to who speaks HTTP/2."""
    trusted = ssl.create_default_context(cafile=authority.file)
    trusted.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        trusted.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.selected_alpn_protocol() == "h2"
        shown = secure.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


def test_callers_are_answered_over_tls_and_a_renewed_certificate_needs_no_restart(
    stack: Stack, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.certify("localhost")
    settings = {
        "tls_certificate_file": str(certificate),
        "tls_key_file": str(key),
        "trusted": str(authority.file),
    }
    with (
        served(SERVICE, HANDLERS) as address,
        started_gateway(tmp_path, {SERVICE: address}, **trusting_as(stack), **settings) as gateway,
    ):
        trusted = ssl.create_default_context(cafile=authority.file)
        headers = {"authorization": f"Bearer {stack.token('alice')}"}
        answer = httpx.get(f"{gateway.url}/v1/me", headers=headers, verify=trusted, timeout=60)
        assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://localhost:{gateway.port}/healthz")
        before = serial_at(gateway.port, authority)
        authority.certify("localhost")
        eventually(lambda: serial_at(gateway.port, authority) != before)


def _mounted(folder: Path, *files: Path) -> None:
    """Has a folder hold copies of files as Kubernetes mounts a secret: all change by one rename."""
    held = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    for file in files:
        shutil.copy(file, held)
        link = folder / file.name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / file.name)
    draft = folder / "..data_tmp"
    draft.symlink_to(held.name)
    draft.rename(folder / "..data")


def test_a_certificate_that_is_renewed_as_kubernetes_does_is_shown_without_a_restart(
    stack: Stack, authority: Authority, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    certificate, key = authority.certify("localhost")
    _mounted(mount, certificate, key)
    settings = {
        "tls_certificate_file": str(mount / certificate.name),
        "tls_key_file": str(mount / key.name),
        "trusted": str(authority.file),
    }
    with (
        served(SERVICE, HANDLERS) as address,
        started_gateway(tmp_path, {SERVICE: address}, **trusting_as(stack), **settings) as gateway,
    ):
        before = serial_at(gateway.port, authority)
        _mounted(mount, *authority.certify("localhost"))
        eventually(lambda: serial_at(gateway.port, authority) != before)


@pytest.mark.parametrize(
    ("names", "status"),
    [(("users", "gateway"), 200), (("messages", "gateway"), 503), (("users",), 503)],
)
def test_a_service_is_called_by_whom_it_knows_and_only_under_its_own_name(
    stack: Stack,
    authority: Authority,
    tmp_path: Path,
    names: tuple[str, ...],
    status: int,
) -> None:
    certificate, key = authority.certify(names[0])
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=authority.file.read_bytes(),
        require_client_auth=True,
    )
    settings = {"upstream_ca_file": str(authority.file)}
    for name in names[1:]:
        own_certificate, own_key = authority.certify(name)
        settings["upstream_certificate_file"] = str(own_certificate)
        settings["upstream_key_file"] = str(own_key)
    with (
        served(SERVICE, HANDLERS, credentials) as address,
        started_gateway(tmp_path, {SERVICE: address}, **trusting_as(stack), **settings) as gateway,
    ):
        headers = {"authorization": f"Bearer {stack.token('alice')}"}
        answer = httpx.get(f"{gateway.url}/v1/me", headers=headers, timeout=60)
        assert answer.status_code == status


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """Settings with a service on another host."""
    issuer = {"issuer": "https://id.example", "jwks_url": "https://id.example/k"}
    monkeypatch.setenv("INGLENOOK_ISSUERS", json.dumps([{**issuer, "audiences": ["x"]}]))
    return {"upstreams": {SERVICE: "users:50051"}, "bootstrap_file": tmp_path / "envoy.json"}


def test_plaintext_to_another_host_is_refused_unless_it_is_allowed(
    elsewhere: dict[str, object],
) -> None:
    with pytest.raises(ValueError, match="users:50051 is on another host"):
        GatewaySettings.model_validate(elsewhere)
    GatewaySettings.model_validate({**elsewhere, "allow_plaintext": True})
    GatewaySettings.model_validate({**elsewhere, "upstream_ca_file": Path("authority.pem")})


@pytest.mark.parametrize("whose", ["tls", "upstream"])
def test_a_certificate_without_its_key_is_told(elsewhere: dict[str, object], whose: str) -> None:
    alone = {"allow_plaintext": True, f"{whose}_certificate_file": Path("own.pem")}
    with pytest.raises(ValueError, match="belong together"):
        GatewaySettings.model_validate({**elsewhere, **alone})
