"""Compiles the contract to TypeScript: `python -m contract.typescript PLUGIN FOLDER`.

PLUGIN is Buf's `protoc-gen-es`, FOLDER is replaced by what comes out. A browser needs neither the
rules of requests nor the routes nor who may call what, all of which the server knows: they are left
out, and with them the protos that define them, which are larger than the contract itself.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from contract.compile import CompileError
from contract.folders import DESCRIPTORS

_LEFT_OUT = ("buf/validate/", "google/api/", "inglenook/access/")
_ERROR_DETAILS = "google/rpc/error_details.proto"


def compile_typescript(plugin: Path, output: Path) -> None:
    """Replaces `output` by the contract's messages and services in TypeScript.

    Raises:
        CompileError: the plugin does not take the contract.
    """
    # The messages whose options the contract extends must be known to tell extensions apart.
    descriptors = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    kept = [file for file in descriptors.file if not file.name.startswith(_LEFT_OUT)]
    for file in kept:
        _strip(file)
    wanted = [file.name for file in kept if file.name.startswith("inglenook/")]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".generated-") as scratch:
        stripped, fresh = Path(scratch) / "contract.binpb", Path(scratch) / "fresh"
        stripped.write_bytes(FileDescriptorSet(file=kept).SerializeToString())
        fresh.mkdir()
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={stripped}"),
            *(f"--plugin=protoc-gen-es={plugin}", f"--es_out={fresh}"),
            "--es_opt=target=ts,import_extension=js",
            *(_ERROR_DETAILS, *wanted),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CompileError(done.stderr)
        shutil.rmtree(output, ignore_errors=True)
        fresh.rename(output)


def _strip(file: FileDescriptorProto) -> None:
    imports = [name for name in file.dependency if not name.startswith(_LEFT_OUT)]
    del file.dependency[:]
    file.dependency.extend(imports)
    _strip_options(file)


def _strip_options(message: Message) -> None:
    """Takes the extensions out of the options of everything in a file."""
    for field, value in message.ListFields():
        if field.name == "options":
            # Parsed by nobody who knows them here, they may be unknown fields or extensions.
            value.DiscardUnknownFields()
            for option, _ in value.ListFields():
                if option.is_extension:
                    value.ClearExtension(option)
        elif field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _strip_options(part)


def main() -> None:
    """Compiles to where the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m contract.typescript", description=__doc__)
    parser.add_argument("plugin", type=Path, help="protoc-gen-es")
    parser.add_argument("output", type=Path, help="the folder to replace")
    arguments = parser.parse_args()
    try:
        compile_typescript(arguments.plugin.resolve(), arguments.output.resolve())
    except CompileError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
