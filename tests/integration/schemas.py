"""Tables of a test's own, in a schema that no service knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import MetaData, create_engine
from sqlalchemy.pool import NullPool

from local.stack import Stack


@contextmanager
def tables_of(stack: Stack, metadata: MetaData) -> Iterator["psycopg.Connection[Any]"]:
    """Makes the tables, in the metadata's schema; gives a connection that may do everything."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(stack.admin_url),
        poolclass=NullPool,
    )
    with psycopg.connect(stack.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {metadata.schema}".encode())
        metadata.create_all(engine)
        yield admin
        admin.execute(f"DROP SCHEMA {metadata.schema} CASCADE".encode())
