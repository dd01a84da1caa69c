"""What the values of each column are like: how many, how many are missing, and how they are spread."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
STATS = ("column", "count", "nulls", "min", *_QUANTILES, "max", "distinct", "most_common")


def column_stats(table: pa.Table) -> pa.Table:
    """Return a row per column of a flat table: numbers by their quantiles, booleans as 0 and 1, texts by their most common value."""
    rows = [{"column": name, **_stats(table.column(name).combine_chunks())} for name in table.column_names]
    kinds = {"column": pa.string(), "count": pa.int64(), "nulls": pa.int64(), "distinct": pa.int64(), "most_common": pa.string()}
    return pa.Table.from_pylist(rows, pa.schema([(name, kinds.get(name, pa.float64())) for name in STATS]))


def _stats(values: pa.Array) -> dict[str, Any]:
    kind = values.type
    found: dict[str, Any] = {"count": len(values) - values.null_count, "nulls": values.null_count}
    if pa.types.is_boolean(kind):
        values, kind = values.cast(pa.int8()), pa.int8()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        known = values.drop_null()
        if len(known):
            spread = pc.quantile(known, q=list(_QUANTILES.values())).to_pylist()
            ends = pc.min_max(known).as_py()
            found |= {"min": ends["min"], **dict(zip(_QUANTILES, spread, strict=True)), "max": ends["max"]}
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        counts = sorted(values.drop_null().value_counts().to_pylist(), key=lambda one: (-one["counts"], one["values"]))
        found |= {"distinct": len(counts), "most_common": f"{counts[0]['values']} ({counts[0]['counts']})" if counts else None}
    return found
