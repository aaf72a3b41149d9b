"""TLS between the parts, and to the database: who is heard, who is not, and that all works so."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from deploy.certificates import make_certificates
from local.stack import Stack, free_ports
from services.runtime.peers import channel_to
from services.runtime.probe import is_serving
from services.runtime.settings import TransportSettings
from tests.faults.proxy import Proxy
from tests.integration.calls import Person
from tests.integration.certificates import transport_with
from tests.integration.eventually import eventually
from tests.integration.replicas import start_replica
from tests.integration.telemetry.scraping import scrape


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of the same names, of another authority."""
    folder = tmp_path_factory.mktemp("strangers")
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def metrics() -> str:
    """The address where the service that speaks TLS shows its metrics."""
    return f"127.0.0.1:{free_ports().gateway}"


@pytest.fixture(scope="module")
def secured(stack: Stack, certificates: Path, metrics: str) -> Iterator[str]:
    """The address of a messages service that speaks TLS."""
    port = free_ports().messages
    settings = transport_with(certificates, "messages").model_dump(
        include={"tls_certificate_file", "tls_key_file", "tls_ca_file"}, mode="json"
    )
    process = start_replica(stack, port, metrics_listen=metrics, **settings)
    yield f"127.0.0.1:{port}"
    process.terminate()
    assert process.wait(60) == 0


def test_a_service_hears_those_with_a_certificate_of_its_authority_and_nobody_else(
    secured: str, certificates: Path, strangers: Path
) -> None:
    known, stranger = (transport_with(folder, "messages") for folder in (certificates, strangers))
    eventually(lambda: is_serving(secured, known))
    assert not is_serving(secured, stranger)
    assert not is_serving(secured, stranger.model_copy(update={"tls_ca_file": known.tls_ca_file}))
    assert not is_serving(secured, TransportSettings())


def test_a_service_is_known_by_its_own_name_alone(secured: str, certificates: Path) -> None:
    # The probe asks for the name of its own certificate.
    assert not is_serving(secured, transport_with(certificates, "sessions"))


async def test_a_service_that_is_slow_to_greet_is_called_all_the_same(
    secured: str, certificates: Path
) -> None:
    settings = transport_with(certificates, "sessions")
    async with (
        Proxy(int(secured.rpartition(":")[2]), delay=1.5) as proxy,
        channel_to("messages", f"127.0.0.1:{proxy.port}", settings) as channel,
    ):
        health: Any = HealthStub(channel)
        answer = await health.Check(HealthCheckRequest(), timeout=30, wait_for_ready=True)
    assert answer.status == HealthCheckResponse.SERVING


def test_a_renewed_certificate_is_shown_without_a_restart(
    secured: str, certificates: Path, metrics: str
) -> None:
    tls = certificates / "messages" / "tls"
    before = _serial_shown(secured, certificates)
    assert _end_told(metrics) == _not_after(tls)
    (tls / "certificate.pem").rename(tls / "ended.pem")
    make_certificates(certificates)
    renewed = x509.load_pem_x509_certificate((tls / "certificate.pem").read_bytes()).serial_number
    assert renewed != before
    assert _serial_shown(secured, certificates) == renewed
    eventually(lambda: is_serving(secured, transport_with(certificates, "messages")))
    assert _end_told(metrics) == _not_after(tls)


def test_make_certs_has_every_call_between_the_parts_go_over_tls(reachable: Path) -> None:
    home, ports = reachable / "home", free_ports()
    make_certificates(home / "secrets" / "certificates")
    with Stack(home, ports) as running, closing(Person(running, "ann")) as ann:
        session = ann.new_session()
        ann.say(session, "It has been a long day.")
        assert "It has been a long day." in ann.http.get("/v1/me:export").text
        counted = f"/v1/sessions/{session}"
        eventually(lambda: ann.call("GET", counted)["session"]["messageCount"] == "1")
        for name in ("users", "sessions", "messages", "responder"):
            assert not is_serving(ports.address(name), TransportSettings())


async def test_the_database_is_reached_over_tls_by_whoever_verifies_it(
    stack: Stack, certificates: Path, strangers: Path
) -> None:
    path = psycopg.conninfo.conninfo_to_dict(stack.admin_url)
    async with _tls_before(str(path["host"]), certificates / "users" / "tls") as port:
        # The server's own name is in its certificate; here it is that of a part.
        trusted = psycopg.conninfo.make_conninfo(
            stack.admin_url,
            host="users",
            hostaddr="127.0.0.1",
            port=port,
            sslmode="verify-full",
            sslrootcert=str(_ca(certificates)),
        )
        async with await psycopg.AsyncConnection.connect(trusted) as connection:
            assert connection.pgconn.ssl_in_use
        wrong = psycopg.conninfo.make_conninfo(trusted, sslrootcert=str(_ca(strangers)))
        with pytest.raises(psycopg.OperationalError, match="SSL error"):
            await psycopg.AsyncConnection.connect(wrong)


def _ca(folder: Path) -> Path:
    return folder / "users" / "tls" / "ca.pem"


def _not_after(tls: Path) -> float:
    certificate = x509.load_pem_x509_certificate((tls / "certificate.pem").read_bytes())
    return certificate.not_valid_after_utc.timestamp()


def _end_told(metrics: str) -> float:
    """When its certificate ends, as a service tells whoever watches it."""
    return scrape(metrics).value("inglenook_certificate_not_after_seconds")


def _serial_shown(address: str, folder: Path) -> int:
    tls = folder / "messages" / "tls"
    context = ssl.create_default_context(cafile=tls / "ca.pem")
    caller = folder / "gateway" / "tls"
    context.load_cert_chain(caller / "certificate.pem", caller / "key.pem")
    context.set_alpn_protocols(["h2"])
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="messages") as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


@asynccontextmanager
async def _tls_before(folder: str, tls: Path) -> AsyncIterator[int]:
    """A port that speaks TLS for a PostgreSQL that has none, as PostgreSQL would itself.

    A client asks for TLS in eight bytes, and is answered with an S.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls / "certificate.pem", tls / "key.pem")
    served: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            await writer.start_tls(context, ssl_handshake_timeout=60.0)
        except OSError:
            writer.close()  # The client did not trust the certificate.
            return
        inner_reader, inner = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        await asyncio.gather(_pass(reader, inner), _pass(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*filter(None, served))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()
    writer.close()
