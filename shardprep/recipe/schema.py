"""The JSON Schema of recipes, for editors that complete and check YAML."""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any

from shardprep.gather.settings import Pack, Select
from shardprep.recipe.load import GATHERS
from shardprep.recipe.model import RunSettings
from shardprep.recipe.typed import adapter
from shardprep.sources.spec import SourceSpec
from shardprep.stages.catalogue import Setting, describe_settings, find_stage, setting_types, stage_names

Schema = dict[str, Any]


def json_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a recipe, with every setting of every stage that is installed."""
    definitions: Schema = {}
    stages = {name: _settings_schema(find_stage(name), f"stage.{name}", definitions) for name in stage_names()}
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
        "$defs": {**definitions, "stage": {"anyOf": [one for name, body in stages.items() for one in _stage_schemas(name, body)]}},
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
        "patternProperties": {"^(?!from$)[a-z0-9][a-z0-9-]*$": {"anyOf": bodies}},
        "additionalProperties": False,
    }


def _stage_schemas(name: str, body: Schema) -> list[Schema]:
    plain = [] if body.get("required") else [{"const": name, "description": body["description"]}]
    return [*plain, _one_key(name, body, body["description"])]


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
    described: Schema = dict(schema["prefixItems"][0])
    described["description"] = " ".join(filter(None, [setting.doc, f"[{setting.unit}]" if setting.unit else ""]))
    if setting.default is not MISSING and isinstance(setting.default, (str, int, float, bool, type(None))):
        described["default"] = setting.default
    return described
