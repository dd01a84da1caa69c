"""Opening Parquet so that no thread of Arrow's ever holds a Python object."""

from __future__ import annotations

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
