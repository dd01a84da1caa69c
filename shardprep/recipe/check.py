"""Whether the steps of a recipe fit together: names, order, what is read and written, and what must be installed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from shardprep.core.declarations import ask, check_declarations, check_weights
from shardprep.core.fingerprint import settings_of
from shardprep.core.plan import Available, check_pass, check_split_and_join, declared_reads
from shardprep.core.reads import UNTYPED_GROUPS, Column, Read, Role, columns_of, parse_read
from shardprep.core.stage import ColumnType, ColumnTypes, Stage, stage_name
from shardprep.errors import MissingExtra, RecipeError
from shardprep.executors.run_folder import check_tmp
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.document import Document, Problems, RecipePath, hint
from shardprep.recipe.dump import plain_settings
from shardprep.recipe.model import RAW, Gather, Pass, Recipe, Step
from shardprep.recipe.typed import blamed, build
from shardprep.sources.given_clips import COLUMNS as SPAN_COLUMNS
from shardprep.sources.safe_names import NameClash, refuse_ambiguous
from shardprep.sources.spec import SourceSpec

_KEY = ("key",)
"""The path of the key: no column of the record, and yet one of every table."""

RecipeProblem = tuple[RecipePath, str | RecipeError]
"""Where in the recipe, and what is wrong there: an error where its cause is kept."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SOURCE_COLUMNS: Mapping[str, ColumnType] = {"source.path": "string", "source.name": "string", "source.bytes": "int64"}


def check_recipe(recipe: Recipe, *, until: str | None = None) -> None:
    """Raise RecipeError where the steps do not fit together; with `until`, extras of later steps may be missing."""
    problems = Problems(Document(None, f"recipe {recipe.name}"))
    for step in recipe.steps:
        for part in step.stages if isinstance(step, Pass) else (step.does,):
            what = stage_name(part) if isinstance(part, Stage) else type(part).__name__.lower()
            build(type(part), plain_settings(part), (), problems, f"step {step.name}: {what}")
    for what, settings in (("source", recipe.source), ("settings", recipe.settings)):
        build(type(settings), plain_settings(settings), (), problems, what)
    # A stage whose settings have wrong types cannot be asked what it declares.
    for _, message in find_problems(recipe, until=until, is_whole=not problems.found):
        problems.add((), message)
    problems.raise_any()


def find_problems(recipe: Recipe, *, until: str | None = None, is_whole: bool = True) -> Iterator[RecipeProblem]:
    """Yield what is wrong; of a recipe that is not whole (parts could not be read) only what can be said nevertheless."""
    if is_whole and not recipe.steps:
        yield ("steps",), "the recipe has no steps; write `steps:` and one `- NAME: [stage, stage]` per step"
    yield from _names(recipe.steps, is_whole)
    structural = list(_order(recipe))
    yield from structural
    names = [step.name for step in recipe.steps]
    if until is not None and until not in names:
        yield ("steps",), f"there is no step {until!r} to stop after; {hint(until, names)}"
    yield from _settings(recipe)
    yield from _tmp(recipe)
    declared = list(_declarations(recipe)) if is_whole else []
    yield from declared
    # Declarations of a wrong form cannot be compared.
    if is_whole and not declared:
        yield from _machine(recipe, until)
        if not structural:
            yield from _columns(recipe)


def raw_available(source: SourceSpec) -> Available:
    """Return what the first step can read: the roles and columns of raw shards."""
    roles = {"video", "image", "text"} | ({"source", "target"} if source.shards is not None else set())
    given = SPAN_COLUMNS if source.start_column is not None else {}
    return Available(frozenset(roles), {**_SOURCE_COLUMNS, **given}, UNTYPED_GROUPS, any_role=source.shards is not None)


def check_source_names(recipe: Recipe, clashes: Sequence[NameClash]) -> None:
    """Raise RecipeError where a step reads a name that several columns of the source would share, and that none has."""
    for step in recipe.steps if clashes else ():
        reads = [read for stage in step.stages for read in declared_reads(stage)] if isinstance(step, Pass) else _gathered(step)
        refuse_ambiguous(f"step {step.name}:", columns_of(reads), clashes)


def _gathered(step: Gather) -> list[Read]:
    """Return the columns that a gather reads, and the roles that it names."""
    does = step.does
    if isinstance(does, Pack):
        return [*(_column(name) for name in does.bucket_by), *map(Role, does.roles or ())]
    # DuckDB is imported only where an expression is.
    from shardprep.expressions.query import Query, order_reads

    return [*Query(does.where).reads, *(order_reads(does.sort) if does.sort is not None else ())]


def steps_until(recipe: Recipe, until: str | None) -> tuple[Step, ...]:
    """Return the steps up to and including `until`, all where it is None."""
    names = [step.name for step in recipe.steps]
    return recipe.steps if until not in names else recipe.steps[: names.index(until) + 1]


def _names(steps: Sequence[Step], is_whole: bool) -> Iterator[RecipeProblem]:
    seen: dict[str, int] = {}
    for index, step in enumerate(steps):
        if not step.name and not is_whole:
            continue
        path: RecipePath = ("steps", index, step.name)
        if step.name in seen:
            first = seen[step.name] + 1
            yield path, f"two steps are named {step.name} (the first is step {first}); every step writes a folder of its own name"
        seen.setdefault(step.name, index)
        if not _NAME.fullmatch(step.name):
            yield path, f"the step's name {step.name!r} would name a folder; it may hold a-z 0-9 _ and -, and begins with a-z or 0-9"
        if step.name == RAW:
            yield path, f"a step cannot be named {RAW}: that is the shard set of the source"
        if is_whole and isinstance(step, Pass) and not step.stages:
            yield path, f"step {step.name} has no stages"


def _order(recipe: Recipe) -> Iterator[RecipeProblem]:
    earlier: dict[str, Step | None] = {RAW: None}
    all_names = [step.name for step in recipe.steps]
    for index, step in enumerate(recipe.steps):
        if step.from_ is not None and step.from_ not in earlier:
            wrong = "comes later; a step reads an earlier one" if step.from_ in all_names else f"is unknown; {hint(step.from_, [*earlier])}"
            yield ("steps", index, "from"), f"step {step.name}: from: {step.from_} {wrong}"
        parent = earlier.get(step.from_ if step.from_ is not None else (all_names[index - 1] if index else RAW))
        if isinstance(parent, Gather) and isinstance(parent.does, Pack):
            message = f"step {step.name} reads {parent.name}, which packs and ends its branch; move it before, or say `from: STEP`"
            yield ("steps", index, step.name), message
        earlier.setdefault(step.name, step)


def _named(stage: Stage, error: RecipeError) -> str:
    name = stage_name(stage)
    return str(error) if str(error).startswith(f"{name}:") else f"{name}: {error}"


def _settings(recipe: Recipe) -> Iterator[RecipeProblem]:
    """Yield the settings of stages that have no canonical form, by which a change of them would be noticed."""
    for path, step, stage in _stages(recipe.steps):
        try:
            settings_of(stage)
        except RecipeError as error:
            yield path, f"step {step}: {error}"


def _tmp(recipe: Recipe) -> Iterator[RecipeProblem]:
    try:
        check_tmp(recipe.settings.tmp)
    except RecipeError as error:
        yield ("tmp",), _told(str(error), error)


def _declarations(recipe: Recipe) -> Iterator[RecipeProblem]:
    for path, step, stage in _stages(recipe.steps):
        try:
            check_declarations(stage)
        except RecipeError as error:
            yield path, _told(f"step {step}: {error}", error)


def _stages(steps: Sequence[Step]) -> Iterator[tuple[RecipePath, str, Stage]]:
    """Yield every stage with where it stands and the name of its step."""
    for index, step in enumerate(steps):
        for place, stage in enumerate(step.stages if isinstance(step, Pass) else ()):
            yield ("steps", index, step.name, place), step.name, stage


def _told(text: str, error: RecipeError) -> RecipeError:
    """Return the error in other words, with what it came from."""
    told = RecipeError(text)
    told.__cause__ = error.__cause__
    return told


def _machine(recipe: Recipe, until: str | None) -> Iterator[RecipeProblem]:
    for path, step, stage in _stages(steps_until(recipe, until)):
        missing = next((need for need in stage.needs if importlib.util.find_spec(need[0].partition(".")[0]) is None), None)
        if missing is not None:
            yield path, str(MissingExtra(stage_name(stage), *missing))
            continue
        try:
            ask(stage, "check", stage.check)
            check_weights(stage)
        except RecipeError as error:
            within = (*path, stage_name(stage))
            yield blamed(within, type(stage), str(error), vars(stage)), _told(f"step {step}: {_named(stage, error)}", error)


def _columns(recipe: Recipe) -> Iterator[RecipeProblem]:
    available = {RAW: raw_available(recipe.source)}
    for index, step in enumerate(recipe.steps):
        path: RecipePath = ("steps", index, step.name)
        there = available[recipe.parent_of(step)]
        if isinstance(step, Pass):
            for place, stage in enumerate(step.stages):
                yield from _stage(step.name, stage, there, (*path, place))
                there = there.after(stage)
            try:
                check_split_and_join(step.name, step.stages)
            except RecipeError as error:
                yield path, str(error)
        else:
            yield from _gather(step, there, path)
        available[step.name] = there


def _stage(step: str, stage: Stage, there: Available, path: RecipePath) -> Iterator[RecipeProblem]:
    columns = columns_of(declared_reads(stage))
    try:
        check_pass(step, [stage], there)
        ask(stage, "check_columns", lambda: stage.check_columns(there.types_of(columns)))
    except RecipeError as error:
        hints = (_quoted(str(text), column) for text in vars(stage).values() for column in columns if not there.has(column))
        yield path, _told(_of_step(step, error) + next(filter(None, hints), ""), error)
    # `check_pass` has looked for what it reads.
    wanted = [role for role in stage.accepts if Role(role) not in declared_reads(stage)]
    if wanted and not any(there.may_have(Role(role)) for role in stage.accepts):
        accepted = " or ".join(stage.accepts)
        yield path, f"step {step}: {stage_name(stage)} accepts {accepted}, {there.absence(Role(stage.accepts[0]), 'which no sample has')}"
        return
    role = stage.frames.role if stage.frames else None
    if role is not None and not there.may_have(Role(role)):
        yield path, f"step {step}: {stage_name(stage)} wants frames of {role}, {there.absence(Role(role), 'which is not there')}"


def _gather(step: Gather, there: Available, path: RecipePath) -> Iterator[RecipeProblem]:
    does = step.does
    try:
        if isinstance(does, Select):
            _check_select(does, there)
        else:
            _check_there(_gathered(step), there)
    except RecipeError as error:
        yield path, f"step {step.name}{'' if str(error).startswith('reads ') else ':'} {error}"


def _of_step(step: str, error: RecipeError) -> str:
    text = str(error)
    return text if text.startswith(f"step {step}") else f"step {step}: {text}"


def _quoted(text: str, column: Column) -> str:
    """Return a hint where an unknown column stands in double quotes, as text does in other languages."""
    name = column.path[-1]
    return f"; text stands in single quotes: '{name}' (double quotes name a column)" if f'"{name}"' in text else ""


def _column(name: str) -> Read:
    """Return what a setting that can only hold columns means."""
    read = parse_read(name)
    return Column((read.name,)) if isinstance(read, Role) else read


def _check_there(wanted: Iterable[Read], there: Available, text: str = "") -> None:
    for read in dict.fromkeys(wanted):
        if isinstance(read, Column) and read.folded == _KEY:
            continue
        if not there.may_have(read):
            shown = read.path[-1] if isinstance(read, Column) and len(read.path) == 1 else str(read)
            quoted = isinstance(read, Column) and _quoted(text, read)
            why = f"which no earlier step writes{quoted}" if quoted else there.absence(read, "which no earlier step writes")
            raise RecipeError(f"reads {shown}, {why}")


def _check_select(select: Select, there: Available) -> None:
    # DuckDB is imported only where an expression is.
    from shardprep.expressions.condition import check_condition, check_order
    from shardprep.expressions.query import Query, order_reads

    def types(columns: Sequence[Column]) -> ColumnTypes:
        return {**there.types_of([one for one in columns if one.folded != _KEY]), _KEY: "string"}

    where = Query(select.where).reads
    _check_there(where, there, select.where)
    check_condition(select.where, types(where))
    if select.sort is not None:
        order = order_reads(select.sort)
        _check_there(order, there, select.sort)
        check_order(select.sort, types(order))
