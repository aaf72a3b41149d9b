"""How many requests a person, and an address, may make: token buckets, one for each.

An address may be many people's: a household's, a clinic's. It is looked at first, before a token
is; then a person, wherever they call from. Each process of the gateway counts by itself.
"""

import math

from gateway.settings import GatewaySettings

BY_ADDRESS = "limit-by-address"
BY_PERSON = "limit-by-person"
ISSUER_HEADER = "x-token-issuer"
SUBJECT_HEADER = "x-token-subject"
"""Where the claims of a token that verified stand between the filters; no other part gets them."""
LIMITED = "local_rate_limited"
"""Envoy's own word for such a refusal."""

_LIMIT = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_MINUTE = 60
_COUNTED = 10_000
"""How many buckets are kept: of those who called last. Who is forgotten begins with a full one."""
_IPV6_NETWORK = 64
"""The bits of an IPv6 address that are one household's."""


def limits_by_address(settings: GatewaySettings) -> list[dict[str, object]]:
    """The filter that counts requests of an address, if they are limited."""
    of_address: dict[str, object] = {"masked_remote_address": {"v6_prefix_mask_len": _IPV6_NETWORK}}
    return _limit(
        BY_ADDRESS, settings.address_requests_per_minute, {"masked_remote_address": of_address}
    )


def limits_by_person(settings: GatewaySettings) -> list[dict[str, object]]:
    """The filter that counts requests of a person, if they are limited."""
    of_person: dict[str, dict[str, object]] = {
        header: {"request_headers": {"header_name": header, "descriptor_key": header}}
        for header in (ISSUER_HEADER, SUBJECT_HEADER)
    }
    return _limit(BY_PERSON, settings.person_requests_per_minute, of_person)


def seconds_to_wait(settings: GatewaySettings) -> int:
    """After how many seconds whoever was refused may try again: a bucket fills steadily."""
    limits = (settings.address_requests_per_minute, settings.person_requests_per_minute)
    return max((math.ceil(_MINUTE / limit) for limit in limits if limit), default=0)


def _limit(
    name: str, per_minute: int, actions: dict[str, dict[str, object]]
) -> list[dict[str, object]]:
    """`actions` say, by the key of each part, what tells one bucket from another."""
    if not per_minute:
        return []
    always = {"default_value": {"numerator": 100}}
    bucket = {
        "max_tokens": per_minute,
        "tokens_per_fill": per_minute,
        "fill_interval": f"{_MINUTE}s",
    }
    return [
        {
            "name": name,
            "typed_config": {
                "@type": _LIMIT,
                "stat_prefix": name,
                "filter_enabled": always,
                "filter_enforced": always,
                "rate_limited_as_resource_exhausted": True,
                "max_dynamic_descriptors": _COUNTED,
                "rate_limits": [{"actions": list(actions.values())}],
                "descriptors": [
                    # A key without a value: a bucket for each value.
                    {"entries": [{"key": key} for key in actions], "token_bucket": bucket}
                ],
            },
        }
    ]
