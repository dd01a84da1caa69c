"""The plan of a pass: what is decoded together, what is there after each stage, and what may not stand together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from shardprep.core.frames import AllFrames, Fractions, FramesWanted
from shardprep.core.hints import nearest
from shardprep.core.plan import Available, PlannedPass, check_pass, check_split_and_join, watches
from shardprep.core.reads import Column, Role, parse_read
from shardprep.core.stage import ColumnType, Stage, stage_name
from shardprep.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Measure(Stage):
    column: str = "scores.a"
    needs_column: str | None = None
    sees_all: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.needs_column,) if self.needs_column else ()

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {self.column: "double"}

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(AllFrames() if self.sees_all else Fractions((0.5,)))


@dataclass(frozen=True, kw_only=True)
class CutUp(Stage):
    splits = True
    keeps = ("source",)
    writes = {"video": "member", "clip.index": "int64"}  # noqa: RUF012  # read-only by contract
    replaces = ("video",)


@dataclass(frozen=True, kw_only=True)
class JoinUp(Stage):
    group_by = "source.name"


def names(planned: PlannedPass) -> list[list[str]]:
    return [[stage_name(stage) for stage in segment] for segment in planned.segments]


def test_stages_of_a_pass_share_one_decode_up_to_a_split() -> None:
    planned = PlannedPass("p", (Measure(), Measure(column="scores.b"), CutUp(), Measure(column="scores.c")))
    assert names(planned) == [["measure", "measure", "cut_up"], ["measure"]]
    assert planned.is_base


def test_a_watcher_that_reads_what_its_segment_writes_starts_anew() -> None:
    reader = Measure(column="scores.b", needs_column="scores.a", sees_all=True)
    assert names(PlannedPass("p", (Measure(), reader))) == [["measure"], ["measure"]]
    assert names(PlannedPass("p", (Measure(), Measure(column="scores.b", sees_all=True)))) == [["measure", "measure"]]
    assert watches(reader)
    assert not watches(Measure())


def test_a_pass_reads_what_it_does_not_write_itself() -> None:
    planned = PlannedPass(
        "p", (Measure(), Measure(column="scores.b", needs_column="scores.a"), Measure(column="scores.c", needs_column="meta.x"))
    )
    assert Column(("scores", "a")) not in planned.reads
    assert {Role("video"), Role("image"), Column(("meta", "x"))} <= set(planned.reads)
    assert planned.adds == {"scores.a": "double", "scores.b": "double", "scores.c": "double"}
    assert not planned.is_base


def test_a_watcher_that_reads_a_struct_sees_what_its_segment_wrote_there() -> None:
    for read in ("scores.*", "Scores.A"):
        reader = Measure(column="scores.b", needs_column=read, sees_all=True)
        assert names(PlannedPass("p", (Measure(), reader))) == [["measure"], ["measure"]], read


def test_a_struct_is_still_read_where_a_part_of_it_was_written_before() -> None:
    planned = PlannedPass("p", (Measure(), Measure(column="other.b", needs_column="scores.*")))
    assert Column(("scores",)) in planned.reads


def test_the_column_of_a_join_is_one_that_it_reads() -> None:
    assert Column(("source", "name")) in PlannedPass("p", (JoinUp(),)).reads
    with pytest.raises(RecipeError, match=r"join_up reads source\.name, which no earlier stage writes"):
        check_pass("p", [JoinUp()], Available.of({"video": "member"}))


def test_columns_are_there_in_any_case_and_structs_whole() -> None:
    there = Available.of({"video": "member", "scores.Luma": "double", "scores.l": "list<double>", "t5": "member", "t5.length": "int64"})
    found = {
        name: there.has(parse_read(name))
        for name in ("scores.luma", "SCORES.*", "scores.lum", "meta.x", "META.x", "Video", "t5", "t5.*", "scores")
    }
    assert found == {
        "scores.luma": True,
        "SCORES.*": True,
        "scores.lum": False,
        "meta.x": True,
        "META.x": True,
        "Video": False,
        "t5": True,
        "t5.*": True,
        "scores": False,
    }
    assert there.types_of([Column(("SCORES",)), Column(("meta", "x"))]) == {
        ("scores", "Luma"): "double",
        ("scores", "l"): "list<double>",
        ("meta", "x"): None,
    }


def test_children_have_only_what_their_stage_lets_them_inherit() -> None:
    there = check_pass("p", [Measure(), CutUp()], Available.of({"video": "member", "source.name": "string"}))
    assert there.names == ["clip.index", "source.name", "video"]
    words = r"step q: measure reads scores\.a, which the samples that cut_up makes do not have, as it was made from the whole; put measure"
    with pytest.raises(RecipeError, match=f"{words} after cut_up$"):
        check_pass("q", [Measure(column="scores.z", needs_column="scores.a")], there)
    again = check_pass("q", [Measure()], there)
    assert again.has(parse_read("scores.a")), "written anew"
    assert not again.lost


@dataclass(frozen=True, kw_only=True)
class Make(Stage):
    role: str = "latent"

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {self.role: "member"}


@dataclass(frozen=True, kw_only=True)
class Clip(CutUp):
    keeps_labels = True
    accepts = ("video",)


def test_children_have_only_the_members_that_their_stage_lets_them_have() -> None:
    source = Available(frozenset({"video", "image", "text"}))
    there = check_pass("p", [Make(), Make(role="cls"), Clip()], source)
    assert there.roles == {"video", "image", "text", "cls"}, "labels are copied, and images pass untouched"
    words = (
        "step q: measure reads latent, which the samples that clip makes do not have, as it was made from the whole; put make after clip"
    )
    with pytest.raises(RecipeError, match=f"{words}$"):
        check_pass("q", [Measure(needs_column="latent")], there)
    assert check_pass("q", [Make(), Measure(needs_column="latent")], there).roles == {*there.roles, "latent"}, "made anew of the clips"
    assert check_pass("p", [Make(), CutUp()], source).has(Role("latent")), "nothing is known of a splitter that says nothing of members"


def test_a_column_is_written_once() -> None:
    with pytest.raises(RecipeError, match=r"writes scores\.a, which is there already"):
        check_pass("p", [Measure(), Measure()], Available.of({"video": "member"}))


def test_a_pass_does_not_both_split_and_join() -> None:
    check_split_and_join("p", [CutUp(), Measure()])
    check_split_and_join("p", [JoinUp(), Measure()])
    with pytest.raises(RecipeError, match="step p: cut_up splits samples and join_up joins them; put each into a pass of its own"):
        check_split_and_join("p", [CutUp(), JoinUp()])


def test_the_nearest_name_is_offered() -> None:
    assert nearest("treshold", ["threshold", "crf"]) == "; did you mean threshold"
    assert nearest("xyz", ["threshold", "crf"]) == ""
