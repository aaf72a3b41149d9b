"""The epoch of a database: a number that is another once it was restored from a backup.

Revisions grow again from where the backup stood, so a client's revision of before would name other
changes. The epoch tells them apart: it is made of PostgreSQL's system identifier (another cluster),
its timeline (a recovery to a point in time, or a promoted standby) and the object id of the table
(a dump that was loaded). Only a copy of the data files that is put back as it was looks the same:
there, a client is told by its revision as long as that is ahead.
"""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Table, func, literal_column, select

from services.runtime.database import Database, Statement, statement


@dataclass(frozen=True, slots=True)
class _EpochRow:
    epoch: int


def epoch_of(table: Table) -> Statement[_EpochRow]:
    """The statement that reads the epoch of the database that holds a table."""
    system = func.pg_control_system().table_valued("system_identifier").c.system_identifier
    timeline = func.pg_control_checkpoint().table_valued("timeline_id").c.timeline_id
    made_of = func.concat_ws(
        "/",
        select(system).scalar_subquery(),
        select(timeline).scalar_subquery(),
        func.to_regclass(f"{table.schema}.{table.name}").cast(BigInteger),
    )
    return statement(
        select(func.hashtextextended(made_of, literal_column("0")).label("epoch")), _EpochRow
    )


async def read_epoch(database: Database, query: Statement[_EpochRow]) -> int:
    """The present epoch: any number of 64 bits."""
    row = await database.one(query, {})
    if row is None:
        raise RuntimeError("the database does not say which one it is")
    return row.epoch
