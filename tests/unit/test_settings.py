"""Settings refuse what is missing or unsafe, a sentence for each."""

import json
from pathlib import Path

import pytest

from examples.responder.settings import ResponderSettings
from services.runtime.settings import (
    DatabaseSettings,
    IdentitySettings,
    KeySettings,
    PartAddress,
    ServiceSettings,
    TracingSettings,
    load,
)

GOOD = {"issuer": "https://id.example", "jwks_url": "https://id.example/jwks", "audiences": ["x"]}


def _complaint(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(f"INGLENOOK_{name}", value)
    with pytest.raises(SystemExit) as refused:
        load(IdentitySettings)
    return str(refused.value)


def test_the_development_issuer_needs_development(monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = _complaint(monkeypatch, DEVELOPMENT_ISSUER="/keys")
    assert "INGLENOOK_ENVIRONMENT=development" in complaint


def test_the_development_issuer_cannot_exist_beside_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaint = _complaint(
        monkeypatch,
        ENVIRONMENT="development",
        DEVELOPMENT_ISSUER="/keys",
        ISSUERS=json.dumps([GOOD]),
    )
    assert "cannot be used beside" in complaint
    assert "https://id.example" in complaint


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"audiences": []}, "audiences or authorized_parties"),
        ({"jwks_file": "/f"}, "exactly one of jwks_url and jwks_file"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"misspelt": 1}, "misspelt"),
    ],
)
def test_an_unsafe_issuer_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], complaint: str
) -> None:
    assert complaint in _complaint(monkeypatch, ISSUERS=json.dumps([GOOD | change]))


def test_nobody_to_sign_people_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "set INGLENOOK_ISSUERS" in _complaint(monkeypatch)


def test_several_issuers_are_trusted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    other = GOOD | {"issuer": "https://other.example"}
    monkeypatch.setenv("INGLENOOK_ISSUERS", json.dumps([GOOD, other]))
    trusted = load(IdentitySettings).trusted_issuers
    assert [issuer.issuer for issuer in trusted] == ["https://id.example", "https://other.example"]


def test_each_missing_variable_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGLENOOK_DATABASE_URL", "mysql://elsewhere")
    with pytest.raises(SystemExit) as refused:
        load(ServiceSettings)
    lines = str(refused.value).splitlines()
    assert "INGLENOOK_LISTEN is not set" in lines
    assert "INGLENOOK_KEY_FILE is not set" in lines
    assert any(line.startswith("INGLENOOK_DATABASE_URL: ") for line in lines)


@pytest.mark.parametrize(
    ("provider", "missing"),
    [
        ("file", ["KEY_FILE"]),
        ("vault", ["VAULT_ADDRESS", "VAULT_TOKEN_FILE", "VAULT_KEY"]),
        ("aws-kms", ["AWS_KMS_KEY"]),
        ("gcp-kms", ["GCP_KMS_KEY"]),
    ],
)
def test_each_key_provider_needs_its_own_settings_and_no_other(
    monkeypatch: pytest.MonkeyPatch, provider: str, missing: list[str]
) -> None:
    monkeypatch.setenv("INGLENOOK_KEY_PROVIDER", provider)
    with pytest.raises(SystemExit) as refused:
        load(KeySettings)
    assert str(refused.value).splitlines() == [f"INGLENOOK_{name} is not set" for name in missing]
    for name in missing:
        monkeypatch.setenv(f"INGLENOOK_{name}", "https://given.example")
    assert load(KeySettings).key_provider == provider


def test_an_unknown_key_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGLENOOK_KEY_PROVIDER", "plaintext")
    with pytest.raises(SystemExit) as refused:
        load(KeySettings)
    assert str(refused.value).startswith("INGLENOOK_KEY_PROVIDER: Input should be 'file', 'vault'")


@pytest.mark.parametrize(
    "url", ["nats://user:secret@nats.example:4222", "nats://token@nats.example", "http://x"]
)
def test_credentials_for_nats_come_by_file_and_not_in_its_url(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("INGLENOOK_NATS_URL", url)
    with pytest.raises(SystemExit) as refused:
        load(ServiceSettings)
    assert "INGLENOOK_NATS_URL" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_secret_may_lie_in_a_file_and_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "inglenook_database_url").write_text("postgresql://localhost/a-file\n")
    monkeypatch.setenv("INGLENOOK_SETTINGS_FOLDER", str(tmp_path))
    assert load(DatabaseSettings).database_url == "postgresql://localhost/a-file"
    monkeypatch.setenv("INGLENOOK_DATABASE_URL", "postgresql://localhost/the-environment")
    assert load(DatabaseSettings).database_url == "postgresql://localhost/the-environment"


def test_a_settings_folder_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INGLENOOK_SETTINGS_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit) as refused:
        load(DatabaseSettings)
    assert str(refused.value).startswith("INGLENOOK_SETTINGS_FOLDER is no folder")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://name:secret@collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_what_traces_cannot_do_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"^{name}: "):
        load(TracingSettings)


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, ""),
        ({"EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"EXPORTER_OTLP_ENDPOINT": "http://one:4317"}, "http://one:4317"),
        (
            {
                "EXPORTER_OTLP_ENDPOINT": "http://one:4317",
                "EXPORTER_OTLP_TRACES_ENDPOINT": "https://two:4317",
            },
            "https://two:4317",
        ),
        ({"EXPORTER_OTLP_ENDPOINT": "http://one:4317", "TRACES_EXPORTER": "none"}, ""),
        ({"EXPORTER_OTLP_ENDPOINT": "http://one:4317", "SDK_DISABLED": "true"}, ""),
    ],
)
def test_traces_go_where_opentelemetry_s_variables_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    assert load(TracingSettings).endpoint == endpoint


def test_a_share_of_calls_is_traced_if_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    assert load(TracingSettings).share == 1
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    assert load(TracingSettings).share == 0.1


NEAR = "postgresql://role@localhost/talks"
FAR = "postgresql://role@db.example/talks"
SOCKET = "postgresql://role@/talks?host=%2Frun%2Fpostgresql"


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        (NEAR, False),
        (SOCKET, False),
        ("postgresql://role@127.0.0.1,[::1]/talks", False),
        (FAR, True),
        ("postgresql://role@localhost,db.example/talks", True),
        ("postgresql://role@localhost/talks?hostaddr=192.0.2.1", True),
        (f"{FAR}?sslmode=prefer", True),
        (f"{FAR}?sslmode=verify-full&sslrootcert=system", False),
    ],
)
def test_a_database_on_another_host_is_reached_over_tls(
    monkeypatch: pytest.MonkeyPatch, url: str, is_refused: bool
) -> None:
    monkeypatch.setenv("INGLENOOK_DATABASE_URL", url)
    if not is_refused:
        assert load(DatabaseSettings).database_url == url
        return
    with pytest.raises(SystemExit) as refused:
        load(DatabaseSettings)
    assert "would be in plaintext" in str(refused.value)
    assert url not in str(refused.value)  # It may hold a password.
    monkeypatch.setenv("INGLENOOK_ALLOW_PLAINTEXT", "true")
    assert load(DatabaseSettings).database_url == url


class _Settings(ServiceSettings):
    """Those of a service that calls another one."""

    sessions_address: PartAddress


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The settings of a service whose parts are all on one host."""
    good = {
        "ISSUERS": json.dumps([GOOD]),
        "DATABASE_URL": NEAR,
        "KEY_FILE": "/keys.json",
        "SERVICE_KEY": "/service-key",
        "LISTEN": "127.0.0.1:50051",
        "SESSIONS_ADDRESS": "localhost:50052",
    }
    for name, value in good.items():
        monkeypatch.setenv(f"INGLENOOK_{name}", value)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN", "0.0.0.0:50051"),
        ("LISTEN", "[::]:50051"),
        ("SESSIONS_ADDRESS", "sessions:50052"),
        ("SESSIONS_ADDRESS", "dns:///sessions:50052"),
        ("SESSIONS_ADDRESS", "ipv4:127.0.0.1:50052,192.0.2.1:50052"),
        ("NATS_URL", "nats://localhost:4222,nats://nats.example:4222"),
    ],
)
def test_plaintext_between_hosts_is_refused_unless_it_is_allowed(
    service: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert load(_Settings)
    service.setenv(f"INGLENOOK_{name}", value)
    with pytest.raises(SystemExit) as refused:
        load(_Settings)
    assert str(refused.value).startswith(f"INGLENOOK_{name}: ")
    assert "would be in plaintext" in str(refused.value)
    service.setenv("INGLENOOK_ALLOW_PLAINTEXT", "true")
    assert load(_Settings)


HTTP = GOOD | {"jwks_url": "http://id.example/keys"}
MODEL = {"COMPLETION_BASE_URL": "http://model.example/v1", "COMPLETION_MODEL": "listener"}
VAULT = {"KEY_PROVIDER": "vault", "VAULT_KEY": "talks", "VAULT_TOKEN_FILE": "/token"}
VAULT |= {"VAULT_ADDRESS": "http://vault.example:8200"}


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"ISSUERS": json.dumps([HTTP])}, "ISSUERS"),
        (VAULT, "VAULT_ADDRESS"),
        (MODEL, "COMPLETION_BASE_URL"),
    ],
    ids=["an issuer's keys", "data keys to Vault", "words to a model"],
)
def test_nothing_goes_to_others_over_http_unless_it_is_allowed(
    service: pytest.MonkeyPatch, variables: dict[str, str], name: str
) -> None:
    kind = ResponderSettings if name == "COMPLETION_BASE_URL" else _Settings
    service.setenv("INGLENOOK_MESSAGES_ADDRESS", "localhost:50053")
    for variable, value in variables.items():
        service.setenv(f"INGLENOOK_{variable}", value)
    with pytest.raises(SystemExit) as refused:
        load(kind)
    assert str(refused.value).startswith(f"INGLENOOK_{name}: ")
    assert "would be in plaintext" in str(refused.value)
    service.setenv("INGLENOOK_ALLOW_PLAINTEXT", "true")
    assert load(kind)
    service.delenv("INGLENOOK_ALLOW_PLAINTEXT")
    service.setenv(f"INGLENOOK_{name}", variables[name].replace("http:", "https:"))
    assert load(kind)
    for here in ("http://localhost:1", "http://127.0.0.2:1/path", "http://[::1]:1"):
        inside = json.dumps([GOOD | {"jwks_url": here}]) if name == "ISSUERS" else here
        service.setenv(f"INGLENOOK_{name}", inside)
        assert load(kind)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:1",
        "[::1]:1",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.1:2",
        "ipv6:[::1]:1",
    ],
)
def test_plaintext_on_this_host_is_nobodys_business(
    service: pytest.MonkeyPatch, address: str
) -> None:
    service.setenv("INGLENOOK_SESSIONS_ADDRESS", address)
    assert load(_Settings).sessions_address == address


def test_with_certificates_services_are_called_from_anywhere(service: pytest.MonkeyPatch) -> None:
    service.setenv("INGLENOOK_LISTEN", "0.0.0.0:50051")
    service.setenv("INGLENOOK_SESSIONS_ADDRESS", "sessions:50052")
    for name in ("CERTIFICATE", "KEY", "CA"):
        service.setenv(f"INGLENOOK_TLS_{name}_FILE", f"/{name}.pem")
    assert load(_Settings).sessions_address == "sessions:50052"
    service.delenv("INGLENOOK_TLS_KEY_FILE")
    with pytest.raises(SystemExit) as refused:
        load(_Settings)
    assert "belong together" in str(refused.value)
