"""What the gateway needs to know besides the contract."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from contract.compile import DESCRIPTORS
from services.runtime.settings import IdentitySettings

Address = Annotated[str, Field(pattern=r"^.+:\d+$")]


class GatewaySettings(IdentitySettings):
    """The gateway's settings."""

    listen: Address = "127.0.0.1:8080"
    """The public address."""
    upstreams: dict[str, Address]
    """Where each service answers: its full name in the protos, and its address. As JSON."""
    bootstrap_file: Path
    """Where Envoy's configuration is written."""
    descriptors: Path = DESCRIPTORS
    """The compiled contract."""
    cors_origins: tuple[str, ...] = ()
    """The origins whose pages may call, exactly as browsers send them. As a JSON list."""
    max_request_bytes: Annotated[int, Field(ge=1024)] = 1 << 20
    """The largest request body."""
