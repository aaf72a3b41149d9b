"""What is held of the signed-in person while they are watched."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inglenook_client.contract.users.v1.users_pb2 import MeChange, User
from inglenook_client.feed import Held


@dataclass(frozen=True, slots=True)
class Me(Held[MeChange]):
    """The signed-in person as they are now."""

    user: User | None = None
    """Their profile; None until it is known."""
    current_session_id: str = ""
    """The session that they noted as the one they are in, or empty."""

    def changed(self, changes: Sequence[MeChange]) -> "Me":
        """What is held after some changes."""
        if not changes:
            return self
        latest = changes[-1]
        return replace(self, user=latest.user, current_session_id=latest.current_session.session_id)
