"""What an identity provider's events do to people's profiles.

An event's id is remembered in the transaction of its effect: delivered again, it has none. Events
come in any order: a profile knows as of when it is what the provider told, and takes only what is
newer; and where the provider deleted the person, what it told before makes nothing again. An event
that has an effect is recorded in the person's access log, in the same transaction.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from inglenook.audit.v1.audit_pb2 import ActorKind
from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Interval,
    LargeBinary,
    Text,
    Uuid,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.runtime.audit.chain import Access
from services.runtime.audit.recorder import record_within
from services.runtime.database import Connection, Database, fetch_all, fetch_one, statement
from services.runtime.encryption.data_keys import ScopeErasedError
from services.runtime.encryption.envelope import UnreadableError
from services.runtime.identity import current_call
from services.users.erasing import Erasing, erase_within
from services.users.holds import is_held_within
from services.users.identity_events import PersonDeleted, PersonStated
from services.users.locking import Locking
from services.users.profiles import Field, Profiles
from services.users.store import (
    ACCESS_LOG,
    ERASED,
    IDENTITY_EVENTS,
    LOCKED,
    USERS,
    UserRow,
    UserStore,
)

_log = logging.getLogger(__name__)

_REMEMBERED = timedelta(days=3)
"""How long an event's id is remembered: longer than Svix goes on delivering it (28 hours), and by
far longer than a delivery is accepted after it was signed."""
_FORGOTTEN_AT_ONCE = 100


class OnDeletion(StrEnum):
    """What is done with a person whom the identity provider has deleted."""

    LOCK = "lock"
    """Nothing is theirs to call any more, until an operator decides."""
    ERASE = "erase"


@dataclass(frozen=True, slots=True)
class _EventRow:
    event_id: str


@dataclass(frozen=True, slots=True)
class _StandingRow:
    is_erased: bool
    was_locked: bool
    is_locked: bool

    def bars(self, seen: UserRow | None) -> bool:
        """Whether the provider's word makes and changes nothing."""
        return self.is_erased or self.is_locked or (seen is None and self.was_locked)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What is to be stored; None for what stays as it is."""

    name: bytes | None = None
    email: bytes | None = None

    @property
    def is_change(self) -> bool:
        return self.name is not None or self.email is not None


class _ChangedMeanwhileError(Exception):
    """The profile is not what it was when it was read."""


_PERSON = bindparam("person", type_=Uuid)
_EVENT = IDENTITY_EVENTS.c
_old = (
    select(_EVENT.event_id)
    .where(_EVENT.receive_time < func.now() - bindparam("remembered", _REMEMBERED, type_=Interval))
    .limit(_FORGOTTEN_AT_ONCE)
    .with_for_update(skip_locked=True)
)
_REMEMBER = statement(
    insert(IDENTITY_EVENTS)
    .values(event_id=bindparam("event", type_=Text), receive_time=func.now())
    .on_conflict_do_nothing()
    .returning(_EVENT.event_id)
    .add_cte(delete(IDENTITY_EVENTS).where(_EVENT.event_id.in_(_old)).cte("forgotten")),
    _EventRow,
)
_lock = select(LOCKED.table.c.is_locked).where(LOCKED.table.c.user_id == _PERSON)
_STANDING = statement(
    select(
        (~ERASED.not_erased).label("is_erased"),
        _lock.exists().label("was_locked"),
        func.coalesce(_lock.scalar_subquery(), literal(False)).cast(Boolean).label("is_locked"),
    ),
    _StandingRow,
)
_TIME = bindparam("time", type_=DateTime(timezone=True))
_ADD = statement(
    insert(USERS)
    .values(
        user_id=_PERSON,
        name=bindparam("new_name", type_=LargeBinary),
        email=bindparam("new_email", type_=LargeBinary),
        revision=literal(1),
        feed_revision=literal(1),
        create_time=func.now(),
        update_time=func.now(),
        identity_time=_TIME,
    )
    .on_conflict_do_nothing()
    .returning(USERS),
    UserRow,
)
_USER = USERS.c
_changes = bindparam("changes", type_=BigInteger)
_CHANGE = statement(
    update(USERS)
    .where(
        _USER.user_id == _PERSON,
        _USER.revision == bindparam("seen_revision", type_=BigInteger),
        _USER.identity_time.is_not_distinct_from(
            bindparam("seen_time", type_=DateTime(timezone=True))
        ),
    )
    .values(
        name=func.coalesce(bindparam("new_name", type_=LargeBinary), _USER.name),
        email=func.coalesce(bindparam("new_email", type_=LargeBinary), _USER.email),
        revision=_USER.revision + _changes,
        feed_revision=_USER.feed_revision + _changes,
        identity_changes=_USER.identity_changes + _changes,
        update_time=case((_changes > 0, func.now()), else_=_USER.update_time),
        identity_time=_TIME,
    )
    .returning(USERS),
    UserRow,
)


class Provisioning:
    """Takes events."""

    def __init__(
        self,
        database: Database,
        profiles: Profiles,
        erasing: Erasing,
        locking: Locking,
        on_deletion: OnDeletion,
        *,
        issuer: str,
        log_key: bytes,
    ) -> None:
        """Takes where people are, and what is done with those whom the provider has deleted.

        `issuer` is the provider's name in access logs, `log_key` the key of their chains.
        """
        self._database = database
        self._store = UserStore(database)
        self._profiles = profiles
        self._erasing = erasing
        self._locking = locking
        self._on_deletion = on_deletion
        self._issuer = issuer
        self._log_key = log_key

    async def state(self, event_id: str, stated: PersonStated) -> UserRow | None:
        """Takes what the provider states of a person; gives the profile if that changed it."""
        while True:
            seen = await self._store.get(stated.user_id)
            try:
                sealed = await self._sealed(seen, stated)
                return await self._store_stated(event_id, stated, seen, sealed)
            except _ChangedMeanwhileError:
                continue

    async def delete(self, event_id: str, deleted: PersonDeleted) -> bool:
        """Takes that the provider has deleted a person; gives whether they were erased for it.

        Whoever has a session under a legal hold is locked instead.
        """
        parameters = {"person": deleted.user_id}
        erases = self._on_deletion is OnDeletion.ERASE
        async with self._database.transaction() as connection:
            await fetch_all(connection, ERASED.take, parameters)
            if not await _is_new(connection, event_id):
                return False
            if erases and await is_held_within(connection, deleted.user_id):
                erases = False
                _log.warning(
                    "locked and not erased: a session is under a legal hold",
                    extra={"person": str(deleted.user_id)},
                )
            if erases:
                await erase_within(connection, deleted.user_id, identity_provider=self._issuer)
            elif await self._locking.lock_within(connection, deleted.user_id, deleted.time):
                await self._record(connection, deleted)
        if erases:
            self._erasing.tell()
        else:
            await self._locking.tell()
        return erases

    async def _sealed(self, seen: UserRow | None, stated: PersonStated) -> _Sealed | None:
        """What of it is to be stored; None when nothing may be, or it is not newer.

        Raises:
            _ChangedMeanwhileError: the person was erased since.
            UnreadableError: the profile does not open, and its person is there.
        """
        standing = await self._database.one(_STANDING, {"person": stated.user_id})
        if standing is None or standing.bars(seen) or _is_known(seen, stated.time):
            return None
        new: dict[Field, str] = {"name": stated.name, "email": stated.email}
        if seen is not None:
            new = await self._changed(seen, new)
        try:
            return _Sealed(
                **{
                    field: await self._profiles.seal(stated.user_id, field, text)
                    for field, text in new.items()
                }
            )
        except ScopeErasedError:
            return None

    async def _changed(self, seen: UserRow, new: dict[Field, str]) -> dict[Field, str]:
        """What of it is not so already, and is the provider's to say.

        Raises:
            _ChangedMeanwhileError: the person was erased since.
            UnreadableError: the profile does not open, and its person is there.
        """
        said: dict[Field, bytes] = {"email": seen.email}
        if not seen.name_is_own:
            said["name"] = seen.name
        try:
            return {
                field: new[field]
                for field, envelope in said.items()
                if new[field] != await self._profiles.open(seen.user_id, field, envelope)
            }
        except UnreadableError:
            # Of a person who was erased since the row was read there is no key any more.
            if await self._store.get(seen.user_id) is None:
                raise _ChangedMeanwhileError from None
            raise

    async def _store_stated(
        self, event_id: str, stated: PersonStated, seen: UserRow | None, sealed: _Sealed | None
    ) -> UserRow | None:
        parameters: dict[str, object] = {"person": stated.user_id}
        async with self._database.transaction() as connection:
            await fetch_all(connection, ERASED.hold, parameters)
            if not await _is_new(connection, event_id):
                return None
            standing = await fetch_one(connection, _STANDING, parameters)
            if standing is None or standing.bars(seen) or _is_known(seen, stated.time):
                return None
            if sealed is None:
                raise _ChangedMeanwhileError
            new = {"time": stated.time, "new_name": sealed.name, "new_email": sealed.email}
            if seen is None:
                row = await fetch_one(connection, _ADD, {**parameters, **new})
            else:
                guard = {"seen_revision": seen.revision, "seen_time": seen.identity_time}
                guard |= {"changes": int(sealed.is_change)}
                row = await fetch_one(connection, _CHANGE, {**parameters, **new, **guard})
            if row is None:
                raise _ChangedMeanwhileError
            await self._record(connection, stated)
        return row if sealed.is_change else None

    async def _record(self, connection: Connection, event: PersonStated | PersonDeleted) -> None:
        """Records that the provider had to do with a person, in the transaction of the effect."""
        call = current_call.get()
        access = Access(
            user_id=event.user_id,
            time=datetime.now(UTC),
            actor_kind=ActorKind.ACTOR_KIND_IDENTITY_PROVIDER,
            actor=self._issuer,
            action=f"webhook {event.type}",
            request_id="" if call is None else call.request_id,
        )
        await record_within(connection, ACCESS_LOG, self._log_key, access)


async def _is_new(connection: Connection, event_id: str) -> bool:
    """Remembers an event; whether it was not known."""
    return await fetch_one(connection, _REMEMBER, {"event": event_id}) is not None


def _is_known(seen: UserRow | None, time: datetime) -> bool:
    """Whether a profile is as new as what the provider states."""
    return seen is not None and seen.identity_time is not None and time <= seen.identity_time
