"""Clean removes what nobody counts on, says what and how much, and touches nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.driver.clean import clean, find_leftovers
from shardprep.driver.lease import LEASES
from shardprep.driver.model import RunOptions
from shardprep.driver.run import run
from shardprep.driver.status import status
from shardprep.driver.verify import verify
from shardprep.errors import OutputInUse
from shardprep.packed.sets import open_set
from shardprep.recipe.model import RAW, Pass, Recipe
from shardprep.shards.lineage import RECIPE_FILE
from shardprep.shards.store import Store
from tests.driver.made import Made
from tests.driver.outputs import files, ledgers
from tests.driver.stages import Costly
from tests.driver.test_lease import ONE, lease_on

AGAINST = f"--recipe RECIPE {RECIPE_FILE}"


def renamed(recipe: Recipe, old: str, new: str) -> Recipe:
    return replace(recipe, steps=tuple(replace(step, name=new) if step.name == old else step for step in recipe.steps))


def names(recipe: Recipe) -> list[str]:
    return [step.name for step in recipe.steps]


def test_a_renamed_steps_old_set_is_named_and_removed(made: Made) -> None:
    before = files(made.output)
    recipe = renamed(made.recipe(), "numbers", "digits")
    mine = made.output / "numbers/notes.txt"
    mine.write_text("mine")
    (made.output / "elsewhere").mkdir()
    (made.output / "elsewhere/000000-01234567.parquet").write_bytes(b"not shardprep's")
    url = str(made.output)
    assert (
        clean(url, steps=names(recipe))
        .kept[0]
        .endswith("the recipe has no step numbers, but good, features, train is still read with it. Run the recipe first")
    )
    summary = run(recipe)
    line = f"left behind: the sets of steps that the recipe no longer has: numbers. Remove with: shardprep clean {url} {AGAINST}"
    assert str(summary.left_behind) == line
    assert status(url).notes == (line,)
    assert str(run(recipe).left_behind) == line, "also when there was nothing to do"
    assert clean(url).leftovers == (), "without the recipe nobody knows that the step is gone"
    whole = files(made.output)
    sizes = {name: (made.output / name).stat().st_size for name in whole}
    found = find_leftovers(url, steps=names(recipe))
    assert files(made.output) == whole, "looking changes nothing"
    assert clean(url, steps=names(recipe)) == found
    gone = {name for name in before if name.startswith("numbers/")}
    assert {f"numbers/{leftover.name}" for leftover in found.leftovers} == gone
    assert found.num_bytes == sum(size for name, size in sizes.items() if name in gone)
    assert {name for name in whole if name not in files(made.output)} == gone
    assert mine.read_text() == "mine"
    assert run(recipe).left_behind is None
    assert status(url).notes == ()
    assert [str(problem) for problem in verify(f"{url}/good")] == []
    assert len(list(open_set(f"{url}/features"))) == 6


def test_a_folder_in_which_nothing_is_left_goes_as_well(made: Made) -> None:
    recipe = made.recipe()
    shorter = replace(recipe, steps=recipe.steps[:2])
    run(shorter)
    clean(str(made.output), steps=names(shorter))
    assert sorted(path.name for path in made.output.iterdir() if path.name != LEASES) == ["good", "numbers", "raw"]
    assert list(verify(str(made.output))) == []


def test_superseded_files_go_and_those_of_a_shard_that_is_out_of_date_stay(made: Made) -> None:
    features = made.output / "features"
    own = ledgers(features)["000001"]
    for name in ("000000-01234567.parquet", "000001-0123456789ab.tar", "000077-01234567.parquet", "000077-0123456789ab.tar"):
        (features / name).write_bytes(b"left over")
    # What a run is about to make again still says what became of most samples.
    run(made.recipe(where="scores.number >= 5"), RunOptions(until="good"))
    assert status(str(made.output)).steps[3].stale == 1
    found = {leftover.name: leftover.num_bytes for leftover in find_leftovers(f"{made.output}/features").leftovers}
    assert found == dict.fromkeys(["000000-01234567.parquet", "000077-01234567.parquet", "000077-0123456789ab.tar"], 9)
    clean(str(made.output))
    assert own.exists()
    summary = run(made.recipe(where="scores.number >= 5"))
    assert summary.steps[3].worked_on == 0, "the outcomes were copied"


def test_nothing_is_removed_while_a_run_works_there(made: Made) -> None:
    (made.output / "features/000077-01234567.parquet").write_bytes(b"left over")
    with lease_on(Store(str(made.output)), ONE) as lease:
        lease.take()
        with pytest.raises(OutputInUse, match="a run works there .*Wait until it ends"):
            clean(str(made.output))
        assert (made.output / "features/000077-01234567.parquet").exists()
    assert [leftover.name for leftover in clean(str(made.output)).leftovers] == ["000077-01234567.parquet"]


def test_the_command_says_what_it_removes_and_how_much(made: Made, tmp_path: Path) -> None:
    path = made.output / "features/000077-01234567.parquet"
    path.write_bytes(b"left over")
    dry = CliRunner().invoke(app, ["clean", str(made.output), "--dry-run"])
    assert dry.stdout == f"would remove {path} (superseded)\n1 file, 9 B\n"
    assert path.exists()
    done = CliRunner().invoke(app, ["clean", str(made.output)])
    assert done.stdout == f"removed {path} (superseded)\n1 file, 9 B\n"
    assert not path.exists()


def test_steps_of_two_recipes_on_one_output_are_told_apart(made: Made) -> None:
    other = replace(made.recipe(), steps=(Pass(name="tails", stages=(Costly(),)),))
    assert run(other).left_behind is not None
    assert "features, good, numbers, train" in str(run(other).left_behind)
    assert "tails" in str(run(made.recipe()).left_behind)
    assert RAW not in str(run(made.recipe()).left_behind).split()


@pytest.mark.parametrize("name", ["good", "numbers"])
def test_a_damaged_set_stays_and_stops_nobody(made: Made, name: str) -> None:
    """The set of a former step: no run writes its description anew."""
    recipe = replace(made.recipe(), steps=(Pass(name="tails", stages=(Costly(),)),))
    run(recipe)
    described = made.output / name / "set.json"
    described.write_bytes(described.read_bytes().replace(b"kind", b"kund"))
    summary = run(recipe, RunOptions(redo=("tails",)))
    assert [step.name for step in summary.steps] == [RAW, "tails"]
    url = str(made.output)
    line = (
        f"left behind: the sets of steps that the recipe no longer has: features, good, numbers, train. Remove with: shardprep clean {url}"
    )
    assert str(summary.left_behind).startswith(line)
    assert status(url).notes[0].startswith(line)
    damaged = f"{url}/{name}: its set.json is damaged. Say what is wrong with: shardprep verify {url}/{name}"
    assert clean(url).kept[0] == damaged
    assert clean(url, steps=names(recipe)).kept == (damaged,)
    assert sorted(path.name for path in made.output.iterdir() if not path.name.startswith("_")) == sorted([name, RAW, "tails"])
