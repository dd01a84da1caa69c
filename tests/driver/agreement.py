"""Asking all who say how far an output is: readers, `status`, `verify` and, where a recipe is given, `plan`."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.driver.plan import plan
from shardprep.driver.status import status
from shardprep.driver.verify import verify
from shardprep.errors import IncompleteSet
from shardprep.recipe.model import Recipe
from shardprep.shards.join import open_view


def reads(url: Path) -> list[str] | None:
    """Return the keys that both readers give, or None where both refuse."""
    try:
        view = open_view(str(url))
    except IncompleteSet:
        with pytest.raises(IncompleteSet):
            open_view(str(url)).table()
        return None
    keys = [sample.key for sample in view]
    assert view.table([])["key"].to_pylist() == keys
    return keys


def check_agreement(output: Path, recipe: Recipe | None = None) -> dict[str, int]:
    """Assert that all say the same of each set that is not packed; return the shards that are done by set."""
    found = {step.name: step for step in status(str(output)).steps if step.kind != "pack"}
    problems = [problem.where for problem in verify(str(output))]
    done = {name: step.done for name, step in found.items()}
    if recipe is not None:
        planned = {step.name: step for step in plan(recipe).steps if step.kind != "pack"}
        assert done == {name: step.done for name, step in planned.items()}
        for name, step in found.items():
            assert step.new + step.stale == planned[name].new + planned[name].stale + planned[name].follows, name
    for name, step in found.items():
        undone = step.new + step.stale
        url = output / name
        assert (reads(url) is None) == bool(undone), f"{name}: {undone} shards are not done"
        bad = [where for where in problems if where.startswith(f"{url}/") or where == str(url)]
        assert bool(bad) == bool(undone), f"{name}: {undone} shards are not done, verify says {bad}"
        parts = open_view(str(url), partial=True)
        assert len(parts.shards) == step.done
        assert parts.table([])["key"].to_pylist() == [sample.key for sample in parts]
    return done
