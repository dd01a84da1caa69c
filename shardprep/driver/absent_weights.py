"""Before a run begins: whether the weights that it needs can be had."""

from __future__ import annotations

from collections.abc import Iterable

from shardprep.driver.model import RunOptions
from shardprep.driver.plan import plan
from shardprep.errors import RecipeError
from shardprep.models.absent import Absent, look_for
from shardprep.recipe.check import steps_until
from shardprep.recipe.model import Pass, Recipe


def refuse_absent_weights(recipe: Recipe, options: RunOptions) -> None:
    """Raise RecipeError where weights lead nowhere, or are neither on this machine nor to be fetched: before the first step is made.

    Weights of a step with nothing to do are not loaded, and may be absent as long as their digest can be told.
    """
    wanted: dict[str, Absent] = {}
    steps: dict[str, list[str]] = {}
    for step in steps_until(recipe, options.until):
        names = [weights.name for stage in step.stages for weights in stage.weights] if isinstance(step, Pass) else ()
        for name in dict.fromkeys(names):
            digest, absent = look_for(name)
            if absent is not None and absent.obstacle is not None:
                wanted[name] = absent
                steps.setdefault(name, []).extend([step.name] if digest is not None else [])
    if any(steps.values()):
        has_work = _steps_with_work(recipe, options)
        wanted = {name: absent for name, absent in wanted.items() if not steps[name] or has_work.intersection(steps[name])}
    if wanted:
        raise RecipeError(_words(wanted.values()))


def _steps_with_work(recipe: Recipe, options: RunOptions) -> set[str]:
    planned = plan(recipe, retry=options.retry).steps
    return {step.name for step in planned if step.has_work} | set(options.redo)


def _words(wanted: Iterable[Absent]) -> str:
    lines = [f"  {absent.name} ({absent.size}): {absent.command}" for absent in wanted]
    obstacle = next(absent.obstacle for absent in wanted)
    first = f"weights that this run needs are not on this machine, and {obstacle}"
    return "\n".join([f"{first}. Fetch them where there is a network, into the folder that HF_HOME names:", *lines])
