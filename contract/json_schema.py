"""The contract's messages as JSON Schemas, as OpenAPI 3.1 has them.

JSON is as ProtoJSON has it, and as the gateway's transcoder reads and writes it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
)
from google.protobuf.message import Message

from contract.elements import Elements, must_be_set, rules_of

Json = dict[str, Any]

_SCALARS: Mapping[int, Json] = {
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    # A string, since JavaScript's numbers cannot hold it.
    FieldDescriptorProto.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
}
_WELL_KNOWN: Mapping[str, Json] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    # Seconds, with at most nine digits after the point.
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    ".google.protobuf.FieldMask": {"type": "string"},
    ".google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    # Whatever comes, as it comes.
    ".google.api.HttpBody": {},
}


class Schemas:
    """Schemas of messages, by their short names; those that are referred to are remembered."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self._wanted: dict[str, str] = {}

    def wanted(self) -> Json:
        """Every schema that was referred to, and those that these refer to."""
        schemas: Json = {}
        while missing := [name for name in self._wanted if name not in schemas]:
            for name in missing:
                full_name = self._wanted[name]
                enum = self._elements.enums.get(full_name)
                schemas[name] = (
                    self._enum(full_name, enum)
                    if enum is not None
                    else self.of_message(full_name, self._elements.messages[full_name])
                )
        return schemas

    def of_message(self, full_name: str, message: DescriptorProto) -> Json:
        """The schema of a message, or of a part of its fields."""
        comments = self._elements.comments
        described = [comments[full_name], *_rules_of_message(message), *_oneofs(message)]
        schema: Json = {"type": "object", "description": "\n\n".join(filter(None, described))}
        required = [field.json_name for field in message.field if must_be_set(field)]
        if required:
            schema["required"] = required
        schema["properties"] = {
            field.json_name: self.of_field(f"{full_name}.{field.name}", field)
            for field in message.field
        }
        return schema

    def _enum(self, full_name: str, enum: EnumDescriptorProto) -> Json:
        comments = self._elements.comments
        listed = "\n".join(
            f"- `{value.name}`: {comments[f'{full_name}.{value.name}']}" for value in enum.value
        )
        return {
            "type": "string",
            "enum": [value.name for value in enum.value],
            "description": f"{comments[full_name]}\n\n{listed}",
        }

    def of_field(self, full_name: str, field: FieldDescriptorProto) -> Json:
        """The schema of a field."""
        schema = self._type(field) | _constraints(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            rules = rules_of(field).repeated
            schema = {"type": "array", "items": schema}
            if rules.HasField("max_items"):
                schema["maxItems"] = rules.max_items
        description = self._elements.comments[full_name]
        if field.type_name == ".google.protobuf.FieldMask":
            known = ", ".join(f"`{path}`" for path in getattr(rules_of(field).field_mask, "in"))
            description += f" Names with commas between, of these: {known}."
        return schema | {"description": description}

    def _type(self, field: FieldDescriptorProto) -> Json:
        if field.type_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[field.type_name])
        if field.type_name:
            return self.reference(field.type_name)
        return dict(_SCALARS[field.type])

    def reference(self, type_name: str) -> Json:
        """A reference to the schema of a message or an enum."""
        full_name = type_name.removeprefix(".")
        name = full_name.rpartition(".")[2]
        if self._wanted.setdefault(name, full_name) != full_name:
            raise ValueError(f"{name} has two meanings: {full_name} and {self._wanted[name]}")
        return {"$ref": f"#/components/schemas/{name}"}


_STRING_RULES = {
    "const": "const",
    "min_len": "minLength",
    "max_len": "maxLength",
    "pattern": "pattern",
}
_NUMBER_RULES = {"gte": "minimum", "gt": "exclusiveMinimum"}


def _constraints(field: FieldDescriptorProto) -> Json:
    """A field's rules in JSON Schema's words."""
    rules = rules_of(field)
    string = rules.string
    found = _renamed(string, _STRING_RULES)
    for number in (rules.int32, rules.int64):
        found |= _renamed(number, _NUMBER_RULES)
    if string.uuid:
        found["format"] = "uuid"
    if string.not_contains:
        found["not"] = {"pattern": re.escape(string.not_contains)}
    if string.example:
        found["examples"] = list(string.example)
    if rules.duration.example:
        found["examples"] = [example.ToJsonString() for example in rules.duration.example]
    return found


def _renamed(rules: Message, names: Mapping[str, str]) -> Json:
    return {theirs: getattr(rules, ours) for ours, theirs in names.items() if rules.HasField(ours)}


def _rules_of_message(message: DescriptorProto) -> Iterator[str]:
    for rule in message.options.Extensions[validate_pb2.message].cel:
        yield f"Rule: {rule.message}."


def _oneofs(message: DescriptorProto) -> Iterator[str]:
    for number, oneof in enumerate(message.oneof_decl):
        members = [
            f"`{field.json_name}`"
            for field in message.field
            if field.HasField("oneof_index") and field.oneof_index == number
        ]
        # An optional field is a oneof of its own, by a name of the compiler's.
        if not oneof.name.startswith("_"):
            yield f"At most one of {', '.join(members)}."
