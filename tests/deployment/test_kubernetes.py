"""The manifests for a cluster: each is valid, and they agree with the compose file."""

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.folders import ROOT
from deploy.provision import provision
from local.home import PROGRAMS
from tests.deployment.compose import compose, parts

FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = [name for name in KUSTOMIZATION["resources"] if name.endswith(".yaml")]
COMPOSE = parts(compose({"INGLENOOK_SIGN_IN": "{}"}))
# Said once for all parts, in issuers.env; the image's own default; by its flags, in compose alone.
SAID_ELSEWHERE = {"INGLENOOK_ISSUERS", "INGLENOOK_SETTINGS_FOLDER"}
# The database is on the network of no container here, and is reached over TLS.
NOT_HERE = {"INGLENOOK_ALLOW_PLAINTEXT"}
OPTIONAL = {"INGLENOOK_CLERK_PUBLISHABLE_KEY", "INGLENOOK_CORS_ORIGINS"}
OPTIONAL |= {"INGLENOOK_WEBHOOK_SECRETS_FILE", "INGLENOOK_ON_IDENTITY_DELETION"}
OPTIONAL |= {f"INGLENOOK_COMPLETION_{name}" for name in ("BASE_URL", "MODEL", "KEY_FILE")}


def _things() -> list[dict[str, Any]]:
    return [
        thing for name in MANIFESTS for thing in yaml.safe_load_all((FOLDER / name).read_text())
    ]


def _named(kind: str) -> dict[str, Any]:
    return {thing["metadata"]["name"]: thing for thing in _things() if thing["kind"] == kind}


def _pods() -> dict[str, Any]:
    """The pods of all parts and jobs, by their names."""
    running = _named("Deployment") | _named("Job")
    return {name: thing["spec"]["template"]["spec"] for name, thing in running.items()}


@pytest.mark.parametrize("name", MANIFESTS)
def test_each_manifest_keeps_to_its_schema(name: str) -> None:
    validator = Path(sysconfig.get_path("scripts")) / "kubernetes-validate"
    command = [str(validator), "--strict", str(FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_manifest_is_applied() -> None:
    files = {file.name for file in FOLDER.glob("*.yaml")}
    assert set(MANIFESTS) == files - {"kustomization.yaml"}


@pytest.mark.parametrize("name", [*PROGRAMS, "gateway"])
def test_a_part_is_told_what_the_compose_file_tells_it(name: str) -> None:
    (container,) = _pods()[name]["containers"]
    told = {entry["name"]: entry["value"] for entry in container["env"]}
    told = {variable: value.removeprefix("dns:///") for variable, value in told.items()}
    assert container["args"] == [COMPOSE[name].module, *COMPOSE[name].arguments]
    expected = dict(COMPOSE[name].environment)
    for variable in SAID_ELSEWHERE | NOT_HERE | OPTIONAL:
        expected.pop(variable, None)
    assert told == expected
    assert container["envFrom"] == [{"configMapRef": {"name": "issuers"}}]


def test_every_secret_that_is_mounted_is_one_that_is_made(tmp_path: Path) -> None:
    provision(tmp_path / "secrets", "db.example:5432/inglenook")
    made = {
        secret["name"]: dict(entry.split("=") for entry in secret["files"])
        for secret in KUSTOMIZATION["secretGenerator"]
    }
    assert all((tmp_path / path).is_file() for files in made.values() for path in files.values())
    for pod in _pods().values():
        for volume in pod["volumes"]:
            if "secret" in volume:
                secret = volume["secret"]
                keys = {item["key"] for item in secret.get("items", [])}
                assert keys <= set(made[secret["secretName"]])
                assert secret["defaultMode"] & 0o007 == 0


@pytest.mark.parametrize("name", _pods())
def test_every_pod_is_held_tight(name: str) -> None:
    pod = _pods()[name]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["limits"]) == {"memory"}


@pytest.mark.parametrize("name", [*PROGRAMS, "gateway"])
def test_every_part_is_probed_spread_scaled_and_never_wholly_away(name: str) -> None:
    pod = _pods()[name]
    (container,) = pod["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    keys = {constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]}
    assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert _named("PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
    scaler = _named("HorizontalPodAutoscaler")[name]["spec"]
    assert scaler["scaleTargetRef"]["name"] == name
    assert scaler["minReplicas"] == 2


def test_nobody_is_heard_who_is_not_named() -> None:
    policies = _named("NetworkPolicy")
    assert policies["nobody-unless-named"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
    }
    for name in PROGRAMS:
        (rule,) = policies[name]["spec"]["ingress"]
        callers = {peer["podSelector"]["matchLabels"]["app"] for peer in rule["from"]}
        called_by = {
            caller
            for caller, part in COMPOSE.items()
            if caller != "gateway" and f"INGLENOOK_{name.upper()}_ADDRESS" in part.environment
        }
        assert callers == {"gateway", *called_by}
