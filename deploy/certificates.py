"""`python -m deploy.certificates FOLDER`: an authority of a deployment's own, and what it signs.

Each part has a certificate of its own name, by which the others know it whatever its address, and
of nothing else: no name of a host, no address. What the authority signs with stays in a folder of
its own, which no part sees. Run again, it renews what ends within a month.
"""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.runtime.secret_file import write_secret_file

PARTS = {
    "users": ["users"],
    "sessions": ["sessions"],
    "messages": ["messages"],
    "responder": ["responder", "respond"],
    "gateway": ["gateway"],
}
"""The parts, and the names that each is known by: its own, and its package's in the protos."""
_AUTHORITY_DAYS = 3_650
_DAYS = 365
_RENEWED_DAYS = 30


def make_certificates(folder: Path) -> None:
    """Makes the authority, and for each part `FOLDER/PART/tls` with its certificate, key and CA.

    Each file takes the place of an older one by renaming, the certificate last.

    Raises:
        TypeError: the authority's key is not one of those that this makes.
    """
    authority = folder / "authority"
    if not (authority / "certificate.pem").exists():
        _make_authority(authority)
    issuer = x509.load_pem_x509_certificate((authority / "certificate.pem").read_bytes())
    key = serialization.load_pem_private_key((authority / "key.pem").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{authority / 'key.pem'} holds no key on an elliptic curve")
    for part, names in PARTS.items():
        own = folder / part / "tls"
        if _ends_soon(own / "certificate.pem"):
            write_secret_file(own / "ca.pem", _pem(issuer))
            _make_one(own, names, issuer, key)


def _make_authority(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Inglenook, this deployment")])
    certificate = (
        _begun(name, name, key, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder, certificate, key)


def _make_one(
    folder: Path, names: list[str], issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _begun(name, issuer.subject, key, _DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write(folder, certificate, key)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ by minutes.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """RFC 5280, section 4.2.1.3: either certificates are signed with a key, or what is sent."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret_file(folder / "key.pem", private.decode().strip())
    write_secret_file(folder / "certificate.pem", _pem(certificate))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode().strip()


def _ends_soon(path: Path) -> bool:
    """Whether a certificate is not there, or ends within a month."""
    if not path.exists():
        return True
    ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return ends < datetime.now(UTC) + timedelta(days=_RENEWED_DAYS)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.certificates", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the certificates are, or shall be")
    make_certificates(parser.parse_args().folder)


if __name__ == "__main__":
    main()
