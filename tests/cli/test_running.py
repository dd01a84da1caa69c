"""run, plan, status, retry, and the commands that look into what they made: on real files, with real workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shardprep.cli.commands import app
from shardprep.cli.plan_table import size_or_unknown
from shardprep.cli.running import Log, _Wanted

RECIPE = """
source: {videos: videos, samples_per_shard: 2}
workers: 1
steps:
  - small: [drop_where: {expression: "source.bytes > 450"}]
  - good: {select: "source.bytes > 100"}
  - train: {pack: {shard_mib: 1}}
"""


def shardprep(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five files of 100 to 500 bytes, which no stage of the recipe opens."""
    (tmp_path / "videos").mkdir()
    for number in range(1, 6):
        (tmp_path / "videos" / f"v{number}.mp4").write_bytes(bytes(100 * number))
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def done(folder: Path) -> Path:
    result = shardprep("run", "r.yaml")
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_is_planned_made_told_and_not_made_again(folder: Path) -> None:
    planned = json.loads(shardprep("plan", "r.yaml", "--json").stdout)
    assert planned["has_work"]
    assert [step["new"] for step in planned["steps"]][:1] == [3]
    result = shardprep("run", "r.yaml")
    assert result.exit_code == 0
    assert "small 000002  in 1  out 0  dropped 1  failed 0" in result.stderr
    assert "1: where 1" in result.stdout
    assert "output: out" in result.stdout
    again = shardprep("run", "r.yaml", "--log", "json")
    last = json.loads(again.stdout.splitlines()[-1])
    assert (last["event"], last["failed"], [step["shards_made"] for step in last["steps"]]) == ("run-done", 0, [0, 0, 0, 0])
    assert "nothing to do" in shardprep("plan", "r.yaml").stdout


def test_until_and_set_and_input(folder: Path) -> None:
    (folder / "videos").rename(folder / "other")
    change = "steps.small.drop_where.expression=source.bytes > 250"
    result = shardprep("run", "r.yaml", "--input", "other", "--output", "elsewhere", "--set", change, "--until", "small", "--log", "json")
    assert result.exit_code == 0, result.output
    steps = json.loads(result.stdout.splitlines()[-1])["steps"]
    assert [(step["step"], step["samples_out"]) for step in steps] == [("raw", 5), ("small", 2)]
    assert (folder / "elsewhere" / "small" / "set.json").exists()


def test_a_changed_setting_is_planned_with_its_reason(done: Path) -> None:
    result = shardprep("plan", "r.yaml", "--set", "steps.small.drop_where.expression=source.bytes > 350")
    assert "drop_where.expression changed from source.bytes > 450 to source.bytes > 350" in result.stdout
    assert "there is work to do" in result.stdout


def test_status(done: Path) -> None:
    assert "complete" in shardprep("status", "out").stdout
    next((done / "out" / "small").glob("000001-*.parquet")).unlink()
    assert "1 shard is missing" in shardprep("status", "out").stdout
    steps = json.loads(shardprep("status", "out", "--json").stdout)["steps"]
    assert {step["name"]: (step["done"], step["new"]) for step in steps}["small"] == (2, 1)


def test_status_says_what_failed_and_what_was_dropped(folder: Path) -> None:
    (folder / "list.csv").write_text("path\n" + "".join(f"videos/{name}.mp4\n" for name in ("v1", "v2", "gone", "v3", "v5")))
    (folder / "r.yaml").write_text(RECIPE.replace("videos: videos", "list: list.csv"), encoding="utf-8")
    result = shardprep("run", "r.yaml")
    assert result.exit_code == 0, result.output
    steps = {step["name"]: step for step in json.loads(shardprep("status", "out", "--json").stdout)["steps"]}
    assert {name: (step["dropped"], step["failed"]) for name, step in steps.items()} == {
        "raw": ({}, {"missing-file": 1}),
        "small": ({"where": 1}, {}),
        "good": ({"where": 1}, {}),
        "train": ({}, {}),
    }
    lines = shardprep("status", "out").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line.split()[:1] and line.split()[0] in {"step", *steps}}

    def under(column: str, step: str) -> str:
        start = rows["step"].index(column)
        return rows[step][start : start + len(column)].strip()

    assert [under("dropped", step) for step in steps] == ["", "1", "1", ""]
    assert [under("failed", step) for step in steps] == ["1", "", "", ""]
    assert lines[-2:] == ["complete", f"1 failed: shardprep table {folder}/out/raw --fate failed"]
    assert shardprep("table", "out/raw", "--fate", "failed", "--format", "json").stdout.count("missing-file") == 1
    assert shardprep("status", "out/raw").stdout.endswith(f"1 failed: shardprep table {folder}/out/raw --fate failed\n")


def test_status_opens_no_rows_for_its_counts(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a ledger was opened")

    monkeypatch.setattr("shardprep.shards.set.read_ledger", refuse)
    assert json.loads(shardprep("status", "out", "--json").stdout)["steps"][1]["dropped"] == {"where": 1}


def test_show_follows_a_key_through_the_steps(done: Path) -> None:
    lines = shardprep("show", "v5").stdout.splitlines()
    assert lines[0].startswith("raw 000002: v5-")
    assert lines[0].endswith(" kept")
    assert "    source.bytes: 500" in lines
    assert lines[-1].endswith("dropped by drop_where: where (source.bytes > 450)")
    result = shardprep("show", "v9")
    assert (result.exit_code, "no set under out has a key that begins with 'v9'" in result.stderr) == (1, True)


def test_show_sets_what_each_of_several_samples_holds_below_its_own_line(folder: Path) -> None:
    assert shardprep("run", "r.yaml", "--set", "source.samples_per_shard=9").exit_code == 0
    held: dict[tuple[str, str], list[str]] = {}
    for line in shardprep("show", "v").stdout.splitlines():
        if not line.startswith(" "):
            step, _, key, *_ = line.split()
            below = held.setdefault((step, key), [])
        else:
            below.append(line.strip())
    bytes_of = {(step, key[:2]): int(lines[0].removeprefix("source.bytes: ")) for (step, key), lines in held.items() if lines}
    assert bytes_of == {("raw", f"v{n}"): 100 * n for n in range(1, 6)} | {("train", f"v{n}"): 100 * n for n in (2, 3, 4)}
    for (_, key), lines in held.items():
        members = [line.partition(":")[0] for line in lines if " bytes at " in line]
        assert members == ([f"{key}.json", f"{key}.mp4"] if lines else [])


@pytest.mark.parametrize("name", ["v5.mp4", "sub/v5.mp4"])
def test_show_finds_a_sample_by_the_name_of_its_file(folder: Path, name: str) -> None:
    (folder / "videos" / "sub").mkdir()
    (folder / "videos" / "v5.mp4").rename(folder / "videos" / "sub" / "v5.mp4")
    assert shardprep("run", "r.yaml").exit_code == 0
    said = shardprep("show", name)
    assert said.exit_code == 0, said.stderr
    assert "dropped by drop_where" in said.stdout
    assert {line.split()[2][:3] for line in said.stdout.splitlines() if not line.startswith(" ")} == {"v5-"}
    missing = shardprep("show", "v7.mp4")
    assert (missing.exit_code, "or a source of that name" in missing.stderr) == (1, True)


def test_the_samples_that_were_kept_are_listed_once(done: Path) -> None:
    rows = [json.loads(line) for line in shardprep("table", "out/small", "--fate", "kept", "--format", "json").stdout.splitlines()]
    assert len(rows) == len({row["key"] for row in rows}) == 4
    assert {row["role"] for row in rows} == {"output"}
    head = shardprep("table", "out/small", "--fate", "kept").stdout.splitlines()[0].split()
    assert head[0] == "key"
    assert not {"role", "parent"} & set(head), "they would only say again what is known"


def test_table_shows_columns_and_fates(done: Path) -> None:
    rows = shardprep("table", "out/good", "--columns", "source.name,source.bytes", "--sort", "source.bytes DESC", "--format", "csv").stdout
    assert rows.splitlines() == ['"source.name","source.bytes"', '"v4.mp4",400', '"v3.mp4",300', '"v2.mp4",200']
    assert "2 rows" in shardprep("table", "out/good", "--where", "source.bytes >= 300").stdout
    fates = shardprep("table", "out/small", "--fate", "dropped", "--columns", "stage,reason,detail", "--format", "json").stdout
    assert json.loads(fates) == {"stage": "drop_where", "reason": "where", "detail": "source.bytes > 450"}


def test_table_reads_a_packed_set_too(done: Path) -> None:
    rows = shardprep("table", "out/train", "--columns", "source.name,members", "--sort", "key", "--format", "json").stdout.splitlines()
    assert [json.loads(row) for row in rows][:1] == [{"source.name": "v2.mp4", "members": ["json", "mp4"]}]
    assert len(rows) == 3


def test_table_writes_files(done: Path) -> None:
    assert shardprep("table", "out/good", "--columns", "key", "--out", "t.jsonl").exit_code == 0
    assert [json.loads(line)["key"][:2] for line in (done / "t.jsonl").read_text().splitlines()] == ["v2", "v3", "v4"]
    assert shardprep("table", "out/good", "--out", str(done / "t.parquet")).exit_code == 0
    assert (done / "t.parquet").read_bytes()[:4] == b"PAR1"
    result = shardprep("table", "out/good", "--out", "t.xml")
    assert (result.exit_code, "the suffix says no format" in result.stderr) == (2, True)


def test_select_counts_and_lists(done: Path) -> None:
    result = shardprep("select", "out/raw", "source.bytes >= 300", "--sort", "source.bytes DESC", "--limit", "2", "--out", "keys.txt")
    assert result.stdout.splitlines()[0] == "5 samples: 3 kept, 2 not, 0 unknown (null)"
    assert [key[:2] for key in (done / "keys.txt").read_text().split()] == ["v5", "v4"]
    assert shardprep("select", "out/raw", "source.bites > 1").exit_code == 2


def test_verify(done: Path) -> None:
    assert shardprep("verify", "out").stdout.endswith("out: clean\n")
    tar = next((done / "out" / "raw").glob("000000-*.tar"))
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.chmod(0o644)
    tar.write_bytes(data)
    result = shardprep("verify", "out/raw")
    assert result.exit_code == 1
    assert tar.name in result.stdout
    assert result.stderr.endswith("out/raw: 1 problem\n")


def test_the_retry_command_can_be_pasted() -> None:
    wanted = _Wanted("a b.yaml", "in put", None, ("steps.s.drop_where.expression=a > 1",), "s")
    assert wanted.retry_command() == ("shardprep retry 'a b.yaml' --input 'in put' --until s --set 'steps.s.drop_where.expression=a > 1'")


def test_options_are_settings_of_the_recipe(folder: Path) -> None:
    asked = _Wanted("r.yaml", None, None, ("workers=2",), None, run_settings={"workers": "4", "memory": "1GiB", "max_failed": "5%"})
    settings = asked.load().settings
    assert (settings.workers, settings.memory_bytes, settings.failure_limit) == (4, 1 << 30, 0.05)
    assert asked.retry_command() == "shardprep retry r.yaml --set workers=2 --workers 4 --memory 1GiB --max-failed 5%"


@pytest.mark.parametrize(("value", "limit"), [("20", 20), ("0.01", 0.01), ("1%", 0.01), ("0.5 %", 0.005), ("null", None)])
def test_an_option_takes_the_values_that_its_setting_takes(folder: Path, value: str, limit: float | None) -> None:
    by_option = _Wanted("r.yaml", None, None, (), None, run_settings={"max_failed": value}).load()
    by_set = _Wanted("r.yaml", None, None, (f"max_failed={value}",), None).load()
    assert by_option.settings.failure_limit == by_set.settings.failure_limit == limit


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--workers", "0", "workers is 0; expected 1 or more, or auto"),
        ("--workers", "x", "expected a whole number, or one of auto"),
        ("--memory", "2", "'2' is no amount of memory; write it as 512MiB or 2GiB"),
        ("--memory", "16MiB", "memory is 16MiB; expected at least 64MiB: with less a worker cannot cut a video of 640x360"),
        ("--memory", "2GB", "'2GB' is no amount of memory; write it as 512MiB or 2GiB"),
        ("--max-failed", "x", "max_failed is x; expected a number of samples such as 20, or a share such as 0.01 or 1%"),
        ("--max-failed", "200%", "max_failed is 200%; expected a number of samples such as 20, or a share such as 0.01 or 1%"),
    ],
)
def test_a_wrong_option_is_told_by_its_name(folder: Path, option: str, value: str, said: str) -> None:
    result = shardprep("run", "r.yaml", option, value)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {option} {value}: ")
    assert said in result.stderr
    assert "--set" not in result.stderr


def test_sizes_read_well() -> None:
    assert [size_or_unknown(size) for size in (None, 0, 1023, 1536, 5 << 30, 3 << 40)] == [
        "?",
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]


def test_log_kinds() -> None:
    assert [log.value for log in Log] == ["auto", "lines", "summary", "json"]
