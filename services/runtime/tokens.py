"""Verifying tokens: JWTs (RFC 7519) of trusted issuers, each checked once and then remembered."""

import hashlib
import logging
import time
from collections import OrderedDict
from typing import Any
from uuid import UUID

import grpc
import httpx
import jwt
from inglenook.errors.v1.errors_pb2 import Reason

from services.runtime.errors import Refusal
from services.runtime.identity import (
    EMAIL_CHARACTERS,
    NAME_CHARACTERS,
    Identity,
    fit_or_empty,
    user_id_of,
)
from services.runtime.key_sets import KeySet, key_set_of
from services.runtime.settings import TrustedIssuer

_log = logging.getLogger(__name__)

_REMEMBERED_TOKENS = 20_000


def token_missing() -> Refusal:
    """The call carries no token."""
    return Refusal(
        grpc.StatusCode.UNAUTHENTICATED,
        Reason.REASON_TOKEN_MISSING,
        "Send a token: authorization: Bearer <token>.",
    )


def token_expired() -> Refusal:
    """The token was good once."""
    return Refusal(
        grpc.StatusCode.UNAUTHENTICATED,
        Reason.REASON_TOKEN_EXPIRED,
        "The token has expired. Get a fresh one and try again.",
    )


def token_not_fresh() -> Refusal:
    """The call needs a token that was issued just now."""
    return Refusal(
        grpc.StatusCode.UNAUTHENTICATED,
        Reason.REASON_TOKEN_NOT_FRESH,
        "This needs a token of the last ten minutes. Sign in again and repeat it.",
    )


def token_invalid() -> Refusal:
    """The token was never good for this system."""
    return Refusal(
        grpc.StatusCode.UNAUTHENTICATED,
        Reason.REASON_TOKEN_INVALID,
        "The token was not accepted. Sign in again.",
    )


def token_misplaced() -> Refusal:
    """The token came with the certificate of a part that does not carry it."""
    return Refusal(
        grpc.StatusCode.UNAUTHENTICATED,
        Reason.REASON_TOKEN_INVALID,
        "The connection's certificate does not carry this token. Call a service with its own name's"
        " certificate, and for a person through the gateway.",
    )


class TokenVerifier:
    """Tells who a token's bearer is, by what trusted issuers say."""

    def __init__(
        self, issuers: tuple[TrustedIssuer, ...], client: httpx.AsyncClient, leeway: float
    ) -> None:
        """Takes the trusted issuers, what fetches their keys, and the forgiven clock difference."""
        self._issuers = {issuer.issuer: (issuer, key_set_of(issuer, client)) for issuer in issuers}
        self._leeway = leeway
        self._verified: OrderedDict[bytes, Identity] = OrderedDict()

    async def verify(self, token: str) -> Identity:
        """Who the bearer is.

        Raises:
            Refusal: TOKEN_EXPIRED or TOKEN_INVALID; DEPENDENCY_UNAVAILABLE when the issuer's keys
                cannot be had.
        """
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        identity = self._verified.get(digest)
        if identity is None:
            identity = await self._verify(token)
            self._verified[digest] = identity
            if len(self._verified) > _REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        if identity.expires_at <= time.time():
            self._verified.pop(digest, None)
            raise token_expired()
        return identity

    async def _verify(self, token: str) -> Identity:
        try:
            header = jwt.get_unverified_header(token)
            claimed = jwt.decode(token, options={"verify_signature": False})
            issuer, keys = self._issuer(claimed.get("iss"))
            key = await keys.find(header.get("kid"))
            if key is None:
                raise jwt.InvalidKeyError("the issuer has no key of this id")
            claims = self._decode(token, key, issuer)
            return _identity(claims, issuer, header.get("kid"), self._leeway)
        except jwt.ExpiredSignatureError:
            raise token_expired() from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            # The kind of failure, and not its text, which may quote the token.
            _log.info("token refused", extra={"cause": type(error).__name__})
            raise token_invalid() from None

    def _issuer(self, claimed: object) -> tuple[TrustedIssuer, KeySet]:
        found = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if found is None:
            raise jwt.InvalidIssuerError("not a trusted issuer")
        return found

    def _decode(self, token: str, key: jwt.PyJWK, issuer: TrustedIssuer) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(issuer.algorithms),
            issuer=issuer.issuer,
            audience=list(issuer.audiences) or None,
            leeway=self._leeway,
            options={"require": ["exp", "iss", "sub"], "verify_aud": bool(issuer.audiences)},
        )
        if issuer.authorized_parties and claims.get("azp") not in issuer.authorized_parties:
            raise jwt.InvalidAudienceError("azp is not an authorized party")
        return claims


def _identity(
    claims: dict[str, Any], issuer: TrustedIssuer, key_id: object, leeway: float
) -> Identity:
    subject, expires_at = str(claims["sub"]), float(claims["exp"]) + leeway
    if issuer.kind == "user":
        return Identity(
            user_id=user_id_of(issuer.issuer, subject),
            service=None,
            expires_at=expires_at,
            issued_at=float(claims.get("iat", 0)),
            name=fit_or_empty(claims.get("name"), NAME_CHARACTERS),
            email=fit_or_empty(claims.get("email"), EMAIL_CHARACTERS),
        )
    # RFC 8693, section 4.1: `sub` is whom the call is for, `act.sub` who makes it.
    actor = claims.get("act")
    service = subject if actor is None else str(actor["sub"])
    # All services have one issuer: without this, any of them could sign as any other.
    if str(key_id).partition("/")[0] != service:
        raise jwt.InvalidKeyError("a service's keys are called `name` or `name/…`")
    user_id = None if actor is None else UUID(subject)
    return Identity(user_id=user_id, service=service, expires_at=expires_at)
