"""The one place that knows Parquet beside the ledger: opened so that no thread of Arrow's ever holds a Python object, and written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardprep.core.blob import Blob, FileBlob, read_blob


def open_parquet(blob: Blob) -> pq.ParquetFile:
    """Open a file; a local one is read as it is needed, any other at once.

    Arrow reads in threads of its own, with `use_threads=False` too. One that lets go of a Python object (bytes, a Python
    file) while the interpreter ends aborts the process, so Arrow gets files and memory that are its own.
    """
    if isinstance(blob, FileBlob) and blob.offset == 0:
        return pq.ParquetFile(pa.OSFile(blob.path, "r"))
    return open_parquet_bytes(read_blob(blob))


def open_parquet_bytes(data: bytes) -> pq.ParquetFile:
    """Open what was read already; its bytes are copied into Arrow's memory."""
    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    return pq.ParquetFile(pa.BufferReader(buffer))


def write_parquet(table: pa.Table, sink: Any) -> None:
    """Write a table to a binary file."""
    pq.write_table(table, sink, compression="zstd")


def write_groups(tables: Iterable[pa.Table], schema: pa.Schema, sink: Any) -> None:
    """Write a row group per table to a binary file, which may hold no more than one of them in memory."""
    with pq.ParquetWriter(pa.PythonFile(sink, "w"), schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
