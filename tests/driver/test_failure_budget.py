"""The failure budget: when too many samples have failed, and what is said then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.driver.failure_budget import FailureBudget
from shardprep.driver.run import run
from shardprep.errors import FailureBudgetExceeded
from tests.driver.outputs import check_fates, make_sources, strays
from tests.driver.recipes import counted
from tests.driver.stages import LOG


def shard(kept: int, failed: int = 0, dropped: int = 0) -> dict[str, int]:
    return {"input.kept": kept, "input.failed": failed, "input.dropped": dropped, "output.kept": kept}


def stops_at(shards: Sequence[Mapping[str, int]], limit: int | float | None, num_samples: int = 0) -> int | None:
    """Return which shard is one too many."""
    budget = FailureBudget("step", "out/step", limit, num_samples)
    for number, counts in enumerate(shards):
        try:
            budget.add(counts)
        except FailureBudgetExceeded:
            return number
    return None


@pytest.mark.parametrize(
    ("limit", "shards", "stops"),
    [
        (None, [shard(0, 10)], None),
        (None, [shard(0, 11)], 0),
        (None, [shard(208, 11)], 0),
        (None, [shard(209, 11)], None),
        (None, [shard(1000, 5), shard(1000, 5), shard(0, 300)], 2),
        (0, [shard(9), shard(9, 1)], 1),
        (2, [shard(0, 2)], None),
        (2, [shard(1000, 1), shard(1000, 1), shard(1000, 1)], 2),
        (0.1, [shard(9, 1)], None),
        (0.1, [shard(8, 2)], 0),
        (1.0, [shard(0, 50)], None),
        (0.0, [shard(100), shard(100, 1)], 1),
        (5, [shard(0, dropped=100)], None),
    ],
)
def test_when_it_is_exceeded(limit: int | float | None, shards: list[dict[str, int]], stops: int | None) -> None:
    assert stops_at(shards, limit) == stops


def test_a_share_is_one_of_all_samples_of_the_step() -> None:
    # Two failures among the first ten do not stop a run over a thousand that may lose one in a hundred.
    assert stops_at([shard(8, 2)] + [shard(10)] * 99, 0.01, num_samples=1000) is None
    assert stops_at([shard(5, 5)] * 100, 0.01, num_samples=1000) == 2, "the eleventh does"


def test_failed_children_count_and_their_parent_does_not() -> None:
    budget = FailureBudget("clips", "out/clips", 3)
    budget.add({"input.kept": 1, "input.dropped": 1, "output.kept": 1, "output.failed": 3, "output.dropped": 1})
    assert (budget.num_failed, budget.num_seen) == (3, 6)


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve videos, four of which fail in the costly stage."""
    make_sources(tmp_path / "videos", range(12))
    monkeypatch.setenv(LOG, str(tmp_path))
    (tmp_path / "refuse").write_text("v004.mp4 v005.mp4 v006.mp4 v011.mp4")
    return tmp_path


@pytest.mark.parametrize(("limit", "words"), [(3, "3 samples"), (0.49, "49.0%"), (0, "0 samples")])
def test_a_run_over_its_budget_stops_and_says_where_to_look(refusing: Path, limit: int | float, words: str) -> None:
    recipe = counted(refusing / "videos", refusing / "out", max_failed=limit)
    with pytest.raises(FailureBudgetExceeded) as stopped:
        run(recipe)
    message = str(stopped.value)
    assert message.startswith("features: ")
    assert f"more than --max-failed allows ({words})" in message
    assert f"shardprep table {refusing}/out/features --fate failed" in message
    assert not (refusing / "out/train").exists(), "nothing is packed from it"
    with pytest.raises(FailureBudgetExceeded):
        run(recipe)
    assert run(replace(recipe, settings=replace(recipe.settings, max_failed=4))).failed_total == 4
    assert strays(refusing / "out") == []


@pytest.mark.parametrize("limit", [4, 0.5, None])
def test_a_run_within_its_budget_comes_to_its_end(refusing: Path, limit: int | float | None) -> None:
    summary = run(counted(refusing / "videos", refusing / "out", max_failed=limit))
    assert summary.failed_total == 4
    assert summary.steps[-1].samples_in == 4
    assert check_fates(refusing / "out")["features.input.failed"] == 4
