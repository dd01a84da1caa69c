"""A YAML recipe becomes a typed one, and every mistake is told with its line and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.errors import RecipeError
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.load import load_recipe, recipe_from_dict
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.stages.drop_where import DropWhere
from shardprep.stages.embed_clip import EmbedClip
from shardprep.stages.embed_t5 import EmbedT5
from shardprep.stages.score_aesthetic import ScoreAesthetic

GOOD = """
name: small
source: {videos: "videos/**/*.mp4", samples_per_shard: 8}
output: s3://bucket/out
threads: 2
memory: 512MiB
steps:
  - scores: [embed_clip: {model: "tiny:clip", points: [0, 1]}, score_aesthetic]
  - good: {select: "scores.aesthetic >= 5 AND source.bytes < 9"}
  - few: {select: {where: "meta.x = 1", sort: "scores.aesthetic DESC", limit: 3}}
    from: scores
  - text: [drop_where: {expression: "caption.text = ''"}, embed_t5: {model: "tiny:t5"}]
  - train: {pack: {shard_mib: 16, seed: 7, bucket_by: [scores.aesthetic], roles: [video, t5]}}
"""


def load(folder: Path, text: str, **options: object) -> Recipe:
    file = folder / "r.yaml"
    file.write_text(text, encoding="utf-8")
    return load_recipe(file, **options)  # type: ignore[arg-type]  # options of any test


def steps(*lines: str) -> str:
    return "source: v\nsteps:\n" + "".join(f"  {line}\n" for line in lines)


def test_a_recipe_equals_the_one_built_in_python(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == Recipe(
        name="small",
        source=SourceSpec(videos="videos/**/*.mp4", samples_per_shard=8),
        output="s3://bucket/out",
        settings=RunSettings(threads=2, memory="512MiB"),
        steps=(
            Pass(name="scores", stages=(EmbedClip(model="tiny:clip", points=(0.0, 1.0)), ScoreAesthetic())),
            Gather(name="good", does=Select(where="scores.aesthetic >= 5 AND source.bytes < 9")),
            Gather(name="few", does=Select(where="meta.x = 1", sort="scores.aesthetic DESC", limit=3), from_="scores"),
            Pass(name="text", stages=(DropWhere(expression="caption.text = ''"), EmbedT5(model="tiny:t5"))),
            Gather(name="train", does=Pack(shard_mib=16, seed=7, bucket_by=("scores.aesthetic",), roles=("video", "t5"))),
        ),
    )


def test_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, steps("- text: [embed_t5]"))
    assert (recipe.name, recipe.output, recipe.settings) == ("r", "out", RunSettings())
    assert recipe.source == SourceSpec(videos="v")
    assert recipe.settings.memory_bytes == 2 << 30


def test_parents(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    assert [recipe.parent_of(step) for step in recipe.steps] == ["raw", "scores", "scores", "few", "text"]


WRONG = [
    (["- s: [embed_clop]"], r"r\.yaml:3: there is no stage 'embed_clop'; did you mean embed_clip"),
    (["- s:", "    - embed_clip:", "        pretained: x"], r'r\.yaml:5: embed_clip has no setting "pretained"; did you mean pretrained\?'),
    (["- s: [embed_clip: {batch_size: '3'}]"], r'r\.yaml:3: embed_clip\.batch_size is "3"; expected a whole number'),
    (["- s: [embed_clip: {batch_size: 3.0}]"], r"embed_clip\.batch_size is 3\.0; expected a whole number"),
    (["- s: [embed_clip: {batch_size: true}]"], r"embed_clip\.batch_size is true; expected a whole number"),
    (["- s: [embed_clip: {points: {a: 1}}]"], r'embed_clip\.points is {"a": 1}; expected a list, each a number'),
    (["- s: [embed_clip: {fps: 1e999}]"], r"embed_clip\.fps is not finite; expected a number, or null"),
    (["- s: [embed_clip: {points: [0.1, 1e999]}]"], r"embed_clip\.points is not finite; expected a list, each a number"),
    (["- s: [embed_clip: {points: [-1e999]}]"], r"embed_clip\.points is not finite"),
    (["- s: [embed_clip: {points: [2]}]"], r"r\.yaml:3: embed_clip\.points is \[2\.0\]; expected a list, each a number, 0 to 1"),
    (["- s: [embed_clip: [1]]"], r"embed_clip is \[1\]; expected its settings as a mapping: model, pretrained"),
    (["- s: [embed_t5: {dtype: bf6}]"], r'embed_t5\.dtype is "bf6"; expected one of bf16, fp32; did you mean bf16\?'),
    (["- s: [drop_where]"], r"r\.yaml:3: drop_where needs the setting expression: True drops the sample"),
    (["- s: [drop_where: {expression: 'a.b >'}]"], r"r\.yaml:3: drop_where: .*a\.b >"),
    (["- s: [score_aesthetic]"], r"r\.yaml:3: step s: score_aesthetic reads clip_embedding, which no earlier stage writes"),
    (["- s:", "    - embed_t5", "    - score_aesthetic"], r"r\.yaml:5: step s: score_aesthetic reads clip_embedding"),
    (["- s: [embed_t5]", "- s: [embed_clip]"], r"r\.yaml:4: two steps are named s"),
    (["- s: [embed_t5]", "- t: [embed_t5]"], r"r\.yaml:4: step t: embed_t5 writes t5, which is there already"),
    (["- s: [embed_t5]", "- t: [embed_clip]", "  from: z"], r"r\.yaml:5: step t: from: z is unknown; there is raw, s"),
    (["- s: [embed_t5]", "  from: t", "- t: [embed_clip]"], r"r\.yaml:4: step s: from: t comes later"),
    (["- s: [embed_t5]", "  from: s"], r"from: s comes later"),
    (["- s: [embed_t5]", "  from: [s]"], r"from is \['s'\]; expected the name of a step"),
    (["- S_1: [embed_t5]"], r"r\.yaml:3: the step's name 'S_1' would name a folder; it may hold a-z 0-9 _ and -"),
    (["- ../x: [embed_t5]"], r"the step's name '\.\./x' would name a folder"),
    (["- raw: [embed_t5]"], r"a step cannot be named raw"),
    (["- s: []"], r"r\.yaml:3: step s has no stages"),
    (["- p: {pack: {}}", "- s: [embed_t5]"], r"r\.yaml:4: step s reads p, which packs"),
    (["- u: {dedup: {by: phash}}"], r"r\.yaml:3: dedup comes with a later version of shardprep; this one has select and pack"),
    (["- u: [balance]"], r"balance is a gather and a step of its own"),
    (["- u: {embed_t5: {}}"], r"embed_t5 is a stage; a pass is a list: \[embed_t5\]"),
    (["- u: {selct: x}"], r"there is no gather 'selct'; did you mean select\?"),
    (["- u: {select: 'scores.x > 1'}"], r"r\.yaml:3: step u reads scores\.x, which no earlier step writes"),
    (["- u: {select: 'meta.x >'}"], r"r\.yaml:3: step u: .*meta\.x >"),
    (["- u: {select: {where: 'true', sort: source.byte}}"], r"step u reads source\.byte, .*; there is source\.bytes"),
    (["- u: {select: {sample: 1.5}}"], r"select: sample is 1\.5; expected a number of samples, or a share"),
    (["- u: {pack: {shard_mb: 5}}"], r'r\.yaml:3: pack has no setting "shard_mb"; did you mean shard_mib'),
    (["- u: {pack: {roles: [latent]}}"], r"step u reads latent, which no earlier step writes"),
    (["- u: embed_t5"], r"step u is neither a list of stages, .*: select, pack; write `- u: \[embed_t5\]`$"),
    (["- u: probe_media, cut_clips"], r"; write `- u: \[probe_media, cut_clips\]`$"),
    (["- u: pack"], r"step u is neither .*; write `- u: \{pack: \{\}\}`$"),
    (["- u: select"], r"step u is neither .*; write `- u: \{select: \"scores.flow > 1\"\}`$"),
    (["- u: no_such_stage"], r"step u is neither .*: select, pack$"),
    (["- u: {probe_media: , cut_clips: }"], r"step u is neither .*; write `- u: \[probe_media, cut_clips\]`$"),
    (["- u: {from: raw, select: 'true'}"], r"step u is neither .*; `from` stands beside u, not below it"),
    (["- embed_t5"], r"r\.yaml:3: a step is one `NAME: \[stage, stage\]`"),
    (["- a: [embed_t5]", "  b: [embed_clip]"], r"a step is one .*; found a, b"),
    (["- s: [{embed_t5: {}, embed_clip: {}}]"], r"a list item holds one stage"),
    (["- s: [3]"], r"a stage is its name"),
]


@pytest.mark.parametrize(("lines", "message"), WRONG, ids=[" ".join(lines) for lines, _ in WRONG])
def test_a_wrong_step_is_told_with_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(tmp_path, steps(*lines))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"r\.yaml:1: a recipe is a mapping of name, source, output, steps"),
        ("source: v\n", r"r\.yaml:1: the recipe has no steps"),
        ("source: v\nsteps: []\n", r"r\.yaml:2: the recipe has no steps"),
        ("source: v\nsteps: {a: [embed_t5]}\n", r"r\.yaml:2: steps is no list"),
        ("steps:\n- s: [embed_t5]\n", r"the recipe has no source; .*--input"),
        ("source: {vidoes: v}\nsteps:\n- s: [embed_t5]\n", r'r\.yaml:1: source has no setting "vidoes"; did you mean videos'),
        ("source: {videos: v, list: a.csv}\nsteps:\n- s: [embed_t5]\n", r"r\.yaml:1: source: a source is one of videos, list and shards"),
        ("source: v\nsetps:\n- s: [embed_t5]\n", r"r\.yaml:2: a recipe has no 'setps'; did you mean steps\?"),
        ("source: v\nthreads: 0\nsteps:\n- s: [embed_t5]\n", r"threads is 0; expected 1 or more"),
        ("source: v\ndecoder: pyaw\nsteps:\n- s: [embed_t5]\n", r'r\.yaml:2: recipe\.decoder is "pyaw"; .* did you mean pyav'),
        ("source: v\nmemory: 0MiB\nsteps:\n- s: [embed_t5]\n", r"r\.yaml:2: recipe: memory is 0MiB; expected at least 64MiB"),
        ("source: v\nmemory: 1KiB\nsteps:\n- s: [embed_t5]\n", r"r\.yaml:2: recipe: memory is 1KiB; expected at least 64MiB"),
        ("source: v\nmemory: 2 gigs\nsteps:\n- s: [embed_t5]\n", r"'2 gigs' is no amount of memory"),
        (
            "source: v\nworkers: many\nsteps:\n- s: [embed_t5]\n",
            r"r\.yaml:2: recipe\.workers is .many.; expected a whole number, or one of auto",
        ),
        (
            "source: {videos: v, storage_options: {a: [{b: [1, 1e999]}]}}\nsteps:\n- s: [embed_t5]\n",
            r"source\.storage_options is not finite",
        ),
        ("source: v\noutput: 3\nsteps:\n- s: [embed_t5]\n", r"r\.yaml:2: output is 3; expected text"),
    ],
)
def test_a_wrong_recipe_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(tmp_path, text)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, "source: {}\n" + "steps:\n- s: [embed_clop]\n- s: [embed_clip: {modle: x, fps: y}]\n  from: q\n")
    assert [line.partition(": ")[0].rpartition(":")[2] for line in str(caught.value).splitlines()] == ["1", "3", "4", "4", "4", "5"]


def test_a_missing_extra_is_an_error_only_for_the_steps_that_run(lab: None, tmp_path: Path) -> None:
    text = steps("- s: [score_lab]", "- t: [score_far]")
    with pytest.raises(
        RecipeError, match=r'r\.yaml:4: score_far needs no_such_module_at_all\. Install it with: pip install "shardprep\[captions\]"'
    ):
        load(tmp_path, text)
    assert len(load(tmp_path, text, until="s").steps) == 2
    with pytest.raises(RecipeError, match=r"there is no step 'q' to stop after; there is s, t"):
        load(tmp_path, text, until="q")


def test_settings_of_a_plug_in_are_typed(lab: None, tmp_path: Path) -> None:
    settings = "{good: 1, mode: slow, points: [1, 2.5], box: {top: 3}, weights_by_name: {a: 1}, is_on: false}"
    step = load(tmp_path, steps(f"- s: [score_lab: {settings}]")).steps[0]
    assert isinstance(step, Pass)
    stage = step.stages[0]
    assert repr(stage) == (
        "ScoreLab(good=1.0, steps=2, mode='slow', points=(1.0, 2.5), box=Box(top=3, left=0), weights_by_name={'a': 1.0}, is_on=False)"
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("good: 2", r"r\.yaml:3: score_lab: good 2\.0; expected at most 1"),
        ("box: {topp: 3, top: 1}", r'score_lab\.box has no setting "topp"; expected a mapping of top, left, or null'),
        ("box: {}", r'score_lab\.box needs the setting "top"'),
        ("box: {top: x}", r"score_lab\.box is .*; expected a mapping of top, left, or null"),
        ("weights_by_name: {a: b}", r"score_lab\.weights_by_name is .*; expected a mapping"),
        ("is_on: yes", r'score_lab\.is_on is "yes"; expected true or false'),
        ("good:", r"score_lab\.good is null; expected a number"),
    ],
)
def test_wrong_settings_of_a_plug_in(lab: None, tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(tmp_path, steps(f"- s: [score_lab: {{{setting}}}]"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        load_recipe(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(tmp_path / "latin.yaml")


def test_plain_data_is_a_recipe_too() -> None:
    recipe = recipe_from_dict({"name": "d", "source": {"list": "a.csv"}, "steps": [{"s": ["embed_t5"]}]})
    assert recipe.source == SourceSpec(list="a.csv")
    with pytest.raises(RecipeError, match=r"^recipe: there is no stage 'x'"):
        recipe_from_dict({"source": "v", "steps": [{"s": ["x"]}]})


RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_our_recipes_load_and_fit_together(file: Path) -> None:
    recipe = load_recipe(file)
    assert recipe.name == file.stem
    assert isinstance(recipe.steps[-1], Gather)
    assert isinstance(recipe.steps[-1].does, Pack)


def test_the_quickstart_is_random_and_the_others_are_not() -> None:
    named = {file.stem: "tiny:" in file.read_text(encoding="utf-8") for file in RECIPES}
    assert [name for name, is_random in named.items() if is_random] == ["quickstart"]
    text = next(file for file in RECIPES if file.stem == "quickstart").read_text(encoding="utf-8")
    models = [line for line in text.splitlines() if "tiny:" in line and not line.startswith("#")]
    assert len(models) == 4
    assert all("RANDOM MODEL" in line for line in models)


@pytest.mark.parametrize("name", ["/dev/zero", "endless"])
def test_what_has_no_end_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = Path(name)
    if name == "endless":
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(RecipeError, match="is a device|is it a recipe"):
        load_recipe(path)
