"""Settings that are paths, enums and dates have a canonical form; what has none is refused by stage and name before a run."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import pytest

from shardprep.core.fingerprint import canonical_json, digest, settings_of, stage_identity
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage
from shardprep.errors import RecipeError
from shardprep.recipe.check import check_recipe
from shardprep.recipe.document import Document, Problems, parse_document
from shardprep.recipe.dump import to_yaml
from shardprep.recipe.model import Pass, Recipe
from shardprep.recipe.typed import build
from shardprep.sources.spec import SourceSpec


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Speed(StrEnum):
    FAST = "fast"


@dataclass(frozen=True, kw_only=True)
class ScoreRich(Stage):
    folder: Path = Path("a/b")
    places: tuple[Path, ...] = ()
    colour: Colour = Colour.RED
    speed: Speed = Speed.FAST
    since: date = date(2020, 1, 31)
    at: datetime | None = None
    clock: time | None = None
    by_name: dict[str, Colour] = field(default_factory=dict)
    anything: Any = None
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Kept(sample) for sample in batch]


RICH = ScoreRich(
    folder=Path("/x/y"),
    places=(Path("p"), Path("q")),
    colour=Colour.BLUE,
    since=date(2021, 2, 3),
    at=datetime(2021, 2, 3, 4, 5),
    clock=time(6, 7),
    by_name={"a": Colour.RED},
)
YAML = """
folder: /x/y
places: [p, q]
colour: 2
since: 2021-02-03
at: "2021-02-03T04:05:00"
clock: "06:07:00"
by_name: {a: red}
"""


def recipe(stage: Stage) -> Recipe:
    return Recipe(name="rich", source=SourceSpec(videos="v"), steps=(Pass(name="a", stages=(stage,)),))


def test_they_are_read_from_a_recipe_and_accepted_from_python() -> None:
    problems = Problems(Document(None, "x"))
    assert build(ScoreRich, parse_document(YAML, "x").data, (), problems, "score_rich") == RICH, problems.found
    check_recipe(recipe(RICH))
    check_recipe(recipe(pickle.loads(pickle.dumps(RICH))))  # noqa: S301 - a test of our own pickle


def test_their_canonical_form_is_json_and_tells_values_apart() -> None:
    assert settings_of(RICH) == {
        "folder": "/x/y",
        "places": ["p", "q"],
        "colour": 2,
        "speed": "fast",
        "since": "2021-02-03",
        "at": "2021-02-03T04:05:00",
        "clock": "06:07:00",
        "by_name": {"a": "red"},
        "anything": None,
    }
    others = [RICH, ScoreRich(), ScoreRich(colour=Colour.BLUE), ScoreRich(since=date(2020, 2, 1)), ScoreRich(folder=Path("a"))]
    assert len({digest(stage_identity(one, {})) for one in others}) == len(others)
    assert canonical_json(settings_of(ScoreRich(folder=Path("a/./b")))) == canonical_json(settings_of(ScoreRich()))


def test_they_are_written_as_a_recipe_spells_them() -> None:
    text = to_yaml(recipe(RICH))
    body = parse_document(text, "x").data["steps"][0]["a"][0]["score_rich"]
    assert build(ScoreRich, body, (), Problems(Document(None, "x")), "score_rich") == RICH


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("colour: green", 'score_rich.colour is "green"; expected one of red, 2'),
        ("since: yesterday", 'score_rich.since is "yesterday"; expected a date such as 2020-01-31'),
        ("folder: 3", "score_rich.folder is 3; expected a path"),
    ],
)
def test_a_wrong_value_is_told_what_is_expected(setting: str, message: str) -> None:
    problems = Problems(Document(None, "x"))
    assert build(ScoreRich, parse_document(setting, "x").data, (), problems, "score_rich") is None
    with pytest.raises(RecipeError, match=re.escape(message)):
        problems.raise_any()


@pytest.mark.parametrize(
    ("value", "kind"),
    [({1, 2}, "set"), (b"x", "bytes"), (Decimal(1), "Decimal"), (re.compile("x"), "Pattern"), ([{"a": object()}], "object")],
)
def test_what_has_no_canonical_form_is_refused_by_stage_and_name(value: Any, kind: str) -> None:
    with pytest.raises(RecipeError, match=rf"score_rich\.anything.* is a (list|{kind})"):
        check_recipe(recipe(ScoreRich(anything=value)))
    with pytest.raises(RecipeError, match=rf"score_rich\.anything.* is a {kind}; a setting is text, a number"):
        settings_of(ScoreRich(anything=value))


def test_a_default_without_a_canonical_form_is_refused_too() -> None:
    with pytest.raises(RecipeError, match=r"step a: score_hidden\.names is a set; a setting is text, a number"):
        check_recipe(recipe(ScoreHidden()))


@dataclass(frozen=True, kw_only=True)
class ScoreHidden(Stage):
    names: set[str] = field(default_factory=set)
    accepts = ()
