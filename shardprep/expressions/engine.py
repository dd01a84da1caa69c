"""A DuckDB connection that can read the tables handed to it and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    import pyarrow as pa

DuckDBError = duckdb.Error
TABLE = "shardprep_rows"
"""The only table: no column of a record has this name, so `a.b` is always a field of the column `a`."""
ROW = "shardprep_row"
"""The column that numbers the rows; names that queries give begin with it. No expression may use such a name."""


_SESSION = (
    "SET GLOBAL TimeZone = 'UTC'",
    "SET GLOBAL Calendar = 'gregorian'",
    "SET GLOBAL lock_configuration = true",
)


@dataclass(frozen=True, kw_only=True)
class QueryLimits:
    """What a query may use."""

    memory_mib: int = 1024
    temp_directory: str | None = None
    """Where a sort that exceeds the memory spills to; without it such a query is an error and nothing is written."""
    threads: int = 1


def connect(limits: QueryLimits) -> duckdb.DuckDBPyConnection:
    """Return a fresh in-memory database without files, network, extensions, Python variables or a way to change that.

    Its clock stands in UTC and its calendar is the Gregorian one, whatever the machine says.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "enable_external_access": "false",
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "memory_limit": f"{limits.memory_mib}MiB",
            "temp_directory": limits.temp_directory or "",
            "threads": str(limits.threads),
            # They would read files ahead, and there are none. Each takes 64 MiB of address space for its heap.
            "async_threads": "0",
        },
    )
    for statement in _SESSION:
        connection.execute(statement)
    return connection


@cache
def shared(limits: QueryLimits) -> duckdb.DuckDBPyConnection:
    """Return this process's database for these limits: making one takes longer than most queries, and a query leaves nothing in it."""
    return connect(limits)


def run_sql(connection: duckdb.DuckDBPyConnection, table: pa.Table, sql: str) -> pa.Table:
    """Return the result of one SELECT over `TABLE`, safe to call from several threads."""
    with connection.cursor() as cursor:
        cursor.register(TABLE, table)
        return cursor.sql(sql).to_arrow_table()


def first_line(error: duckdb.Error) -> str:
    """Return what DuckDB says, less the picture of the statement that we wrote around the user's expression."""
    return str(error).split("\n", 1)[0].strip()
