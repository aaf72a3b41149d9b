import json
from dataclasses import asdict
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from local.stack import Ports, Stack, free_ports

_PORTS = Ports(gateway=1, users=2, sessions=3, messages=4)


def _role(stack: Stack) -> dict[str, object]:
    return dict(conninfo_to_dict(stack.service("users").environment["INGLENOOK_DATABASE_URL"]))


@pytest.mark.parametrize(
    ("admin", "expected"),
    [
        (
            "postgresql://root:s3cret@db.example:6432/talks?sslmode=require",
            {"host": "db.example", "port": "6432", "dbname": "talks", "sslmode": "require"},
        ),
        (
            "postgresql://root:s3cret@/talks?host=/var/run/a%20b&port=5432",
            {"host": "/var/run/a b", "port": "5432", "dbname": "talks"},
        ),
        (
            "postgresql://db.example/talks?user=root&password=s3cret",
            {"host": "db.example", "dbname": "talks"},
        ),
    ],
)
def test_a_service_reaches_the_same_database_as_its_own_role(
    tmp_path: Path, admin: str, expected: dict[str, str]
) -> None:
    stack = Stack(tmp_path, _PORTS, database_url=admin)
    stack.home.prepare()
    own = {"user": "inglenook_users", "password": stack.home.password("inglenook_users")}
    assert _role(stack) == expected | own


def test_a_service_is_told_neither_the_admin_s_url_nor_a_secret_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://root:s3cret@db/talks")
    monkeypatch.setenv("CLOUD_TOKEN", "s3cret")
    stack = Stack(tmp_path, _PORTS, database_url="postgresql://root:s3cret@db/talks")
    stack.home.prepare()
    assert not any("s3cret" in value for value in stack.service("users").environment.values())


def test_a_given_setting_wins_over_a_default(tmp_path: Path) -> None:
    settings = {"INGLENOOK_ENVIRONMENT": "production", "INGLENOOK_DRAIN_SECONDS": "1"}
    stack = Stack(tmp_path, _PORTS, database_url="postgresql://root@db/talks", settings=settings)
    stack.home.prepare()
    environment = stack.service("messages").environment
    assert {name: environment[name] for name in settings} == settings


def test_people_of_a_given_issuer_are_not_signed_in_by_the_development_issuer(
    tmp_path: Path,
) -> None:
    people = {"issuer": "https://id.example", "jwks_url": "https://id.example/keys"}
    for issuer, for_development in ((people, False), ({**people, "kind": "service"}, True)):
        settings = {"INGLENOOK_ISSUERS": json.dumps([issuer])}
        stack = Stack(tmp_path, _PORTS, database_url="postgresql://db/talks", settings=settings)
        stack.home.prepare()
        environment = stack.service("messages").environment
        assert ("INGLENOOK_DEVELOPMENT_ISSUER" in environment) is for_development
        assert stack.is_for_development is for_development


def test_free_ports_are_all_different() -> None:
    ports = free_ports()
    assert len({ports.gateway, ports.users, ports.sessions, ports.messages}) == 4


def test_no_port_is_given_twice() -> None:
    given = [port for _ in range(60) for port in asdict(free_ports()).values() if port]
    assert len(set(given)) == len(given) == 300
