"""A service that cannot use its keys says so in one sentence, and does not start."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from local.stack import Stack, free_ports
from services import SERVICES
from services.runtime.encryption.key_file import make_key_file
from tests.integration.calls import MakePerson


@pytest.fixture(autouse=True)
def data_keys(stack: Stack, person: MakePerson) -> None:
    """Every service has some."""
    alice = person("alice")
    alice.call("GET", "/v1/me")
    for _ in range(3):
        alice.say(alice.new_session(), "so that there are data keys")


@pytest.fixture
def copy(stack: Stack, tmp_path: Path, service: str) -> Path:
    """A copy of the service's key file, to be spoilt."""
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    path.write_text(stack.home.key_file(service).read_text())
    return path


def _complaint(stack: Stack, service: str, **more: str) -> str:
    """What a service says that does not start: one sentence on one line, and no trace."""
    environment = {
        **stack.service(service).environment,
        "INGLENOOK_LISTEN": f"127.0.0.1:{free_ports().users}",
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "serving" not in done.stdout
    (line,) = done.stderr.splitlines()
    start = f"{service} does not start: "
    assert line.startswith(start)
    return line.removeprefix(start)


@pytest.mark.parametrize("service", SERVICES)
def test_without_its_key_file(stack: Stack, tmp_path: Path, service: str) -> None:
    gone = tmp_path / "gone"
    assert _complaint(stack, service, INGLENOOK_KEY_FILE=str(gone)) == (
        f"cannot read the key file {gone}: No such file or directory"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_with_a_file_that_others_can_read(stack: Stack, service: str, copy: Path) -> None:
    copy.chmod(0o640)
    assert _complaint(stack, service, INGLENOOK_KEY_FILE=str(copy)) == (
        f"{copy} is open to other users: chmod 600 {copy}"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_with_half_a_file(stack: Stack, service: str, copy: Path) -> None:
    copy.write_text(copy.read_text()[:40])
    complaint = _complaint(stack, service, INGLENOOK_KEY_FILE=str(copy))
    assert complaint == f"{copy} is not a key file"


@pytest.mark.parametrize("service", SERVICES)
def test_with_another_services_keys(stack: Stack, service: str) -> None:
    other = stack.home.key_file(SERVICES[SERVICES.index(service) - 1])
    books = _books(stack, service)
    complaint = _complaint(stack, service, INGLENOOK_KEY_FILE=str(other))
    assert "does not hold the key kek-" in complaint
    # And nothing of theirs was entered.
    assert _books(stack, service) == books


@pytest.mark.parametrize("service", SERVICES)
def test_with_another_key_of_the_same_name(stack: Stack, service: str, copy: Path) -> None:
    another = copy.with_name("another.json")
    make_key_file(another)
    (secret,) = json.loads(another.read_text())["keys"].values()
    written = json.loads(copy.read_text())
    written["keys"] = dict.fromkeys(written["keys"], secret)
    copy.write_text(json.dumps(written))
    complaint = _complaint(stack, service, INGLENOOK_KEY_FILE=str(copy))
    assert "is not the one that data keys were wrapped with" in complaint
    assert secret not in complaint


@pytest.fixture
def retired(stack: Stack, copy: Path, service: str) -> Iterator[str]:
    """The service's active KEK, while it is marked as retired."""
    active: str = json.loads(copy.read_text())["active"]
    table = sql.Identifier(service, "key_encryption_keys")
    with psycopg.connect(stack.admin_url, autocommit=True) as admin:
        mark = sql.SQL("UPDATE {} SET retire_time = {} WHERE kek_id = %s")
        admin.execute(mark.format(table, sql.SQL("now()")), (active,))
        yield active
        admin.execute(mark.format(table, sql.SQL("NULL")), (active,))


@pytest.mark.parametrize("service", SERVICES)
def test_with_an_active_key_that_was_retired(stack: Stack, service: str, retired: str) -> None:
    complaint = _complaint(stack, service)
    assert complaint.startswith(f"the key {retired} was retired at ")
    assert complaint.endswith("this is an old copy of the keys, put the current one in its place")


@pytest.mark.parametrize("service", SERVICES)
def test_with_a_vault_that_does_not_answer(stack: Stack, service: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s.token")
    complaint = _complaint(
        stack,
        service,
        INGLENOOK_KEY_PROVIDER="vault",
        INGLENOOK_VAULT_ADDRESS="http://127.0.0.1:9",
        INGLENOOK_VAULT_KEY="inglenook",
        INGLENOOK_VAULT_TOKEN_FILE=str(token),
    )
    assert complaint == "Vault does not answer at http://127.0.0.1:9 (ConnectionError)"


@pytest.mark.parametrize(
    ("provider", "package", "extra"),
    [("vault", "hvac", "vault"), ("aws-kms", "boto3", "aws"), ("gcp-kms", "google_crc32c", "gcp")],
)
def test_without_the_library_of_the_chosen_provider(
    stack: Stack, tmp_path: Path, provider: str, package: str, extra: str
) -> None:
    # Found before the real one, and as absent as a package that was never installed.
    absent = f"raise ModuleNotFoundError('no', name={package!r})\n"
    (tmp_path / f"{package}.py").write_text(absent)
    complaint = _complaint(
        stack,
        "users",
        PYTHONPATH=str(tmp_path),
        INGLENOOK_KEY_PROVIDER=provider,
        INGLENOOK_VAULT_ADDRESS="http://127.0.0.1:9",
        INGLENOOK_VAULT_KEY="inglenook",
        INGLENOOK_VAULT_TOKEN_FILE="token",
        INGLENOOK_AWS_KMS_KEY="arn:aws:kms:eu-central-1:111111111111:key/1",
        INGLENOOK_GCP_KMS_KEY="projects/p/locations/l/keyRings/r/cryptoKeys/k",
    )
    assert complaint == f"the package {package} is not installed: install inglenook[{extra}]"


def _books(stack: Stack, service: str) -> list[tuple[object, ...]]:
    with psycopg.connect(stack.admin_url) as admin:
        table = sql.Identifier(service, "key_encryption_keys")
        return admin.execute(sql.SQL("SELECT kek_id FROM {} ORDER BY 1").format(table)).fetchall()
