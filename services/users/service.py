"""The methods of UsersService."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC
from typing import TYPE_CHECKING, Any
from uuid import UUID

import grpc
from grpc import aio
from inglenook.sessions.v1 import sessions_pb2
from inglenook.sessions.v1.sessions_pb2 import SessionState
from inglenook.users.v1 import users_pb2

from services.runtime.cursors import Cursors
from services.runtime.encryption.data_keys import ScopeErasedError
from services.runtime.encryption.envelope import UnreadableError
from services.runtime.erasure import person_erased
from services.runtime.errors import Refusal, etag_stale, session_not_found
from services.runtime.etags import etag_of, expected_revision
from services.runtime.field_masks import changed_text
from services.runtime.identity import caller, person
from services.runtime.live import Live
from services.runtime.pages import page_limit, page_place
from services.runtime.peers import TIMEOUT, answer_of, on_behalf_of_caller
from services.runtime.timestamps import timestamp_of
from services.runtime.tokens import token_not_fresh
from services.users.access_log import AccessLogs
from services.users.erasing import Erasing, Receipt
from services.users.exporting import Exporting
from services.users.holds import HeldError, LegalHolds, person_held
from services.users.identity_events import PersonDeleted, PersonStated
from services.users.live import watched
from services.users.profiles import Field, Profiles
from services.users.provisioning import Provisioning
from services.users.store import UserRow, UserStore
from services.users.webhooks import Deliveries

if TYPE_CHECKING:
    from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceAsyncStub


_FRESH_SECONDS = 600.0


class Users:
    """A person's own profile and current session."""

    def __init__(
        self,
        *,
        store: UserStore,
        profiles: Profiles,
        sessions: "SessionsServiceAsyncStub",
        exporting: Exporting,
        erasing: Erasing,
        holds: LegalHolds,
        deliveries: Deliveries,
        provisioning: Provisioning,
        feeds: Live,
        access_logs: AccessLogs,
        cursors: Cursors,
    ) -> None:
        """Takes where profiles are, what encrypts them, who has the sessions, who follows.

        `exporting` gathers all of a person's, `erasing` erases it, `holds` are what keeps it;
        `deliveries` of the identity provider's events are what `provisioning` does things for.
        `access_logs` are those of all services, `cursors` make their page tokens.
        """
        self._exporting = exporting
        self._erasing = erasing
        self._holds = holds
        self._deliveries = deliveries
        self._provisioning = provisioning
        self._store = store
        self._profiles = profiles
        self._sessions = sessions
        self._live = feeds
        self._access_logs = access_logs
        self._cursors = cursors

    async def GetMe(
        self, _request: users_pb2.GetMeRequest, _context: object
    ) -> users_pb2.GetMeResponse:
        """The caller's profile, made if there is none."""
        return users_pb2.GetMeResponse(user=await self._user(await self._row()))

    async def UpdateMe(
        self, request: users_pb2.UpdateMeRequest, _context: object
    ) -> users_pb2.UpdateMeResponse:
        """Changes the caller's profile."""
        row = await self._row()
        expected = expected_revision(request.etag)
        name = changed_text(request, request.update_mask, "name")
        if name is None:
            if expected not in (None, row.revision):
                raise etag_stale()
            return users_pb2.UpdateMeResponse(user=await self._user(row))
        sealed = await self._seal(row.user_id, "name", name)
        changed = await self._store.rename(row.user_id, sealed, expected=expected)
        if changed is None:
            await self._row()  # Tells who was erased meanwhile.
            raise etag_stale()
        await self._announce(changed)
        return users_pb2.UpdateMeResponse(user=await self._user(changed))

    async def SetCurrentSession(
        self, request: users_pb2.SetCurrentSessionRequest, _context: object
    ) -> users_pb2.SetCurrentSessionResponse:
        """Notes which session the caller is in, if it is the caller's."""
        session = UUID(request.session_id) if request.session_id else None
        if session is not None:
            await self._require_session(session)
        row = await self._row()
        await self._announce(await self._store.set_current_session(row.user_id, session))
        # It may have been deleted before it was noted, and then nobody tells of it any more.
        if session is not None and not await self._has_session(session):
            await self._clear(row.user_id, session)
            raise session_not_found()
        return users_pb2.SetCurrentSessionResponse(current_session=_current(session))

    async def GetCurrentSession(
        self, _request: users_pb2.GetCurrentSessionRequest, _context: object
    ) -> users_pb2.GetCurrentSessionResponse:
        """The session the caller is in."""
        row = await self._store.get(person())
        noted = None if row is None else row.current_session_id
        if noted is not None:
            if await self._has_session(noted):
                return users_pb2.GetCurrentSessionResponse(current_session=_current(noted))
            await self._clear(person(), noted)
        latest = await self._latest_active_session()
        return users_pb2.GetCurrentSessionResponse(current_session=_current(latest))

    async def ForgetSession(
        self, request: users_pb2.ForgetSessionRequest, _context: object
    ) -> users_pb2.ForgetSessionResponse:
        """Clears the note that a person is in a session."""
        await self._clear(UUID(request.user_id), UUID(request.session_id))
        return users_pb2.ForgetSessionResponse()

    async def HoldSession(
        self, request: users_pb2.HoldSessionRequest, _context: object
    ) -> users_pb2.HoldSessionResponse:
        """Notes whether a session is under a legal hold."""
        noted = await self._holds.note(
            UUID(request.user_id),
            UUID(request.session_id),
            held=request.held,
            change_time=request.change_time.ToDatetime(tzinfo=UTC),
        )
        return users_pb2.HoldSessionResponse(erased=not noted)

    async def DescribeHolds(
        self, request: users_pb2.DescribeHoldsRequest, _context: object
    ) -> users_pb2.DescribeHoldsResponse:
        """What is known of legal holds on sessions."""
        named = [(UUID(one.user_id), UUID(one.session_id)) for one in request.sessions]
        return users_pb2.DescribeHoldsResponse(
            holds=[
                users_pb2.HoldStanding(held=row.is_held, settled=not row.is_erased)
                for row in await self._holds.standings(named)
            ]
        )

    async def WatchMe(
        self, request: users_pb2.WatchMeRequest, _context: object
    ) -> AsyncIterator[bytes]:
        """The caller's profile and current session, live."""
        feed = watched(person(), self._row, self._me)
        async with aclosing(self._live.watches.responses(feed, request)) as responses:
            async for response in responses:
                yield response

    async def ExportMe(
        self, _request: users_pb2.ExportMeRequest, _context: object
    ) -> AsyncIterator[users_pb2.ExportMeResponse]:
        """Everything of the caller's."""
        with self._live.streams.one_more():
            profile = await self._user(await self._row())
            async with aclosing(self._exporting.frames(profile)) as frames:
                async for frame in frames:
                    yield frame

    async def EraseMe(
        self, _request: users_pb2.EraseMeRequest, _context: object
    ) -> users_pb2.EraseMeResponse:
        """Erases the caller."""
        if time.time() - caller().issued_at > _FRESH_SECONDS:
            raise token_not_fresh()
        row = await self._store.get(person())
        try:
            receipt = await self._erasing.erase(person())
        except HeldError:
            raise person_held() from None
        self._tell_erased(person(), row)
        return users_pb2.EraseMeResponse(receipt=_receipt(receipt))

    async def ListMyAccessLog(
        self, request: users_pb2.ListMyAccessLogRequest, _context: object
    ) -> users_pb2.ListMyAccessLogResponse:
        """Who else had to do with what is the caller's."""
        purpose = ("access log", str(person()))
        place = page_place(self._cursors, purpose, request.page_token)
        limit = page_limit(request.page_size)
        entries, left = await self._access_logs.page(person(), place, limit)
        token = "" if left is None else self._cursors.make(purpose, *left)
        return users_pb2.ListMyAccessLogResponse(entries=entries, next_page_token=token)

    async def ReceiveIdentityWebhook(
        self,
        request: users_pb2.ReceiveIdentityWebhookRequest,
        context: "aio.ServicerContext[Any, Any]",
    ) -> users_pb2.ReceiveIdentityWebhookResponse:
        """Takes an event of the identity provider's."""
        metadata = dict(context.invocation_metadata() or ())
        delivered = self._deliveries.received(metadata, request.event.data)
        match delivered.event:
            case PersonStated() as stated:
                changed = await self._provisioning.state(delivered.event_id, stated)
                await self._announce(changed)
            case PersonDeleted() as deleted:
                row = await self._store.get(deleted.user_id)
                if await self._provisioning.delete(delivered.event_id, deleted):
                    self._tell_erased(deleted.user_id, row)
            case None:
                pass
        return users_pb2.ReceiveIdentityWebhookResponse()

    def _tell_erased(self, erased: UUID, row: UserRow | None) -> None:
        """Forgets the keys of a person who was erased; who watches looks, and finds them gone."""
        self._profiles.forget(erased)
        revision = 1 if row is None else row.feed_revision + 1
        self._live.feeds.learn(str(erased), revision)
        self._live.wakeups.send(str(erased), revision)

    async def _clear(self, user_id: UUID, session: UUID) -> None:
        """Clears the note of a session that is gone, unless another one is noted by now."""
        await self._announce(await self._store.clear_current_session(user_id, session))

    async def _announce(self, changed: UserRow | None) -> None:
        """Tells whoever watches of what was just stored, if anything was."""
        if changed is not None:
            change = await self._me(changed)
            self._live.announce(str(changed.user_id), change, changed.feed_revision)

    async def _me(self, row: UserRow) -> users_pb2.MeChange:
        return users_pb2.MeChange(
            user=await self._user(row), current_session=_current(row.current_session_id)
        )

    async def _row(self) -> UserRow:
        """The caller's row, made from what the token states if there is none."""
        user_id = person()
        row = await self._store.get(user_id)
        if row is not None:
            return row
        identity = caller()
        name = await self._seal(user_id, "name", identity.name)
        email = await self._seal(user_id, "email", identity.email)
        added = await self._store.add(user_id, name=name, email=email)
        # None when another call of the same person was first.
        found = added or await self._store.get(user_id)
        if found is None:
            raise person_erased()
        return found

    async def _user(self, row: UserRow) -> users_pb2.User:
        try:
            name = await self._profiles.open(row.user_id, "name", row.name)
            email = await self._profiles.open(row.user_id, "email", row.email)
        except UnreadableError:
            # Of a person who was erased since the row was read there is no key any more.
            if await self._store.get(row.user_id) is None:
                raise person_erased() from None
            raise
        return users_pb2.User(
            user_id=str(row.user_id),
            name=name,
            email=email,
            create_time=timestamp_of(row.create_time),
            update_time=timestamp_of(row.update_time),
            etag=etag_of(row.revision),
        )

    async def _seal(self, user_id: UUID, field: Field, text: str) -> bytes:
        try:
            return await self._profiles.seal(user_id, field, text)
        except ScopeErasedError:
            raise person_erased() from None

    async def _require_session(self, session: UUID) -> None:
        request = sessions_pb2.GetSessionRequest(session_id=str(session))
        metadata = on_behalf_of_caller()
        await answer_of(self._sessions.GetSession(request, timeout=TIMEOUT, metadata=metadata))

    async def _has_session(self, session: UUID) -> bool:
        try:
            await self._require_session(session)
        except Refusal as refusal:
            if refusal.code is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def _latest_active_session(self) -> UUID | None:
        request = sessions_pb2.ListSessionsRequest(
            page_size=1, state=SessionState.SESSION_STATE_ACTIVE
        )
        metadata = on_behalf_of_caller()
        page = await answer_of(
            self._sessions.ListSessions(request, timeout=TIMEOUT, metadata=metadata)
        )
        return UUID(page.sessions[0].session_id) if page.sessions else None


def _receipt(receipt: Receipt) -> users_pb2.ErasureReceipt:
    elsewhere = (*(receipt.session_key_ids or ()), *(receipt.message_key_ids or ()))
    return users_pb2.ErasureReceipt(
        user_id=str(receipt.user_id),
        erase_time=timestamp_of(receipt.erase_time),
        complete=receipt.is_complete,
        sessions=receipt.sessions or 0,
        messages=receipt.messages or 0,
        key_ids=map(str, (*receipt.key_ids, *elsewhere)),
        access_log_entries=receipt.access_log_entries,
        operator=receipt.operator or "",
        identity_provider=receipt.identity_provider or "",
    )


def _current(session: UUID | None) -> users_pb2.CurrentSession:
    return users_pb2.CurrentSession(session_id="" if session is None else str(session))
