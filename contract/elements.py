"""The compiled contract element by element: names, comments, rules."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from inglenook.access.v1 import access_pb2

from contract.folders import DESCRIPTORS

# Descriptors that are parsed from here on hold the options that these define.
_KNOWN = (validate_pb2, access_pb2)

_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _MESSAGE_MESSAGES, _MESSAGE_ENUMS = 2, 3, 4
_ENUM_VALUES, _SERVICE_METHODS = 2, 2


@dataclass(frozen=True, slots=True)
class Elements:
    """Every message, enum and service by its full name, and what is written above each element."""

    messages: Mapping[str, DescriptorProto]
    enums: Mapping[str, EnumDescriptorProto]
    services: Mapping[str, ServiceDescriptorProto]
    comments: Mapping[str, str]
    """By full name. A value of an enum has the enum's name before its own: `….Role.ROLE_USER`."""

    @classmethod
    def load(cls) -> "Elements":
        """The elements of the compiled contract."""
        files = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
        messages: dict[str, DescriptorProto] = {}
        enums: dict[str, EnumDescriptorProto] = {}
        services: dict[str, ServiceDescriptorProto] = {}
        comments: dict[str, str] = {}
        for file in files:
            written = _written(file)
            for name, place, element in _elements(file):
                comments[name] = written.get(place, "")
                match element:
                    case DescriptorProto():
                        messages[name] = element
                    case EnumDescriptorProto():
                        enums[name] = element
                    case ServiceDescriptorProto():
                        services[name] = element
        return cls(messages, enums, services, comments)

    def request(self, method: MethodDescriptorProto) -> DescriptorProto:
        """The message that a method takes."""
        return self.messages[method.input_type.removeprefix(".")]


def rules_of(field: FieldDescriptorProto) -> validate_pb2.FieldRules:
    """A field's rules; empty where it has none."""
    return field.options.Extensions[validate_pb2.field]


def must_be_set(field: FieldDescriptorProto) -> bool:
    """Whether a request is refused that leaves the field out."""
    rules = rules_of(field)
    if rules.required:
        return True
    if field.proto3_optional or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        return False
    string = rules.string
    # A rule that the zero value breaks, which is what a field holds that was left out.
    return bool(
        string.uuid
        or string.min_len
        or string.const
        or 0 in rules.enum.not_in
        or any(number.HasField("gt") and number.gt >= 0 for number in (rules.int32, rules.int64))
    )


def is_own_id(field: FieldDescriptorProto) -> bool:
    """Whether the field is an id that the caller may make, and the server makes otherwise."""
    rules = rules_of(field)
    return rules.string.uuid and rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE


Place = tuple[int, ...]
Element = (
    DescriptorProto
    | EnumDescriptorProto
    | ServiceDescriptorProto
    | FieldDescriptorProto
    | MethodDescriptorProto
    | None
)
Named = tuple[str, Place, Element]
Item = TypeVar("Item")


def _written(file: FileDescriptorProto) -> dict[Place, str]:
    """What is written above each place of a file, without the slashes."""
    return {
        tuple(location.path): "\n".join(
            line.removeprefix(" ") for line in location.leading_comments.strip("\n").split("\n")
        )
        for location in file.source_code_info.location
        if location.leading_comments
    }


def _elements(file: FileDescriptorProto) -> Iterator[Named]:
    """Every element of a file: its full name, its place as descriptor.proto counts, itself."""
    package = file.package
    for place, message in _numbered((_FILE_MESSAGES,), file.message_type):
        yield from _of_message(f"{package}.{message.name}", place, message)
    for place, enum in _numbered((_FILE_ENUMS,), file.enum_type):
        yield from _of_enum(f"{package}.{enum.name}", place, enum)
    for place, service in _numbered((_FILE_SERVICES,), file.service):
        name = f"{package}.{service.name}"
        yield name, place, service
        for below, method in _numbered((*place, _SERVICE_METHODS), service.method):
            yield f"{name}.{method.name}", below, method


def _of_message(name: str, place: Place, message: DescriptorProto) -> Iterator[Named]:
    yield name, place, message
    for below, field in _numbered((*place, _MESSAGE_FIELDS), message.field):
        yield f"{name}.{field.name}", below, field
    for below, inner in _numbered((*place, _MESSAGE_MESSAGES), message.nested_type):
        yield from _of_message(f"{name}.{inner.name}", below, inner)
    for below, enum in _numbered((*place, _MESSAGE_ENUMS), message.enum_type):
        yield from _of_enum(f"{name}.{enum.name}", below, enum)


def _of_enum(name: str, place: Place, enum: EnumDescriptorProto) -> Iterator[Named]:
    yield name, place, enum
    for below, value in _numbered((*place, _ENUM_VALUES), enum.value):
        yield f"{name}.{value.name}", below, None


def _numbered(place: Place, items: Iterable[Item]) -> Iterator[tuple[Place, Item]]:
    return (((*place, number), item) for number, item in enumerate(items))
