"""Envoy's admin interface, on a socket of this user's alone: it could also stop Envoy.

Over it Envoy is told that its end comes, and shows its metrics.
"""

from pathlib import Path
from types import TracebackType

import httpx

from gateway.settings import GatewaySettings

ADMIN_CLUSTER = "admin"
"""The interface as a cluster of Envoy's own, for what it shows to others."""
_OWNER_ALONE = 0o600
_ACTIVE = "http.public.downstream_rq_active"


def admin(settings: GatewaySettings) -> dict[str, object]:
    """The interface, as Envoy's configuration has it."""
    return {"address": {"pipe": {"path": str(_socket(settings)), "mode": _OWNER_ALONE}}}


def admin_clusters(settings: GatewaySettings) -> list[dict[str, object]]:
    """The interface as a cluster."""
    address = {"pipe": {"path": str(_socket(settings))}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return [
        {
            "name": ADMIN_CLUSTER,
            "type": "STATIC",
            "load_assignment": {"cluster_name": ADMIN_CLUSTER, "endpoints": endpoints},
        }
    ]


class Admin:
    """The interface of a running Envoy: `async with Admin(settings) as admin`.

    Its methods raise `httpx.TransportError` when Envoy does not answer.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(_socket(settings)))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://envoy")

    async def __aenter__(self) -> "Admin":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def announce_end(self) -> None:
        """It takes calls as before, says that it is not ready, and asks callers to reconnect."""
        await self._do("/healthcheck/fail")
        await self._do("/drain_listeners?graceful&skip_exit&inboundonly")

    async def refuse_connections(self) -> None:
        """No connection is accepted any more."""
        await self._do("/drain_listeners?inboundonly")

    async def active_requests(self) -> int:
        """How many requests are under way."""
        answer = await self._client.get("/stats", params={"filter": f"^{_ACTIVE}$"})
        return int(answer.text.rpartition(":")[2] or 0)

    async def _do(self, path: str) -> None:
        (await self._client.post(path)).raise_for_status()


def _socket(settings: GatewaySettings) -> Path:
    return settings.bootstrap_file.resolve().with_name("envoy-admin.sock")
