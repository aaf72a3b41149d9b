"""A part's own certificate, its key and whom it trusts, as their files are at the moment."""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.runtime.settings import TransportSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with what belongs to it, each in PEM."""

    certificate: bytes
    """With those in between."""
    key: bytes = field(repr=False)
    authority: bytes
    """The certificates of who is trusted."""

    @property
    def not_after(self) -> datetime:
        """When it ends."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc


class CertificateFiles:
    """The files of a part's certificate, which may be renewed at any moment."""

    def __init__(self, settings: TransportSettings) -> None:
        """Reads them.

        Raises:
            OSError: one cannot be read.
            ValueError: one holds something else, or the key is another's.
        """
        named = (settings.tls_certificate_file, settings.tls_key_file, settings.tls_ca_file)
        self._files = tuple(file or Path() for file in named)
        self._seen = self._state()
        self.first = self._newest = self._read()

    def renewed(self) -> Certificate | None:
        """What they hold now, if that is new; None where it is not, or they do not fit yet.

        They are replaced one after the other: between the first and the last, what there was stays.
        """
        state = self._state()
        if state == self._seen:
            return None
        self._seen = state
        try:
            newest = self._read()
        except (OSError, ValueError):
            _log.warning("a renewed certificate cannot be used; the last one stays", exc_info=True)
            return None
        if newest == self._newest:
            return None
        self._newest = newest
        return newest

    def _state(self) -> tuple[object, ...]:
        return tuple(map(_state_of, self._files))

    def _read(self) -> Certificate:
        certificate, key, authority = (file.read_bytes() for file in self._files)
        own = x509.load_pem_x509_certificate(certificate).public_key()
        if load_pem_private_key(key, password=None).public_key() != own:
            raise ValueError(f"{self._files[1]} is not the key of {self._files[0]}")
        x509.load_pem_x509_certificates(authority)
        return Certificate(certificate, key, authority)


def _state_of(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    # The inode's own time: it also changes when somebody is given the right to read it.
    return found.st_ino, found.st_ctime_ns
