"""An identity provider that tells of its people: Clerk's events, delivered as by Svix."""

import base64
import hmac
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx

ROUTE = "/v1/webhooks/identity"


@dataclass(frozen=True)
class Provider:
    """Signs with one of the secrets in a file, and delivers to the gateway."""

    url: str
    secrets: Path
    nth: int = 0

    def headers(
        self, body: bytes, *, event_id: str | None = None, sent: float | None = None
    ) -> dict[str, str]:
        """What a delivery of a body carries, signed as at some time."""
        event_id = event_id or f"msg_{uuid4().hex}"
        sent = int(time.time() if sent is None else sent)
        secret = self.secrets.read_text().split()[self.nth].removeprefix("whsec_")
        signed = f"{event_id}.{sent}.".encode() + body
        signature = base64.b64encode(hmac.digest(base64.b64decode(secret), signed, "sha256"))
        return {
            "content-type": "application/json",
            "svix-id": event_id,
            "svix-timestamp": str(sent),
            "svix-signature": f"v1,{signature.decode()}",
        }

    def deliver(
        self, body: bytes, *, event_id: str | None = None, sent: float | None = None
    ) -> httpx.Response:
        headers = self.headers(body, event_id=event_id, sent=sent)
        return httpx.post(self.url + ROUTE, content=body, headers=headers, timeout=30)

    def tell(self, body: bytes, *, event_id: str | None = None) -> None:
        """Delivers an event that must be taken."""
        answer = self.deliver(body, event_id=event_id)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {}


def stated(
    kind: str,
    subject: str,
    *,
    at: float,
    first: str | None = "Jane",
    last: str | None = "Doe",
    email: str | None = "jane@example.com",
) -> bytes:
    """`user.created` or `user.updated`: what a person is, as of a time in seconds."""
    addresses = [
        {"id": "idn_other", "email_address": "other@example.com", "object": "email_address"},
        {"id": "idn_first", "email_address": email, "object": "email_address"},
    ]
    return _event(
        f"user.{kind}",
        at,
        {
            "id": subject,
            "object": "user",
            "first_name": first,
            "last_name": last,
            "primary_email_address_id": None if email is None else "idn_first",
            "email_addresses": addresses[: 1 if email is None else 2],
            "created_at": 1_700_000_000_000,
            "updated_at": round(at * 1000),
            "password_enabled": True,
        },
    )


def deleted(subject: str, *, at: float | None = None) -> bytes:
    """`user.deleted`, which does not say when the person was changed."""
    at = datetime.now(UTC).timestamp() if at is None else at
    return _event("user.deleted", at, {"id": subject, "object": "user", "deleted": True})


def _event(kind: str, at: float, data: dict[str, object]) -> bytes:
    event = {"data": data, "object": "event", "timestamp": round(at * 1000), "type": kind}
    # Not as any library would write it again: what is signed are these bytes.
    return json.dumps(event, indent=3, ensure_ascii=False).encode()
