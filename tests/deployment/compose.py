"""What docker-compose.yml says, read as Compose reads it, and carried out without containers."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contract.folders import ROOT

COMPOSE = ROOT / "docker-compose.yml"
MOUNTED = "/run/secrets"
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True)
class Part:
    """A service of the compose file that is one of ours."""

    name: str
    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: str | None
    """The folder of the volume `secrets` that it sees, as `deploy.provision` names it."""


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file, with variables filled in."""
    filled = _VARIABLE.sub(lambda found: _value(found, variables), COMPOSE.read_text())
    read: dict[str, Any] = yaml.safe_load(filled)
    return read


def parts(read: Mapping[str, Any]) -> dict[str, Part]:
    """What runs a module of ours."""
    return {
        name: _part(name, service)
        for name, service in read["services"].items()
        if service["image"].startswith("inglenook/")
    }


def _part(name: str, service: Mapping[str, Any]) -> Part:
    module, *arguments = service.get("command", ["gateway"])
    mounts = [mount for mount in service.get("volumes", []) if isinstance(mount, dict)]
    folders = [mount["volume"]["subpath"] for mount in mounts if mount["target"] == MOUNTED]
    return Part(
        name=name,
        module=module,
        arguments=tuple(arguments),
        environment={"INGLENOOK_SETTINGS_FOLDER": MOUNTED} | service.get("environment", {}),
        secrets=folders[0] if folders else None,
    )


def _value(found: "re.Match[str]", variables: Mapping[str, str]) -> str:
    name, kind, default = found.groups()
    if name in variables:
        # Where it stands in a quoted scalar, its quotes must be escaped as Compose need not.
        quoted = found.string[: found.start()].rpartition("\n")[2].count('"') % 2
        return json.dumps(variables[name])[1:-1] if quoted else variables[name]
    if kind == "?":
        raise LookupError(f"{name} is not set: {default}")
    return default or ""


def secrets_folder(root: Path, part: Part) -> Path:
    """Where the secrets of a part are, without containers."""
    return root / (part.secrets or "nothing")
