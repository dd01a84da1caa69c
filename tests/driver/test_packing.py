"""The pack step of a run: done where every file stands, and nothing left of what only its making needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardprep.driver import packing as packing_module
from shardprep.driver.clean import clean
from shardprep.driver.model import RunOptions
from shardprep.driver.packing import PackStep
from shardprep.driver.raw import raw_state
from shardprep.driver.run import run
from shardprep.driver.state import step_state
from shardprep.driver.verify import verify
from shardprep.errors import Unavailable
from shardprep.gather.settings import Pack
from shardprep.packed import clean as clean_module
from shardprep.packed.clean import left_behind
from shardprep.recipe.model import Gather, Recipe
from shardprep.shards.store import Store
from tests.driver.made import Made
from tests.driver.outputs import current_packing, digests, files, strays


def packing(recipe: Recipe) -> PackStep:
    """Return the recipe's pack step as a run would come to it."""
    state = raw_state(recipe, retry=False).state
    for step in recipe.steps[:-1]:
        state = step_state(recipe, step, state, retry=False)
    last = recipe.steps[-1]
    assert isinstance(last, Gather)
    assert isinstance(last.does, Pack)
    return PackStep(recipe, last.name, last.does, state)


def test_a_packed_set_that_stands_is_done_and_known_without_opening_a_ledger(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    found = packing(made.recipe())
    opened: list[str] = []
    monkeypatch.setattr("shardprep.shards.ledger.pq.ParquetFile", lambda *_: opened.append("a ledger"))
    assert found.is_done()
    assert sorted(found.finished().manifest.committed()) == ["b000-000000", "b000-000001"]
    assert opened == []
    monkeypatch.undo()
    assert not packing(made.recipe(seed=1)).is_done()


def left_over(made: Made) -> tuple[str, ...]:
    train = current_packing(made.output / "train").relative_to(made.output)
    return ("train/.tmp-0123456789abcdef", f"{train}/ledgers/.tmp-0123456789abcdef", f"{train}/ledgers/000000-0123456789ab.rows")


def test_what_a_killed_packing_left_goes_with_the_next_run(made: Made) -> None:
    # As after two runs at once, of which one came to its end and the other was killed.
    left = left_over(made)
    for name in left:
        (made.output / name).write_bytes(b"left over")
    before = {name: file for name, file in files(made.output).items() if name not in left}
    run(made.recipe())
    assert files(made.output) == before


def test_clean_removes_older_and_unfinished_packings_and_not_the_one_that_counts(made: Made) -> None:
    older = current_packing(made.output / "train")
    run(made.recipe(seed=1))
    counts = current_packing(made.output / "train")
    unfinished = made.output / "train/01234567"
    (unfinished / "ledgers").mkdir(parents=True)
    for path in (unfinished / "b000-000000.tar", unfinished / "ledgers/b000-000000-01234567.parquet"):
        path.write_bytes(b"begun")
    (made.output / "good/000001-01234567.parquet").write_bytes(b"left over")
    before = {name: file for name, file in files(made.output).items() if not name.startswith(("train/01234567/", f"train/{older.name}/"))}
    before.pop("good/000001-01234567.parquet")
    assert list(verify(str(made.output / "train"))) == [], "what is older or unfinished is no damage"
    assert sorted(left_behind(Store(str(made.output / "train")), unfinished=False)) == sorted(
        str(path.relative_to(made.output / "train")) for path in older.rglob("*") if path.is_file()
    )
    removed = clean(str(made.output)).leftovers
    assert len(removed) == 1 + 2 + 7, "a ledger, what was begun, and of the older packing set.json, manifest, index, tars, ledgers"
    assert files(made.output) == before
    assert current_packing(made.output / "train") == counts
    assert [path.name for path in (made.output / "train").iterdir() if path.is_dir()] == [counts.name], "no empty folder stays"
    assert list(verify(str(made.output))) == []
    assert clean(str(made.output)).leftovers == ()


def test_clean_leaves_an_unfinished_packing_to_the_next_run(made: Made) -> None:
    (made.output / "train/manifest.json").unlink()
    (current,) = (made.output / "train").glob("*/manifest.json")
    current.unlink()
    before = files(made.output)
    assert clean(str(made.output)).leftovers == ()
    assert files(made.output) == before
    summary = run(made.recipe())
    assert summary.steps[-1].shards_made == 0
    assert strays(made.output) == []


def test_clean_does_not_take_a_packing_that_comes_to_count_at_that_moment(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run goes back to the older packing after clean has looked at the pointer."""
    step = packing(made.recipe())
    older = files(current_packing(made.output / "train"))
    run(made.recipe(seed=1))
    looked = clean_module.left_behind

    def looked_and_then(*arguments: Any, **options: Any) -> list[str]:
        found = looked(*arguments, **options)
        assert step.adopt()
        return found

    monkeypatch.setattr(clean_module, "left_behind", looked_and_then)
    assert clean_module.remove_left_behind(Store(str(made.output / "train"))) == []
    assert {name: digest for name, (digest, _) in files(current_packing(made.output / "train")).items()} == {
        name: digest for name, (digest, _) in older.items()
    }
    assert list(verify(str(made.output / "train"))) == []


def test_a_packing_that_clean_took_away_is_not_pointed_to(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round: clean has withdrawn the manifest when the run comes to point."""
    step = packing(made.recipe())
    older = current_packing(made.output / "train")
    run(made.recipe(seed=1))
    pointing = packing_module.point

    def point(*arguments: Any) -> None:
        (older / "manifest.json").unlink()
        pointing(*arguments)

    monkeypatch.setattr(packing_module, "point", point)
    with pytest.raises(Unavailable, match="somebody cleaned this output at the same moment"):
        step.adopt()
    monkeypatch.undo()
    run(made.recipe())
    assert strays(made.output) == []


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
    before = digests(made.output / "train", "")
    path = next((made.output / "train").glob("*/ledgers/b000-000001-*.parquet"))
    path.write_bytes(b"PAR1")
    found = packing(made.recipe())
    assert not found.is_done()
    summary = run(made.recipe())
    assert summary.steps[-1].shards_made == 1
    assert digests(made.output / "train", "") == before
    assert strays(made.output) == []


@pytest.mark.parametrize("until", ["raw", "numbers", "features"])
def test_until_stops_before_packing(made: Made, tmp_path: Path, until: str) -> None:
    output = tmp_path / "part"
    recipe = made.recipe()
    summary = run(replace(recipe, output=str(output)), RunOptions(until=until))
    assert summary.steps[-1].name == until
    assert not (output / "train").exists()
