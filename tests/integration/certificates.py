"""Certificates as an operator would have them, signed by an authority of a test's own."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from local.stack import Stack
from services.runtime.certificate_files import CertificateFiles
from services.runtime.settings import TransportSettings
from services.runtime.transport import channel_credentials, channel_options

_LIFETIME = timedelta(days=1)


def transport_with(folder: Path, part: str) -> TransportSettings:
    """The settings of a part whose certificates `deploy.certificates` made in a folder."""
    tls = folder / part / "tls"
    return TransportSettings(
        tls_certificate_file=tls / "certificate.pem",
        tls_key_file=tls / "key.pem",
        tls_ca_file=tls / "ca.pem",
    )


def channel_to(stack: Stack, service: str, part: str) -> grpc.Channel:
    """A channel to a service of a stack whose parts speak TLS, with the certificate of a part."""
    certificate = CertificateFiles(transport_with(stack.home.certificates, part)).first
    credentials = channel_credentials(certificate)
    address = stack.ports.address(service)
    return grpc.secure_channel(address, credentials, options=channel_options(service))


class Authority:
    """Signs certificates; its own is in `file`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority")
        own = _unsigned(self._name, self._name, self._key.public_key())
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = own.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def certify(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key, which take the place of those that this name had before."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        certificate = (
            _unsigned(_name(name), self._name, key.public_key())
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        # The certificate last: a program that looks when it comes finds its key.
        key_file = self._replace(f"{name}.key", _pem(key))
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return self._replace(f"{name}.pem", pem), key_file

    def _replace(self, name: str, content: bytes) -> Path:
        draft = self._folder / f"{name}.draft"
        draft.write_bytes(content)
        return draft.rename(self._folder / name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFETIME)
        .not_valid_after(now + _LIFETIME)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
