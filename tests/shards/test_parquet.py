"""Parquet is opened so that no thread of Arrow's can let go of a Python object while the interpreter ends."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import shardprep
from shardprep.core.blob import BytesBlob, FileBlob
from shardprep.shards.parquet import open_parquet, open_parquet_bytes


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(1000))}), sink)
    return sink.getvalue()


def test_arrow_holds_no_bytes_of_ours() -> None:
    data = parquet_bytes()
    before = sys.getrefcount(data)
    file = open_parquet_bytes(data)
    assert sys.getrefcount(data) == before, "Arrow would let go of it in a thread of its own"
    assert file.read(use_threads=False)["a"].to_pylist() == list(range(1000))


def test_a_file_and_a_blob_are_read_alike(tmp_path: Path) -> None:
    data = parquet_bytes()
    (tmp_path / "a.parquet").write_bytes(data)
    local = open_parquet(FileBlob(str(tmp_path / "a.parquet"), 0, len(data)))
    assert local.read(use_threads=False).equals(open_parquet(BytesBlob(data)).read(use_threads=False))


def test_rows_are_read_through_it_everywhere() -> None:
    # A footer is read in the thread that asks for it, so `read_footer` may use a Python file.
    root = Path(shardprep.__file__).parent
    found = [
        f"{path.relative_to(root)}: {line}"
        for path in root.rglob("*.py")
        for line in re.findall(r".*pq\.ParquetFile\(.*", path.read_text())
    ]
    others = [line for line in found if not line.startswith("shards/parquet.py")]
    assert [line for line in others if "metadata.metadata" not in line and "-> pq.ParquetFile" not in line] == []
