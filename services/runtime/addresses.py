"""Where something is: on this host, or across a network that others may listen to."""

import ipaddress
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

_SCHEMES = ("dns:", "ipv4:", "ipv6:")
_ENCRYPTED = {"require", "verify-ca", "verify-full"}


def is_near(address: str) -> bool:
    """Whether an address leads to this host alone.

    It is `host:port`, `[::1]:port`, a URL without a path, or what gRPC takes besides:
    `dns:///host:port`, `ipv4:host:port,host:port`.
    """
    several = address.rpartition("/")[2]
    for scheme in _SCHEMES:
        several = several.removeprefix(scheme)
    return all(is_loopback(one.rpartition(":")[0].strip("[]")) for one in several.split(","))


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this host's own, whatever it is asked from."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(database_url: str) -> bool:
    """Whether nobody between can read what goes to a database: it is on this host, or over TLS."""
    found = conninfo_to_dict(database_url)
    hosts = str(found.get("host") or "localhost").split(",")
    addresses = str(found.get("hostaddr") or "").split(",")
    here = all(
        is_loopback(address or host) or (host.startswith(("/", "@")) and not address)
        for host, address in zip(hosts, addresses * len(hosts), strict=False)
    )
    return here or str(found.get("sslmode") or "prefer") in _ENCRYPTED


def is_plaintext(url: str) -> bool:
    """Whether what goes to a URL leaves this host so that others can read it, or change it."""
    parts = urlsplit(url)
    return parts.scheme != "https" and not is_loopback(parts.hostname or "")
