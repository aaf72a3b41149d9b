"""Deliveries of an identity provider's events: whether they are genuine, and what they say.

Svix, which delivers Clerk's events, signs as Standard Webhooks do (HMAC-SHA-256 over id, time and
body) and calls the headers `svix-…`. What happens to an event is in `provisioning.py`.
"""

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from inglenook.errors.v1.errors_pb2 import Reason
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from services.runtime.errors import Refusal, request_malformed
from services.users.identity_events import EventError, PersonDeleted, PersonStated, read_event

_log = logging.getLogger(__name__)

_SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
_EVENT_ID_CHARACTERS = 256
_HEADERS = {f"svix-{part}": f"webhook-{part}" for part in ("id", "timestamp", "signature")}


@dataclass(frozen=True, slots=True)
class Delivered:
    """A genuine delivery."""

    event_id: str
    """The event's, which stays the same however often it is delivered."""
    event: PersonStated | PersonDeleted | None
    """What it says; None when it says nothing of people."""


def read_secrets(path: Path) -> list[Webhook]:
    """The secrets in a file, one a line, as the provider shows them (`whsec_…`).

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none, or something else.
    """
    lines = [line.strip() for line in path.read_text().splitlines()]
    try:
        secrets = [Webhook(_key_of(line)) for line in lines if line]
    except (ValueError, EmptyWebhookSecretError):
        raise ValueError(f"{path} holds a line that is no webhook secret") from None
    if not secrets:
        raise ValueError(f"{path} holds no webhook secret")
    return secrets


def _key_of(secret: str) -> bytes:
    """The key that a secret spells. The library's own reading leaves out what is no base64.

    Raises:
        ValueError: it is no secret.
    """
    spelled = secret.removeprefix(_SECRET_PREFIX)
    if spelled == secret:
        raise ValueError("a webhook secret begins with whsec_")
    return base64.b64decode(spelled + "=" * (-len(spelled) % 4), validate=True)


class Deliveries:
    """Reads genuine deliveries, and tells others apart."""

    def __init__(self, secrets_file: Path | None, issuer: str) -> None:
        """Takes the file with the secrets, and the issuer of the people whom events are about.

        The file is read for each delivery, so that secrets may be added and taken away.
        """
        self._secrets_file = secrets_file
        self._issuer = issuer

    def received(self, metadata: Mapping[str, str | bytes], body: bytes) -> Delivered:
        """What a delivery says, if one of the secrets signed it just now.

        Raises:
            Refusal: WEBHOOK_INVALID; REQUEST_MALFORMED when it is signed and no event; WEBHOOKS_OFF
                where there are no secrets.
        """
        if self._secrets_file is None:
            raise _webhooks_off()
        headers = {
            standard: str(metadata[name]) for name, standard in _HEADERS.items() if name in metadata
        }
        causes = [_refuses(secret, headers, body) for secret in read_secrets(self._secrets_file)]
        event_id = headers.get("webhook-id", "")
        if all(causes) or len(event_id) > _EVENT_ID_CHARACTERS:
            # The kind of failure, and nothing of the delivery.
            _log.info("webhook refused", extra={"cause": causes[0] or "an id that is too long"})
            raise _webhook_invalid()
        sent = datetime.fromtimestamp(float(headers["webhook-timestamp"]), tz=UTC)
        try:
            return Delivered(event_id, read_event(body, issuer=self._issuer, sent=sent))
        except EventError:
            raise request_malformed() from None


def _refuses(secret: Webhook, headers: dict[str, str], body: bytes) -> str:
    """Why a secret does not answer for a delivery; empty when it does."""
    try:
        secret.verify(body, headers, json_parse=False)
    except WebhookVerificationError as error:
        return str(error)
    except ValueError:
        return "no signature of a known form, or not of text"
    return ""


def _webhook_invalid() -> Refusal:
    return Refusal(
        grpc.StatusCode.UNAUTHENTICATED,
        Reason.REASON_WEBHOOK_INVALID,
        "The delivery was not accepted. Sign it with the secret of this endpoint, now.",
    )


def _webhooks_off() -> Refusal:
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.REASON_WEBHOOKS_OFF,
        "No identity webhooks are taken here: INGLENOOK_WEBHOOK_SECRETS_FILE is not set.",
    )
