"""A recipe written as YAML loads as an equal one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.fingerprint import settings_of
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.document import parse_document
from shardprep.recipe.dump import to_dict, to_yaml
from shardprep.recipe.load import load_recipe, recipe_from_dict
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.stages.drop_where import DropWhere
from shardprep.stages.embed_clip import EmbedClip
from shardprep.stages.embed_t5 import EmbedT5

TEXT = st.text(min_size=1).filter(str.strip)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
# Of any other name a recipe is refused where the model is not there.
CLIPS = st.builds(
    EmbedClip,
    model=st.just("tiny:clip"),
    pretrained=st.none() | TEXT,
    points=st.lists(st.floats(0, 1), min_size=1, max_size=3).map(tuple),
    batch_size=st.integers(1, 99),
)
TEXTS = st.builds(EmbedT5, model=st.just("tiny:t5"), column=st.text().map(lambda text: f"meta.{text}"), max_length=st.integers(2, 9999))
SELECTS = st.builds(
    Select,
    where=st.sampled_from(["true", "meta.a = 'no'", "meta.b\n> 1e3"]),
    limit=st.none() | st.integers(0, 9),
    sample=st.none() | st.integers(0, 9) | st.floats(0, 1),
    seed=st.integers(-9, 9),
)
PACKS = st.builds(
    Pack,
    shard_mib=st.integers(1, 999),
    seed=st.none() | st.integers(0, 9),
    bucket_by=st.lists(st.text().map("meta.".__add__)).map(tuple),
)
SETTINGS = st.builds(
    RunSettings,
    threads=st.integers(1, 64),
    decoder=st.sampled_from(["pyav", "decord"]),
    workers=st.just("auto") | st.integers(1, 9),
    max_failed=st.none() | st.integers(0, 99) | st.floats(0, 1),
    timeout_seconds=st.none() | st.floats(0.1, 1e9),
    tmp=st.none() | TEXT,
    storage_options=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(0, 99) | FINITE | st.text(), max_size=3),
)
SOURCES = st.builds(SourceSpec, videos=TEXT.filter(lambda text: "pipe:" not in text.lower()), samples_per_shard=st.integers(1, 99))


@given(name=TEXT, output=TEXT, source=SOURCES, settings=SETTINGS, clip=CLIPS, text=TEXTS, select=SELECTS, pack=PACKS)
def test_round_trip(
    name: str, output: str, source: SourceSpec, settings: RunSettings, clip: EmbedClip, text: EmbedT5, select: Select, pack: Pack
) -> None:
    recipe = Recipe(
        name=name,
        source=source,
        output=output,
        settings=settings,
        steps=(
            Pass(name="a", stages=(clip, text)),
            Gather(name="b", does=select, from_="raw"),
            Pass(name="c-1", stages=(DropWhere(expression="meta.x > 1"),), from_="a"),
            Gather(name="d", does=pack),
        ),
    )
    again = recipe_from_dict(parse_document(to_yaml(recipe), "x").data)
    assert again == recipe
    assert to_dict(again) == to_dict(recipe)
    # 1 == 1.0 == True: equality alone would not see a changed type.
    assert repr(again) == repr(recipe)


def test_defaults_are_left_out(tmp_path: Path) -> None:
    recipe = Recipe(name="n", source=SourceSpec(videos="v"), steps=(Pass(name="s", stages=(EmbedT5(), EmbedClip(fps=2.0))),))
    steps = [{"s": ["embed_t5", {"embed_clip": {"fps": 2.0}}]}]
    assert to_dict(recipe) == {"name": "n", "source": {"videos": "v"}, "output": "out", "steps": steps}
    (tmp_path / "r.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize("fps", ["2", "2.0", "2.00"])
def test_a_number_has_one_fingerprint_however_it_is_written(fps: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"source: v\nsteps: [s: [embed_clip: {{fps: {fps}}}]]\n", encoding="utf-8")
    step = load_recipe(tmp_path / "r.yaml").steps[0]
    assert isinstance(step, Pass)
    assert repr(settings_of(step.stages[0])["fps"]) == "2.0"
