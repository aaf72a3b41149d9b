"""Where one machine's system keeps its data, keys and logs, and what it makes on first run."""

from dataclasses import dataclass
from pathlib import Path

from deploy.provision import CALLERS
from services import SERVICES
from services.runtime.development_issuer import make_development_issuer
from services.runtime.encryption.key_file import make_key_file
from services.runtime.secret_file import make_secret_file
from services.runtime.service_tokens import ServiceTokens, make_service_keys
from services.runtime.settings import SERVICES_ISSUER

PROGRAMS = CALLERS
"""What has a key to prove who it is: the services, and the example of one that joins them."""


@dataclass(frozen=True, slots=True)
class Home:
    """A folder that holds everything a run leaves behind."""

    folder: Path

    def prepare(self) -> None:
        """Makes the folders and, on first run, every key and password. None is ever replaced."""
        # Passable but not listable: PostgreSQL's own user must get to its data below.
        for folder, mode in ((self.folder, 0o711), (self.run, 0o711)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        for folder in (self.logs, self.secrets, self.service_keys):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
        make_development_issuer(self.development_issuer)
        public = make_service_keys({name: self.service_keys / name for name in PROGRAMS})
        (self.service_keys / "jwks.json").write_text(public)
        for service in SERVICES:
            make_key_file(self.key_file(service))
            make_secret_file(self.token_key_file(service))

    @property
    def run(self) -> Path:
        """What a run makes for itself: sockets, the gateway's configuration."""
        return self.folder / "run"

    @property
    def logs(self) -> Path:
        """A log for each process."""
        return self.folder / "logs"

    @property
    def secrets(self) -> Path:
        """Keys and passwords."""
        return self.folder / "secrets"

    @property
    def development_issuer(self) -> Path:
        """The folder of the development issuer's key."""
        return self.secrets / "development-issuer"

    @property
    def service_keys(self) -> Path:
        """The services' signing keys, a folder for each, and the set of their public sides."""
        return self.secrets / "services"

    @property
    def certificates(self) -> Path:
        """The certificates of the parts, a folder for each; `make certs` makes them."""
        return self.secrets / "certificates"

    def service_tokens(self, service: str) -> ServiceTokens:
        """The tokens of one of the services."""
        return ServiceTokens(
            self.service_keys / service,
            issuer=SERVICES_ISSUER,
            audience="inglenook",
            service=service,
        )

    def key_file(self, service: str) -> Path:
        """A service's key-encryption keys."""
        return self.secrets / service / "keys.json"

    def token_key_file(self, service: str) -> Path:
        """The key of a service's page and resume tokens."""
        return self.secrets / service / "token-key"

    def password(self, role: str) -> str:
        """The password of a database role, made when first asked for."""
        return make_secret_file(self.secrets / "database" / role)
