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
    return any(one in kinds and isinstance(value, kinds[one]) for one in ([wanted] if isinstance(wanted, str) else wanted))


def branch(value: Any, wanted: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    return matches(value, schema["then" if matches(value, wanted, root) else "else"], root)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def no_others(value: Any, wanted: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    patterns = schema.get("patternProperties", {})
    others = [name for name in value if name not in schema.get("properties", {}) and not any(re.search(p, name) for p in patterns)]
    return not others if wanted is False else wanted is True or all(matches(value[name], wanted, root) for name in others)


NOTES = {"$schema", "$defs", "title", "description", "default", "format", "then", "else"}
KEYWORDS: dict[str, Any] = {
    "type": type_matches,
    "$ref": lambda value, wanted, schema, root: matches(value, root["$defs"][wanted.removeprefix("#/$defs/")], root),
    "anyOf": lambda value, wanted, schema, root: any(matches(value, one, root) for one in wanted),
    "not": lambda value, wanted, schema, root: not matches(value, wanted, root),
    "const": lambda value, wanted, schema, root: value == wanted,
    "if": branch,
    "minimum": lambda value, wanted, schema, root: not is_number(value) or value >= wanted,
    "maximum": lambda value, wanted, schema, root: not is_number(value) or value <= wanted,
    "exclusiveMinimum": lambda value, wanted, schema, root: not is_number(value) or value > wanted,
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
        ([{"s_1": [{"drop_where": "a > 1"}]}], True),
        ([{"s": [{"drop_where": 3}]}], False),
        ([{"s": [{"score_exposure": {"short_side_px": -5}}]}], False),
        ([{"s": [{"score_exposure": {"points": []}}]}], False),
        ([{"s": [{"score_exposure": {"points": [2]}}]}], False),
        ([{"s": [{"score_exposure": {"points": 0.5}}]}], True),
        ([{"s": {"pack": {"bucket_by": "media.fps"}}}], True),
        ([{"s": {"pack": {"bucket_by": 3}}}], False),
        ([{"s": [{"embed_t6": {}}]}], False),
        ([{"s": [{"embed_t5": {}, "embed_clip": {}}]}], False),
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
    one = json_schema()["$defs"]["stage"]["else"]["properties"]["embed_t5"]
    assert one["properties"]["max_length"]["default"] == 512
    assert one["properties"]["max_length"]["description"].startswith("Tokens, the end token included")


def test_a_mistyped_stage_is_told_all_names_and_not_the_last_one_tried() -> None:
    # Of `anyOf` branches a validator reports one: "'cut_clips' was expected".
    stage = json_schema()["$defs"]["stage"]
    assert "anyOf" not in stage
    assert {"probe_media", "cut_clips"} < set(stage["then"]["enum"])
    assert stage["else"]["additionalProperties"] is False


def test_nested_settings_are_defined_once_under_their_stage(lab: None) -> None:
    schema = json_schema()
    assert schema["$defs"]["stage.score_lab.Box"]["additionalProperties"] is False
    assert valid({"source": "v", "steps": [{"s": [{"score_lab": {"box": {"top": 1}, "points": [1, 2.5]}}]}]})
    assert not valid({"source": "v", "steps": [{"s": [{"score_lab": {"box": {"topp": 1}}}]}]})
