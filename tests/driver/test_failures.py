"""What a run says of failures: the first of each step, where a stage's exception came from, and a step that keeps nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from shardprep.cli.tables import fates
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Map
from shardprep.driver.model import RunOptions, RunSummary, Silent
from shardprep.driver.run import run
from shardprep.driver.run_log import LOGS
from shardprep.errors import RunFailed
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from tests.driver.stages import Number
from tests.misbehaving import FailToOpen


class Told(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        return


def recipe_of(place: Path, names: list[str], *stages: object) -> Recipe:
    (place / "videos").mkdir(exist_ok=True)
    for name in names:
        (place / "videos" / name).write_bytes(b"x")
    steps = (Pass(name="numbers", stages=stages or (Number(),)),)  # type: ignore[arg-type]  # stages all
    return Recipe(
        name="r", source=SourceSpec(videos=str(place / "videos")), output=str(place / "out"), steps=steps, settings=RunSettings(workers=1)
    )


def numbers(summary: RunSummary) -> object:
    return summary.steps[1].first_failure


def test_the_first_failure_is_named_also_by_a_run_that_makes_nothing(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, ["v1.mp4", "vb.mp4", "vc.mp4"])
    first, again = run(recipe), run(recipe)
    failure = first.steps[1].first_failure
    assert failure is not None
    assert (failure.stage, failure.reason, failure.detail) == ("number", "error", "ValueError: could not convert string to float: 'b'")
    assert failure.key.startswith("vb-")
    assert numbers(again) == failure
    assert first.steps[0].first_failure is None
    assert not first.steps[1].has_only_failures


@dataclass(frozen=True, kw_only=True)
class Mislabel(Map):
    """Gives a text, or true, for a whole number."""

    value: str | bool = "text"

    accepts = ()
    writes: ClassVar[Mapping[str, ColumnType]] = {"mine.x": "int64"}  # type: ignore[misc]  # a property in the base

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"mine.x": self.value})


@pytest.mark.parametrize(("value", "words"), [("text", "'text'"), (True, "True")])
def test_a_value_of_a_wrong_type_is_told_as_a_fault_of_its_stage(tmp_path: Path, value: str | bool, words: str) -> None:
    failure = numbers(run(recipe_of(tmp_path, ["v1.mp4", "v2.mp4"], Number(), Mislabel(value=value))))
    assert str(failure).endswith(f": mislabel: column mine.x is declared int64 and holds {words}")
    rows = fates(f"{tmp_path}/out/numbers", "failed").to_pylist()
    assert [(row["stage"], row["reason"]) for row in rows] == [("mislabel", "bad-record")] * 2


def test_the_traceback_of_a_stage_is_kept_and_named(tmp_path: Path) -> None:
    told = Told()
    summary = run(recipe_of(tmp_path, ["v1.mp4", "vb.mp4"]), reporter=told)
    assert summary.log is not None
    text = Path(summary.log).read_text()
    assert re.search(r"numbers 0000\d\d: number, sample vb-", text)
    assert 'tests/driver/stages.py", line' in text
    assert "ValueError: could not convert string to float: 'b'" in text
    assert not told.messages, "only --debug shows it at once"


def test_debug_tells_it_at_once(tmp_path: Path) -> None:
    told = Told()
    run(recipe_of(tmp_path, ["v1.mp4", "vb.mp4"]), RunOptions(debug=True), told)
    assert any("Traceback (most recent call last)" in text and "tests/driver/stages.py" in text for text in told.messages)


def test_a_run_without_surprises_leaves_no_log(tmp_path: Path) -> None:
    assert run(recipe_of(tmp_path, ["v1.mp4"])).log is None
    assert not (tmp_path / "out" / LOGS).exists()


def test_a_stage_that_cannot_be_opened_leaves_its_traceback(tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(RunFailed, match="could not be opened"):
        run(recipe_of(tmp_path, ["v1.mp4"], FailToOpen(how="complain")), reporter=told)
    [message] = [text for text in told.messages if text.startswith("tracebacks: ")]
    assert "tests/misbehaving.py" in Path(message.removeprefix("tracebacks: ")).read_text()


def test_a_step_of_failures_only_says_so(tmp_path: Path) -> None:
    step = run(recipe_of(tmp_path, ["va.mp4", "vb.mp4"])).steps[1]
    assert (step.has_only_failures, step.kept_nothing) == (True, True)
