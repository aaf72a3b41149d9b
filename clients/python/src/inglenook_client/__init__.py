"""The typed client of Inglenook: calls and live conversations, asynchronous.

Everything of the contract that is not here is in `inglenook_client.contract`: for each of its proto
files a module, such as `inglenook_client.contract.messages.v1.messages_pb2`.
"""

from inglenook_client.backoff import Backoff
from inglenook_client.client import Inglenook
from inglenook_client.contract.messages.v1.messages_pb2 import (
    Message,
    MessageChange,
    MessageState,
    Order,
    Role,
    SearchHit,
)
from inglenook_client.contract.reasons import Reason
from inglenook_client.contract.sessions.v1.sessions_pb2 import (
    Session,
    SessionChange,
    SessionState,
)
from inglenook_client.contract.users.v1.users_pb2 import ErasureReceipt, MeChange, User
from inglenook_client.conversation import Conversation
from inglenook_client.errors import FieldViolation, InglenookError
from inglenook_client.me import Me
from inglenook_client.remedies import Remedy
from inglenook_client.sessions import Sessions
from inglenook_client.tokens import TokenProvider

__all__ = [
    "Backoff",
    "Conversation",
    "ErasureReceipt",
    "FieldViolation",
    "Inglenook",
    "InglenookError",
    "Me",
    "MeChange",
    "Message",
    "MessageChange",
    "MessageState",
    "Order",
    "Reason",
    "Remedy",
    "Role",
    "SearchHit",
    "Session",
    "SessionChange",
    "SessionState",
    "Sessions",
    "TokenProvider",
    "User",
]
