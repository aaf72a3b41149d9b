"""The contract itself: its style, its completeness, and that it never breaks a client."""

import io
import subprocess
import sysconfig
import tarfile
from pathlib import Path

import pytest
from inglenook.errors.v1.errors_pb2 import Reason

from contract.compile import compile_descriptors
from contract.folders import DESCRIPTORS, PROTOS, ROOT
from contract.methods import ContractError, load_methods

_BUF = Path(sysconfig.get_path("scripts")) / "buf"


def _buf(*arguments: str | Path) -> None:
    done = subprocess.run([_BUF, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_protos_keep_bufs_standard_and_every_element_has_a_comment() -> None:
    _buf("lint", DESCRIPTORS, "--config", PROTOS / "buf.yaml", "--path", "inglenook")


def test_the_protos_are_formatted() -> None:
    _buf("format", PROTOS, "--diff", "--exit-code")


def test_no_version_that_main_ever_had_is_broken(tmp_path: Path) -> None:
    log = ["git", "log", "--first-parent", "--format=%H", "--", "protos"]
    commits = subprocess.run(log, cwd=ROOT, capture_output=True, text=True, check=True)
    for commit in commits.stdout.split():
        archive = subprocess.run(
            ["git", "archive", commit, "protos"], cwd=ROOT, capture_output=True, check=True
        )
        folder = tmp_path / commit
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        earlier = folder / "earlier.binpb"
        compile_descriptors(folder / "protos", earlier)
        _buf(
            *("breaking", DESCRIPTORS, "--against", earlier),
            *("--config", PROTOS / "buf.yaml", "--path", "inglenook"),
        )


def test_every_method_says_who_may_call_it_and_has_a_route_if_people_may() -> None:
    methods = load_methods(DESCRIPTORS)
    assert methods
    for method in methods:
        assert method.allow, method.name
        assert bool(method.routes) == method.public_facing, method.name


@pytest.mark.parametrize("option", ["", "option (inglenook.access.v1.allow) = ACCESS_SERVICE;"])
def test_a_method_that_does_not_say_who_may_call_it_is_refused(tmp_path: Path, option: str) -> None:
    proto = tmp_path / "protos" / "open.proto"
    access = "inglenook/access/v1/access.proto"
    (proto.parent / access).parent.mkdir(parents=True)
    (proto.parent / access).write_text((PROTOS / access).read_text())
    proto.write_text(
        f'syntax = "proto3"; package open; import "{access}"; message Nothing {{}}'
        f" service Door {{ rpc Enter(Nothing) returns (Nothing) {{ {option} }} }}"
    )
    compile_descriptors(proto.parent, tmp_path / "open.binpb")
    with pytest.raises(ContractError, match=r"open\.Door\.Enter"):
        load_methods(tmp_path / "open.binpb")


def test_every_reason_has_a_json_example_of_its_own() -> None:
    text = (PROTOS / "inglenook/errors/v1/errors.proto").read_text()
    for name in Reason.keys()[1:]:
        assert f'"reason": "{name.removeprefix("REASON_")}"' in text
