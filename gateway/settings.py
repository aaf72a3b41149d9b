"""What the gateway needs to know besides the contract."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from contract.folders import DESCRIPTORS
from services.runtime.addresses import is_near
from services.runtime.settings import IdentitySettings, StoppingSettings

Key = Annotated[str, Field(pattern=r"^$|^pk_(test|live)_[A-Za-z0-9+/=]+$")]
Address = Annotated[str, Field(pattern=r"^.+:\d+$")]
Addresses = Annotated[
    tuple[Address, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
    Field(min_length=1),
]


class GatewaySettings(IdentitySettings, StoppingSettings):
    """The gateway's settings."""

    listen: Address = "127.0.0.1:8080"
    """The public address."""
    metrics_listen: Annotated[str, Field(pattern=r"^$|^.+:\d+$")] = ""
    """The address that shows Envoy's metrics to Prometheus, for operators alone. Default: none."""
    upstreams: dict[str, Addresses]
    """Where each service answers: its full name in the protos, and its address, or a list of those
    of its processes. A name that stands for several of them is all of them. As JSON."""
    upstream_ca_file: Path | None = None
    """Certificates of who signs the services'. With it, services are called over TLS, and each must
    have a certificate of its own name as it is in the protos: `users`, `sessions`, `messages`."""
    upstream_certificate_file: Path | None = None
    """The gateway's own certificate, by which services know it, with those in between."""
    upstream_key_file: Path | None = None
    """The certificate's key."""
    tls_certificate_file: Path | None = None
    """The certificate that callers see, with those in between. With it, callers are answered over
    TLS alone. A certificate that takes the file's place, by renaming, is used from then on."""
    tls_key_file: Path | None = None
    """The certificate's key."""
    bootstrap_file: Path
    """Where Envoy's configuration is written, and beside it what Envoy reads of certificates."""
    descriptors: Path = DESCRIPTORS
    """The compiled contract."""
    cors_origins: tuple[str, ...] = ()
    """The origins whose pages may call, exactly as browsers send them. As a JSON list."""
    max_request_bytes: Annotated[int, Field(ge=1024)] = 1 << 20
    """The largest request body."""
    person_requests_per_minute: Annotated[int, Field(ge=0)] = 1_200
    """How many requests a person may make in a minute, all of them at once if need be; 0: any."""
    address_requests_per_minute: Annotated[int, Field(ge=0)] = 6_000
    """How many requests may come from an address in a minute, of all its people; 0: any. Of IPv6 it
    is the first 64 bits that count as one."""
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    """How many proxies stand before the gateway, each of which adds to `x-forwarded-for` whom it
    was called by. With too few here all callers have a proxy's address, with too many any."""
    web_folder: Path | None = None
    """The built web app: `index.html` and `assets/`. Default: none is served."""
    clerk_publishable_key: Annotated[str, Field(pattern=r"^$|^pk_(test|live)_[A-Za-z0-9+/=]+$")] = (
        ""
    )
    """With it, people sign in to the web app by Clerk."""
    development_sign_in: Address | None = None
    """Where the development sign-in answers, which signs anyone in to the web app as anyone."""
    development_person: Annotated[str, Field(pattern=r"^[a-z]*$")] = ""
    """Whom the web app is opened as, in development. Default: it asks."""

    @model_validator(mode="after")
    def _certificates_have_keys(self) -> Self:
        for whose in ("tls", "upstream"):
            certificate, key = f"{whose}_certificate_file", f"{whose}_key_file"
            if (getattr(self, certificate) is None) != (getattr(self, key) is None):
                raise ValueError(
                    f"INGLENOOK_{certificate.upper()} and INGLENOOK_{key.upper()} belong together"
                )
        if self.upstream_certificate_file is not None and self.upstream_ca_file is None:
            raise ValueError(
                "INGLENOOK_UPSTREAM_CERTIFICATE_FILE is for TLS: set INGLENOOK_UPSTREAM_CA_FILE too"
            )
        return self

    @model_validator(mode="after")
    def _plaintext_stays_on_this_host(self) -> Self:
        if self.allow_plaintext or self.upstream_ca_file is not None:
            return self
        for address in (one for addresses in self.upstreams.values() for one in addresses):
            if not is_near(address):
                raise ValueError(
                    f"INGLENOOK_UPSTREAMS: {address} is on another host, and calls would be in"
                    " plaintext: set INGLENOOK_UPSTREAM_CA_FILE, or INGLENOOK_ALLOW_PLAINTEXT on a"
                    " network that is trusted"
                )
        return self

    @model_validator(mode="after")
    def _anyone_signs_in_only_in_development(self) -> Self:
        # Which the settings of identity let be on in development alone.
        if self.development_sign_in is not None and self.development_issuer is None:
            raise ValueError(
                "INGLENOOK_DEVELOPMENT_SIGN_IN signs anyone in as anyone:"
                " it needs INGLENOOK_DEVELOPMENT_ISSUER"
            )
        return self

    @model_validator(mode="after")
    def _people_sign_in_in_one_way(self) -> Self:
        if self.development_sign_in is not None and self.clerk_publishable_key:
            raise ValueError(
                "INGLENOOK_CLERK_PUBLISHABLE_KEY does nothing beside the development sign-in:"
                " name the Clerk application in INGLENOOK_ISSUERS, too"
            )
        return self

    @model_validator(mode="after")
    def _the_web_app_was_built(self) -> Self:
        if self.web_folder is not None and not (self.web_folder / "index.html").is_file():
            raise ValueError(f"INGLENOOK_WEB_FOLDER has no index.html: {self.web_folder}")
        return self
