"""The Dockerfile: what it is built from is pinned, and what it leaves behind is nobody's root."""

import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

from contract.folders import ROOT

DOCKERFILE = ROOT / "Dockerfile"
REQUIREMENTS = ROOT / "requirements"
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def _pins(lock: str) -> set[tuple[str, str]]:
    return set(_PIN.findall((REQUIREMENTS / lock).read_text()))


def _declared(*groups: str) -> set[str]:
    """The packages that the project asks for: its own, of all extras, and of some groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    asked = [
        *project["project"]["dependencies"],
        *(package for extra in extras for package in extra if not groups),
        *(package for group in groups for package in project["dependency-groups"][group]),
    ]
    return {match.group().lower() for package in asked if (match := _NAME.match(package))}


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("lock", ["services.lock", "gateway.lock"])
def test_images_hold_what_was_tested(lock: str) -> None:
    assert _pins(lock) <= _pins("everything.lock")


@pytest.mark.parametrize(
    ("lock", "groups"), [("services.lock", ()), ("gateway.lock", ("gateway",))]
)
def test_images_hold_what_the_project_asks_for(lock: str, groups: tuple[str, ...]) -> None:
    assert _declared(*groups) <= {name for name, _ in _pins(lock)}


def test_images_are_built_from_named_versions_and_run_as_nobody() -> None:
    text = DOCKERFILE.read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    assert {base for base in bases if base not in stages} == {"${PYTHON}"}
    assert re.search(r"^ARG PYTHON=python:\d+\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    # The stages that are shipped come of the one that has the user, and install nothing.
    shipped = text[text.index("FROM runtime AS services") :]
    assert "RUN" not in shipped
    assert "workshop" not in shipped


def test_the_authorities_by_which_a_database_is_verified_are_in_the_images() -> None:
    page = (ROOT / "deploy" / "kubernetes" / "README.md").read_text()
    # Not `system`: the OpenSSL of psycopg's wheels looks where no system has certificates.
    (named,) = re.findall(r"sslrootcert=([^'&\s]+)", page)
    assert f"test -s {named} " in DOCKERFILE.read_text()
