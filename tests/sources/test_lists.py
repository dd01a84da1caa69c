"""Lists of every format become entries, and no row is lost."""

from __future__ import annotations

import csv
import datetime as dt
import json
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.registry import _registry

from shardprep.core.blob import read_blob
from shardprep.errors import RecipeError, SourceError, UnknownStore, WrongSource
from shardprep.sources.entry import SourceEntry, open_entry
from shardprep.sources.listing import list_source
from shardprep.sources.spec import SourceSpec

ROWS = [
    {"path": "clips/a.mp4", "text": 'A cat, "sitting"\non a mat', "fps": 24.0, "frames": 10, "ok": True, "id": "007", "my.col x": "u"},
    {"path": "clips/b.mp4", "text": None, "fps": None, "frames": None, "ok": False, "id": "12", "my.col x": None},
    {"path": "gone.mp4", "text": "no file", "fps": 12.5, "frames": 3, "ok": None, "id": "x", "my.col x": "ü"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(name.encode())
    return tmp_path


def write_list(path: Path, rows: list[dict[str, Any]]) -> Path:
    suffix = path.suffix
    if suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def listed(path: Path, **settings: Any) -> list[SourceEntry]:
    return list_source(SourceSpec(list=str(path), **settings))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_same_entries(folder: Path, suffix: str) -> None:
    entries = listed(write_list(folder / f"list.{suffix}", ROWS))
    assert [entry.path for entry in entries] == ["clips/a.mp4", "clips/b.mp4", "gone.mp4"]
    assert [entry.record for entry in entries] == [
        {
            "source": {"path": "clips/a.mp4", "name": "a.mp4", "bytes": 1},
            "caption": {"text": 'A cat, "sitting"\non a mat'},
            "meta": {"fps": 24.0, "frames": 10, "ok": True, "id": "007", "my_col_x": "u"},
        },
        {"source": {"path": "clips/b.mp4", "name": "b.mp4", "bytes": 1}, "meta": {"ok": False, "id": "12"}},
        {
            "source": {"path": "gone.mp4", "name": "gone.mp4", "bytes": 0},
            "caption": {"text": "no file"},
            "meta": {"fps": 12.5, "frames": 3, "id": "x", "my_col_x": "ü"},
        },
    ]
    assert [type(entries[0].record["meta"][name]) for name in ("fps", "frames", "ok", "id")] == [float, int, bool, str]
    failure = entries[2].failure
    assert failure is not None
    assert (failure.reason, "gone.mp4" in failure.detail) == ("missing-file", True)
    assert read_blob(open_entry(entries[0]).members["video"].blob) == b"a"


def test_the_key_is_that_of_the_same_file_in_a_folder(folder: Path) -> None:
    by_list = listed(write_list(folder / "list.csv", [{"path": "clips/../clips/./a.mp4"}, {"path": str(folder / "clips/b.mp4")}]))
    by_folder = list_source(SourceSpec(videos=str(folder)))
    assert [(entry.key, entry.path, entry.version) for entry in by_list] == [(entry.key, entry.path, entry.version) for entry in by_folder]


def test_paths_start_from_the_list_or_from_a_root(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("lists")
    path = write_list(elsewhere / "list.csv", [{"path": "a.mp4"}])
    assert listed(path)[0].problem is not None
    assert listed(path, root=str(folder / "clips"))[0].problem is None


def test_rows_that_cannot_be_samples_are_kept_as_problems(folder: Path) -> None:
    rows = [
        {"path": "clips/a.mp4", "n": 1},
        {"path": "clips/../clips/a.mp4", "n": 2},
        {"path": None, "n": 3},
        {"path": 5, "n": 4},
        {"path": "clips", "n": 5},
        {"path": "clips/a.doc", "n": 6},
        {"path": "nul\0.mp4", "n": 7},
        {"path": "pipe:cat /etc/passwd", "n": 8},
        {"path": "github://org:repo@main/a.mp4", "n": 9},
        {"path": "simplecache::s3://b/a.mp4", "n": 10},
        {"path": "x" * 300 + ".mp4", "n": 11},
        {"path": "clips/a.mp4", "n": 12},
    ]
    entries = listed(write_list(folder / "list.json", rows))
    reasons = {entry.record["meta"]["n"]: entry.failure.reason if entry.failure else None for entry in entries}
    assert reasons == {
        1: None,
        2: "duplicate-path",
        3: "no-path",
        4: "no-path",
        5: "unknown-suffix",
        6: "unknown-suffix",
        7: "missing-file",
        8: "unknown-suffix",
        9: "unknown-store",
        10: "unknown-store",
        11: "missing-file",
        12: "duplicate-path",
    }
    assert len({entry.key for entry in entries}) == len(rows)
    twice = next(entry for entry in entries if entry.record["meta"]["n"] == 12)
    assert "rows 1 and 12" in str(twice.problem)


def test_columns_choose_and_rename_and_reach_into_objects(folder: Path) -> None:
    rows = [
        {
            "video": "clips/a.mp4",
            "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": " In the video "}],
            "info": {"w": 4},
        },
        {"video": "clips/b.mp4", "conversations": [], "info": {"w": 4.5, "h": None}},
    ]
    path = write_list(folder / "omni.json", rows)
    first, second = listed(
        path, path_column="video", text_column="conversations.1.value", columns={"width": "info.w", "who": "conversations.0.from"}
    )
    assert first.record["caption"] == {"text": "In the video"}
    assert first.record["meta"] == {"width": 4.0, "who": "human"}
    assert second.record["meta"] == {"width": 4.5}
    assert "caption" not in second.record
    everything = listed(path, path_column="video")
    assert everything[1].record["meta"] == {"conversations": "[]", "info": {"w": 4.5}}
    path.write_text(json.dumps(rows[0]))
    assert [entry.path for entry in listed(path, path_column="video")] == ["clips/a.mp4"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path_column": "paht"}, r"path_column: list.csv has no column 'paht'; did you mean path"),
        ({"text_column": "caption"}, r"text_column: list.csv has no column 'caption'"),
        ({"columns": {"x": "fpss"}}, r"columns.x: list.csv has no column 'fpss'; did you mean fps"),
        ({"group_by": "episode"}, r"group_by: no source has a column meta.episode"),
    ],
)
def test_a_setting_that_names_no_column(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        listed(write_list(folder / "list.csv", ROWS), **settings)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"", "is empty"),
        ("l.csv", b"path\n", "has no rows"),
        ("l.csv", b"path,path\na,b\n", "two columns are named 'path'"),
        ("l.csv", b"path,text\na.mp4,one,two\n", "line 2: 3 fields, but 2 columns"),
        ("l.csv", b'path,text\na.mp4,"one\n', "line 2"),
        ("l.jsonl", b'{"path": "a"}\n{"path": "a", "n": 1, "n": 2}\n', "l.jsonl line 2: two columns are named 'n'; rename one"),
        ("l.jsonl", b'{"path": "a", "path": "b"}\n', "l.jsonl line 1: two columns are named 'path'; rename one"),
        ("l.json", b'[{"path": "a", "meta": [{"text": "one", "text": "one"}]}]', "l.json: two columns are named 'text'; rename one"),
        ("l.json", b"{", "is no JSON"),
        ("l.json", b"[" * 100000, "is no JSON"),
        ("l.json", b"3", "JSON int, expected a list"),
        ("l.json", b'[{"path": "a"}, 3]', "row 2 is a JSON int"),
        ("l.jsonl", b'{"path": "a"}\n{"path"', "line 2 is no JSON"),
        ("l.jsonl", b'{"path": "a"}\n[]', "line 2 is a JSON list"),
        ("l.parquet", b"PAR1 no", "is no Parquet"),
        ("l.csv", "path\na.mp4\n".encode("utf-16-le"), "looks like UTF-16 without its mark; save it as UTF-8"),
        ("l.csv", b"\xff\xfea", r"l\.csv is no UTF-16 \(truncated data at byte 2\)"),
        (
            "l.csv",
            b"path,text\na.mp4," + b"x" * (17 << 20) + b"\n",
            r"line 2: field larger than field limit .*; at most 16777216 characters are read",
        ),
        ("l.csv", b"path," + b",".join(b"c%d" % n for n in range(100_000)) + b"\n", "has 100001 columns; a list may have 4096"),
    ],
)
def test_damaged_lists_name_the_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        listed(tmp_path / name)


def test_a_list_that_is_not_there_or_no_list(tmp_path: Path) -> None:
    with pytest.raises(WrongSource, match="there is no file .*gone.csv; check the path"):
        listed(tmp_path / "gone.csv")
    with pytest.raises(RecipeError, match="csv, tsv, json"):
        listed(tmp_path / "list.xml")


def test_csv_types(folder: Path) -> None:
    (folder / "l.csv").write_text(
        "path,text,zeros,big,real,mixed,flag,empty,nan,version\n"
        "clips/a.mp4,1.10,007,99999999999999999999,1e3,1,TRUE,,nan,1.10\n"
        "clips/b.mp4,2,8,3,-0.5,x,false,,1.5,x\n"
    )
    first, second = (entry.record for entry in listed(folder / "l.csv"))
    assert first["caption"] == {"text": "1.10"}
    assert first["meta"] == {"zeros": "007", "big": "99999999999999999999", "real": 1000.0, "mixed": "1", "flag": True, "version": "1.10"}
    assert second["meta"] == {"zeros": "8", "big": "3", "real": -0.5, "mixed": "x", "flag": False, "nan": 1.5, "version": "x"}


def test_parquet_types(folder: Path) -> None:
    rows = [{"path": "clips/a.mp4", "day": dt.date(2024, 5, 1), "raw": b"\x00\xff", "tags": ["x"], "in": {"a b": 1}}]
    meta = listed(write_list(folder / "l.parquet", rows))[0].record["meta"]
    assert meta == {"day": "2024-05-01", "raw": "00ff", "tags": ["x"], "in": {"a_b": 1}}


def test_a_parquet_list_with_two_columns_of_one_name_is_refused_as_a_csv_is(folder: Path) -> None:
    paths, numbers = pa.array(["a.mp4"]), pa.array([1])
    nested = pa.StructArray.from_arrays([numbers, numbers], names=["n", "n"])
    tables = [
        pa.Table.from_arrays([paths, numbers, numbers], names=["path", "n", "n"]),
        pa.Table.from_arrays([paths, nested], names=["path", "meta"]),
        pa.Table.from_arrays([paths, pa.ListArray.from_arrays([0, 1], nested)], names=["path", "meta"]),
    ]
    for table in tables:
        pq.write_table(table, folder / "twice.parquet")
        with pytest.raises(SourceError, match=r"twice\.parquet: two columns are named 'n'; rename one"):
            listed(folder / "twice.parquet")
    (folder / "twice.csv").write_text("path,n,n\na.mp4,1,1\n")
    with pytest.raises(SourceError, match=r"twice\.csv: two columns are named 'n'; rename one"):
        listed(folder / "twice.csv")


def test_a_path_that_is_no_utf8(folder: Path) -> None:
    (folder / "l.csv").write_bytes(b"path,note\nclips/\xff.mp4,\xc3\xbf\n")
    with open(bytes(folder / "clips") + b"/\xff.mp4", "wb") as file:
        file.write(b"latin")
    entry = listed(folder / "l.csv")[0]
    assert (entry.path, entry.record["meta"]) == ("clips/\\xff.mp4", {"note": "\u00ff"})
    json.dumps(entry.identity(), ensure_ascii=False).encode()
    assert read_blob(open_entry(entry).members["video"].blob) == b"latin"


def test_groups_by_column(folder: Path) -> None:
    path = write_list(folder / "l.csv", [{"path": "clips/a.mp4", "episode": 1}, {"path": "clips/b.mp4", "episode": None}])
    assert [entry.group for entry in listed(path, group_by="episode")] == ["1", None]
    assert [entry.group for entry in listed(path, group_by="meta.episode")] == ["1", None]
    assert [entry.group for entry in listed(path, group_by="folder")] == ["clips", "clips"]


def test_lists_and_files_elsewhere(folder: Path) -> None:
    fs = fsspec.filesystem("memory")
    rows = "path\nx/a.mp4\nmemory://lists-test/y/b.mp4\nmemory://other-test/c.mp4\nx/gone.mp4\n"
    fs.pipe({"/lists-test/l.csv": rows.encode(), "/lists-test/x/a.mp4": b"a", "/lists-test/y/b.mp4": b"b", "/other-test/c.mp4": b"c"})
    try:
        entries = list_source(SourceSpec(list="memory://lists-test/l.csv"))
        assert [(entry.path, entry.failure is None) for entry in entries] == [
            ("memory://other-test/c.mp4", True),
            ("x/a.mp4", True),
            ("x/gone.mp4", False),
            ("y/b.mp4", True),
        ]
        assert read_blob(open_entry(entries[0]).members["video"].blob) == b"c"
        local = write_list(folder / "l.csv", [{"path": "memory://other-test/c.mp4"}, {"path": "clips/a.mp4"}])
        assert [entry.problem for entry in listed(local)] == [None, None]
    finally:
        fs.rm("/lists-test", recursive=True)
        fs.rm("/other-test", recursive=True)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_lists_as_other_programs_save_them(folder: Path, encoding: str, suffix: str) -> None:
    text = "path,text\nclips/a.mp4,gr\u00fcn\n" if suffix == "csv" else json.dumps([{"path": "clips/a.mp4", "text": "gr\u00fcn"}])
    (folder / f"l.{suffix}").write_bytes(text.encode(encoding))
    [entry] = listed(folder / f"l.{suffix}")
    assert (entry.problem, entry.record["caption"]) == (None, {"text": "gr\u00fcn"})


def test_a_long_field_is_read(folder: Path) -> None:
    limit = csv.field_size_limit()
    (folder / "l.csv").write_text(f"path,text\nclips/a.mp4,{'word ' * 100_000}\n")
    [entry] = listed(folder / "l.csv")
    assert len(entry.record["caption"]["text"]) == 499_999
    assert csv.field_size_limit() == limit, "it is one for the whole process"


def test_a_row_of_too_many_columns_or_levels_costs_its_own_sample_and_takes_no_minutes(folder: Path) -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = {"d": deep}
    rows = [
        {"path": "clips/a.mp4", "n": 1},
        {"path": "clips/b.mp4", "many": {f"c {n}": n for n in range(100_000)}},
        {"path": "clips/c.mp4", "deep": deep},
    ]
    (folder / "clips" / "c.mp4").write_bytes(b"c")
    started = time.monotonic()
    entries = listed(write_list(folder / "l.json", rows))
    assert time.monotonic() - started < 10
    assert [entry.problem and entry.problem.partition(";")[0] for entry in entries] == [
        None,
        "bad-row: row 2 of l.json: it has more than 4096 columns",
        "bad-row: row 3 of l.json: it nests more than 32 levels",
    ]
    assert entries[0].record["meta"] == {"n": 1}
    assert all(entry.problem is None for entry in listed(folder / "l.json", columns={"n": "n"}))


def test_names_that_are_data_are_said(folder: Path) -> None:
    rows = [{"path": "clips/a.mp4", "votes": {f"user{i}": 1 for i in range(n, n + 1000)}} for n in range(0, 10_000, 1000)]
    with pytest.raises(SourceError, match="more than 4096 columns, such as votes.user0, .*Say in source.columns"):
        listed(write_list(folder / "l.json", rows))


def test_addresses_without_their_extra_say_which_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a core install, where nothing has loaded it.
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    for name in [name for name in sys.modules if name.startswith("fsspec.implementations.http")]:
        monkeypatch.delitem(sys.modules, name)
    for scheme in ("http", "https"):
        monkeypatch.delitem(_registry, scheme, raising=False)
    path = write_list(folder / "l.csv", [{"path": "https://host.example/a.mp4"}, {"path": "clips/a.mp4"}])
    with pytest.raises(UnknownStore, match=r'https:// needs the extra web\. Install it with: pip install "shardprep\[web\]"'):
        listed(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "l.csv",
            b"path,text\na.mp4,fine\nb.mp4,\xe9t\xe9\n",
            r"l\.csv row 2: the text in column 'text' is no UTF-8 \(\\xe9 at character 1\); save",
        ),
        ("l.tsv", b"path\tnote\na.mp4\ta \xe9\n", r"row 1: the text in column 'note' is no UTF-8"),
        ("l.csv", b"path,caf\xe9\na.mp4,1\n", r"row 1: the name of column 'caf\\\\xe9' is no UTF-8"),
        ("l.jsonl", b'{"path": "a.mp4", "text": "\xe9"}\n', r"row 1: the text in column 'text' is no UTF-8"),
        ("l.json", b'[{"path": "a.mp4", "in": {"tags": ["a", "\xe9"]}}]', r"row 1: the text in column 'in\.tags\.1' is no UTF-8"),
    ],
)
def test_a_list_whose_text_is_no_utf8_is_refused(folder: Path, name: str, content: bytes, words: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(WrongSource, match=words):
        listed(folder / name)


def test_parquet_text_that_is_no_utf8_is_refused(folder: Path) -> None:
    latin = pa.array([b"fine", b"\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"path": ["a.mp4", "b.mp4"], "note": latin}), folder / "l.parquet")
    with pytest.raises(WrongSource, match=r"l\.parquet row 2: the text in column 'note' is no UTF-8 \(.*\); write the list as UTF-8"):
        listed(folder / "l.parquet")


def test_what_json_escapes_is_no_matter_of_the_encoding(folder: Path) -> None:
    (folder / "l.jsonl").write_bytes(b'\xef\xbb\xbf{"path": "clips/a.mp4", "text": "half \\ud83d a pair, \\u00e9"}\n')
    [entry] = listed(folder / "l.jsonl")
    assert entry.record["caption"] == {"text": "half \\ud83d a pair, \u00e9"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_of_text_and_caption_the_first_that_holds_text_is_the_caption(folder: Path, suffix: str) -> None:
    rows = [
        {"path": "clips/a.mp4", "text": "", "caption": "real"},
        {"path": "clips/b.mp4", "text": "first", "caption": "second"},
        {"path": "gone.mp4", "text": "only", "caption": None},
    ]
    records = [entry.record for entry in listed(write_list(folder / f"l.{suffix}", rows))]
    assert [record["caption"]["text"] for record in records] == ["real", "first", "only"]
    assert [record.get("meta") for record in records] == [None, {"caption": "second"}, None]
