"""The JSON Schema of recipes, for editors that complete and check YAML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING
from typing import Any

from pydantic import PydanticUserError

from shardprep.core.ranges import ANY, Range, range_of
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.load import GATHERS
from shardprep.recipe.model import RunSettings
from shardprep.recipe.typed import adapter
from shardprep.sources.spec import SourceSpec
from shardprep.stages.catalogue import BrokenStage, Setting, describe_settings, find_stages, setting_types

Schema = dict[str, Any]


def json_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a recipe, with every setting of every stage that is installed."""
    definitions: Schema = {}
    kinds, broken = find_stages()
    stages: dict[str, Schema] = {}
    for name, kind in kinds.items():
        try:
            stages[name] = _settings_schema(kind, f"stage.{name}", definitions)
        except (PydanticUserError, TypeError, ValueError) as error:
            broken.append(BrokenStage(name=name, package=kind.__module__, error=str(error).splitlines()[0]))
    source = _settings_schema(SourceSpec, "source", definitions)
    run = _settings_schema(RunSettings, "run", definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "shardprep recipe",
        "type": "object",
        "required": ["source", "steps"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "description": "Name of the recipe; the file's name where it is left out."},
            "source": {"anyOf": [{"type": "string", "description": "A folder, glob or URL of videos."}, source]},
            "output": {"type": "string", "description": "Folder or fsspec URL that the shard sets are written under."},
            "steps": {"type": "array", "minItems": 1, "items": _step_schema(definitions)},
            **run["properties"],
        },
        "$defs": {**definitions, "stage": _stages_schema(stages, broken)},
    }


def _step_schema(definitions: Schema) -> Schema:
    stages = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/stage"}, "description": "Stages that run together."}
    bodies: list[Schema] = [stages]
    kinds: dict[str, type[Select] | type[Pack]] = dict(GATHERS)
    for name, kind in kinds.items():
        body = _settings_schema(kind, f"gather.{name}", definitions)
        short = [{"type": "string", "description": "The expression to keep by."}] if kind is Select else []
        bodies.append(_one_key(name, {"anyOf": [*short, body]}, str(body["description"])))
    return {
        "type": "object",
        "anyOf": [
            {"minProperties": 1, "maxProperties": 1, "not": {"required": ["from"]}},
            {"minProperties": 2, "maxProperties": 2, "required": ["from"]},
        ],
        "properties": {"from": {"type": "string", "description": "The step whose samples it reads; else the one before."}},
        "patternProperties": {"^(?!from$)[a-z0-9][a-z0-9_-]*$": {"anyOf": bodies}},
        "additionalProperties": False,
    }


def _stages_schema(stages: dict[str, Schema], broken: Sequence[BrokenStage]) -> Schema:
    """Return the schema of one item of a pass: branches are chosen by type, so that a mistyped name is said by name."""
    named = {"enum": [name for name, body in stages.items() if not body.get("required")]}
    with_settings = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {
            **{one.name: {"not": {}, "description": f"Broken, of {one.package}: {one.error}"} for one in broken if one.name not in stages},
            **{name: _short_too(body) for name, body in stages.items()},
        },
    }
    return {
        "description": "A stage: its name, or `name: {setting: value}`.",
        "if": {"type": "string"},
        "then": named,
        "else": with_settings,
    }


def _short_too(body: Schema) -> Schema:
    """Return a stage's settings, or the value of the one setting that must be given."""
    required = body.get("required", [])
    return (
        {**body, "type": ["object", "null"]}
        if len(required) != 1
        else {"if": {"type": "object"}, "then": body, "else": body["properties"][required[0]]}
    )


def _one_key(name: str, body: Schema, description: str) -> Schema:
    return {
        "type": "object",
        "description": description,
        "required": [name],
        "additionalProperties": False,
        "properties": {name: body},
    }


def _settings_schema(kind: type, prefix: str, definitions: Schema) -> Schema:
    settings = describe_settings(kind)
    types = setting_types(kind)
    required = [setting.name for setting in settings if setting.is_required]
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "additionalProperties": False,
        "properties": {setting.name: _setting_schema(setting, types[setting.name], prefix, definitions) for setting in settings},
        **({"required": required} if required else {}),
    }


def _setting_schema(setting: Setting, kind: Any, prefix: str, definitions: Schema) -> Schema:
    # The adapter wraps the type in a one-tuple; its only item is the setting.
    schema = adapter(kind).json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
    definitions |= {f"{prefix}.{name}": body for name, body in schema.get("$defs", {}).items()}
    described: Schema = _with_range(_or_one(dict(schema["prefixItems"][0])), range_of(setting.name, kind))
    described["description"] = " ".join(filter(None, [setting.doc, f"[{setting.unit}]" if setting.unit else ""]))
    if setting.default is not MISSING and isinstance(setting.default, (str, int, float, bool, type(None))):
        described["default"] = setting.default
    return described


def _or_one(schema: Schema) -> Schema:
    """Return the schema of a list with one item in place of a list of one."""
    if schema.get("type") == "array" and "items" in schema and "prefixItems" not in schema:
        return {"anyOf": [schema, schema["items"]]}
    return (
        {**schema, "anyOf": [part for one in schema["anyOf"] for part in _or_one(one).get("anyOf", [one])]} if "anyOf" in schema else schema
    )


def _with_range(schema: Schema, allowed: Range) -> Schema:
    """Return the schema with the bounds of its numbers, also within lists and beside null."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [_with_range(one, allowed) for one in schema["anyOf"]]}
    if schema.get("type") == "array" and "items" in schema:
        return {**schema, "items": _with_range(schema["items"], allowed), **({"minItems": 1} if allowed != ANY else {})}
    if schema.get("type") not in ("integer", "number"):
        return schema
    bounds = {"minimum": allowed.least, "maximum": allowed.most, "exclusiveMinimum": allowed.above}
    return {**schema, **{name: bound for name, bound in bounds.items() if bound is not None}}
