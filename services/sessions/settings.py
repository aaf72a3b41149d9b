"""What the sessions service is told by its environment."""

from pathlib import Path

from services.runtime.settings import PartAddress, ServiceSettings


class SessionsSettings(ServiceSettings):
    """What the sessions service needs to run."""

    token_key_file: Path
    """The key of page and resume tokens: 32 bytes in base64, the same for all replicas."""
    messages_address: PartAddress
    """Where the messages service answers."""
    users_address: PartAddress
    """Where the users service answers."""
