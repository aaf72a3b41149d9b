"""Alembic's entry to the migrations of messages."""

from services.messages.tables import METADATA
from services.runtime.migration import run_migrations

run_migrations(METADATA)
