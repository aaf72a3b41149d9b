"""Which carrier brings a service's wake-ups, as its settings say."""

from services.runtime.database import Database
from services.runtime.settings import ServiceSettings
from services.runtime.wakeups import Carrier
from services.runtime.wakeups.postgres import PostgresCarrier
from services.runtime.wakeups.tree import TreeCarrier


def carrier_of(settings: ServiceSettings, database: Database, service: str) -> Carrier:
    """The carrier that the settings choose: NATS when its URL is set, else the database.

    A worker has whoever started it listen, and be told.

    The client library of NATS is imported only where it is used.

    Raises:
        RuntimeError: it is not installed.
    """
    if settings.worker_socket is not None:
        return TreeCarrier(settings.worker_socket)
    if not settings.nats_url:
        return PostgresCarrier(database, f"inglenook_{service}")
    try:
        from services.runtime.wakeups.nats import NatsCarrier  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"the package {error.name} is not installed: install inglenook[nats]"
        ) from None
    return NatsCarrier(settings.nats_url, settings.nats_credentials_file, f"inglenook.{service}")
