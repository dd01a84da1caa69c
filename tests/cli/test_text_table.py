"""Tables at 80, 120 and 160 columns, as golden texts (run this file to write them anew), and statistics of columns."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from shardprep.cli import tables
from shardprep.cli.commands import app
from shardprep.cli.stats import column_stats
from shardprep.cli.text_table import cell, lay_out

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (80, 120, 160)
ROWS = [
    ("news-9167c49ac99a9301-00000", 0, 2.0, 63.148321, 177.2012, "h264", 240, 426, "A red square runs along, then stands still; " * 3),
    ("news-9167c49ac99a9301-00001", 1, 2.041667, 0.025768, 13.08281, "h264", 240, 426, None),
    ("shots-with-sound-fd446deadd4cb003-00002", 2, 1.5, None, 13.15563, "hevc", 1080, 1920, "Three pictures"),
]


def scored() -> pa.Table:
    """Return a table as a set of scores has it, lists and all."""
    rows = [
        {
            "key": key,
            "members": ["json", "mp4"],
            "caption": {"text": caption},
            "clip": {"index": index, "seconds": seconds, "starts": [0.0], "ends": [seconds], "source_key": key[:-6]},
            "media": {"codec": codec, "height": height, "width": width, "fps": 24.0, "seconds": seconds, "bytes": 66767, "is_vfr": False},
            "source": {"name": "a.mp4", "path": "videos/of last year/a.mp4", "bytes": 75543},
            "per_frame": {"flow": [flow or 0.0] * 40, "sharpness": [sharpness] * 5},
            "scorers": {"flow": "score_flow@2 dis-fast", "sharpness": "score_sharpness@1 laplacian"},
            "scores": {"flow": flow, "sharpness": sharpness},
        }
        for key, index, seconds, flow, sharpness, codec, height, width, caption in ROWS
    ]
    return tables.flatten(pa.Table.from_pylist(rows))


def failed() -> pa.Table:
    detail = "DecodeError: h264: Invalid data found when processing input (avcodec_send_packet()), after frame 45 at 1.875 s"
    row = {"role": "input", "key": "broken-eb06d263c2905a0c", "parent": None, "fate": "failed", "stage": "probe_media"}
    return pa.Table.from_pylist([row | {"reason": "decode-error", "detail": detail, "into": []}])


def text(width: int) -> str:
    """Return what the three kinds of table look like."""
    parts = []
    for table in (scored(), failed(), column_stats(scored())):
        parts += [*lay_out(table.to_pylist(), table.column_names, width, asked=False), "", "=" * width]
    return "".join(f"{line}\n" for line in parts)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_reads_well(width: int) -> None:
    assert text(width) == (GOLDEN / f"table-{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    assert max(map(len, text(width).splitlines())) <= width


def test_more_than_fits_is_a_block_per_row() -> None:
    table = scored()
    lines = lay_out(table.to_pylist(), table.column_names, 80, asked=True)
    assert lines[0] == ROWS[0][0]
    assert {line.split(":")[0].strip() for line in lines if line.startswith("  ")} == {*table.column_names} - {"key"}
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "3 rows"


def test_what_was_asked_for_is_shown_and_long_values_are_cut() -> None:
    table = tables.pick(scored(), ["key", "per_frame.flow"])
    lines = lay_out(table.to_pylist(), table.column_names, 120, asked=True)
    assert lines[3].endswith(", 63…")
    assert lines[-1] == "3 rows"
    assert cell("x" * 100, 10) == "x" * 9 + "…"
    assert cell([1.23456789] * 1_000_000, 20) == "[1.235, 1.235, 1.23…"


def test_statistics_of_numbers_texts_and_truths() -> None:
    rows = {
        row["column"]: row
        for row in column_stats(pa.table({"n": [1, None, 3, 10], "b": [True, False, True, None], "t": ["a", "b", "a", None]})).to_pylist()
    }
    assert {name: rows["n"][name] for name in ("count", "nulls", "min", "median", "max")} == {
        "count": 3,
        "nulls": 1,
        "min": 1,
        "median": 3,
        "max": 10,
    }
    assert (rows["n"]["p25"], rows["n"]["p75"]) == (2, 6.5)
    assert (rows["b"]["min"], rows["b"]["max"], rows["b"]["nulls"]) == (0, 1, 1)
    assert (rows["t"]["distinct"], rows["t"]["most_common"], rows["t"]["min"]) == (2, "a (2)", None)


def test_the_command_gives_statistics_in_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for size in (1, 2, 3):
        (tmp_path / "videos" / f"v{size}.mp4").write_bytes(bytes(100 * size))
    (tmp_path / "r.yaml").write_text('source: videos\nworkers: 1\nsteps:\n  - small: [drop_where: {expression: "source.bytes > 250"}]\n')
    run = CliRunner().invoke
    assert run(app, ["run", "r.yaml"]).exit_code == 0
    rows = run(app, ["table", "out/raw", "--stats", "--columns", "source.bytes", "--format", "json"]).stdout
    assert {name: json.loads(rows)[name] for name in ("column", "count", "min", "median", "max")} == {
        "column": "source.bytes", "count": 3, "min": 100, "median": 200, "max": 300,
    }  # fmt: skip
    shown = run(app, ["table", "out/raw", "--stats", "--columns", "source.bytes"]).stdout
    assert "median" in shown
    assert "200" in shown


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for width in WIDTHS:
        (GOLDEN / f"table-{width}.txt").write_text(text(width), encoding="utf-8")
