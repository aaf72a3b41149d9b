"""No new migration holds a big table, or takes away what running code reads.

Squawk judges the SQL of each migration that is newer than the last release. Those up to it built
the first tables, and nobody runs them on data any more.
"""

import subprocess
import sysconfig
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import op
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory

from contract.folders import ROOT
from tests.migrations.released import HEADS
from tests.migrations.upgrading import upgrade

# What `migrate` sees to for all: how long a lock is waited for, one transaction for each migration.
# Small integers are the contract's: enums, and sequences that the contract bounds.
_SEEN_TO = (
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-robust-stmts",
    "require-lock-timeout",
    "require-statement-timeout",
)


def _newer(service: str) -> list[Script]:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "services" / service / "migrations"))
    script = ScriptDirectory.from_config(config)
    return list(script.iterate_revisions("head", HEADS[service]))


def _sql(upgrade: Callable[[], None]) -> str:
    written = StringIO()
    options = {"as_sql": True, "output_buffer": written}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    with Operations.context(context):
        upgrade()
    # As `run_migrations` has it: a transaction for each.
    return f"BEGIN;\n{written.getvalue()}\nCOMMIT;\n"


def _complaints(sql: str) -> str:
    squawk = Path(sysconfig.get_path("scripts")) / "squawk"
    command = [str(squawk), "--pg-version", "18", "--reporter", "gcc"]
    command += ["--exclude", ",".join(_SEEN_TO), "--stdin-filepath", "migration.sql"]
    done = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


@pytest.mark.parametrize("service", HEADS)
def test_every_new_migration_can_be_run_under_load(service: str) -> None:
    complaints = {
        migration.revision: found
        for migration in _newer(service)
        if (found := _complaints(_sql(migration.module.upgrade)))
    }
    assert complaints == {}


@pytest.mark.parametrize("service", HEADS)
def test_a_new_migration_that_is_not_one_transaction_can_be_begun_anew(
    service: str, empty_database: str
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as database:
        database.execute(f"CREATE SCHEMA {service}".encode())
        for migration in reversed(_newer(service)):
            upgrade(empty_database, service, migration.revision)
            if "CONCURRENTLY" in _sql(migration.module.upgrade):
                # As if it had been cut right before its end.
                database.execute(
                    f"UPDATE {service}.alembic_version SET version_num = %s".encode(),  # noqa: S608
                    (migration.down_revision,),
                )
                upgrade(empty_database, service, migration.revision)
        invalid = "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"
        assert database.execute(invalid.encode()).fetchall() == []


def _index_that_blocks_writes() -> None:
    op.create_index("by_time", "messages", ["create_time"])


def _column_without_a_default() -> None:
    op.add_column("messages", sa.Column("language", sa.Text, nullable=False))


def _check_of_every_row() -> None:
    op.create_check_constraint("positive", "messages", "sequence > 0")


def _column_that_is_read() -> None:
    op.drop_column("messages", "body")


def _other_type() -> None:
    op.alter_column("messages", "sequence", type_=sa.Text)


def _other_name() -> None:
    op.alter_column("messages", "body", new_column_name="envelope")


@pytest.mark.parametrize(
    ("upgrade", "rule"),
    [
        (_index_that_blocks_writes, "require-concurrent-index-creation"),
        (_column_without_a_default, "adding-required-field"),
        (_check_of_every_row, "constraint-missing-not-valid"),
        (_column_that_is_read, "ban-drop-column"),
        (_other_type, "changing-column-type"),
        (_other_name, "renaming-column"),
    ],
)
def test_a_migration_that_cannot_is_refused(upgrade: Callable[[], None], rule: str) -> None:
    assert rule in _complaints(_sql(upgrade))


def test_a_migration_that_can_is_not() -> None:
    def upgrade() -> None:
        op.add_column("messages", sa.Column("language", sa.Text))
        with op.get_context().autocommit_block():
            op.create_index("by_time", "messages", ["create_time"], postgresql_concurrently=True)
        op.create_table("translations", sa.Column("language", sa.Text, primary_key=True))
        op.create_index("by_language", "translations", ["language"])

    assert _complaints(_sql(upgrade)) == ""
