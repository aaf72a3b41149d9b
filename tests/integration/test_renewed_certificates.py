"""Whoever calls with a certificate calls with the renewed one as soon as it is there."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import aio

from deploy.certificates import make_certificates
from local.stack import free_ports
from services.runtime.peers import channel_to
from services.runtime.transport import listen
from tests.integration.certificates import transport_with

SHOWN, WATCHED = "/test.Caller/Shown", "/test.Caller/Watched"


def _serial(certificate: bytes) -> bytes:
    return str(x509.load_pem_x509_certificate(certificate).serial_number).encode()


def _of_caller(context: Any) -> bytes:  # noqa: ANN401 - gRPC's
    """The number of the certificate that the caller of a call has shown."""
    (shown,) = context.auth_context()["x509_pem_cert"]
    return _serial(shown)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    make_certificates(tmp_path / "certificates")
    return tmp_path / "certificates"


@pytest.fixture
def renewed(certificates: Path, tmp_path: Path) -> Path:
    """A folder with newer certificates of the same authority."""
    folder = tmp_path / "renewed"
    shutil.copytree(certificates / "authority", folder / "authority")
    make_certificates(folder)
    return folder


class Answering:
    """A service that tells its callers which certificate they have shown."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()

    async def _shown(self, _request: bytes, context: Any) -> bytes:  # noqa: ANN401
        return _of_caller(context)

    async def _watched(self, _request: bytes, context: Any) -> AsyncIterator[bytes]:  # noqa: ANN401
        yield _of_caller(context)
        await self.goes_on.wait()
        yield _of_caller(context)

    @asynccontextmanager
    async def at(self, address: str, certificates: Path) -> AsyncIterator[None]:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Shown": grpc.unary_unary_rpc_method_handler(self._shown),
            "Watched": grpc.unary_stream_rpc_method_handler(self._watched),
        }
        server = aio.server()
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("test.Caller", handlers)]
        )
        listen(server, address, transport_with(certificates, "messages"))
        await server.start()
        yield
        await server.stop(None)


def _number(folder: Path) -> bytes:
    return _serial((folder / "responder" / "tls" / "certificate.pem").read_bytes())


def _replace(certificates: Path, renewed: Path, name: str) -> None:
    (renewed / "responder" / "tls" / name).replace(certificates / "responder" / "tls" / name)


async def test_a_renewed_certificate_is_called_with_at_once_and_calls_under_way_go_on(
    certificates: Path, renewed: Path
) -> None:
    before, after = _number(certificates), _number(renewed)
    answering, address = Answering(), f"127.0.0.1:{free_ports().messages}"
    async with (
        answering.at(address, certificates),
        channel_to("messages", address, transport_with(certificates, "responder")) as channel,
    ):
        shown: Any = channel.unary_unary(SHOWN)
        watched: Any = channel.unary_stream(WATCHED)
        assert await shown(b"", timeout=20) == before
        watching = watched(b"", timeout=20)
        assert await watching.read() == before
        for name in ("key.pem", "certificate.pem"):
            _replace(certificates, renewed, name)
        assert await shown(b"", timeout=20) == after
        assert await watched(b"", timeout=20).read() == after
        answering.goes_on.set()
        assert await watching.read() == before
        assert await watching.code() is grpc.StatusCode.OK


async def test_while_a_key_is_there_without_its_certificate_the_former_ones_stay(
    certificates: Path, renewed: Path
) -> None:
    before, after = _number(certificates), _number(renewed)
    answering, address = Answering(), f"127.0.0.1:{free_ports().messages}"
    async with (
        answering.at(address, certificates),
        channel_to("messages", address, transport_with(certificates, "responder")) as channel,
    ):
        shown: Any = channel.unary_unary(SHOWN)
        assert await shown(b"", timeout=20) == before
        _replace(certificates, renewed, "key.pem")
        assert await shown(b"", timeout=20) == before
        (certificates / "responder" / "tls" / "certificate.pem").unlink()
        assert await shown(b"", timeout=20) == before
        _replace(certificates, renewed, "certificate.pem")
        assert await shown(b"", timeout=20) == after


async def test_closing_ends_the_calls_of_former_certificates_too(
    certificates: Path, renewed: Path
) -> None:
    answering, address = Answering(), f"127.0.0.1:{free_ports().messages}"
    async with answering.at(address, certificates):
        channel = channel_to("messages", address, transport_with(certificates, "responder"))
        shown: Any = channel.unary_unary(SHOWN)
        watched: Any = channel.unary_stream(WATCHED)
        watching = watched(b"", timeout=20)
        assert await watching.read() == _number(certificates)
        for name in ("key.pem", "certificate.pem"):
            _replace(certificates, renewed, name)
        assert await shown(b"", timeout=20) == _number(certificates)
        await channel.close()
        assert await watching.code() is grpc.StatusCode.CANCELLED
