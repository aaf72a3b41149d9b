"""The contract as OpenAPI 3.1: what is open to people over HTTP, and how.

Everything is read from the protos: descriptions are their comments, constraints their rules, paths
their routes.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus

from google.protobuf.descriptor_pb2 import DescriptorProto, MethodDescriptorProto
from inglenook.access.v1.access_pb2 import Access

from contract.elements import Elements, must_be_set
from contract.examples import curl, in_path, without
from contract.folders import DESCRIPTORS
from contract.json_schema import Json, Schemas
from contract.methods import Method, Route, load_methods

_REASON = "inglenook.errors.v1.Reason"
_HTTP_STATUS = re.compile(r"HTTP (\d{3})")
_PARAMETER = re.compile(r"\{(\w+)\}")
_INTRODUCTION = """\
A person's conversations over HTTP. Requests and answers are JSON. A field that is left out of a
request has its default; a field of a body that a request does not have is not looked at, and a
query parameter that it does not have is refused.

Where an answer is a stream, each frame of it is a line of JSON, sent as soon as there is one.

In the examples, `$INGLENOOK` is where the gateway answers, `$TOKEN` the caller's token, `$SESSION`
the id of one of the caller's sessions and `$MESSAGE` that of a message of it."""
_ERROR: Json = {
    "type": "object",
    "description": "A `google.rpc.Status`: how and why a call was refused, and what to do.",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "The status code of gRPC."},
        "message": {"type": "string", "description": "What to do, for a person."},
        "details": {
            "type": "array",
            "description": "A `google.rpc.ErrorInfo` with the reason; where fields broke rules, a"
            " `google.rpc.BadRequest` with each of them; where the call may be repeated after a"
            " while, a `google.rpc.RetryInfo`.",
            "items": {
                "type": "object",
                "required": ["@type"],
                "properties": {
                    "@type": {"type": "string"},
                    "reason": {"$ref": "#/components/schemas/Reason"},
                    "domain": {"const": "inglenook"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                    "fieldViolations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "field": {"type": "string"},
                                "description": {"type": "string"},
                                "reason": {"type": "string"},
                            },
                        },
                    },
                    "retryDelay": {"type": "string", "description": "Seconds: `0.250s`."},
                },
            },
        },
    },
}


def openapi(version: str = "v1") -> Json:
    """The OpenAPI document of all methods that are open to people, or to anyone."""
    elements = Elements.load()
    writer = _Writer(elements)
    public = {method.path: method for method in load_methods(DESCRIPTORS) if method.public_facing}
    paths: dict[str, Json] = defaultdict(dict)
    tags: list[Json] = []
    for name, service in elements.services.items():
        methods = [
            (public[path], described)
            for described in service.method
            if (path := f"/{name}/{described.name}") in public
        ]
        if methods:
            tags.append({"name": service.name, "description": elements.comments[name]})
        for method, described in methods:
            for route in method.routes:
                path = _PARAMETER.sub(lambda match: f"{{{_camel(match[1])}}}", route.template)
                paths[path][route.verb.lower()] = writer.operation(method, described, route)
    return {
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {"title": "Inglenook", "version": version, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": tags,
        "paths": dict(paths),
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The token of a person who is signed in.",
                }
            },
            "schemas": writer.schemas(),
        },
    }


class _Writer:
    """Writes operations, and remembers which schemas they need."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self._schemas = Schemas(elements)
        reasons = elements.enums[_REASON].value[1:]
        self._reasons = {
            value.name.removeprefix("REASON_"): elements.comments[f"{_REASON}.{value.name}"]
            for value in reasons
        }

    def operation(self, method: Method, described: MethodDescriptorProto, route: Route) -> Json:
        """What one route of a method does."""
        full_name = f"{method.service}.{method.name}"
        description = self._elements.comments[full_name]
        request = self._elements.request(described)
        operation: Json = {
            "operationId": f"{method.name[0].lower()}{method.name[1:]}",
            "tags": [method.service.rpartition(".")[2]],
            "summary": _first_sentence(description),
            "description": description,
            "parameters": [*self._parameters(method, request, route)],
            "responses": {
                "200": self._answer(method, described.output_type),
                **self._refusals(description, self._elements.comments[method.service]),
            },
            "x-codeSamples": [
                {"lang": "Shell", "source": curl(self._elements, method, route, request)}
            ],
        }
        if route.body:
            operation["requestBody"] = self._body(method, request, route)
        if Access.ACCESS_PUBLIC in method.allow:
            operation["security"] = []
        return operation

    def schemas(self) -> Json:
        """Every schema that operations refer to."""
        schemas = {"Error": _ERROR, "Reason": self._reason_schema(), **self._schemas.wanted()}
        return dict(sorted(schemas.items()))

    def _parameters(self, method: Method, request: DescriptorProto, route: Route) -> Iterator[Json]:
        placed = in_path(route)
        for field in request.field:
            if field.name not in placed and route.body in {"*", field.name}:
                continue
            schema = self._schemas.of_field(f"{method.request}.{field.name}", field)
            yield {
                "name": field.json_name,
                "in": "path" if field.name in placed else "query",
                "required": field.name in placed or must_be_set(field),
                "description": schema.pop("description", ""),
                "schema": schema,
            }

    def _body(self, method: Method, request: DescriptorProto, route: Route) -> Json:
        if route.body == "*":
            schema = self._schemas.of_message(method.request, without(request, in_path(route)))
            required = bool(schema.get("required"))
        else:
            field = next(field for field in request.field if field.name == route.body)
            schema = self._schemas.of_field(f"{method.request}.{field.name}", field)
            required = must_be_set(field)
        if method.client_streaming:
            schema = {"type": "array", "items": schema, "description": "One request after another."}
        return {
            "required": required or method.client_streaming,
            "content": {"application/json": {"schema": schema}},
        }

    def _answer(self, method: Method, answer: str) -> Json:
        schema = self._schemas.reference(answer)
        description = self._elements.comments[answer.removeprefix(".")]
        if method.server_streaming:
            description = f"A stream, each line of it one of these. {description}"
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    def _refusals(self, *comments: str) -> Json:
        """The answers for the reasons that a method's and its service's comment name."""
        named = set(re.findall(r"\b[A-Z][A-Z_]+[A-Z]\b", " ".join(comments))) & set(self._reasons)
        by_status: dict[str, list[str]] = defaultdict(list)
        for reason in self._reasons:
            if reason in named:
                for status in _HTTP_STATUS.findall(self._reasons[reason].partition("\n")[0]):
                    by_status[status].append(reason)
        error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        return {
            status: {
                "description": f"{HTTPStatus(int(status)).phrase}: {', '.join(reasons)}.",
                "content": error,
            }
            for status, reasons in sorted(by_status.items())
        }

    def _reason_schema(self) -> Json:
        listed = "\n".join(
            f"- `{reason}`: {_prose(comment)}" for reason, comment in self._reasons.items()
        )
        return {
            "type": "string",
            "enum": list(self._reasons),
            "description": f"{self._elements.comments[_REASON]}\n\n{listed}",
        }


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.:]) ", text.replace("\n", " "), maxsplit=1)[0].rstrip(":")


def _prose(comment: str) -> str:
    """A reason's comment in one line, without its example."""
    return comment.partition("\n\n")[0].replace("\n", " ")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)
