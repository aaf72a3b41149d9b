"""The contract as a client needs it: what is said and how, not by which rules.

The rules of requests, the routes and who may call what are the server's to know. They are left out,
and with them the protos that define them, which are larger than the contract itself.
"""

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from contract.folders import DESCRIPTORS

_LEFT_OUT = (
    *("buf/validate/", "inglenook/access/"),
    *("google/api/annotations.proto", "google/api/http.proto"),
)


def bare_contract() -> list[FileDescriptorProto]:
    """The compiled contract's files without what is left out, each after those that it imports."""
    # The messages whose options the contract extends must be known to tell extensions apart.
    descriptors = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    kept = [file for file in descriptors.file if not file.name.startswith(_LEFT_OUT)]
    for file in kept:
        _strip(file)
    return kept


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
