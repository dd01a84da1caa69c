"""Ledgers: rows come back as they were, whatever was changed in the file is noticed, and DuckDB reads them as they are."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.blob import BytesBlob, FileBlob
from shardprep.core.sample import Sample
from shardprep.errors import ShardError, StoreError
from shardprep.shards.counts import count_rows
from shardprep.shards.ledger import (
    Footer,
    InputRef,
    InputRow,
    Ledger,
    OutputRow,
    PlacedTensor,
    TarRef,
    comparable,
    encode_ledger,
    read_footer,
    read_ledger,
    read_table,
    shard_digest,
)
from shardprep.shards.tar import Placed

TAR = TarRef(name="000000-abcdefabcdef.tar", sha256="ab" * 32, size=10240)


def ledger_of(records: list[Mapping[str, Any]], tar: TarRef | None = TAR) -> Ledger:
    """A kept input and output row per record, a dropped and a failed one besides."""
    placed = Placed("mp4", 512, 3, 0xFFFFFFFF, "cd" * 16)
    outputs = tuple(
        OutputRow(key=f"k{i}", parent=f"k{i}", fate="kept", record=record, members=(placed,) if tar else ())
        for i, record in enumerate(records)
    )
    inputs = (
        *(InputRow(key=row.key, fate="kept", into=(row.key,), digest="ef" * 16) for row in outputs),
        InputRow(key="short", fate="dropped", stage="cut_clips", reason="too-short", detail="0.1 s, at least 2 s"),
        InputRow(key="broken", fate="failed", stage="probe_media", reason="decode-error", detail='h264: "moov" 坏'),
    )
    footer = Footer(
        step="scores",
        shard="000000",
        fingerprint="f" * 64,
        step_fingerprint="e" * 64,
        digest=shard_digest(inputs, outputs, tar),
        inputs=(InputRef(set="clips", ledger="000000-01234567.parquet", digest="d" * 64),),
        tar=tar,
        counts=count_rows(inputs, outputs),
        seconds={"probe_media": 0.125},
        versions={"av": "18.0"},
        supersedes=("000000-76543210.parquet",),
    )
    return Ledger(inputs, outputs, footer)


def round_trip(ledger: Ledger, types: Mapping[str, str] | None = None) -> Ledger:
    return read_ledger(BytesBlob(encode_ledger(ledger, types or {})), "a ledger")


# --- what comes back

RECORD = {
    "source": {"path": "a b/é\n'坏'.mp4", "bytes": 1 << 40, "name": ""},
    "scores": {"flow": 0.1, "whole": 3.0, "is_good": True},
    "per_frame": {"flow": [0.5, 2.0], "none": []},
    "meta": {"deep": {"er": {"est": "x"}}, "tags": ["a", ""]},
}


def test_rows_and_footer_come_back() -> None:
    ledger = ledger_of([RECORD, {"source": {"path": "b"}}, {}])
    assert round_trip(ledger) == ledger


def test_rows_are_counted_by_fate_and_by_reason() -> None:
    counts = ledger_of([{}, {}]).footer.counts
    assert counts == {
        "input.kept": 2,
        "input.dropped": 1,
        "input.dropped:too-short": 1,
        "input.failed": 1,
        "input.failed:decode-error": 1,
        "output.kept": 2,
    }


def test_a_ledger_without_rows_comes_back() -> None:
    ledger = Ledger((), (), Footer(step="s", shard="000000", fingerprint="f", step_fingerprint="e"))
    assert round_trip(ledger) == ledger
    assert round_trip(ledger, {"scores.flow": "double"}) == ledger


def test_tensors_of_a_packed_shard_come_back() -> None:
    ledger = ledger_of([{}])
    tensor = PlacedTensor(name="latent/latent", dtype="BF16", shape=(16, 2, 3, 4), offset=640, num_bytes=768)
    ledger = replace(ledger, outputs=(replace(ledger.outputs[0], tensors=(tensor,)),))
    assert round_trip(ledger) == ledger
    assert "tensors" not in read_table(BytesBlob(encode_ledger(ledger_of([{}]), {})), "x").column_names


@pytest.mark.parametrize("empty", [None, {}, {"inner": None}, {"inner": {}}])
def test_nothing_is_nothing(empty: Any) -> None:
    """Parquet cannot tell a null from an absent name: neither comes back, and the digest knows no difference."""
    with_empty, without = ledger_of([{"a": {"x": 1, "y": empty}}]), ledger_of([{"a": {"x": 1}}])
    assert round_trip(with_empty).outputs == without.outputs
    assert with_empty.footer.digest == without.footer.digest


def test_same_bytes_for_the_same_rows() -> None:
    assert encode_ledger(ledger_of([RECORD]), {}) == encode_ledger(ledger_of([RECORD]), {})


names = st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1, max_size=6)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
whole = st.integers(-(1 << 53), 1 << 53)
leaves: dict[str, st.SearchStrategy[Any]] = {
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "bool": st.booleans(),
    "string": texts,
    "list<double>": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    "list<string>": st.lists(texts, max_size=3),
    "number": whole | st.floats(-1e15, 1e15),
    "list<number>": st.lists(whole | st.none(), max_size=3),
    "list<list>": st.lists(st.lists(whole, max_size=2), max_size=2),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Mapping[str, Any]], dict[str, str]]:
    """Records whose columns have a type each, some declared, with values that are absent here and there."""
    columns = draw(st.dictionaries(st.lists(names, min_size=1, max_size=3).map(tuple), st.sampled_from(sorted(leaves)), max_size=6))
    reserved = {"role", "key", "parent", "fate", "stage", "reason", "detail", "into", "digest", "members", "tensors"}
    plain = {
        path: kind
        for path, kind in columns.items()
        if path[0] not in reserved and not any(other != path and other[: len(path)] == path for other in columns)
    }
    records = []
    for _ in range(draw(st.integers(0, 4))):
        values = {".".join(path): draw(st.none() | leaves[kind]) for path, kind in plain.items()}
        records.append(Sample("", {}).with_columns(values).record)
    declared = {
        ".".join(path): kind for path, kind in plain.items() if kind in ("double", "int64", "bool", "string") and draw(st.booleans())
    }
    return records, declared


@given(tables())
def test_any_records_come_back_with_their_digest(made: tuple[list[Mapping[str, Any]], dict[str, str]]) -> None:
    records, declared = made
    ledger = ledger_of(records)
    back = round_trip(ledger, declared)
    assert back.inputs == ledger.inputs
    assert [comparable(row.record) for row in back.outputs] == [comparable(record) for record in records]
    assert shard_digest(back.inputs, back.outputs, back.footer.tar) == ledger.footer.digest
    # Copied into the ledger of a shard made again, beside rows that give the columns other types.
    wider = [{**row.record, "other": {"x": i + 0.5}} for i, row in enumerate(back.outputs)]
    again = ledger_of([row.record for row in round_trip(ledger_of(wider)).outputs])
    assert again.footer.digest == ledger_of(wider).footer.digest


def test_a_column_of_whole_numbers_has_one_digest_as_int_and_as_float() -> None:
    ints, floats = ledger_of([{"a": {"n": 1}}, {"a": {"n": 2}}]), ledger_of([{"a": {"n": 1.0}}, {"a": {"n": 2.0}}])
    assert ints.footer.digest == floats.footer.digest
    mixed = ledger_of([{"a": {"n": 1}}, {"a": {"n": 2.5}}])
    assert shard_digest(*(lambda b: (b.inputs, b.outputs, b.footer.tar))(round_trip(mixed))) == mixed.footer.digest
    assert mixed.footer.digest != ints.footer.digest


def test_the_digest_hangs_on_rows_and_tar_and_on_nothing_else() -> None:
    ledger = ledger_of([RECORD])
    base = ledger.footer.digest

    def with_row(**changes: Any) -> str:
        return shard_digest((replace(ledger.inputs[0], **changes), *ledger.inputs[1:]), ledger.outputs, TAR)

    assert with_row(detail="other words", digest="0" * 32) == base
    assert with_row(reason="x") != base
    assert with_row(into=("k1",)) != base
    assert shard_digest(tuple(reversed(ledger.inputs)), ledger.outputs, TAR) == base
    assert shard_digest(ledger.inputs, ledger.outputs, replace(TAR, sha256="00" * 32)) != base
    assert shard_digest(ledger.inputs, ledger.outputs, replace(TAR, name="another")) == base
    changed = replace(ledger.outputs[0], record={**RECORD, "scores": {"flow": 0.2}})
    assert shard_digest(ledger.inputs, (changed,), TAR) != base


# --- types


def test_declared_types_hold_without_a_value_and_others_are_inferred() -> None:
    types = {"scores.flow": "double", "clip.index": "int64", "caption.text": "string", "per_frame.flow": "list<double>", "latent": "member"}
    data = encode_ledger(ledger_of([{"scores": {"flow": 3}, "meta": {"n": 1}}]), types)
    schema = read_table(BytesBlob(data), "x").schema
    assert schema.field("scores").type == pa.struct([("flow", pa.float64())])
    assert schema.field("clip").type == pa.struct([("index", pa.int64())])
    assert schema.field("caption").type == pa.struct([("text", pa.string())])
    assert schema.field("per_frame").type == pa.struct([("flow", pa.list_(pa.field("element", pa.float64())))])
    assert schema.field("meta").type == pa.struct([("n", pa.int64())])
    assert "latent" not in schema.names
    assert read_ledger(BytesBlob(data), "x").outputs[0].record["scores"]["flow"] == 3.0


@pytest.mark.parametrize(
    ("values", "types", "words"),
    [
        ([1, "a"], {}, "int, str"),
        ([1.5, True], {}, "bool, float"),
        ([[1], ["a"]], {}, "int, str"),
        ([[1], 1], {}, "int"),
        ([(1 << 53) + 1, 0.5], {}, "float, int"),
        ([1 << 64], {}, "int"),
        ([1.5], {"meta.n": "int64"}, "declared int64"),
        (["a"], {"meta.n": "double"}, "declared double"),
        ([[1.0]], {"meta.n": "double"}, "declared double"),
    ],
)
def test_values_without_a_common_type_are_refused_by_the_columns_name(values: list[Any], types: dict[str, str], words: str) -> None:
    with pytest.raises(ShardError, match=r"shard 000000: column meta.n holds .*Give it one type in the source list") as caught:
        encode_ledger(ledger_of([{"meta": {"n": value}} for value in values]), types)
    assert words in str(caught.value)


def test_a_column_cannot_hold_values_and_columns() -> None:
    with pytest.raises(ShardError, match="column n is a value in one row and holds columns"):
        encode_ledger(ledger_of([{"meta": {"n": 1}}, {"meta": {"n": {"x": 1}}}]), {})


@pytest.mark.parametrize("name", ["key", "fate", "members", "tensors"])
def test_the_ledgers_own_names_are_refused(name: str) -> None:
    with pytest.raises(ShardError, match=f"the record has '{name}', a name that the ledger itself uses"):
        encode_ledger(ledger_of([{name: {"x": 1}}]), {})


# --- files that are none


def test_every_cut_is_noticed() -> None:
    data = encode_ledger(ledger_of([RECORD] * 3), {})
    for end in {*range(0, len(data), 37), *range(len(data) - 200, len(data))}:
        for read in (read_ledger, read_footer):
            with pytest.raises(ShardError, match="x.parquet"):
                read(BytesBlob(data[:end]), "x.parquet")


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_every_flipped_bit_is_noticed(mask: int) -> None:
    data = encode_ledger(ledger_of([RECORD]), {})
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= mask
        with pytest.raises(ShardError, match="x.parquet"):
            read_ledger(BytesBlob(bytes(flipped)), "x.parquet")


def test_a_flipped_bit_leaves_the_footer_as_it_was_or_is_noticed() -> None:
    """The footer is read without the rest of the file, so a flip elsewhere cannot show."""
    ledger = ledger_of([{}])
    data = encode_ledger(ledger, {})
    noticed = 0
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 0x04
        try:
            assert read_footer(BytesBlob(bytes(flipped)), "x") == ledger.footer
        except ShardError:
            noticed += 1
    assert noticed > len(json.dumps(asdict(ledger.footer)))


def parquet(table: pa.Table) -> BytesBlob:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return BytesBlob(sink.getvalue())


@pytest.mark.parametrize("read", [read_ledger, read_footer])
def test_parquet_that_is_no_ledger(read: Any) -> None:
    with pytest.raises(ShardError, match="is Parquet but no ledger of shardprep"):
        read(parquet(pa.table({"a": [1]})), "x")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1PAR1", b"not parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_files_that_are_no_parquet(data: bytes) -> None:
    for read in (read_ledger, read_footer):
        with pytest.raises(ShardError, match="x cannot be read .*Run the recipe again with --repair"):
            read(BytesBlob(data), "x")


def forged(table: pa.Table, **footer: Any) -> BytesBlob:
    """A ledger with any rows and footer, its checksums right."""
    from shardprep.shards import ledger as module

    text = json.dumps(asdict(ledger_of([]).footer) | footer).encode()
    metadata = {module._METADATA_KEY: text, module._CHECKSUM_KEY: hashlib.sha256(text).hexdigest(), module._SEAL_KEY: module._UNSEALED}
    return BytesBlob(module._sealed(parquet(table.replace_schema_metadata(metadata)).data))


def rows(**columns: Any) -> pa.Table:
    table = read_table(BytesBlob(encode_ledger(ledger_of([RECORD]), {})), "x")
    for name, values in columns.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table if values is None else table.append_column(name, values)
    return table


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("fate", None),
        ("fate", pa.array(["kept", "kept", "lost"])),
        ("fate", pa.array(["kept", None, "kept"])),
        ("role", pa.array(["input", "output", "neither"])),
        ("key", pa.array([1, 2, 3])),
        ("key", pa.array(["a", None, "b"])),
        ("members", pa.array([[], [], []], pa.list_(pa.string()))),
        ("meta", pa.array([b"\xff"] * 3)),
        ("meta", pa.array([0] * 3, pa.timestamp("s"))),
    ],
)
def test_rows_that_are_none_of_the_format_are_refused(column: str, values: pa.Array | None) -> None:
    table = rows()
    values = values if values is None else pa.concat_arrays([values] * 3)[: len(table)]
    with pytest.raises(ShardError, match=f"no ledger of shardprep .its column {column}"):
        read_ledger(forged(rows(**{column: values})), "x")


def test_text_that_is_no_utf8_is_refused() -> None:
    table = rows()
    bad = pa.Array.from_buffers(pa.string(), len(table), pa.array([b"\xff\xfe"] * len(table)).buffers())
    with pytest.raises(ShardError, match="cannot be read"):
        read_ledger(forged(rows(detail=bad)), "x")


def test_a_newer_format_is_named_even_where_it_has_fields_that_we_do_not_know() -> None:
    for read in (read_ledger, read_footer):
        with pytest.raises(ShardError, match="has format 3; this version of shardprep reads 2"):
            read(forged(rows(), format=3, moon="full"), "x")


def test_a_forged_ledger_of_this_format_is_read() -> None:
    """What the tests above forge is refused for what they change."""
    assert len(read_ledger(forged(rows()), "x").inputs) == 3


def test_a_file_that_is_gone_is_the_stores_affair(tmp_path: Path) -> None:
    for read in (read_ledger, read_footer):
        with pytest.raises(StoreError, match="not found"):
            read(FileBlob(str(tmp_path / "gone.parquet"), 0, 100), "gone.parquet")


# --- readers that know nothing of us


def test_duckdb_reads_columns_by_their_dotted_names(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(encode_ledger(ledger_of([RECORD, {"scores": {"flow": 7}}]), {"scores.flow": "double"}))
    sql = f"SELECT key, scores.flow FROM '{path}' WHERE role = 'output' AND scores.flow > 0.5"
    assert duckdb.sql(sql).fetchall() == [("k1", 7.0)]
    sql = f"SELECT fate, reason, count(*) FROM '{path}' WHERE role = 'input' GROUP BY ALL ORDER BY ALL"
    assert duckdb.sql(sql).fetchall() == [("dropped", "too-short", 1), ("failed", "decode-error", 1), ("kept", None, 2)]
    sql = f"SELECT key, m.suffix, m.crc32 FROM (SELECT key, unnest(members) AS m FROM '{path}' WHERE key = 'k0')"
    assert duckdb.sql(sql).fetchall() == [("k0", "mp4", 0xFFFFFFFF)]


def test_a_part_of_the_columns_is_read(tmp_path: Path) -> None:
    blob = BytesBlob(encode_ledger(ledger_of([RECORD]), {}))
    table = read_table(blob, "x", ["key", "Scores.FLOW", "meta.deep", "source", "absent.column"])
    assert set(table.column_names) == {"key", "scores", "meta", "source"}
    assert table.schema.field("scores").type == pa.struct([("flow", pa.float64())])
    assert table["meta"].to_pylist()[-3] == {"deep": {"er": {"est": "x"}}} or {"deep": {"er": {"est": "x"}}} in table["meta"].to_pylist()


SEAL = "sha256 of this file as it is with these words in the place of it"


@pytest.mark.parametrize("text", [SEAL, f"shardprep.file-sha256\x18\x40{SEAL}", f"shardprep.file-sha256{SEAL}" * 3])
def test_a_caption_that_says_what_the_seal_says_is_a_caption(text: str) -> None:
    row = OutputRow(key="a", parent="a", fate="kept", record={"caption": {"text": text}})
    footer = Footer(step=text, shard="000000", fingerprint="f" * 64, step_fingerprint="s")
    written = Ledger((InputRow(key="a", fate="kept", into=("a",), detail=text),), (row,), footer)
    data = encode_ledger(written, {})
    assert read_ledger(BytesBlob(data), "x") == written
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1
        with pytest.raises(ShardError):
            read_ledger(BytesBlob(bytes(flipped)), "x")
