"""The users service's settings: from whom it takes an identity provider's events."""

import json
from pathlib import Path

import pytest

from services.runtime.settings import load
from services.users.settings import UsersSettings

GOOD = {"issuer": "https://id.example", "jwks_url": "https://id.example/jwks", "audiences": ["x"]}


def _complaint(monkeypatch: pytest.MonkeyPatch, secrets: Path, **variables: str) -> str:
    others = {"SESSIONS_ADDRESS": "s:1", "MESSAGES_ADDRESS": "m:1", "TOKEN_KEY_FILE": "/t"}
    others |= {"DATABASE_URL": "postgres://db", "LISTEN": "u:1", "SERVICE_KEY": "/s"}
    others |= {"ALLOW_PLAINTEXT": "true"}
    others |= {"KEY_FILE": "/k", "WEBHOOK_SECRETS_FILE": str(secrets), **variables}
    for name, value in others.items():
        monkeypatch.setenv(f"INGLENOOK_{name}", value)
    with pytest.raises(SystemExit) as refused:
        load(UsersSettings)
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read"),
        ("", "holds no webhook secret"),
        ("whsec_c2VjcmV0\nwhsec_\n", "holds a line that is no webhook secret"),
        ("whsec_c2VjcmV0\nsecret of mine!\n", "holds a line that is no webhook secret"),
    ],
)
def test_a_file_without_webhook_secrets_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "secrets").write_text(content)
    told = _complaint(monkeypatch, tmp_path / "secrets", ISSUERS=json.dumps([GOOD]))
    assert told == f"INGLENOOK_WEBHOOK_SECRETS_FILE: {tmp_path / 'secrets'} {complaint}"
    assert "c2VjcmV0" not in told


@pytest.mark.parametrize("named", ["", "https://elsewhere.example"])
def test_whose_webhooks_come_must_be_clear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    (tmp_path / "secrets").write_text("whsec_c2VjcmV0")
    both = json.dumps([GOOD, GOOD | {"issuer": "https://other.example"}])
    told = _complaint(monkeypatch, tmp_path / "secrets", ISSUERS=both, WEBHOOK_ISSUER=named)
    assert told.startswith("INGLENOOK_WEBHOOK_ISSUER must be one of the trusted issuers of people")
    assert "https://other.example" in told
