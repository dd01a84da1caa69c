"""The Python API: what the command line does, without YAML where you like."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from os import PathLike
from typing import Any

from shardprep.core.streams import open_closed_streams
from shardprep.driver import plan as planning
from shardprep.driver import run as running
from shardprep.driver import status as looking
from shardprep.driver import verify as verifying
from shardprep.driver.model import Reporter, RunOptions, RunPlan, RunSummary, Silent
from shardprep.packed import sets, urls
from shardprep.recipe.check import check_recipe
from shardprep.recipe.load import load_recipe
from shardprep.recipe.model import Recipe
from shardprep.shards.join import View
from shardprep.shards.verify import Problem

__all__ = ["Recipe", "load_recipe", "open_set", "plan", "retry", "run", "shard_urls", "status", "verify"]


def run(recipe: Recipe | str | PathLike[str], options: RunOptions | None = None, reporter: Reporter | None = None) -> RunSummary:
    """Make every step of a recipe, or of a recipe file, that is not up to date.

    A recipe whose stages are defined in the script itself is run under `if __name__ == "__main__":`, as workers import the
    script for them. Without a reporter a terminal shows bars, a notebook lines, and everything else only what a person must know. Raises
    RecipeError before anything runs where the recipe is wrong, and the errors of `shardprep.driver.run.run`.
    """
    open_closed_streams()
    options = options or RunOptions()
    checked = _checked(recipe, options.until)
    if reporter is not None:
        return running.run(checked, options, reporter)
    with _own_reporter() as own:
        return running.run(checked, options, own)


def retry(recipe: Recipe | str | PathLike[str], options: RunOptions | None = None, reporter: Reporter | None = None) -> RunSummary:
    """Work again on the samples that failed; all other outcomes are copied."""
    return run(recipe, replace(options or RunOptions(), retry=True), reporter)


def plan(recipe: Recipe | str | PathLike[str], *, strict: bool = False) -> RunPlan:
    """Return what `run` would make and why; with `strict`, shards that other library versions made are stale too."""
    return planning.plan(_checked(recipe, None), strict=strict)


def status(url: str, storage_options: Mapping[str, Any] | None = None) -> RunPlan:
    """Return how far the steps of an output are, without its recipe."""
    return looking.status(url, storage_options)


def verify(url: str, storage_options: Mapping[str, Any] | None = None) -> list[Problem]:
    """Return what is wrong with a set, a packed set or a whole output; an empty list where all is well."""
    return list(verifying.verify(url, storage_options))


def open_set(url: str, storage_options: Mapping[str, Any] | None = None, *, partial: bool = False) -> View:
    """Open a shard set: iterating yields its samples, joined with what the sets that it builds on hold.

    IncompleteSet where it is not whole, or not made from what is there now; ShardError where it is damaged.
    """
    return sets.open_set(url, storage_options, partial=partial)


def shard_urls(url: str, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the URLs of the tars of a packed set, for a training configuration: those of the packing that counts."""
    return urls.shard_urls(url, storage_options)


@contextmanager
def _own_reporter() -> Iterator[Reporter]:
    is_notebook = "ipykernel" in sys.modules
    # It is None where it was closed when Python began.
    if sys.stderr is None:
        yield Silent()
        return
    from shardprep.cli import reporters

    if is_notebook:
        own: AbstractContextManager[Reporter] = reporters.LineReporter(sys.stderr)
    elif sys.stderr.isatty():
        own = reporters.BarReporter(reporters.make_console(stderr=True))
    else:
        own = reporters.MessageReporter(sys.stderr)
    with own as reporter:
        yield reporter


def _checked(recipe: Recipe | str | PathLike[str], until: str | None) -> Recipe:
    if not isinstance(recipe, Recipe):
        return load_recipe(str(recipe), until=until)
    check_recipe(recipe, until=until)
    return recipe
