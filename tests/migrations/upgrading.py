"""Bringing a service's tables to a revision, without its role."""

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from contract.folders import ROOT


def upgrade(database: str, service: str, revision: str) -> None:
    """Migrates a database, which its URL names, from where it stands up to a revision."""
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database), poolclass=NullPool
    )
    config = Config()
    config.set_main_option("script_location", str(ROOT / "services" / service / "migrations"))
    with engine.connect() as opened:
        config.attributes["connection"] = opened
        command.upgrade(config, revision)
