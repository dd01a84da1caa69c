"""The steps of the last recipe, noted in `raw/set.json` before any is made, so that what an output lacks is known without the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from shardprep.core.fingerprint import WEIGHTS, fingerprinted_settings
from shardprep.core.stage import stage_name
from shardprep.driver.identity import gather_identity
from shardprep.driver.output import output_sets
from shardprep.driver.state import work_settings
from shardprep.errors import RecipeError
from shardprep.gather.settings import Select
from shardprep.recipe.model import RAW, Gather, Pass, Recipe
from shardprep.shards.names import set_name
from shardprep.shards.set import NotedStep, SetInfo


@dataclass(frozen=True)
class Lacking:
    """What an output lacks of the recipe that was run last."""

    absent: tuple[NotedStep, ...] = ()
    """Steps of which there is no set."""
    outdated: tuple[str, ...] = ()
    """Steps whose sets earlier settings made, and those that read one of these."""

    def __bool__(self) -> bool:
        return bool(self.absent or self.outdated)

    def __str__(self) -> str:
        parts = [f"there is no set of {', '.join(step.name for step in self.absent)}"] if self.absent else []
        parts += [f"other settings than those of the recipe that was run last made {', '.join(self.outdated)}"] if self.outdated else []
        return f"not complete: {'; '.join(parts)}. Run the recipe again"


def note_steps(recipe: Recipe) -> tuple[NotedStep, ...]:
    """Return what is noted of the steps of a recipe, in their order."""
    return tuple(
        NotedStep(name=step.name, kind=_kind(step), reads=recipe.parent_of(step), does=_does(recipe, step)) for step in recipe.steps
    )


def lacking(infos: Mapping[str, SetInfo | None]) -> Lacking:
    """Compare the sets of an output, by name, with the steps that are noted there."""
    raw = infos.get(RAW)
    steps = raw.steps if raw else ()
    outdated: list[str] = []
    for step in steps:
        info = infos.get(step.name)
        if info is not None and (step.reads in outdated or _is_outdated(step, info)):
            outdated.append(step.name)
    return Lacking(tuple(step for step in steps if step.name not in infos), tuple(outdated))


def what_is_lacking(url: str, storage_options: Mapping[str, Any] | None = None) -> Lacking:
    """Return what an output lacks; nothing for a set, or where the source's set is not there."""
    return lacking({set_name(one): info for one, info in output_sets(url, storage_options).live.items()})


def _is_outdated(step: NotedStep, info: SetInfo) -> bool:
    return info.parents[-1:] != (f"../{step.reads}",) or (step.does is not None and not _is_made_by(info.identity, step.does))


def _is_made_by(made: Any, does: Any) -> bool:
    """Whether what a set says of itself is what the recipe says; of weights only a digest is known."""
    if isinstance(does, Mapping) and isinstance(made, Mapping):
        return does.keys() <= made.keys() and all(_is_made_by(made[name], value) for name, value in does.items())
    if isinstance(does, list) and isinstance(made, list):
        return len(does) == len(made) and all(map(_is_made_by, made, does))
    return bool(made in (does, WEIGHTS))


def _kind(step: Pass | Gather) -> Literal["pass", "select", "pack"]:
    if isinstance(step, Pass):
        return "pass"
    return "select" if isinstance(step.does, Select) else "pack"


def _does(recipe: Recipe, step: Pass | Gather) -> Any:
    if isinstance(step, Gather):
        return gather_identity(step.does)
    # The weights of a step that this run does not come to may not be here: they are not asked for.
    with suppress(RecipeError):
        stages = [{"stage": stage_name(one), "version": one.version, "settings": fingerprinted_settings(one)} for one in step.stages]
        return {"stages": stages, "settings": work_settings(recipe).identity()}
    return None
