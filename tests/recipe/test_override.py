"""`--set`, `--input` and `--output` change a recipe, are checked like it, and name themselves in errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.errors import RecipeError
from shardprep.gather.settings import Select
from shardprep.recipe.load import load_recipe
from shardprep.recipe.model import Gather, Pass, Recipe
from shardprep.sources.spec import SourceSpec
from shardprep.stages.embed_clip import EmbedClip

RECIPE = """
source: {list: a.csv, path_column: p, samples_per_shard: 3}
steps:
  - s: [embed_clip, embed_t5: {model: "tiny:t5"}]
  - t: [drop_where: {expression: "meta.a = 1"}, drop_where: {expression: "meta.b = 1"}]
  - g: {select: "meta.a = 1"}
  - p: {pack: {}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def first(recipe: Recipe) -> Pass:
    assert isinstance(recipe.steps[0], Pass)
    return recipe.steps[0]


def test_settings_of_stages(file: Path) -> None:
    changes = ["steps.s.embed_clip.points=[0.5]", "steps.s.embed_clip.model=ViT-B-32", "steps.s.embed_t5.max_length=9"]
    clip, text = first(load_recipe(file, overrides=changes)).stages
    assert clip == EmbedClip(model="ViT-B-32", points=(0.5,))
    assert (text.model, text.max_length) == ("tiny:t5", 9)  # type: ignore[attr-defined]  # an EmbedT5


def test_gathers_top_and_from(file: Path) -> None:
    changes = ["steps.g.select=meta.a > 2", "steps.g.from=s", "threads=3", "storage_options.anon=true", "output=x"]
    recipe = load_recipe(file, overrides=changes)
    assert recipe.steps[2] == Gather(name="g", does=Select(where="meta.a > 2"), from_="s")
    assert (recipe.settings.threads, recipe.settings.storage_options, recipe.output) == (3, {"anon": True}, "x")
    assert load_recipe(file, overrides=["steps.g.select.limit=4"]).steps[2] == Gather(name="g", does=Select(where="meta.a = 1", limit=4))


def test_an_empty_value_is_null(file: Path) -> None:
    assert first(load_recipe(file, overrides=["steps.s.embed_clip.pretrained="])).stages[0] == EmbedClip(pretrained=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps.s.embed_clip.modle=x", r'^--set steps\.s\.embed_clip\.modle=x: embed_clip has no setting "modle"; did you mean model\?'),
        ("steps.s.embed_clip.batch_size=x", r'^--set .*: embed_clip\.batch_size is "x"; expected a whole number'),
        ("steps.s.embed_clop.model=x", r"^--set .*: the stage 'embed_clop' is not in that step; did you mean embed_clip\?"),
        ("steps.t.drop_where.null=keep", r"^--set .*: the stage 'drop_where' is there several times"),
        ("steps.q.embed_clip.model=x", r"^--set .*: there is no step 'q'; there is s, t, g, p"),
        ("steps.s.embed_clip=x", r"^--set .*: name a setting of embed_clip"),
        ("steps=3", r"^--set .*: there is no step ''"),
        ("steps.g.pack.seed=1", r"^--set .*: step g has no 'pack'; there is select"),
        ("thread=3", r"^--set thread=3: a recipe has no 'thread'; did you mean threads\?"),
        ("source.viedos=x", r'^--set .*: source has no setting "viedos"; did you mean videos\?'),
        ("source.list.a=x", r"^--set .*: source\.list holds a value and no settings"),
        ("threads", r"^--set threads: expected NAME=VALUE"),
        ("threads=[1", r"^--set threads:1: not YAML"),
    ],
)
def test_a_change_that_leads_nowhere_is_an_error(file: Path, change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(file, overrides=[change])


@pytest.mark.parametrize(
    ("location", "source"),
    [
        ("clips", SourceSpec(videos="clips", samples_per_shard=3)),
        ("a/**/*.mp4", SourceSpec(videos="a/**/*.mp4", samples_per_shard=3)),
        ("s3://b/L.JSONL", SourceSpec(list="s3://b/L.JSONL", path_column="p", samples_per_shard=3)),
        ("x-{000..003}.tar", SourceSpec(shards="x-{000..003}.tar", samples_per_shard=3)),
        ("https://h/l.csv?Signature=x", SourceSpec(list="https://h/l.csv?Signature=x", path_column="p", samples_per_shard=3)),
        ("https://h/a.tar?Signature=x", SourceSpec(shards="https://h/a.tar?Signature=x", samples_per_shard=3)),
    ],
)
def test_input_takes_the_place_of_the_source(file: Path, location: str, source: SourceSpec) -> None:
    assert load_recipe(file, source=location).source == source


def test_what_is_about_files_beside_videos_is_kept_for_videos_alone(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("source: {videos: v, captions: none}\nsteps: [s: [embed_t5]]\n", encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml", source="clips").source == SourceSpec(videos="clips", captions="none")
    assert load_recipe(tmp_path / "r.yaml", source="l.csv").source == SourceSpec(list="l.csv")
    assert load_recipe(tmp_path / "r.yaml", source="x.tar").source == SourceSpec(shards="x.tar")


def test_output_takes_the_place_of_the_output(file: Path) -> None:
    assert load_recipe(file, output="s3://b/o").output == "s3://b/o"


def test_a_short_source_can_be_changed_in_part(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("source: v\nsteps: [s: [embed_t5]]\n", encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml", overrides=["source.shard_mib=5"]).source == SourceSpec(videos="v", shard_mib=5)
