"""Recipes built in Python are checked like those of YAML, with the step in place of the line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardprep.core.frames import Fractions, FramesWanted
from shardprep.core.outcome import Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Stage
from shardprep.errors import RecipeError
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.check import check_recipe, steps_until
from shardprep.recipe.model import Gather, Pass, Recipe, Step
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.drop_where import DropWhere
from shardprep.stages.embed_t5 import EmbedT5


@dataclass(frozen=True, kw_only=True)
class ScoreAny(Stage):
    reads_these: tuple[str, ...] = ()
    writes_these: tuple[str, ...] = ()
    replaces_these: tuple[str, ...] = ()
    role: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        return self.reads_these

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {name: "double" if "." in name else "member" for name in self.writes_these}

    @property
    def replaces(self) -> tuple[str, ...]:
        return self.replaces_these

    @property
    def frames(self) -> FramesWanted | None:
        return FramesWanted(Fractions((0.5,)), role=self.role) if self.role else None

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        raise NotImplementedError


def recipe(*steps: Step, source: SourceSpec | None = None) -> Recipe:
    return Recipe(name="lab", source=source or SourceSpec(videos="v"), steps=steps)


def one(
    name: str, *, reads: Sequence[str] = (), writes: Sequence[str] = (), replaces: Sequence[str] = (), from_: str | None = None
) -> Pass:
    stage = ScoreAny(reads_these=tuple(reads), writes_these=tuple(writes), replaces_these=tuple(replaces))
    return Pass(name=name, stages=(stage,), from_=from_)


def test_what_was_written_upstream_can_be_read() -> None:
    check_recipe(
        recipe(
            one("a", reads=["video", "source.path", "meta.anything", "caption.text"], writes=["scores.a", "latent"]),
            one("b", reads=["scores.a", "scores.*", "latent"], writes=["scores.b"]),
            Gather(name="g", does=Select(where="scores.a > Scores['B'] AND len(struct_keys(scores)) > 1", sort="KEY, source.bytes")),
            one("c", reads=["scores.b"], writes=["caption.text"]),
            Gather(name="p", does=Pack(roles=("latent",), bucket_by=("scores.a",))),
            one("d", reads=["scores.a"], writes=["scores.b"], from_="a"),
            one("e", writes=["scores.a"], replaces=["scores.a"], from_="a"),
        )
    )


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            (Gather(name="g", does=Select(where='source.name = "CC0"')),),
            "step g reads CC0, which no earlier step writes; text stands in single quotes: 'CC0'",
        ),
        ((Pass(name="a", stages=(DropWhere(expression='meta.license = "CC0"'),)),), "text stands in single quotes: 'CC0'"),
        ((Gather(name="g", does=Select(where="source.bytes < '10 MB'")),), "step g: expression \"source.bytes < '10 MB'\": "),
        (
            (Pass(name="a", stages=(DropWhere(expression="source.name = 3"),)),),
            "step a: expression 'source.name = 3': takes text for a number",
        ),
        ((Gather(name="g", does=Select(sort="source.name * 2", limit=3)),), "step g: order 'source.name * 2': "),
        (
            (Gather(name="g", does=Select(where="Source.Nam = 'x'")),),
            "step g reads Source.Nam, which no earlier step writes; there is source.name",
        ),
        (
            (one("a", reads=["scores.a"], writes=["scores.a"]),),
            "recipe lab: step a: score_any reads scores.a, which no earlier stage writes",
        ),
        ((one("a", writes=["scores.a"]), one("b", reads=["scores.a"], from_="raw")), "step b: score_any reads scores.a"),
        ((one("a", writes=["scores.a"]), one("b", writes=["scores.a"])), "step b: score_any writes scores.a, which is there already"),
        ((one("a", writes=["scores.ab"]), one("b", reads=["scores.abc"])), "; there is scores.ab"),
        (
            (one("a", writes=["scores.a"]), one("b", reads=["scores"])),
            "a member that no sample has; to read the columns scores.* write 'scores.*'",
        ),
        ((one("a", writes=["scores.a"]), one("b", writes=["scores.A"])), "step b: score_any writes scores.A, which is there already"),
        ((Pass(name="a", stages=(ScoreAny(role="target"),)),), "step a: score_any wants frames of target, which is not there"),
        ((), "recipe lab: the recipe has no steps"),
    ],
)
def test_what_does_not_fit_is_told(steps: tuple[Step, ...], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe(*steps))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (EmbedT5(max_length=3.5), "recipe lab: step a: embed_t5.max_length is 3.5; expected a whole number"),  # type: ignore[arg-type]  # wrong on purpose
        (EmbedT5(model=Path("x")), "recipe lab: step a: embed_t5.model is a PosixPath; expected text"),  # type: ignore[arg-type]  # wrong on purpose
        (EmbedT5(missing="skip"), 'embed_t5.missing is "skip"; expected one of drop, fail, empty'),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_settings_given_in_python_are_typed_too(stage: Stage, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe(Pass(name="a", stages=(stage,))))
    assert message in str(caught.value)


def test_a_stage_that_would_work_on_no_sample_is_refused_and_not_skipped() -> None:
    stage = type("ScoreSkipped", (ScoreAny,), {"accepts": ("vidoe",)})()
    with pytest.raises(RecipeError, match="step a: score_skipped accepts vidoe, which no sample has; there is video"):
        check_recipe(recipe(Pass(name="a", stages=(stage,))))
    # Tars may bring members of any name.
    check_recipe(recipe(Pass(name="a", stages=(stage,)), source=SourceSpec(shards="a.tar")))


@dataclass(frozen=True, kw_only=True)
class ScoreHeld(Stage):
    table: dict = None  # type: ignore[type-arg, assignment]  # as people write it
    thing: object = None


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (ScoreHeld(table={"a": {1, 2}}, thing=0), "score_held.table holds a set; expected a mapping"),
        (ScoreHeld(table={}, thing=len), "score_held.thing is a builtin_function_or_method; expected anything that a recipe can say"),
    ],
)
def test_what_a_recipe_cannot_say_is_told_in_its_words(stage: Stage, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe(Pass(name="a", stages=(stage,))))
    assert message in str(caught.value)


def test_a_stage_that_takes_a_text_for_roles_is_refused_and_not_skipped() -> None:
    stage = type("ScoreSkipped", (ScoreAny,), {"accepts": "video"})()
    with pytest.raises(RecipeError, match=r"step a: score_skipped: accepts is 'video'; .* write \(\"video\",\)"):
        check_recipe(recipe(Pass(name="a", stages=(stage,))))


def test_tars_may_bring_pairs() -> None:
    check_recipe(recipe(Pass(name="a", stages=(ScoreAny(role="target"),)), source=SourceSpec(shards="a.tar")))


def test_steps_until() -> None:
    both = recipe(one("a"), one("b"))
    assert [[step.name for step in steps_until(both, until)] for until in ("a", "b", None)] == [["a"], ["a", "b"], ["a", "b"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": -1}, "limit is -1"),
        ({"where": " "}, "where is empty"),
        ({"sample": 1.5}, "sample is 1.5"),
        ({"sample": -1}, "sample is -1"),
    ],
)
def test_select_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Select(**settings)  # type: ignore[arg-type]  # settings of any type


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"shard_mib": 0}, "shard_mib is 0"), ({"samples_per_shard": 0}, "samples_per_shard is 0"), ({"roles": ()}, "roles is empty")],
)
def test_pack_refuses(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pack(**settings)  # type: ignore[arg-type]  # settings of any type


@pytest.mark.parametrize(
    ("reader", "begins"),
    [
        (Pass(name="late", stages=(ScoreAny(reads_these=("latent",)),)), "step late: score_any reads latent, which"),
        (Pass(name="late", stages=(ScoreAny(role="latent"),)), "step late: score_any wants frames of latent, which"),
        (Gather(name="late", does=Pack(roles=("video", "latent"))), "step late reads latent, which"),
        (Gather(name="late", does=Select(where="scores.a > 1")), "step late reads scores.a, which"),
    ],
)
def test_what_was_made_of_whole_videos_is_not_read_of_their_clips(reader: Step, begins: str) -> None:
    whole = one("whole", writes=["latent", "cls", "scores.a"])
    clips = Pass(name="clips", stages=(CutClips(),))
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe(whole, clips, one("labels", reads=["video", "text", "cls"]), reader))
    assert begins in str(caught.value)
    assert "the samples that cut_clips makes do not have, as it was made from the whole; put score_any after cut_clips" in str(caught.value)
    check_recipe(recipe(clips, one("labels", reads=["video", "text"]), one("whole", writes=["latent", "cls", "scores.a"]), reader))


@dataclass(frozen=True, kw_only=True)
class SplitSentences(Stage):
    keeps_labels = False
    accepts = ()
    reads = ("text",)
    replaces = ("text",)
    splits = True

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"text": "member"}

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        raise NotImplementedError


def test_a_stage_that_wants_no_frames_works_on_children_that_have_no_video() -> None:
    sentences = Pass(name="sentences", stages=(SplitSentences(),))
    check_recipe(recipe(sentences, Pass(name="late", stages=(DropWhere(expression="source.bytes = 0"),))))
    with pytest.raises(RecipeError, match="step late: score_any accepts video or image, which the samples that split_sentences makes"):
        check_recipe(recipe(sentences, Pass(name="late", stages=(ScoreAny(role="video"),))))


READERS: list[Callable[[str], Step]] = [
    lambda role: Gather(name="late", does=Pack(roles=(role,))),
    lambda role: one("late", reads=[role]),
    lambda role: Pass(name="late", stages=(ScoreAny(role=role),)),
]


@pytest.mark.parametrize("reader", READERS)
def test_tars_of_any_origin_may_bring_any_member(reader: Callable[[str], Step]) -> None:
    tars = SourceSpec(shards="t/*.tar")
    check_recipe(recipe(reader("bin"), source=tars))
    check_recipe(recipe(Pass(name="clips", stages=(CutClips(),)), reader("cls"), source=tars))
    with pytest.raises(RecipeError, match="step late.* bin, which"):
        check_recipe(recipe(Pass(name="clips", stages=(CutClips(),)), reader("bin"), source=tars))
    with pytest.raises(RecipeError, match="step late.* bin, which"):
        check_recipe(recipe(reader("bin")))


def test_the_name_of_a_group_is_no_member_of_tars() -> None:
    with pytest.raises(RecipeError, match="a member that no sample has; to read the columns"):
        check_recipe(recipe(one("a", writes=["scores.a"]), one("b", reads=["scores"]), source=SourceSpec(shards="t/*.tar")))


def test_a_stage_may_write_a_member_that_only_tars_could_bring() -> None:
    check_recipe(recipe(one("a", writes=["latent"]), one("b", reads=["latent"]), source=SourceSpec(shards="t/*.tar")))
