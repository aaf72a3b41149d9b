"""An example of each call: values from the contract's rules, and ids as a shell's variables."""

import json
import re

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
from inglenook.access.v1.access_pb2 import Access

from contract.elements import Elements, must_be_set, rules_of
from contract.methods import Method, Route

_PARAMETER = re.compile(r"\{(\w+)\}")


def body_example(elements: Elements, message: DescriptorProto, verb: str) -> dict[str, object]:
    """A request's body: what must be set, and what the contract has an example of.

    An id is the name of a shell's variable: `session_id` is `$SESSION`.
    """
    return {
        field.json_name: value
        for field in message.field
        if (value := _value(elements, field, verb)) is not None
    }


def curl(elements: Elements, method: Method, route: Route, request: DescriptorProto) -> str:
    """A call of the method by curl, with the caller's token in `$TOKEN`.

    `$INGLENOOK` is where the gateway answers, `$SESSION` one of the caller's sessions, `$MESSAGE` a
    message of it.
    """
    path = _PARAMETER.sub(lambda match: _variable(match[1]), route.template)
    lines = [f'curl -sS --fail-with-body "$INGLENOOK{path}"']
    if method.server_streaming:
        lines[0] = lines[0].replace("curl -sS", "curl -sSN")
    if route.verb not in {"GET", "POST"} or not route.body:
        lines[0] += f" -X {route.verb}" if route.verb != "GET" else ""
    if Access.ACCESS_PUBLIC not in method.allow:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if route.body == "*":
        example = body_example(elements, without(request, in_path(route)), route.verb)
        body: object = [example] if method.client_streaming else example
        lines.append(f"-d '{_quoted(json.dumps(body))}'")
    elif route.body:
        lines.append(f"--data-binary @{route.body}.json")
    return " \\\n  ".join(lines)


def in_path(route: Route) -> set[str]:
    """The names of the fields that are in a route's path."""
    return set(_PARAMETER.findall(route.template))


def without(request: DescriptorProto, names: set[str]) -> DescriptorProto:
    """A request without some of its fields."""
    rest = DescriptorProto()
    rest.CopyFrom(request)
    del rest.field[:]
    rest.field.extend(field for field in request.field if field.name not in names)
    return rest


def _value(elements: Elements, field: FieldDescriptorProto, verb: str) -> object:
    string = rules_of(field).string
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        return _messages(elements, field, verb)
    # A PUT says what shall be from now on: also what may be left out.
    if string.uuid and (must_be_set(field) or verb == "PUT"):
        return _variable(field.name)
    if string.example:
        return string.example[0]
    if field.type == FieldDescriptorProto.TYPE_ENUM:
        return _first_allowed(elements, field) if must_be_set(field) else None
    return string.const or None


def _messages(elements: Elements, field: FieldDescriptorProto, verb: str) -> object:
    """A list of one, where there is a list: a single message has a default."""
    if field.label != FieldDescriptorProto.LABEL_REPEATED:
        return None
    return [body_example(elements, elements.messages[field.type_name.removeprefix(".")], verb)]


def _first_allowed(elements: Elements, field: FieldDescriptorProto) -> str:
    refused = set(rules_of(field).enum.not_in)
    values = elements.enums[field.type_name.removeprefix(".")].value
    return next(value.name for value in values if value.number not in refused)


def _variable(field: str) -> str:
    return f"${field.removesuffix('_id').upper()}"


def _quoted(body: str) -> str:
    """A JSON text between single quotes, out of which the variables stand in double ones."""
    return re.sub(r"(\$[A-Z]+)", r"""'"\1"'""", body.replace("'", "'\\''"))
