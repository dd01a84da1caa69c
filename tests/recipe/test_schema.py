"""The JSON Schema accepts what the loader accepts, refuses what it refuses, and describes every setting."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from shardprep.recipe.document import parse_document
from shardprep.recipe.schema import json_schema
from shardprep.stages.catalogue import stage_names

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def matches(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value is valid, by the keywords of JSON Schema that ours uses; another keyword is a KeyError."""
    # The type comes first: the other keywords are only about values of theirs.
    words = sorted((word for word in schema if word not in NOTES), key=lambda word: word != "type")
    return all(KEYWORDS[word](value, schema[word], schema, root) for word in words)


def type_matches(value: Any, wanted: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    return wanted in kinds and isinstance(value, kinds[wanted])


def no_others(value: Any, wanted: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    patterns = schema.get("patternProperties", {})
    others = [name for name in value if name not in schema.get("properties", {}) and not any(re.search(p, name) for p in patterns)]
    return not others if wanted is False else wanted is True or all(matches(value[name], wanted, root) for name in others)


NOTES = {"$schema", "$defs", "title", "description", "default", "format"}
KEYWORDS: dict[str, Any] = {
    "type": type_matches,
    "$ref": lambda value, wanted, schema, root: matches(value, root["$defs"][wanted.removeprefix("#/$defs/")], root),
    "anyOf": lambda value, wanted, schema, root: any(matches(value, one, root) for one in wanted),
    "not": lambda value, wanted, schema, root: not matches(value, wanted, root),
    "const": lambda value, wanted, schema, root: value == wanted,
    "enum": lambda value, wanted, schema, root: value in wanted,
    "required": lambda value, wanted, schema, root: set(wanted) <= set(value),
    "properties": lambda value, wanted, schema, root: all(matches(value[n], wanted[n], root) for n in value if n in wanted),
    "patternProperties": lambda value, wanted, schema, root: all(
        matches(value[n], inner, root) for pattern, inner in wanted.items() for n in value if re.search(pattern, n)
    ),
    "additionalProperties": no_others,
    "items": lambda value, wanted, schema, root: not isinstance(value, list) or all(matches(one, wanted, root) for one in value),
    "prefixItems": lambda value, wanted, schema, root: all(matches(a, b, root) for a, b in zip(value, wanted, strict=True)),
    "minItems": lambda value, wanted, schema, root: len(value) >= wanted,
    "maxItems": lambda value, wanted, schema, root: len(value) <= wanted,
    "minProperties": lambda value, wanted, schema, root: len(value) >= wanted,
    "maxProperties": lambda value, wanted, schema, root: len(value) <= wanted,
}


def valid(data: Any) -> bool:
    schema = json_schema()
    return matches(data, schema, schema)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_our_recipes_are_valid(file: Path) -> None:
    assert valid(parse_document(file.read_text(encoding="utf-8"), file.name).data)


@pytest.mark.parametrize(
    ("steps", "is_valid"),
    [
        ([{"s": ["embed_t5"]}], True),
        ([{"s": ["embed_t5"], "from": "raw"}], True),
        ([{"s": [{"embed_t5": {"dtype": "bf16", "min_characters": 3}}]}], True),
        ([{"s": {"select": "a > 1"}}], True),
        ([{"s": {"select": {"where": "a > 1", "limit": 3, "sample": 0.5}}}], True),
        ([{"s": {"pack": {"roles": ["video"], "seed": None}}}], True),
        ([], False),
        ([{"s": []}], False),
        ([{"s": ["embed_t6"]}], False),
        ([{"s": ["drop_where"]}], False),
        ([{"s": [{"embed_t5": {"dtype": "bf6"}}]}], False),
        ([{"s": [{"embed_t5": {"dtipe": "bf16"}}]}], False),
        ([{"s": [{"embed_t5": {"min_characters": "3"}}]}], False),
        ([{"S S": ["embed_t5"]}], False),
        ([{"from": "raw"}], False),
        ([{"s": {"pack": {"shard_mib": 0.5}}}], False),
        ([{"s": {"selct": "a"}}], False),
    ],
)
def test_steps(steps: Any, is_valid: bool) -> None:
    assert valid({"source": "v", "steps": steps}) is is_valid


def test_the_top() -> None:
    steps = [{"s": ["embed_t5"]}]
    assert valid({"source": {"list": "a.csv", "columns": {"x": "y"}}, "steps": steps, "threads": 2, "decoder": "decord"})
    for wrong in ({"thread": 2}, {"decoder": "x"}, {"source": {"vidoes": "x"}}, {"threads": 1.5}):
        assert not valid({"source": "v", "steps": steps} | wrong)


def test_every_stage_and_setting_is_described() -> None:
    text = json.dumps(json_schema())
    for name in stage_names():
        assert f'"{name}"' in text
    settings = json_schema()["$defs"]["stage"]["anyOf"]
    one = next(body["properties"]["embed_t5"] for body in settings if "embed_t5" in body.get("properties", {}))
    assert one["properties"]["max_length"]["default"] == 512
    assert one["properties"]["max_length"]["description"].startswith("Tokens, the end token included")


def test_nested_settings_are_defined_once_under_their_stage(lab: None) -> None:
    schema = json_schema()
    assert schema["$defs"]["stage.score_lab.Box"]["additionalProperties"] is False
    assert valid({"source": "v", "steps": [{"s": [{"score_lab": {"box": {"top": 1}, "points": [1, 2.5]}}]}]})
    assert not valid({"source": "v", "steps": [{"s": [{"score_lab": {"box": {"topp": 1}}}]}]})
