"""What is held of a person's sessions while they are watched."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inglenook_client.contract.sessions.v1.sessions_pb2 import Session, SessionChange
from inglenook_client.feed import Held


@dataclass(frozen=True, slots=True)
class Sessions(Held[SessionChange]):
    """A person's sessions as they are now: the latest ones, and all that came since."""

    sessions: tuple[Session, ...] = ()
    """The one with the latest activity first."""

    def changed(self, changes: Sequence[SessionChange]) -> "Sessions":
        """What is held after some changes."""
        sessions = {session.session_id: session for session in self.sessions}
        for change in changes:
            match change.WhichOneof("change"):
                case "upserted":
                    sessions[change.upserted.session_id] = change.upserted
                case "deleted":
                    sessions.pop(change.deleted.session_id, None)
        ordered = sorted(sessions.values(), key=_activity, reverse=True)
        return replace(self, sessions=tuple(ordered))


def _activity(session: Session) -> tuple[int, str]:
    return session.last_activity_time.ToNanoseconds(), session.session_id
