"""Compiles the contract: `python -m contract.compile` turns `protos/` into `generated/`.

What comes out is Python (messages, gRPC stubs, type stubs) and `inglenook.binpb`, a descriptor set
with all imports and comments, from which the gateway and the contract's checks work. Protos of
others come from their installed packages: google/* lies in googleapis-common-protos and
grpcio-tools as source, and protovalidate carries buf/validate/validate.proto as a descriptor only,
which protoc takes just as well. Nothing is downloaded and none of it is kept in the repository.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import grpc_tools
import protovalidate
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from contract.folders import DESCRIPTORS, GENERATED, PROTOS

_VALIDATE = "buf/validate/validate.proto"
# Beside the services' own imports: the JSON form of an error needs these to print its details.
_ERROR_PROTOS = ("google/rpc/status.proto", "google/rpc/error_details.proto")


class CompileError(Exception):
    """The protos do not compile; the text is the compiler's."""


def compile_descriptors(protos: Path, output: Path) -> None:
    """Writes the descriptor set of every proto below `protos`, with imports and comments.

    Raises:
        CompileError: a proto is not valid.
    """
    flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={output}"]
    _protoc(protos, flags, [*_sources(protos), *_ERROR_PROTOS])


def compile_python(protos: Path, output: Path) -> None:
    """Writes Python messages, gRPC stubs and type stubs for every proto below `protos`.

    Raises:
        CompileError: a proto is not valid.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    flags = [
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={output}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
    ]
    _protoc(protos, flags, [_VALIDATE, *_sources(protos)])


def compile_contract(protos: Path = PROTOS, output: Path = GENERATED) -> None:
    """Replaces `output` by what `protos` compiles to; a failure leaves it as it was.

    Raises:
        CompileError: a proto is not valid.
    """
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".generated-") as scratch:
        fresh = Path(scratch) / "generated"
        fresh.mkdir()
        compile_python(protos, fresh)
        compile_descriptors(protos, fresh / DESCRIPTORS.name)
        shutil.rmtree(output, ignore_errors=True)
        fresh.rename(output)


def _sources(protos: Path) -> list[str]:
    return sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))


def _protoc(protos: Path, flags: list[str], files: list[str]) -> None:
    with tempfile.NamedTemporaryFile(suffix=".binpb") as validate:
        validate.write(_validate_descriptor().SerializeToString())
        validate.flush()
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            f"--descriptor_set_in={validate.name}",
            *(f"-I{path}" for path in (protos, *_third_party())),
            *flags,
            *files,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(done.stderr)


def _third_party() -> list[Path]:
    """The folders that hold the sources of google/* (googleapis-common-protos, grpcio-tools)."""
    return [Path(sysconfig.get_path("purelib")), Path(grpc_tools.__path__[0]) / "_proto"]


def _validate_descriptor() -> FileDescriptorSet:
    """The descriptor of buf/validate/validate.proto, out of the installed protovalidate."""
    violation = protovalidate.Violation(message="").proto
    file = FileDescriptorProto.FromString(type(violation).desc().file.proto.to_binary())
    if file.name != _VALIDATE:
        raise CompileError(f"protovalidate describes its rules in {file.name}, not {_VALIDATE}")
    return FileDescriptorSet(file=[file])


if __name__ == "__main__":
    try:
        compile_contract()
    except CompileError as error:
        sys.exit(str(error))
