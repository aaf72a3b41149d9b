"""Alembic's entry to the migrations of sessions."""

from services.runtime.migration import run_migrations
from services.sessions.store import METADATA

run_migrations(METADATA)
