"""What the contract says of each method: who may call it, its routes, whether it may be retried.

The auth interceptor, the gateway and the authorization tests all read the contract through here, so
a method that is added to a proto is guarded, served and tested without a line of code.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from inglenook.access.v1 import access_pb2
from inglenook.access.v1.access_pb2 import Access


class ContractError(Exception):
    """The contract leaves open what it must say; the text names the method."""


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP route of a method: `verb` in capitals, `template` as in google.api.http."""

    verb: str
    template: str
    body: str = ""
    """The field that the body holds: `*` for all that are not in the path. Empty for no body."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service, with what the contract says of it."""

    service: str
    """The service's full name: `inglenook.users.v1.UsersService`."""
    name: str
    request: str
    """The request message's full name."""
    client_streaming: bool
    server_streaming: bool
    allow: frozenset[Access.ValueType]
    callers: frozenset[str]
    """The services that may call it, of those that `allow` lets in; empty for every service."""
    passed_on_by: frozenset[str]
    """The services that call it with the token that they were called with."""
    bookkeeping: bool
    """Whether it is the services' own bookkeeping: calls by services are not recorded."""
    routes: tuple[Route, ...]
    idempotent: bool
    """Whether calling it twice is like calling it once, whatever the request holds."""

    @property
    def path(self) -> str:
        """The method's path in gRPC's HTTP/2 mapping: `/package.Service/Method`."""
        return f"/{self.service}/{self.name}"

    @property
    def public_facing(self) -> bool:
        """Whether the gateway serves it: people, or anyone, may call it."""
        return bool(self.allow & {Access.ACCESS_USER, Access.ACCESS_PUBLIC})


def methods_of(service: ServiceDescriptor) -> Iterator[Method]:
    """Every method of a service.

    Raises:
        ContractError: a method does not say who, or which services, may call it, or for whom.
    """
    for method in service.methods:
        yield _method(service.full_name, method)


def load_methods(descriptors: Path) -> list[Method]:
    """Every method of every service in a descriptor set written by `contract.compile`.

    Services of other packages than ours (that carry no `allow` anywhere) are not expected there.

    Raises:
        ContractError: a method does not say who may call it.
    """
    pool = DescriptorPool()
    files = FileDescriptorSet.FromString(descriptors.read_bytes())
    for file in files.file:
        pool.Add(file)
    return [
        method
        for file in files.file
        for service in file.service
        for method in methods_of(pool.FindServiceByName(f"{file.package}.{service.name}"))
    ]


def _method(service: str, method: MethodDescriptor) -> Method:
    # Options of a descriptor from another pool hold our extensions as unknown fields: reading them
    # again with this process's classes makes them known.
    options = MethodOptions.FromString(method.GetOptions().SerializeToString())
    allow = frozenset(options.Extensions[access_pb2.allow])
    if not allow or Access.ACCESS_UNSPECIFIED in allow:
        raise ContractError(
            f"{service}.{method.name} does not say who may call it:"
            " give it the option (inglenook.access.v1.allow)"
        )
    callers = frozenset(options.Extensions[access_pb2.callers])
    if allow == {Access.ACCESS_SERVICE} and not callers:
        raise ContractError(
            f"{service}.{method.name} does not say which services may call it:"
            " give it the option (inglenook.access.v1.callers)"
        )
    bookkeeping = options.Extensions[access_pb2.bookkeeping]
    if bookkeeping and allow != {Access.ACCESS_SERVICE}:
        raise ContractError(f"{service}.{method.name} is no bookkeeping: not only services call it")
    names_a_person = "user_id" in method.input_type.fields_by_name
    if allow == {Access.ACCESS_SERVICE} and not bookkeeping and not names_a_person:
        raise ContractError(
            f"{service}.{method.name} does not say whom it is about: give its request a `user_id`,"
            " by which calls are recorded, or the option (inglenook.access.v1.bookkeeping)"
        )
    return Method(
        service=service,
        name=method.name,
        request=method.input_type.full_name,
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        allow=allow,
        callers=callers,
        passed_on_by=frozenset(options.Extensions[access_pb2.passed_on_by]),
        bookkeeping=bookkeeping,
        routes=tuple(_routes(options)),
        idempotent=options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
    )


def _routes(options: MethodOptions) -> Iterator[Route]:
    if not options.HasExtension(annotations_pb2.http):
        return
    rule = options.Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        verb = binding.WhichOneof("pattern")
        if verb == "custom":
            yield Route(binding.custom.kind, binding.custom.path, binding.body)
        elif verb is not None:
            yield Route(verb.upper(), getattr(binding, verb), binding.body)
