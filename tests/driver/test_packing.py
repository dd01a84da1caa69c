"""The pack step of a run: done where every file stands, and nothing left of what only its making needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.driver.model import RunOptions
from shardprep.driver.packing import Packing
from shardprep.driver.raw import raw_state
from shardprep.driver.run import run
from shardprep.driver.state import step_state
from shardprep.driver.verify import clean, verify
from shardprep.gather.settings import Pack
from shardprep.recipe.model import Gather, Recipe
from tests.driver.made import Made
from tests.driver.outputs import digests, files, strays


def packing(recipe: Recipe) -> Packing:
    """Return the recipe's pack step as a run would come to it."""
    state = raw_state(recipe, False).state
    for step in recipe.steps[:-1]:
        state = step_state(recipe, step, state, False)
    last = recipe.steps[-1]
    assert isinstance(last, Gather)
    assert isinstance(last.does, Pack)
    return Packing(recipe, last.name, last.does, state)


def test_a_packed_set_that_stands_is_done_without_opening_a_ledger(made: Made) -> None:
    found = packing(made.recipe())
    assert found.is_done()
    assert sorted(found.committed()) == ["b000-000000", "b000-000001"]
    assert found.ledgers.ledgers_opened == 0
    assert not packing(made.recipe(seed=1)).is_done()


LEFT_OVER = ("train/.tmp-0123456789abcdef", "train/ledgers/.tmp-0123456789abcdef", "train/ledgers/000000-0123456789ab.rows")


def test_what_a_killed_packing_left_goes_with_the_next_run(made: Made) -> None:
    # As after two runs at once, of which one came to its end and the other was killed.
    for name in LEFT_OVER:
        (made.output / name).write_bytes(b"left over")
    before = {name: file for name, file in files(made.output).items() if name not in LEFT_OVER}
    run(made.recipe())
    assert files(made.output) == before


def test_clean_removes_what_the_manifest_does_not_list(made: Made) -> None:
    before = files(made.output)
    left = (*LEFT_OVER, "train/b007-000000.tar", "train/ledgers/b007-000000-01234567.parquet")
    for name in left:
        (made.output / name).write_bytes(b"left over")
    (made.output / "good/000001-01234567.parquet").write_bytes(b"left over")
    removed = clean(str(made.output))
    assert sorted(Path(name).name for name in removed) == sorted(Path(name).name for name in (*left, "good/000001-01234567.parquet"))
    assert files(made.output) == before
    assert list(verify(str(made.output))) == []


def test_clean_leaves_an_unfinished_packing_to_the_next_run(made: Made) -> None:
    (made.output / "train/manifest.json").unlink()
    before = files(made.output)
    assert clean(str(made.output)) == []
    assert files(made.output) == before
    summary = run(made.recipe())
    assert summary.steps[-1].shards_made == 0


def test_nothing_to_pack_is_a_packed_set_of_nothing(made: Made) -> None:
    recipe = made.recipe(where="scores.number > 100")
    summary = run(recipe)
    assert (summary.steps[-1].samples_in, summary.steps[-1].samples_out) == (0, 0)
    assert strays(made.output) == []
    assert digests(made.output / "train", ".tar") == {}
    before = files(made.output)
    run(recipe)
    assert files(made.output) == before


def test_a_damaged_ledger_of_a_packed_shard_is_replaced(made: Made) -> None:
    before = digests(made.output / "train", ".tar", "index.parquet", "manifest.json")
    path = next((made.output / "train/ledgers").glob("b000-000001-*.parquet"))
    path.write_bytes(b"PAR1")
    found = packing(made.recipe())
    assert not found.is_done()
    summary = run(made.recipe())
    assert summary.steps[-1].shards_made == 1
    assert digests(made.output / "train", ".tar", "index.parquet", "manifest.json") == before
    assert strays(made.output) == []


@pytest.mark.parametrize("until", ["raw", "numbers", "features"])
def test_until_stops_before_packing(made: Made, tmp_path: Path, until: str) -> None:
    output = tmp_path / "part"
    recipe = made.recipe()
    summary = run(replace(recipe, output=str(output)), RunOptions(until=until))
    assert summary.steps[-1].name == until
    assert not (output / "train").exists()
