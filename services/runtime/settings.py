"""Settings, from the environment: each with its meaning, its bounds and a clear refusal.

Every variable begins with `INGLENOOK_`; structured ones are JSON. What is secret, or anything else,
may lie in a file of the variable's name instead, in the folder that `INGLENOOK_SETTINGS_FOLDER`
names, as containers are given secrets; the environment comes first. A program reads its settings
when it starts, once, by `load`, and says in one line for each what is missing or wrong.
"""

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.addresses import is_near, is_plaintext, is_private

PREFIX = "INGLENOOK_"
_FOLDER = f"{PREFIX}SETTINGS_FOLDER"
DEVELOPMENT_ISSUER = "https://development.inglenook.invalid"
SERVICES_ISSUER = "inglenook-services"
_NEEDED_BY = {
    "file": frozenset({"key_file"}),
    "vault": frozenset({"vault_address", "vault_token_file", "vault_key"}),
    "aws-kms": frozenset({"aws_kms_key"}),
    "gcp-kms": frozenset({"gcp_kms_key"}),
}


class Environment(StrEnum):
    """Where a program runs. Whatever only helps developers is off in production."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class TrustedIssuer(BaseModel, extra="forbid", frozen=True):
    """Someone whose tokens are accepted, and on which conditions."""

    issuer: Annotated[str, Field(min_length=1)]
    """The exact value of the claim `iss`."""
    jwks_url: str | None = None
    """Where its public keys are, as a JWK Set (RFC 7517); or `jwks_file`."""
    jwks_file: Path | None = None
    """A file with its public keys. Read again when it changes."""
    audiences: tuple[str, ...] = ()
    """The claim `aud` must hold one of these; not checked when empty."""
    authorized_parties: tuple[str, ...] = ()
    """The claim `azp` must be one of these; not checked when empty."""
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = ("RS256", "ES256", "EdDSA")
    """The signature algorithms that are accepted from it."""
    kind: Literal["user", "service"] = "user"
    """Whether its tokens are people's or services'."""

    @model_validator(mode="after")
    def _has_keys_and_an_audience(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give exactly one of jwks_url and jwks_file")
        if not self.audiences and not self.authorized_parties:
            raise ValueError("give audiences or authorized_parties, or any site's token would do")
        if not self.algorithms:
            raise ValueError("give at least one algorithm")
        return self


class PlaintextSettings(BaseSettings):
    """What may go from host to host without TLS."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    allow_plaintext: bool = False
    """Whether what goes to other hosts may go without TLS: on a network that is trusted."""


class IdentitySettings(PlaintextSettings):
    """Whom a program trusts to say who a caller is."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    environment: Environment = Environment.PRODUCTION
    issuers: tuple[TrustedIssuer, ...] = ()
    """The trusted issuers, as a JSON list."""
    development_issuer: Path | None = None
    """The folder of the development issuer's keys, which signs anyone in as anyone."""
    token_leeway: Annotated[float, Field(ge=0, le=120)] = 10.0
    """How many seconds of clock difference to an issuer are forgiven."""

    @model_validator(mode="after")
    def _development_issuer_stands_alone(self) -> Self:
        people = [issuer for issuer in self.issuers if issuer.kind == "user"]
        if self.development_issuer is None:
            if not people:
                raise ValueError("no issuer is trusted to sign people in: set INGLENOOK_ISSUERS")
            return self
        if self.environment is not Environment.DEVELOPMENT:
            raise ValueError(
                "INGLENOOK_DEVELOPMENT_ISSUER signs anyone in as anyone:"
                " it needs INGLENOOK_ENVIRONMENT=development"
            )
        if people:
            raise ValueError(
                "INGLENOOK_DEVELOPMENT_ISSUER cannot be used beside another issuer of people's"
                f" tokens ({', '.join(issuer.issuer for issuer in people)})"
            )
        return self

    @model_validator(mode="after")
    def _the_keys_of_issuers_come_as_they_are(self) -> Self:
        for url in (issuer.jwks_url for issuer in self.issuers if issuer.jwks_url is not None):
            if not self.allow_plaintext and is_plaintext(url):
                # Whoever changed them on their way could sign in as anyone.
                raise in_plaintext("ISSUERS", url, "use https")
        return self

    @property
    def trusted_issuers(self) -> tuple[TrustedIssuer, ...]:
        """All whose tokens are accepted, the development issuer among them where it is on."""
        if self.development_issuer is None:
            return self.issuers
        development = TrustedIssuer(
            issuer=DEVELOPMENT_ISSUER,
            jwks_file=self.development_issuer / "jwks.json",
            audiences=("inglenook",),
            algorithms=("ES256",),
        )
        return (development, *self.issuers)


class DatabaseSettings(PlaintextSettings):
    """How a service reaches its schema."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    database_url: Annotated[str, Field(pattern="^postgres(ql)?://")]
    """Where, and as which role and with which password, a service reaches its own schema."""
    database_pool: Annotated[int, Field(ge=1, le=200)] = 8
    """The most connections a process keeps open."""

    @model_validator(mode="after")
    def _the_database_is_near_or_reached_by_tls(self) -> Self:
        for name in ("database_url", "admin_database_url"):
            url = getattr(self, name, None)
            if url is not None and not self.allow_plaintext and not is_private(url):
                instead = "add ?sslmode=verify-full&sslrootcert=…"
                raise in_plaintext(name.upper(), "the database", instead)
        return self


class MigrationSettings(DatabaseSettings):
    """What `migrate` needs besides: a role that may create schemas and roles."""

    admin_database_url: Annotated[str, Field(pattern="^postgres(ql)?://")]
    """The same database, as a role that may create roles and schemas; it comes to own them."""


class KeySettings(PlaintextSettings):
    """Who keeps a service's key-encryption keys, and what is needed to reach that keeper."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    key_provider: Literal["file", "vault", "aws-kms", "gcp-kms"] = "file"
    """A key file, HashiCorp Vault's transit engine, AWS KMS or Google Cloud KMS."""
    key_provider_timeout: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How many seconds a call to the keeper may take."""
    key_file: Path = Path()
    """With `file`: the keys, as `services.runtime.encryption.key_file` writes them."""
    vault_address: str = ""
    """With `vault`: where it answers: `https://vault.example:8200`."""
    vault_token_file: Path = Path()
    """With `vault`: a file with the token, read for each call, so that an agent may renew it."""
    vault_key: str = ""
    """With `vault`: the name of the transit key."""
    vault_mount: str = "transit"
    """With `vault`: where the transit engine is mounted."""
    vault_namespace: str = ""
    """With `vault`: the namespace, where there are namespaces."""
    vault_ca_file: Path | None = None
    """With `vault`: the certificates to trust instead of the system's."""
    aws_kms_key: str = ""
    """With `aws-kms`: the ARN of the key, or better of an alias that can move to the next key."""
    gcp_kms_key: str = ""
    """With `gcp-kms`: the key: `projects/…/locations/…/keyRings/…/cryptoKeys/…`."""

    @field_validator(
        "key_file", "vault_address", "vault_token_file", "vault_key", "aws_kms_key", "gcp_kms_key"
    )
    @classmethod
    def _is_set_if_needed(cls, value: str | Path, info: ValidationInfo) -> str | Path:
        needed = _NEEDED_BY.get(info.data.get("key_provider", ""), frozenset())
        if info.field_name in needed and value in ("", Path()):
            raise PydanticCustomError("missing", "Field required")
        return value

    @model_validator(mode="after")
    def _vault_is_near_or_reached_by_tls(self) -> Self:
        is_used = self.key_provider == "vault" and not self.allow_plaintext
        if is_used and is_plaintext(self.vault_address):
            raise in_plaintext("VAULT_ADDRESS", self.vault_address, "use https")
        return self


class StoppingSettings(BaseSettings):
    """How a program comes to its end once it was told to stop."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    lame_duck_seconds: Annotated[float, Field(ge=0, le=600)] = 5.0
    """How long it then takes calls as before, and says that it will not for long: longer than
    whoever spreads calls over processes needs to notice."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    """How long calls under way may go on after that."""


class TransportSettings(PlaintextSettings):
    """How a service speaks with the other parts: each has a certificate of its own name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    tls_certificate_file: Path | None = None
    """The service's own certificate, with those in between: for its callers, and for those that it
    calls. It is of the service's name, `users`, whatever its address."""
    tls_key_file: Path | None = None
    """The certificate's key."""
    tls_ca_file: Path | None = None
    """Certificates of who signs those of all parts: nobody else is heard, or called."""

    @model_validator(mode="after")
    def _certificate_key_and_authority_belong_together(self) -> Self:
        given = (self.tls_certificate_file, self.tls_key_file, self.tls_ca_file)
        if any(given) and not all(given):
            raise ValueError(
                "INGLENOOK_TLS_CERTIFICATE_FILE, INGLENOOK_TLS_KEY_FILE and INGLENOOK_TLS_CA_FILE"
                " belong together: set all of them or none"
            )
        return self


@dataclass(frozen=True, slots=True)
class _Part:
    """Marks a setting as the address of another part of the system."""


PartAddress = Annotated[str, Field(min_length=1), _Part()]
"""The address of another part, which is not called in plaintext unless it is on this host."""


class ServerSettings(IdentitySettings, StoppingSettings, TransportSettings):
    """What everything that answers calls of the contract needs to run."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    listen: Annotated[str, Field(pattern=r"^.+:\d+$")]
    """The address the service answers on: `127.0.0.1:50051`."""
    metrics_listen: Annotated[str, Field(pattern=r"^$|^.+:\d+$")] = ""
    """The address that shows the process's metrics to Prometheus, `127.0.0.1:9464`, for operators
    alone; each process has its own. Default: none does."""
    service_key: Path
    """The folder of the key that signs the service's own tokens, as `jwks.write_signing_key` writes
    it; the key's id begins with the service's name."""
    service_issuer: Annotated[str, Field(min_length=1)] = SERVICES_ISSUER
    """The claim `iss` of these tokens; the other services trust it as an issuer of services."""
    service_audience: Annotated[str, Field(min_length=1)] = "inglenook"
    """The claim `aud` of these tokens."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many processes the service is, on one port; `--workers` says so too."""
    worker: Annotated[int, Field(ge=0)] = 0
    """Which of them a process is; whoever starts the workers says so."""
    worker_socket: int | None = None
    """The descriptor of a worker's link to whoever started it."""

    @model_validator(mode="after")
    def _calls_in_plaintext_stay_on_this_host(self) -> Self:
        if self.allow_plaintext or self.tls_ca_file is not None:
            return self
        parts = [
            name
            for name, field in type(self).model_fields.items()
            if any(isinstance(mark, _Part) for mark in field.metadata)
        ]
        for name in ("listen", *parts):
            address = getattr(self, name)
            if not is_near(address):
                instead = f"set {PREFIX}TLS_CA_FILE and a certificate"
                raise in_plaintext(name.upper(), address, instead)
        return self

    @property
    def own_metrics_listen(self) -> str:
        """Where this very process shows its metrics: each worker has the port after the last."""
        host, _, port = self.metrics_listen.rpartition(":")
        return f"{host}:{int(port) + self.worker}" if port else ""


class ServiceSettings(ServerSettings, DatabaseSettings, KeySettings):
    """What every service that stores something needs to run."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    outbox_tries: Annotated[int, Field(ge=1)] = 16
    """After how many tries what cannot be delivered to another service is set aside."""
    streams_per_person: Annotated[int, Field(ge=1)] = 100
    """How many watches, exports, imports and replies one person may have open at a process."""
    nats_url: Annotated[str, Field(pattern=r"^$|^(nats|tls)://[^@]+$")] = ""
    """Where NATS answers, for wake-ups over it instead of the database: `nats://nats.example:4222`,
    or several with commas between. Credentials come by file."""
    nats_credentials_file: Path | None = None
    """A user's credentials for NATS (`.creds`), or an nkey's seed alone."""

    @model_validator(mode="after")
    def _nats_is_near_or_reached_by_tls(self) -> Self:
        for url in filter(None, self.nats_url.split(",")):
            if url.startswith("nats:") and not is_near(url) and not self.allow_plaintext:
                raise in_plaintext("NATS_URL", url, "use tls://")
        return self


class TracingSettings(BaseSettings):
    """Where traces go: OpenTelemetry's own variables, of which its SDK reads the others itself."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", env_ignore_empty=True, frozen=True)

    exporter_otlp_endpoint: Annotated[str, Field(pattern=r"^$|^https?://[^/@]+/?$")] = ""
    """The collector: `http://collector:4317`, or `https`. Default: there are no traces."""
    exporter_otlp_traces_endpoint: Annotated[str, Field(pattern=r"^$|^https?://[^/@]+/?$")] = ""
    """The same, for traces alone."""
    exporter_otlp_protocol: Literal["grpc"] = "grpc"
    exporter_otlp_certificate: Path | None = None
    """With `https`: the certificates to trust instead of the system's."""
    traces_exporter: Literal["otlp", "none"] = "otlp"
    traces_sampler: Literal["parentbased_always_on", "parentbased_traceidratio"] = (
        "parentbased_always_on"
    )
    """Who decides whether a call is traced: whoever saw it first, which is the gateway. With
    `parentbased_traceidratio`, it takes the share that `traces_sampler_arg` says."""
    traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = 1.0
    bsp_schedule_delay: Annotated[int, Field(ge=1)] = 5000
    """For how many milliseconds spans are gathered before they are sent."""
    sdk_disabled: bool = False

    @property
    def endpoint(self) -> str:
        """Where traces go; empty when there are none."""
        if self.sdk_disabled or self.traces_exporter == "none":
            return ""
        return self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint

    @property
    def share(self) -> float:
        """The share of calls that are traced, of those where nobody decided before."""
        return 1.0 if self.traces_sampler == "parentbased_always_on" else self.traces_sampler_arg


def in_plaintext(variable: str, what: str, instead: str) -> ValueError:
    """That a setting would have calls, or what is stored, cross a network in plaintext."""
    return ValueError(
        f"{PREFIX}{variable}: {what} is not on this host, and what goes there would be in"
        f" plaintext: {instead}, or set {PREFIX}ALLOW_PLAINTEXT on a network that is trusted"
    )


Settings = TypeVar("Settings", bound=BaseSettings)


def load(kind: type[Settings]) -> Settings:
    """Reads settings from the environment and the settings folder.

    Ends the program with what is missing or wrong, a line each.
    """
    folder = os.environ.get(_FOLDER) or None
    if folder is not None and not Path(folder).is_dir():
        sys.exit(f"{_FOLDER} is no folder: {folder}")
    try:
        return kind(_secrets_dir=folder)
    except ValidationError as error:
        sys.exit(
            "\n".join(
                _complaint(str(kind.model_config["env_prefix"]), problem["loc"], problem["msg"])
                for problem in error.errors()
            )
        )


def _complaint(prefix: str, location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    variable = f"{prefix}{str(location[0]).upper()}"
    inside = "".join(f"[{step}]" for step in location[1:])
    if message == "Field required" and not inside:
        return f"{variable} is not set"
    return f"{variable}{inside}: {message.removeprefix('Value error, ')}"
