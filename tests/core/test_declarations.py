"""What a stage of one's own declares wrongly is told by its name, with what came and what is expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shardprep.core.declarations import check_declarations, check_weights
from shardprep.core.frames import AllFrames, Fractions, FramesWanted, ModelSize, PerSecond, ShortSide
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.reads import Column, Role
from shardprep.core.sample import Sample
from shardprep.core.stage import Filter, Map, Resources, Stage, Watcher, Weights
from shardprep.errors import RecipeError
from shardprep.stages.catalogue import find_stages, only_required


class ScoreMine(Stage):
    """Stands for a stage that somebody wrote; tests give it one attribute."""

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Kept(sample) for sample in batch]

    def watch(self, sample: Sample) -> Watcher:
        raise NotImplementedError


def with_declared(**attributes: Any) -> Stage:
    return type("ScoreMine", (ScoreMine,), attributes)()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("accepts", "video", '\'video\'; expected roles, such as ("video", "image"), where () means all samples; write ("video",)'),
        ("accepts", ("source.path",), "('source.path',); expected roles"),
        ("accepts", None, "None; expected roles"),
        ("reads", "video", 'write ("video",)'),
        ("reads", "scores.flow", 'write ("scores.flow",)'),
        ("reads", (3,), "(3,); expected roles and columns"),
        ("writes", ("mine.x",), '(\'mine.x\',); expected a mapping of names to types, such as {"scores.mine": "double"}'),
        ("writes", {"mine.x": int}, "{'mine.x': <class 'int'>}; expected a mapping"),
        ("writes", lambda self: {}, "a method; expected a mapping of names to types"),
        ("replaces", "video", 'write ("video",)'),
        ("splits", "yes", "'yes'; expected True or False"),
        ("keeps", "source", 'write ("source",)'),
        ("keeps", ("source.*",), '(\'source.*\',); expected groups of columns, such as ("source", "meta"), or None'),
        ("keeps_labels", 1, "1; expected True or False, or None"),
        ("frames", AllFrames(), "AllFrames(); expected a FramesWanted, or None"),
        ("frames", FramesWanted(PerSecond(0)), "frames.at.fps is 0; expected above 0"),
        ("frames", FramesWanted(Fractions((0.5, 1.5))), "frames.at.points is (0.5, 1.5); expected 0 to 1"),
        ("frames", FramesWanted(Fractions((0.5,)), ShortSide(0)), "frames.size.px is 0; expected at least 1"),
        ("frames", FramesWanted(Fractions((0.5,)), ModelSize(8, 8, list)), "expected a FramesWanted"),
        ("frames", FramesWanted((0.5,)), "expected a FramesWanted"),  # type: ignore[arg-type]  # wrong on purpose
        ("group_by", ("meta.pair",), "('meta.pair',); expected the name of a column, such as \"meta.pair\", or None"),
        ("batch_size", 0, "0; expected a whole number from 1 on"),
        ("batch_size", True, "True; expected a whole number from 1 on"),
        ("resources", 8, "8; expected a Resources"),
        ("timeout_seconds", 0, "0; expected a number above 0"),
        ("timeout_seconds", float("nan"), "nan; expected a number above 0"),
        ("needs", ("torch", "models"), "('torch', 'models'); expected pairs of a module and the extra that brings it"),
        ("version", "2", "'2'; expected a whole number from 1 on"),
    ],
)
def test_a_wrong_declaration_is_told(name: str, value: object, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_declarations(with_declared(**{name: value}))
    assert str(caught.value).startswith(f"score_mine: {name}")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            ("file.json",),
            "score_mine: weights is ('file.json',); expected Weights, such as (Weights('OWNER/REPO'),); write (Weights('file.json'),)",
        ),
        ("file.json", "write (Weights('file.json'),)"),
        (Weights("file.json"), "write (Weights('file.json'),)"),
        ((3,), "(3,); expected Weights, such as (Weights('OWNER/REPO'),)"),
    ],
)
def test_wrong_weights_are_told(value: object, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_weights(with_declared(weights=value))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "declared",
    [
        {"accepts": (), "reads": (), "writes": {}, "keeps": ("source",), "keeps_labels": False, "splits": True},
        {"accepts": ["video"], "reads": (Role("video"), Column(("scores",)), "scores.*"), "writes": {"latent": "member"}},
        {"frames": FramesWanted(AllFrames(), ShortSide(8), "gray"), "timeout_seconds": 1, "batch_size": 2, "resources": Resources(gpus=1)},
        {"group_by": "meta.pair", "needs": (("torch", "models"),), "version": 2, "replaces": ("video",)},
    ],
)
def test_what_is_right_passes(declared: dict[str, object]) -> None:
    check_declarations(with_declared(**declared))


def test_what_a_declaration_raises_is_told_with_its_cause() -> None:
    def broken(self: Stage) -> object:
        raise KeyError("nobody knows")

    with pytest.raises(RecipeError, match=r"score_mine: reads raises KeyError: 'nobody knows'") as caught:
        check_declarations(with_declared(reads=property(broken)))
    assert isinstance(caught.value.__cause__, KeyError)


def test_weights_that_need_what_is_not_there_yet_are_left_to_those_who_load_them() -> None:
    def absent(self: Stage) -> object:
        raise RecipeError("there is no folder tiny:mine yet")

    check_weights(with_declared(weights=property(absent)))


def kept(self: Stage, batch: Sequence[Sample]) -> Sequence[Outcome]:
    return [Kept(sample) for sample in batch]


@pytest.mark.parametrize(
    ("kind", "attributes", "said"),
    [
        (Stage, {}, "it implements neither process nor open, so that it would work on no sample"),
        (
            Stage,
            {"procss": kept},
            "it implements neither process nor open, so that it would work on no sample; is procss meant to be process?",
        ),
        (Stage, {"opens": kept}, "it implements neither process nor open, so that it would work on no sample; is opens meant to be open?"),
        (Stage, {"watch": kept}, "it implements watch, which sees all frames; write frames = FramesWanted(AllFrames())"),
        (Stage, {"frames": FramesWanted(AllFrames()), "process": kept}, "it wants all frames and implements no watch"),
        (
            Stage,
            {"frames": FramesWanted(AllFrames()), "wacht": kept},
            "it wants all frames and implements no watch; is wacht meant to be watch?",
        ),
        (Map, {}, "it implements no apply, so that it would work on no sample"),
        (Map, {"aply": kept}, "it implements no apply, so that it would work on no sample; is aply meant to be apply?"),
        (Filter, {"judgment": kept}, "it implements no judge, so that it would work on no sample; is judgment meant to be judge?"),
    ],
)
def test_a_stage_that_lacks_the_method_that_does_its_work_is_told(kind: type[Stage], attributes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_declarations(type("ScoreMine", (kind,), attributes)())
    assert str(caught.value) == f"score_mine: {said}"


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        (Stage, {"process": kept}),
        (Stage, {"open": kept}),
        (Stage, {"frames": FramesWanted(AllFrames()), "watch": kept}),
        (Map, {"apply": kept}),
        (Map, {"process": kept}),
        (Map, {"open": kept}),
        (Filter, {"judge": kept}),
    ],
)
def test_any_of_the_methods_is_enough(kind: type[Stage], attributes: dict[str, Any]) -> None:
    check_declarations(type("ScoreMine", (kind,), attributes)())


def test_every_stage_of_ours_declares_rightly() -> None:
    found, _ = find_stages()
    assert found
    for kind in found.values():
        stage = kind(**{only_required(kind): "media.seconds > 1"}) if only_required(kind) else kind()
        check_declarations(stage)
        check_weights(stage)
