"""What a person must not miss at the end of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shardprep.cli.commands import app
from shardprep.cli.summary import failure_lines, shards_words
from shardprep.driver.model import RunSummary
from tests.cli.test_reporters import SUMMARY


def run(place: Path, step: str, *arguments: str) -> Result:
    (place / "videos").mkdir(exist_ok=True)
    for number in (1, 2):
        (place / "videos" / f"v{number}.mp4").write_bytes(b"no video" * number)
    (place / "r.yaml").write_text(f"source: videos\nworkers: 1\nsteps:\n  - {step}\n")
    return CliRunner().invoke(app, ["run", "r.yaml", *arguments])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_failed_is_an_error_that_names_the_first(place: Path) -> None:
    result = run(place, "facts: [probe_media]")
    assert result.exit_code == 1
    assert "facts: 2 failed; the first, v1-" in result.stdout
    assert "all of them: shardprep table out/facts --fate failed" in result.stdout
    assert "NOTHING WAS KEPT: of 2 samples facts let none through (failed 2: " in result.stdout
    assert result.stderr.splitlines()[-1].startswith("error: facts: all 2 samples failed. The first, v1-")
    listed = CliRunner().invoke(app, ["table", "out/facts", "--fate", "failed", "--format", "json"])
    assert len(listed.stdout.splitlines()) == 2, "the command that it names works"


def test_nothing_kept_is_said_loudly(place: Path) -> None:
    result = run(place, 'small: [drop_where: {expression: "source.bytes > 1"}]')
    assert result.exit_code == 0, "that is what was asked for"
    assert "NOTHING WAS KEPT: of 2 samples small let none through (dropped 2: where 2)" in result.stdout


def test_machines_are_told_the_same(place: Path) -> None:
    result = run(place, "facts: [probe_media]", "--log", "json")
    assert result.exit_code == 1
    step = json.loads(result.stdout.splitlines()[-1])["steps"][1]
    assert (step["failed"], step["first_failure"]["stage"]) == ({step["first_failure"]["reason"]: 2}, "probe_media")


def test_a_run_in_which_all_is_well_says_none_of_it() -> None:
    fine = replace(SUMMARY, failed={}, dropped={})
    assert failure_lines(RunSummary(recipe="r", output="out", steps=(fine,))) == []


def test_the_log_is_named() -> None:
    assert "tracebacks: out/_logs/x.txt" in failure_lines(RunSummary(recipe="r", output="out", steps=(), log="out/_logs/x.txt"))


@pytest.mark.parametrize(
    ("made", "done", "words"), [(4, 0, "4 made"), (0, 4, "4 done before"), (1, 2, "1 made, 2 done before"), (0, 0, "0")]
)
def test_finished_work_is_done(made: int, done: int, words: str) -> None:
    assert shards_words(replace(SUMMARY, shards_made=made, shards_done=done)) == words
