"""The client: typed calls, and what is live."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from grpc import ChannelCredentials, aio, ssl_channel_credentials

from inglenook_client.backoff import Backoff
from inglenook_client.calls import Calls
from inglenook_client.contract.messages.v1.messages_pb2 import ExportMessagesResponse
from inglenook_client.contract.services import (
    MessagesService,
    RespondService,
    SessionsService,
    UsersService,
)
from inglenook_client.contract.users.v1.users_pb2 import ExportMeResponse
from inglenook_client.conversation import Conversation
from inglenook_client.exports import whole, whole_messages
from inglenook_client.live import follow
from inglenook_client.me import Me
from inglenook_client.sessions import Sessions
from inglenook_client.tokens import TokenProvider, Tokens

_OPTIONS = (
    # Pings notice a connection that leads nowhere, over which streams would be opened anew.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # How long to wait between attempts is decided here, and not by the channel once more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # By its name the least wait; to gRPC also how long connecting may take, TLS among it.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.primary_user_agent", "inglenook-client"),
)
# A heartbeat may be late by the network and by a machine that was busy.
_SILENCE_FACTOR = 2.5


class Inglenook:
    """A person's conversations, through a gateway. Use as `async with`, or `close` it.

    `users`, `sessions`, `messages` and `respond` have every method of the contract that is open to
    people, and raise `InglenookError`. The `watch_…` methods give what is live, as iterators that
    no cut ends; the `export_…` methods give what is whole.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | TokenProvider,
        timeout: float = 30.0,
        heartbeat: int = 15,
        backoff: Backoff | None = None,
        credentials: ChannelCredentials | None = None,
    ) -> None:
        """Takes where the gateway answers, and who calls.

        Args:
            base_url: `https://talk.example`, or `http://localhost:8080` without encryption.
            token: The person's token, or who gives it whenever it is needed.
            timeout: For how many seconds a call is tried. Watches last as long as they are wanted.
            heartbeat: After how many seconds of silence a watch's server gives a sign of life: at
                least 5.
            backoff: How long to wait before trying again.
            credentials: How to know an https gateway. Default: by a certificate that is publicly
                trusted.

        Raises:
            ValueError: `base_url` is not of that form.
        """
        backoff = backoff or Backoff()
        self._channel = _channel(base_url, credentials)
        self._tokens = Tokens(token)
        calls = Calls(self._channel, self._tokens, timeout=timeout, backoff=backoff)
        self.users = UsersService(calls)
        self.sessions = SessionsService(calls)
        self.messages = MessagesService(calls)
        self.respond = RespondService(calls)
        self._heartbeat = heartbeat
        self._silence = heartbeat * _SILENCE_FACTOR
        self._backoff = backoff

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what is under way, and the connection."""
        await self._channel.close()

    def watch_messages(
        self, session_id: str, *, newest: int = 50, since: Conversation | None = None
    ) -> AsyncGenerator[Conversation, None]:
        """A session's messages, live: the newest ones first, and then whenever something changed.

        `newest` is how many messages the first conversation holds, at most 200. With `since`, one
        that an earlier watch gave, it goes on from there with what was missed.

        Raises:
            InglenookError: it was refused for good, for example since there is no such session.
        """
        return follow(
            since.settled() if since else Conversation(),
            lambda resume_token: self.messages.watch_messages(
                session_id=session_id,
                newest=newest,
                resume_token=resume_token,
                heartbeat_seconds=self._heartbeat,
            ),
            silence=self._silence,
            backoff=self._backoff,
        )

    def watch_sessions(
        self, *, newest: int = 200, since: Sessions | None = None
    ) -> AsyncGenerator[Sessions, None]:
        """The person's sessions, live: those with the latest activity, and whenever one changed.

        Raises:
            InglenookError: it was refused for good.
        """
        return follow(
            since.settled() if since else Sessions(),
            lambda resume_token: self.sessions.watch_sessions(
                newest=newest, resume_token=resume_token, heartbeat_seconds=self._heartbeat
            ),
            silence=self._silence,
            backoff=self._backoff,
        )

    def watch_me(self, *, since: Me | None = None) -> AsyncGenerator[Me, None]:
        """The signed-in person, live, and the session that they noted as the one they are in.

        Raises:
            InglenookError: it was refused for good.
        """
        return follow(
            since.settled() if since else Me(),
            lambda resume_token: self.users.watch_me(
                resume_token=resume_token, heartbeat_seconds=self._heartbeat
            ),
            silence=self._silence,
            backoff=self._backoff,
        )

    def export_messages(
        self, *, session_id: str = ""
    ) -> AsyncGenerator[ExportMessagesResponse, None]:
        """Everything that was said in a session, or in all, in frames; the last has the `end`.

        It goes on after a cut where it was.

        Raises:
            InglenookError: it was refused, or not all of it came.
        """
        return whole_messages(
            lambda resume_token: self.messages.export_messages(
                session_id=session_id, resume_token=resume_token
            ),
            self._backoff,
        )

    async def export_me(self) -> AsyncGenerator[ExportMeResponse, None]:
        """Everything of the person's, in frames; the last one has the `end`.

        It ends with its token, and begins with a fresh one.

        Raises:
            InglenookError: it was refused, or not all of it came.
        """
        await self._tokens.replace()
        async with aclosing(whole(self.users.export_me())) as frames:
            async for frame in frames:
                yield frame


def _channel(base_url: str, credentials: ChannelCredentials | None) -> aio.Channel:
    url = urlsplit(base_url)
    if url.scheme not in {"http", "https"} or not url.hostname or url.path.strip("/"):
        raise ValueError(f"{base_url!r} is not of the form https://host or http://host:port")
    port = url.port or (443 if url.scheme == "https" else 80)
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if url.scheme == "http":
        return aio.insecure_channel(f"{host}:{port}", options=_OPTIONS)
    credentials = credentials or ssl_channel_credentials()
    return aio.secure_channel(f"{host}:{port}", credentials, options=_OPTIONS)
