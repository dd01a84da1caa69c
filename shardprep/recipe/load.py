"""From a recipe's text or data to the typed recipe, with every mistake found before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from shardprep.core.stage import Stage
from shardprep.errors import RecipeError
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.check import find_problems
from shardprep.recipe.document import MAX_CHARACTERS, Document, Problems, RecipePath, hint, parse_document, parse_value
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings, Step
from shardprep.recipe.override import override, replace_source
from shardprep.recipe.typed import build, is_text
from shardprep.redaction import is_secret_name, remember_secrets
from shardprep.sources.spec import SourceSpec
from shardprep.stages.catalogue import find_stage, only_required, setting_types, stage_names

GATHERS: Mapping[str, type[Select] | type[Pack]] = {"select": Select, "pack": Pack}
LATER = ("dedup", "balance")
"""Gathers that a later version brings; the words are taken."""

RUN_SETTINGS = tuple(field.name for field in fields(RunSettings))
TOP = ("name", "source", "output", "steps", *RUN_SETTINGS)


def load_recipe(
    file: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    run_settings: Mapping[str, str] | None = None,
    source: str | None = None,
    output: str | None = None,
    until: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the checked recipe of a YAML file; RecipeError tells all its mistakes with file and line.

    `overrides` are texts such as `steps.clips.detect_scenes.threshold=2.5`. `run_settings` are those of the command line's options
    `--workers`, `--memory` and `--max-failed`, as texts; they count more, and mistakes in them name the option. `source` takes the
    place of the recipe's source: a folder of videos, a list or tars. `storage_options` come beside the recipe's own. With `until`
    only the steps up to that one need their extras installed.
    """
    try:
        text = _read_file(Path(file))
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror}; name a recipe file, such as recipes/quickstart.yaml") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: not UTF-8 text; a recipe is a YAML file") from error
    document = parse_document(text, str(file))
    if source is not None:
        replace_source(document, source)
    if output is not None:
        override(document, "output", output, "--output")
    if storage_options and isinstance(document.data, dict):
        held = document.data.get("storage_options")
        override(document, "storage_options", {**(held if isinstance(held, dict) else {}), **storage_options}, "--storage-options")
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text}: expected NAME=VALUE, such as steps.clips.detect_scenes.threshold=2.5")
        # Also under a name that is misspelt, of which the error is told.
        last = name.rpartition(".")[2]
        remember_secrets(value, is_secret=last == "storage_options" or is_secret_name(last))
        override(document, name, parse_value(value, f"--set {name}"), f"--set {text}")
    for name, text in (run_settings or {}).items():
        # What a text setting says stays text: `--memory 2` is no number.
        place = f"--{name.replace('_', '-')} {text}"
        override(document, name, text if is_text(setting_types(RunSettings)[name]) else parse_value(text, place), place)
    return _read(document, until)


def _read_file(file: Path) -> str:
    """Return the text of a recipe's file; of what has no end, such as /dev/zero, no more is read than a recipe may have."""
    if file.is_block_device() or file.is_char_device():
        raise RecipeError(f"{file} is a device, expected a recipe file, such as recipes/quickstart.yaml")
    with file.open("rb") as opened:
        data = opened.read(MAX_CHARACTERS * 4 + 1)
    if len(data) > MAX_CHARACTERS * 4:
        raise RecipeError(f"{file}: more than {MAX_CHARACTERS} characters; is it a recipe?")
    return data.decode("utf-8-sig")


def recipe_from_dict(data: Mapping[str, Any], *, origin: str = "recipe", until: str | None = None) -> Recipe:
    """Return the checked recipe of plain data, spelled as in YAML."""
    return _read(Document(data, origin), until)


def _read(document: Document, until: str | None) -> Recipe:
    problems = Problems(document)
    data = document.data
    _remember_secrets(data)
    if not isinstance(data, Mapping):
        raise RecipeError(f"{document.place(())}: a recipe is a mapping of {', '.join(TOP[:4])}")
    for name in data:
        if name not in TOP:
            problems.add((name,), f"a recipe has no {name!r}; {hint(str(name), TOP)}")
    source = _source(data, problems)
    steps = _steps(data.get("steps"), problems)
    settings = build(RunSettings, {name: data[name] for name in RUN_SETTINGS if name in data}, (), problems, "recipe")
    texts = {name: data[name] for name in ("name", "output") if data.get(name) is not None}
    for name, value in texts.items():
        if not isinstance(value, str) or not value:
            problems.add((name,), f"{name} is {value!r}; expected text")
    texts.setdefault("name", Path(document.origin).stem)
    recipe = Recipe(source=source or SourceSpec(videos="."), steps=steps, settings=settings or RunSettings(), **texts)
    for path, message in find_problems(recipe, until=until, is_whole=not problems.found):
        problems.add(path, message)
    problems.raise_any()
    return recipe


def _remember_secrets(data: Any) -> None:
    """Take note of credentials before anything of the recipe is said, whatever is wrong with it."""
    if isinstance(data, Mapping):
        source = data.get("source")
        for place in (data, source if isinstance(source, Mapping) else {}):
            remember_secrets(place.get("storage_options"))


def _source(data: Mapping[str, Any], problems: Problems) -> SourceSpec | None:
    source = data.get("source")
    if source is None:
        problems.add(("source",), "the recipe has no source; write source: {videos: FOLDER}, or give --input")
        return None
    return build(SourceSpec, {"videos": source} if isinstance(source, str) else source, ("source",), problems, "source")


def _steps(data: Any, problems: Problems) -> tuple[Step, ...]:
    if not isinstance(data, list):
        if data is not None:
            problems.add(("steps",), "steps is no list; write one `- NAME: [stage, stage]` per step")
        return ()
    # A nameless pass stands in for what is no step, so that the others keep their places.
    return tuple(_step(item, ("steps", index), problems) or Pass(name="", stages=()) for index, item in enumerate(data))


def _step(data: Any, path: RecipePath, problems: Problems) -> Step | None:
    names = [name for name in data if name != "from"] if isinstance(data, Mapping) else []
    if len(names) != 1:
        found = f"; found {', '.join(names)}" if names else ""
        problems.add(path, f"a step is one `NAME: [stage, stage]` or `NAME: {{select: …}}`, and may add `from: STEP`{found}")
        return None
    name, body, from_ = str(names[0]), data[names[0]], data.get("from")
    if from_ is not None and not isinstance(from_, str):
        problems.add((*path, "from"), f"step {name}: from is {from_!r}; expected the name of a step")
        from_ = None
    path = (*path, names[0])
    if isinstance(body, list):
        stages = [_stage(item, (*path, index), problems) for index, item in enumerate(body)]
        return Pass(name=name, stages=tuple(stage for stage in stages if stage is not None), from_=from_)
    if isinstance(body, Mapping) and len(body) == 1:
        gather = _gather(*next(iter(body.items())), path, problems)
        # A select that keeps all stands in for what could not be read, so that the other steps are checked still.
        return Gather(name=name, does=gather or Select(), from_=from_)
    hint = f"; `from` stands beside {name}, not below it" if isinstance(body, Mapping) and "from" in body else ""
    neither = f"step {name} is neither a list of stages, such as [probe_media, detect_scenes], nor a gather: {', '.join(GATHERS)}"
    problems.add(path, f"{neither}{hint}{_meant(name, body)}")
    return None


def _meant(name: str, body: Any) -> str:
    """Return what to write for a step that is the name of a gather, or names of stages without the brackets of a list."""
    if body in ("pack", "select"):
        settings = '"scores.flow > 1"' if body == "select" else "{}"
        return f"; write `- {name}: {{{body}: {settings}}}`"
    names = body.replace(",", " ").split() if isinstance(body, str) else [*body] if isinstance(body, Mapping) else []
    is_pass = names and all(isinstance(one, str) and one in stage_names() for one in names)
    return f"; write `- {name}: [{', '.join(names)}]`" if is_pass else ""


def _stage(item: Any, path: RecipePath, problems: Problems) -> Stage | None:
    name, settings = item, None
    if isinstance(item, Mapping) and len(item) == 1:
        name, settings = next(iter(item.items()))
        path = (*path, name)
    if not isinstance(name, str):
        problems.add(path, "a stage is its name, or one `name: {setting: value}`; a list item holds one stage")
        return None
    if name in GATHERS or name in LATER:
        problems.add(path, f"{name} is a gather and a step of its own: write `- NAME: {{{name}: …}}`")
        return None
    try:
        kind = find_stage(name)
    except RecipeError as error:
        problems.add(path, str(error))
        return None
    if settings is not None and not isinstance(settings, Mapping) and (required := only_required(kind)):
        # The short form: `drop_where: "a > 1"`.
        settings = {required: settings}
    return build(kind, settings, path, problems, name)


def _gather(name: str, body: Any, path: RecipePath, problems: Problems) -> Select | Pack | None:
    path = (*path, name)
    if name in LATER:
        problems.add(path, f"{name} comes with a later version of shardprep; this one has {' and '.join(GATHERS)}")
    elif name in GATHERS:
        if name == "select" and isinstance(body, str):
            body = {"where": body}
        return build(GATHERS[name], body, path, problems, name)
    elif name in stage_names():
        problems.add(path, f"{name} is a stage; a pass is a list: [{name}]")
    else:
        problems.add(path, f"there is no gather {name!r}; {hint(str(name), list(GATHERS))}. A pass is a list of stages")
    return None
