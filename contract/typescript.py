"""Compiles the contract to TypeScript: `python -m contract.typescript PLUGIN FOLDER`.

PLUGIN is Buf's `protoc-gen-es`, FOLDER is replaced by what comes out.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from contract.bare import bare_contract
from contract.compile import CompileError

_OF_OTHERS = ("google/api/httpbody.proto", "google/rpc/error_details.proto")


def compile_typescript(plugin: Path, output: Path) -> None:
    """Replaces `output` by the contract's messages and services in TypeScript.

    Raises:
        CompileError: the plugin does not take the contract.
    """
    files = bare_contract()
    wanted = [file.name for file in files if file.name.startswith("inglenook/")]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".generated-") as scratch:
        stripped, fresh = Path(scratch) / "contract.binpb", Path(scratch) / "fresh"
        stripped.write_bytes(FileDescriptorSet(file=files).SerializeToString())
        fresh.mkdir()
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={stripped}"),
            *(f"--plugin=protoc-gen-es={plugin}", f"--es_out={fresh}"),
            "--es_opt=target=ts,import_extension=js",
            *(*_OF_OTHERS, *wanted),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CompileError(done.stderr)
        shutil.rmtree(output, ignore_errors=True)
        fresh.rename(output)


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
