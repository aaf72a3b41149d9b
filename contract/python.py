"""Compiles the contract to the Python client: `python -m contract.python FOLDER` replaces FOLDER.

Python has one registry of message names for a whole process. So that the client can be imported
beside any other version of the contract (the services' own code is one), its messages have names of
their own: where the contract says `inglenook.`, they say `inglenook_client.contract.`. On the wire
there is no difference: it holds no names of messages, and methods are called by the contract's own.

Besides the messages there are `services.py`, with a class for each service that people may call and
a typed function for each of its methods, and `reasons.py`, the names of all reasons of a refusal.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from google.protobuf.message import Message
from inglenook.access.v1.access_pb2 import Access

from contract.bare import bare_contract
from contract.compile import CompileError
from contract.elements import Elements, is_own_id, must_be_set
from contract.folders import DESCRIPTORS
from contract.methods import Method, load_methods

_OURS = "inglenook"
_THEIRS = "inglenook_client.contract"
_REASON = "inglenook.errors.v1.Reason"
_SERVICES_HEAD = '''"""The methods that are open to people. Generated from the contract."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from datetime import timedelta

from inglenook_client.calls import Calls, Method
from inglenook_client.values import Json, duration, field_mask, new_id, struct
'''
_REASONS_HEAD = '''"""Why calls are refused. Generated from the contract, which has more of each."""

from typing import Literal

Reason = Literal[
'''.rstrip("\n")
_SCALARS = {
    FieldDescriptorProto.TYPE_STRING: ("str", '""'),
    FieldDescriptorProto.TYPE_BOOL: ("bool", "False"),
    FieldDescriptorProto.TYPE_BYTES: ("bytes", 'b""'),
    FieldDescriptorProto.TYPE_INT32: ("int", "0"),
    FieldDescriptorProto.TYPE_INT64: ("int", "0"),
    FieldDescriptorProto.TYPE_DOUBLE: ("float", "0.0"),
}
# Messages that Python has types of its own for: the type, and what makes the message of it.
_VALUES = {
    ".google.protobuf.Struct": ("Mapping[str, Json]", "struct"),
    ".google.protobuf.Duration": ("timedelta", "duration"),
    ".google.protobuf.FieldMask": ("Sequence[str]", "field_mask"),
}


def compile_python_client(output: Path) -> None:
    """Replaces `output` by the contract's messages and services, as the Python client has them.

    Raises:
        CompileError: a plugin does not take the contract, or it holds what this cannot express.
    """
    files = bare_contract()
    wanted = [file for file in files if file.package.startswith(f"{_OURS}.")]
    for file in wanted:
        _rename(file)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".contract-") as scratch:
        renamed, fresh = Path(scratch) / "contract.binpb", Path(scratch) / "fresh"
        renamed.write_bytes(FileDescriptorSet(file=files).SerializeToString())
        fresh.mkdir()
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={renamed}"),
            f"--plugin=protoc-gen-mypy={Path(sysconfig.get_path('scripts')) / 'protoc-gen-mypy'}",
            *(f"--python_out={fresh}", f"--mypy_out={fresh}"),
            *(file.name for file in wanted),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CompileError(done.stderr)
        compiled = fresh / _THEIRS.replace(".", "/")
        (compiled / "__init__.py").write_text('"""The contract\'s messages and services."""\n')
        elements = Elements.load()
        (compiled / "services.py").write_text(_services(elements))
        (compiled / "reasons.py").write_text(_reasons(elements))
        shutil.rmtree(output, ignore_errors=True)
        compiled.rename(output)


def _rename(file: FileDescriptorProto) -> None:
    for part in (file, *_parts(file)):
        for field, value in part.ListFields():
            if field.name in {"type_name", "input_type", "output_type"}:
                setattr(part, field.name, _renamed(value, f".{_OURS}.", f".{_THEIRS}."))
    file.package = _renamed(file.package, f"{_OURS}.", f"{_THEIRS}.")
    file.name = _module_path(file.name)
    imports = [_module_path(name) for name in file.dependency]
    del file.dependency[:]
    file.dependency.extend(imports)


def _parts(message: Message) -> Iterator[Message]:
    """Every message below a message."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield part
                yield from _parts(part)


def _module_path(name: str) -> str:
    return _renamed(name, f"{_OURS}/", f"{_THEIRS.replace('.', '/')}/")


def _renamed(name: str, ours: str, theirs: str) -> str:
    return theirs + name.removeprefix(ours) if name.startswith(ours) else name


def _services(elements: Elements) -> str:
    """The source of `services.py`."""
    # What a person signs in for; an identity provider needs no client of ours.
    public = {
        method.path: method
        for method in load_methods(DESCRIPTORS)
        if Access.ACCESS_USER in method.allow
    }
    imported: set[str] = set()
    bodies = [
        _service(name, elements, public, imported)
        for name, service in elements.services.items()
        if any(f"/{name}/{method.name}" in public for method in service.method)
    ]
    return "\n".join(
        [
            _SERVICES_HEAD,
            *(f"import {module} as {_alias(module)}" for module in sorted(imported)),
            *bodies,
        ]
    )


def _reasons(elements: Elements) -> str:
    """The source of `reasons.py`."""
    names = (value.name.removeprefix("REASON_") for value in elements.enums[_REASON].value[1:])
    return "\n".join([_REASONS_HEAD, *(f'    "{name}",' for name in names), "]", ""])


def _service(name: str, elements: Elements, public: dict[str, Method], imported: set[str]) -> str:
    service = elements.services[name]
    methods = [
        _method(public[path], described, elements, imported)
        for described in service.method
        if (path := f"/{name}/{described.name}") in public
    ]
    head = [
        f"class {service.name}:",
        textwrap.indent(_docstring(elements.comments[name]), "    "),
        "",
        "    def __init__(self, calls: Calls) -> None:",
        "        self._calls = calls\n",
    ]
    return "\n".join(["", *head, *methods])


def _method(
    method: Method, described: MethodDescriptorProto, elements: Elements, imported: set[str]
) -> str:
    request, answer = (
        _message(name, imported) for name in (described.input_type, described.output_type)
    )
    fields = elements.request(described).field
    own_id = None if method.idempotent else next((f.name for f in fields if _made(f, method)), None)
    repeatable = method.idempotent or own_id is not None
    constant = f'Method("{method.path}", {request}, {answer}, repeatable={repeatable})'
    comment = elements.comments[f"{method.service}.{method.name}"]
    if method.client_streaming:
        head, call = f"async def {_snake(method.name)}", "await self._calls.upload"
        parameters = [f"requests: Iterable[{request}] | AsyncIterable[{request}]"]
        asked, doc = "requests", _docstring(comment)
    else:
        ordered = sorted(fields, key=lambda field: not must_be_set(field))
        named = [_parameter(field, elements, imported) for field in ordered]
        parameters = ["*", *named] if named else []
        arguments = ", ".join(f"{field.name}={_argument(field, own_id)}" for field in fields)
        asked = f"{request}({arguments})"
        message = described.input_type.removeprefix(".")
        told = {field.name: elements.comments[f"{message}.{field.name}"] for field in ordered}
        doc = _docstring(comment, told)
        head, call = f"async def {_snake(method.name)}", "await self._calls.unary"
        if method.server_streaming:
            head, call = f"def {_snake(method.name)}", "self._calls.stream"
            answer = f"AsyncGenerator[{answer}, None]"
    lines = [
        f"{head}(",
        *(f"    {parameter}," for parameter in ("self", *parameters)),
        f") -> {answer}:",
        textwrap.indent(doc, "    "),
        f"    method = {constant}",
        f"    return {call}(method, {asked})",
    ]
    return textwrap.indent("\n".join([*lines, ""]), "    ")


def _made(field: FieldDescriptorProto, method: Method) -> bool:
    """Whether the field is the id of what the method makes: one that its route does not name."""
    return is_own_id(field) and all(route.verb == "POST" for route in method.routes)


def _parameter(field: FieldDescriptorProto, elements: Elements, imported: set[str]) -> str:
    kind, default = _type(field, elements, imported)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"{field.name}: Sequence[{kind}] = ()"
    if must_be_set(field):
        return f"{field.name}: {kind}"
    if field.proto3_optional or default is None:
        return f"{field.name}: {kind} | None = None"
    return f"{field.name}: {kind} = {default}"


def _type(
    field: FieldDescriptorProto, elements: Elements, imported: set[str]
) -> tuple[str, str | None]:
    """The type in Python, and the value that means that it was left out, unless that is None."""
    if field.type == FieldDescriptorProto.TYPE_ENUM:
        enum = _message(field.type_name, imported)
        zero = elements.enums[field.type_name.removeprefix(".")].value[0].name
        return f"{enum}.ValueType", f"{enum}.{zero}"
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        known = _VALUES.get(field.type_name)
        return known[0] if known else _message(field.type_name, imported), None
    if field.type not in _SCALARS:
        raise CompileError(f"{field.name} has a type that the Python client has no word for")
    return _SCALARS[field.type]


def _argument(field: FieldDescriptorProto, own_id: str | None) -> str:
    if field.name == own_id:
        return f"{field.name} or new_id()"
    if field.type_name in _VALUES:
        return f"{_VALUES[field.type_name][1]}({field.name})"
    return field.name


def _message(name: str, imported: set[str]) -> str:
    """A message's or enum's class in Python, whose module is noted."""
    package, _, own = name.removeprefix(".").rpartition(".")
    theirs = _renamed(f"{package}.", f"{_OURS}.", f"{_THEIRS}.")
    module = f"{theirs}{package.split('.')[1]}_pb2"
    imported.add(module)
    return f"{_alias(module)}.{own}"


def _alias(module: str) -> str:
    return module.rpartition(".")[2]


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_")


def _docstring(text: str, arguments: Mapping[str, str] = MappingProxyType({})) -> str:
    lines = [text]
    if arguments:
        lines += ["", "Args:"]
        for name, meaning in arguments.items():
            lines.append(textwrap.indent(f"{name}: {meaning}", "    ").replace("\n", "\n    "))
    written = "\n".join(lines).replace("\\", "\\\\")
    return f'"""{written}\n"""'


def main() -> None:
    """Compiles to where the argument says."""
    parser = argparse.ArgumentParser(prog="python -m contract.python", description=__doc__)
    parser.add_argument("output", type=Path, help="the folder to replace")
    try:
        compile_python_client(parser.parse_args().output.resolve())
    except CompileError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
