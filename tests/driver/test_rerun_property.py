"""For random columns, expressions and edits of the source, a rerun over the old output equals a fresh run, to the digest.

Everything is the real thing (listing, assignment, raw shards, passes with reuse, selections, ledgers) but for one: the
tasks run one after the other in this process, as those of a notebook do, instead of in workers; and nobody waits for the disk.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardprep.driver.model import RunOptions
from shardprep.driver.run import run
from shardprep.errors import ShardprepError
from shardprep.recipe.model import Recipe
from shardprep.shards.join import open_view
from tests.driver.cases import Case, edit, make_case
from tests.driver.outputs import shard_digests


def outcome(recipe: Recipe, **options: bool) -> str | None:
    """Run the recipe; return the error that ended it, if one did."""
    try:
        run(recipe, RunOptions(**options))
    except ShardprepError as error:
        return type(error).__name__
    return None


def differences(case: Case, folder: Path) -> dict[str, Any] | None:
    """Run a case, edit its source and run again, there and in a fresh folder; return what differs."""
    case.write(folder)
    outcome(case.recipe(folder, folder / "old"))
    edit(case)
    case.write(folder)
    again = outcome(case.recipe(folder, folder / "old")), shard_digests(folder / "old")
    fresh = outcome(case.recipe(folder, folder / "new")), shard_digests(folder / "new")
    # A selection that fails leaves its old ledgers, if it has any; no reader takes them for the new ones.
    if fresh[0] is not None:
        for digests in (again[1], fresh[1]):
            digests.pop("good", None)
    return None if again == fresh else {"again": again, "fresh": fresh}


def check(numbers: range, folder: Path) -> int:
    """Run cases; AssertionError describes the first that differs. Return how many had a second run that worked on something."""
    num_ended = 0
    for number in numbers:
        case = make_case(number)
        try:
            found = differences(case, folder / "case")
        finally:
            shutil.rmtree(folder / "case", ignore_errors=True)
        assert found is None, f"{case}: {found}"
        num_ended += 1
    return num_ended


@pytest.mark.usefixtures("in_this_process")
def test_a_rerun_equals_a_fresh_run(tmp_path: Path) -> None:
    assert check(range(40), tmp_path) == 40


@pytest.mark.prove
@pytest.mark.usefixtures("in_this_process")
def test_a_rerun_equals_a_fresh_run_in_2000_cases(tmp_path: Path) -> None:
    assert check(range(1000, 3000), tmp_path) == 2000


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    "expression",
    [
        "meta.views < 15",
        "META['vIEWS'] < 15",
        "struct_extract(meta, 'views') < 15",
        "meta::VARCHAR LIKE '%10}'",
        "meta = {'Views': 10}",
        "struct_pack(a := source).a.bytes < 15",
        "source['bytes'] < 15",
    ],
)
def test_outcomes_follow_what_an_expression_reads_however_it_is_spelled(tmp_path: Path, expression: str) -> None:
    case = replace(make_case(0), kind="list", rows=[{"Views": n} for n in (10, 20, 30, 40, 50)], drop=expression)
    case.videos[:] = [bytes([65 + n]) * (10 + 10 * n) for n in range(5)]
    case.write(tmp_path)
    run(case.recipe(tmp_path, tmp_path / "out"))
    assert left(tmp_path) == {"v1.mp4", "v2.mp4", "v3.mp4", "v4.mp4"}
    case.rows[0], case.rows[4] = case.rows[4], case.rows[0]
    case.videos[0], case.videos[4] = case.videos[4], case.videos[0]
    case.write(tmp_path)
    run(case.recipe(tmp_path, tmp_path / "out"))
    assert left(tmp_path) == {"v0.mp4", "v1.mp4", "v2.mp4", "v3.mp4"}


def left(folder: Path) -> set[str]:
    """Return the names of the videos that were not dropped."""
    return {sample.get("source.name") for sample in open_view(str(folder / "out" / "left"))}
