"""A recipe's text as data: what scalars mean, where values stand, and which texts are refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.errors import RecipeError
from shardprep.recipe.document import dump_yaml, parse_document, parse_value

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("010", 10),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("2.", 2.0),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("'3'", "3"),
        ('"true"', "true"),
        ("~", None),
        ("", None),
        ("1_000", "1_000"),
        ("[1, a]", [1, "a"]),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    found = parse_value(text, "x")
    assert found == value
    assert type(found) is type(value)


def test_every_value_knows_its_line() -> None:
    document = parse_document("name: x\nsteps:\n  - clips:\n      - probe_media\n      - cut_clips:\n          crf: 3\n", "a.yaml")
    assert document.place(("name",)) == "a.yaml:1"
    assert document.place(("steps", 0, "clips", 1, "cut_clips", "crf")) == "a.yaml:6"
    assert document.place(("steps", 0, "clips", 0, "no", "such")) == "a.yaml:4"
    assert document.place(("nothing",)) == "a.yaml:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"x:3: a is there twice \(first at x:1\)"),
        ("a:\n  - !!python/object/apply:os.system [ls]\n", r"x:2: the tag .*python/object/apply:os\.system"),
        ("a: !!binary aGk=\n", "x:1: the tag"),
        ("a: [1, 2\nb: 3\n", r"x:2: not YAML"),
        ("a: 1\n---\nb: 2\n", "x:2: not YAML"),
        ("? [1]\n: 2\n", "x:1: a key is a list"),
        ("&a [*a]\n", "do its aliases multiply"),
        ("[" * 5000, "x:1: nested more than"),
        ("a: '\\ud800'\n".replace("'", '"'), "x:1: half a surrogate pair"),
        ("a: \0\n", "x: not YAML"),
        ("", "x: the recipe is empty"),
        ("#" * 300_000, "at most"),
    ],
)
def test_texts_that_are_no_recipe_are_refused_with_their_line(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_document(text, "x")


def test_aliases_work_and_a_bomb_of_them_is_refused() -> None:
    assert parse_document("a: &a {x: 1}\nb: *a\n", "x").data == {"a": {"x": 1}, "b": {"x": 1}}
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(RecipeError, match="do its aliases multiply"):
        parse_document(bomb, "x")


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4))
def test_what_is_dumped_is_read_back(data: dict[str, object]) -> None:
    found = parse_document(dump_yaml(data), "x").data
    assert found == data
    assert _types(found) == _types(data)


def test_infinity_is_text_and_therefore_no_number() -> None:
    assert parse_value(".inf", "x") == ".inf"
    assert math.isinf(parse_value("1e999", "x"))


def _types(value: object) -> object:
    if isinstance(value, dict):
        return {name: _types(inner) for name, inner in value.items()}
    return [_types(inner) for inner in value] if isinstance(value, list) else type(value)
