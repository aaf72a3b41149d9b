"""A database with nothing in it."""

from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from local.stack import Stack


@pytest.fixture
def empty_database(stack: Stack) -> Iterator[str]:
    """The URL of a database of its own."""
    name = f"migrations_{uuid4().hex}"
    with psycopg.connect(stack.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        yield urlsplit(stack.admin_url)._replace(path=f"/{name}").geturl()
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
