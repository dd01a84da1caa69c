"""A step that splits: its samples add up to those that went in, and what became of their children is told apart."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from rich.console import Console
from typer.testing import CliRunner

import shardprep
from shardprep.cli.commands import app
from shardprep.cli.summary import failure_lines, summary_table
from shardprep.core.outcome import Dropped, Failed, Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage
from shardprep.driver.model import RunSummary
from tests.fates import make_files, run_over
from tests.runtime.stages import SplitInTwo


@dataclass(frozen=True, kw_only=True)
class JudgeChildren(Stage):
    """Of v0 both children are dropped, of v1 one, of v2 one fails; v3 fails by itself before, as its name says."""

    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self._judged(sample) for sample in batch]

    def _judged(self, sample: Sample) -> Outcome:
        video, is_first = sample.get("source.name"), sample.key.endswith("-00000")
        if video == "v0.mp4" or (video == "v1.mp4" and is_first):
            return Dropped("too-short")
        return Failed("refused", "no") if video == "v2.mp4" and is_first else Kept(sample)


@dataclass(frozen=True, kw_only=True)
class FailVideo(Stage):
    """Fails v3."""

    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Failed("refused", "v3") if sample.get("source.name") == "v3.mp4" else Kept(sample) for sample in batch]


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    """Five files: v4 is kept with both of its children."""
    place = tmp_path_factory.mktemp("children")
    return run_over(make_files(place / "files", 5), place / "out", FailVideo(), SplitInTwo(), JudgeChildren(), samples_per_shard=2)


def test_what_went_in_is_kept_dropped_or_failed(summary: RunSummary) -> None:
    step = summary.steps[-1]
    assert (step.samples_in, step.kept, step.dropped, step.failed) == (5, 3, {"no-child-kept": 1}, {"refused": 1})
    assert (step.children_dropped, step.children_failed, step.samples_out) == ({"too-short": 3}, {"refused": 1}, 4)
    for one in summary.steps:
        assert one.samples_in == one.kept + sum(one.dropped.values()) + sum(one.failed.values())
    assert (step.num_failed, summary.failed_total) == (2, 2), "retry works on both"


def test_the_table_of_the_summary_adds_up(summary: RunSummary) -> None:
    stream = io.StringIO()
    Console(file=stream, width=160).print(summary_table(summary))
    [row] = [line.split() for line in stream.getvalue().splitlines() if line.split()[:1] == ["work"]]
    assert " ".join(row).startswith("work 5 3 1: no-child-kept 1 1: refused 1 4 dropped 3: too-short 3; failed 1: refused 1 3 made")
    assert any(line.startswith("work: 2 failed; the first, ") for line in failure_lines(summary))


def test_status_and_table_tell_the_same(summary: RunSummary) -> None:
    step = shardprep.status(summary.output).steps[-1]
    assert (step.dropped, step.failed, step.children_dropped, step.children_failed) == (
        {"no-child-kept": 1}, {"refused": 1}, {"too-short": 3}, {"refused": 1},
    )  # fmt: skip
    said = CliRunner().invoke(app, ["status", summary.output]).stdout
    assert f"2 failed: shardprep table {summary.output}/work --fate failed" in said

    def listed(fate: str) -> list[tuple[str, str | None]]:
        result = CliRunner().invoke(app, ["table", f"{summary.output}/work", "--fate", fate, "--format", "json"])
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        return sorted((row["role"], (row["parent"] or row["key"]).partition("-")[0]) for row in rows)

    assert listed("kept") == [("output", "v1"), ("output", "v2"), ("output", "v4"), ("output", "v4")]
    assert listed("dropped") == [("input", "v0"), ("output", "v0"), ("output", "v0"), ("output", "v1")]
    assert listed("failed") == [("input", "v3"), ("output", "v2")]


@pytest.mark.parametrize(("fate", "told"), [("kept", {"parent"}), ("dropped", {"role", "parent"}), ("failed", {"role", "parent"})])
def test_the_table_for_people_says_which_row_is_a_child(fate: str, told: set[str], summary: RunSummary) -> None:
    head = CliRunner().invoke(app, ["table", f"{summary.output}/work", "--fate", fate]).stdout.splitlines()[0]
    assert told <= set(head.split())
