"""docker-compose.yml: what it says agrees with the settings, and a system runs by it.

There is no container here. Its processes run as the file says, with the secrets that its first job
makes; names of hosts become loopback, and mounts become folders.
"""

import json
import re
import subprocess
import sys
import sysconfig
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic_settings import BaseSettings

from contract.folders import ROOT
from deploy import certificates
from deploy.provision import provision
from examples.responder.settings import ResponderSettings
from gateway.settings import GatewaySettings
from local.environment import inherited_environment
from local.home import PROGRAMS
from local.postgres import running_postgres
from local.stack import Ports, Stack, free_ports
from services import SERVICES
from services.messages.settings import MessagesSettings
from services.runtime.jwks import read_signing_key, write_signing_key
from services.runtime.secret_file import write_secret_file
from services.runtime.settings import PREFIX, MigrationSettings, load
from services.sessions.settings import SessionsSettings
from services.users.settings import UsersSettings
from tests.deployment.compose import COMPOSE, MOUNTED, Part, compose, parts, secrets_folder
from tests.integration.eventually import eventually

ISSUER = {
    "issuer": "https://sign-in.example",
    "jwks_file": "/somewhere/jwks.json",
    "audiences": ["inglenook"],
}
EXAMPLE = ROOT / ".env.example"
SIGN_IN = {"INGLENOOK_SIGN_IN": json.dumps(ISSUER)}
PARTS = parts(compose(SIGN_IN))
SETTINGS: dict[str, type[BaseSettings]] = {
    "users": UsersSettings,
    "sessions": SessionsSettings,
    "messages": MessagesSettings,
    "responder": ResponderSettings,
    "gateway": GatewaySettings,
    "migrate-users": MigrationSettings,
    "migrate-sessions": MigrationSettings,
    "migrate-messages": MigrationSettings,
}
# What `make run` sets and a deployment must not, or need not.
DEVELOPMENT = {"INGLENOOK_DEVELOPMENT_ISSUER", "INGLENOOK_LAME_DUCK_SECONDS"}
PORTS = Ports()
# As many seconds as a slow machine may need.
_PATIENCE = 180


@pytest.fixture(scope="module")
def secrets(reachable_to_all: Path) -> Path:
    folder = reachable_to_all / "secrets"
    provision(folder)
    return folder


def test_it_is_a_compose_file() -> None:
    checker = Path(sysconfig.get_path("scripts")) / "check-jsonschema"
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_without_knowing_who_signs_people_in_nothing_starts() -> None:
    with pytest.raises(LookupError, match="INGLENOOK_SIGN_IN"):
        compose({})


@pytest.mark.parametrize("name", SETTINGS)
def test_each_part_is_given_what_it_needs_and_nothing_it_does_not_know(
    name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, kind = PARTS[name], SETTINGS[name]
    assert _given(part, secrets) <= _known(kind) | {f"{PREFIX}SETTINGS_FOLDER"}
    for variable, value in _on_this_machine(part, secrets, PORTS).items():
        monkeypatch.setenv(variable, value)
    load(kind)  # Says what is missing or wrong.


@pytest.mark.parametrize("name", [*PROGRAMS, "gateway"])
def test_what_make_run_sets_the_compose_file_sets_too(
    name: str, secrets: Path, tmp_path: Path
) -> None:
    stack = Stack(tmp_path, PORTS, database_url="postgresql://root@db/talks")
    stack.home.prepare()
    spec = stack.gateway() if name == "gateway" else stack.service(name)
    set_by_run = set(spec.environment) & _known(SETTINGS[name])
    assert set_by_run - DEVELOPMENT <= _given(PARTS[name], secrets)


@pytest.mark.parametrize("name", [*PROGRAMS, "gateway"])
def test_ports_are_those_of_make_run(name: str) -> None:
    port = getattr(PORTS, name)
    assert PARTS[name].environment["INGLENOOK_LISTEN"] == f"0.0.0.0:{port}"
    read = compose(SIGN_IN)
    probed = json.dumps(read["services"][name]["healthcheck"]["test"])
    assert f"127.0.0.1:{port}" in probed
    upstreams = json.loads(PARTS["gateway"].environment["INGLENOOK_UPSTREAMS"])
    if name != "gateway":
        assert f"{name}:{port}" in upstreams.values()


def test_each_image_is_built_once_and_before_whatever_runs_it() -> None:
    services = compose(SIGN_IN)["services"]
    built = [service["image"] for service in services.values() if "build" in service]
    assert sorted(built) == ["inglenook/gateway", "inglenook/services"]
    builders = {service["image"]: name for name, service in services.items() if "build" in service}
    for name in PARTS:
        image = services[name]["image"]
        assert services[name]["pull_policy"] == "never"
        assert builders[image] in {name, *_started_before(name, services)}


def test_who_is_counted_and_how_much_is_allowed_is_said_in_the_environment_file() -> None:
    counting = {
        "INGLENOOK_TRUSTED_PROXIES": "1",
        "INGLENOOK_PERSON_REQUESTS_PER_MINUTE": "600",
        "INGLENOOK_ADDRESS_REQUESTS_PER_MINUTE": "60000",
    }
    told = parts(compose(SIGN_IN | counting))["gateway"].environment
    assert {name: told[name] for name in counting} == counting
    untold = PARTS["gateway"].environment
    for name in counting:
        assert f"#{name}=" in EXAMPLE.read_text()
        default = GatewaySettings.model_fields[name.removeprefix(PREFIX).lower()].default
        assert untold[name] == str(default)


def test_how_much_a_person_may_keep_is_said_in_the_environment_file() -> None:
    name = "INGLENOOK_BYTES_PER_PERSON"
    told = parts(compose(SIGN_IN | {name: "5000"}))["messages"].environment
    assert told[name] == "5000"
    default = MessagesSettings.model_fields["bytes_per_person"].default
    assert PARTS["messages"].environment[name] == str(default)
    assert f"#{name}={default}\n" in EXAMPLE.read_text()


def test_what_the_environment_file_says_puts_a_secret_where_its_part_alone_reads_it(
    tmp_path: Path, secrets: Path
) -> None:
    commands = re.findall(
        r"^#     docker compose run --rm -T --entrypoint sh secrets -c '(.+)' <(.+)$",
        EXAMPLE.read_text(),
        re.MULTILINE,
    )
    named = re.findall(rf"^#INGLENOOK_\w+_FILE={MOUNTED}/(.+)$", EXAMPLE.read_text(), re.MULTILINE)
    assert [given for _, given in commands] == named
    readers = [PARTS["users"], PARTS["responder"]]
    for (script, given), part in zip(commands, readers, strict=True):
        (tmp_path / given).write_text("sesame")
        with (tmp_path / given).open() as secret:
            here = script.replace("/secrets/", f"{secrets}/")
            subprocess.run(["sh", "-c", here], stdin=secret, check=True)
        put = secrets_folder(secrets, part) / given
        assert put.read_text() == "sesame"
        assert put.stat().st_mode & 0o777 == 0o600


def test_only_the_gateway_is_published_and_only_the_services_reach_the_database() -> None:
    services = compose(SIGN_IN)["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    with_data = {
        name for name, service in services.items() if "data" in service.get("networks", [])
    }
    jobs = {f"migrate-{name}" for name in SERVICES}
    assert with_data == {"postgres", "users", "sessions", "messages"} | jobs
    assert compose(SIGN_IN)["networks"]["data"] == {"internal": True}


def test_no_part_sees_the_secrets_of_another() -> None:
    seen = [part.secrets for part in PARTS.values() if part.secrets is not None]
    assert len(seen) == len(set(seen))
    services = compose(SIGN_IN)["services"]
    whole = [
        name
        for name, service in services.items()
        if "secrets:/secrets" in service.get("volumes", [])
    ]
    assert whole == ["secrets"]


@pytest.mark.parametrize("name", PARTS)
def test_every_container_of_ours_is_held_tight(name: str) -> None:
    service = compose(SIGN_IN)["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert "user" not in service  # The image's, which is not root.


def test_secrets_are_made_once_and_for_their_owner_s_eyes_alone(tmp_path: Path) -> None:
    provision(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    provision(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    open_to_others = {path.name for path in before if path.stat().st_mode & 0o077}
    assert open_to_others == {"jwks.json", "services.jwks.json"}  # Public sides.


def test_what_an_operator_wrote_into_a_secret_is_there_after_the_next_start(
    tmp_path: Path,
) -> None:
    provision(tmp_path)
    urls = {
        tmp_path
        / "migrations/users/inglenook_admin_database_url": "postgresql://root:own@pg/talks",
        tmp_path / "messages/inglenook_database_url": "postgresql://role:new%2F@pg:6432/talks",
    }
    for path, url in urls.items():
        write_secret_file(path, url)
    provision(tmp_path)
    assert {path: path.read_text().strip() for path in urls} == urls


def test_a_database_that_moved_is_named_again_and_everybody_stays_who_they_are(
    tmp_path: Path,
) -> None:
    provision(tmp_path)
    admin = tmp_path / "migrations" / "users" / "inglenook_admin_database_url"
    write_secret_file(admin, "postgresql://root:own@postgres:5432/inglenook")
    users = tmp_path / "users" / "inglenook_database_url"
    before = urlsplit(users.read_text().strip())
    provision(tmp_path, "db.example:5432/talks?sslmode=verify-full")
    moved = "db.example:5432/talks?sslmode=verify-full"
    assert admin.read_text().strip() == f"postgresql://root:own@{moved}"
    who = f"postgresql://{before.username}:{before.password}"
    assert users.read_text().strip() == f"{who}@{moved}"


def test_certificates_are_renewed_before_they_end_by_what_runs_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_DAYS", 29)
    provision(tmp_path)
    shown = [tmp_path / part / "tls" / "certificate.pem" for part in certificates.PARTS]
    monkeypatch.undo()
    ending = {path: path.read_bytes() for path in shown}
    provision(tmp_path)
    renewed = {path: path.read_bytes() for path in shown}
    assert all(renewed[path] != ending[path] for path in shown)
    provision(tmp_path)
    assert {path: path.read_bytes() for path in shown} == renewed


def test_a_system_runs_as_the_compose_file_says(reachable: Path) -> None:
    secrets, keys, ports = reachable / "secrets", reachable / "sign-in", free_ports(metrics=True)
    write_signing_key(keys, "1", ec.generate_private_key(ec.SECP256R1()))
    issuer = ISSUER | {"jwks_file": str(keys / "jwks.json")}
    told = parts(compose({"INGLENOOK_SIGN_IN": json.dumps(issuer)}))
    with running_postgres(reachable / "home") as server, ExitStack() as running:
        write_secret_file(
            secrets / "postgres" / "password", unquote(urlsplit(server.url()).password or "")
        )
        provision(secrets, server.url().rpartition("@")[2])
        for name in SERVICES:
            job = _started(told[f"migrate-{name}"], secrets, ports, running)
            assert job.wait(_PATIENCE) == 0
        for name in (*PROGRAMS, "gateway"):
            _started(told[name], secrets, ports, running)
        url = f"http://127.0.0.1:{ports.gateway}"
        _wait_until_ready(url)
        for name in PROGRAMS:
            eventually(partial(_is_healthy, told[name], secrets, ports))
        with httpx.Client(base_url=url, headers=_signed_in(keys), timeout=30) as person:
            session = person.post("/v1/sessions", json={"title": "A talk"}).json()["session"]
            path = f"/v1/sessions/{session['sessionId']}/messages"
            said = person.post(path, json={"content": "It has been a long day."})
            assert said.status_code == 200, said.text
            (message,) = person.get(path).json()["messages"]
            assert message["content"] == "It has been a long day."
            assert person.get("/v1/me").status_code == 200


def _started_before(name: str, services: dict[str, Any]) -> set[str]:
    """What a service waits for, and what that waits for in its turn."""
    awaited = set(services[name].get("depends_on", {}))
    return awaited.union(*(_started_before(other, services) for other in awaited))


def _known(kind: type[BaseSettings]) -> set[str]:
    """The variables that a program reads."""
    return {f"{PREFIX}{field}".upper() for field in kind.model_fields}


def _given(part: Part, secrets: Path) -> set[str]:
    """The variables that a part is given, in its environment or in files."""
    files = secrets_folder(secrets, part).glob("inglenook_*")
    return set(part.environment) | {file.name.upper() for file in files}


def _on_this_machine(part: Part, secrets: Path, ports: Ports) -> dict[str, str]:
    """A part's environment, with its mounts and addresses as they are without containers."""
    moved = {
        MOUNTED: str(secrets_folder(secrets, part)),
        "/opt/inglenook": str(ROOT),
        "/tmp/envoy.json": str(secrets / "envoy.json"),  # noqa: S108 - the container's own
    }
    if "INGLENOOK_METRICS_LISTEN" in part.environment:
        moved["0.0.0.0:9464"] = ports.metrics_address(part.name)
    for name in (*PROGRAMS, "gateway"):
        for host in (name, "0.0.0.0"):  # noqa: S104 - the container's own
            moved[f"{host}:{getattr(PORTS, name)}"] = ports.address(name)
    environment = dict(part.environment)
    for place, here in moved.items():
        environment = {name: value.replace(place, here) for name, value in environment.items()}
    secrets_folder(secrets, part).mkdir(exist_ok=True)
    return environment


def _started(
    part: Part, secrets: Path, ports: Ports, running: ExitStack
) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-m", part.module, *part.arguments],
        cwd=ROOT,
        env=inherited_environment() | _on_this_machine(part, secrets, ports),
        stdout=subprocess.DEVNULL,
    )
    running.callback(process.wait, _PATIENCE)
    running.callback(process.terminate)
    return process


def _is_healthy(part: Part, secrets: Path, ports: Ports) -> bool:
    """Whether a container's health check passes, which is made again and again."""
    asked = [sys.executable, "-m", "services.runtime.probe", ports.address(part.name)]
    told = inherited_environment() | _on_this_machine(part, secrets, ports)
    return subprocess.run(asked, env=told, check=False).returncode == 0


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "it did not get ready"
        time.sleep(0.1)


def _signed_in(keys: Path) -> dict[str, str]:
    key_id, key = read_signing_key(keys)
    now = int(time.time())
    claims = {
        "iss": ISSUER["issuer"],
        "aud": "inglenook",
        "sub": "ann",
        "iat": now,
        "exp": now + 600,
    }
    token = jwt.encode(claims, key, "ES256", headers={"kid": key_id})
    return {"authorization": f"Bearer {token}"}
