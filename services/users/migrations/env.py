"""Alembic's entry to the migrations of users."""

from services.runtime.migration import run_migrations
from services.users.store import METADATA

run_migrations(METADATA)
