"""What the users service is told by its environment."""

from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from services.runtime.settings import PartAddress, ServiceSettings
from services.users.provisioning import OnDeletion
from services.users.webhooks import read_secrets


class UsersSettings(ServiceSettings):
    """What the users service needs to run."""

    token_key_file: Path
    """The key of resume tokens: 32 bytes in base64, the same for all replicas."""
    sessions_address: PartAddress
    """Where the sessions service answers."""
    messages_address: PartAddress
    """Where the messages service answers."""
    webhook_secrets_file: Path | None = None
    """The secrets that sign the identity provider's events, one a line, as it shows them; several
    while they are changed. Without it, no events are taken."""
    webhook_issuer: str = ""
    """Whose people these events are about: one of the trusted issuers of people. May be left out
    where there is one alone."""
    on_identity_deletion: OnDeletion = OnDeletion.LOCK
    """What is done with a person whom the identity provider has deleted."""

    @field_validator("webhook_secrets_file", mode="before")
    @classmethod
    def _is_named(cls, value: object) -> object:
        return value or None

    @field_validator("webhook_secrets_file")
    @classmethod
    def _holds_secrets(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                read_secrets(value)
            except OSError:
                raise ValueError(f"{value} cannot be read") from None
        return value

    @model_validator(mode="after")
    def _knows_whose_events_come(self) -> Self:
        if self.webhook_secrets_file is not None and not self.issuer_of_events:
            raise ValueError(
                "INGLENOOK_WEBHOOK_ISSUER must be one of the trusted issuers of people:"
                f" {', '.join(self._issuers_of_people)}"
            )
        return self

    @property
    def issuer_of_events(self) -> str:
        """The issuer whose people the identity provider's events are about; empty for none."""
        people = self._issuers_of_people
        if not self.webhook_issuer and len(people) == 1:
            return people[0]
        return self.webhook_issuer if self.webhook_issuer in people else ""

    @property
    def _issuers_of_people(self) -> list[str]:
        return [issuer.issuer for issuer in self.trusted_issuers if issuer.kind == "user"]
