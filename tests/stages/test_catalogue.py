"""Stages are found by their file names or entry points, and say what they are without anything heavy."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, dataclass, field
from pathlib import Path

import pytest

import shardprep.stages
from shardprep.core.frames import AllFrames, FramesWanted
from shardprep.core.outcome import Dropped
from shardprep.core.sample import Sample
from shardprep.core.stage import Filter, Stage, Watcher, stage_name
from shardprep.errors import RecipeError
from shardprep.recipe.load import GATHERS, LATER
from shardprep.stages.catalogue import RESERVED_NAMES, describe_stage, find_stage, find_stages, setting_types, stage_names

HEAVY = ("torch", "av", "cv2", "transformers", "diffusers", "open_clip", "duckdb", "scenedetect", "decord")

PLUG_IN = '''
from dataclasses import dataclass
from shardprep.core.stage import Map

@dataclass(frozen=True, kw_only=True)
class ScoreMine(Map):
    """Score as I like it."""
    min_seconds: float = 2.0
    """Shorter ones get nothing."""
    accepts = ()
    writes = {"scores.mine": "double"}

    def apply(self, sample):
        return sample.with_columns({"scores.mine": 1.0})

class NoStage:
    pass
'''


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a distribution with a stage, as pip would leave it."""
    (tmp_path / "my_stages.py").write_text(PLUG_IN, encoding="utf-8")
    info = tmp_path / "my_stages-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-stages\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[shardprep.stages]\nscore_mine = my_stages:ScoreMine\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_stages", raising=False)
    return tmp_path


def test_every_file_is_a_stage_of_its_name() -> None:
    files = {path.stem for path in Path(shardprep.stages.__path__[0]).glob("*.py")} - {"__init__", "catalogue"}
    assert files
    assert files <= set(stage_names())
    for name in files:
        assert stage_name(find_stage(name)) == name


def test_listing_describing_and_importing_stages_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from shardprep.stages.catalogue import describe_stage, find_stage, stage_names\n"
        "for name in stage_names():\n    describe_stage(find_stage(name))\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_listing_imports_no_stage() -> None:
    script = (
        "import sys\nfrom shardprep.stages.catalogue import stage_names\nstage_names()\n"
        "print([name for name in sys.modules if 'shardprep.stages.' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['shardprep.stages.catalogue']"


@pytest.mark.parametrize("name", ["drop_wher", "DropWhere", "os", "catalogue", "__init__", "../errors", ""])
def test_an_unknown_stage_is_an_error(name: str) -> None:
    with pytest.raises(RecipeError, match="there is no stage"):
        find_stage(name)


def test_an_unknown_stage_is_told_the_nearest() -> None:
    with pytest.raises(RecipeError, match="there is no stage 'drop_wher'; did you mean drop_where"):
        find_stage("drop_wher")


def test_a_plug_in_is_listed_and_described(plug_in: Path) -> None:
    assert "score_mine" in stage_names()
    info = describe_stage(find_stage("score_mine"))
    assert (info.name, info.doc, info.writes) == ("score_mine", "Score as I like it.", {"scores.mine": "double"})
    assert [(s.name, s.unit, s.default, s.doc) for s in info.settings] == [("min_seconds", "s", 2.0, "Shorter ones get nothing.")]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("drop_where = my_stages:ScoreMine", "several packages bring a stage 'drop_where': shardprep itself, my-stages"),
        ("pack = my_stages:ScoreMine", "pack is a gather of shardprep itself, and my-stages brings a stage 'pack'; rename that"),
        ("score_other = my_stages:ScoreMine", "the entry point score_other of my-stages names the class ScoreMine, a stage score_mine"),
        ("score_bad = my_stages:NoStage", "the entry point score_bad of my-stages is no subclass"),
        ("score_gone = my_stages:Gone", "the plug-in my-stages cannot be loaded"),
    ],
)
def test_a_wrong_plug_in_is_named(plug_in: Path, points: str, message: str) -> None:
    (plug_in / "my_stages-1.0.dist-info" / "entry_points.txt").write_text(f"[shardprep.stages]\n{points}\n", encoding="utf-8")
    name = points.partition(" ")[0]
    with pytest.raises(RecipeError, match=message):
        find_stage(name)
    found, broken = find_stages()
    assert [(one.name, one.package) for one in broken] == [(name, "my-stages")]
    assert message in broken[0].error
    assert set(found) == {path.stem for path in Path(shardprep.stages.__path__[0]).glob("*.py")} - {"__init__", "catalogue"}


def test_the_names_of_gathers_are_taken() -> None:
    assert {*GATHERS, *LATER} == RESERVED_NAMES


@dataclass(frozen=True, kw_only=True)
class ScoreParent(Stage):
    """Look at everything.

    And say more.
    """

    points: tuple[float, ...] = (0.5,)
    """Where to look."""
    names: list[str] = field(default_factory=lambda: ["a"])
    plain: int = 3
    version = 4

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(AllFrames())

    def watch(self, sample: Sample) -> Watcher:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ScoreChild(ScoreParent):
    """Look again."""

    short_side_px: int
    """Pixels."""

    @property
    def reads(self) -> tuple[str, ...]:
        return (f"x.{self.short_side_px}",)


class DropNothing(Filter):
    """A stage without settings is no dataclass."""

    def judge(self, sample: Sample) -> Dropped | None:
        return None


def test_settings_carry_type_default_unit_and_doc() -> None:
    points, names, plain = describe_stage(ScoreParent).settings
    assert (points.name, points.type, points.default, points.doc) == ("points", "tuple[float, ...]", (0.5,), "Where to look.")
    assert (names.default, names.doc, plain.default) == (["a"], "", 3)
    assert describe_stage(ScoreParent).version == 4
    assert describe_stage(ScoreParent).doc == "Look at everything.\n\nAnd say more."
    assert "AllFrames" in (describe_stage(ScoreParent).frames or "")


def test_what_depends_on_a_required_setting_is_not_guessed() -> None:
    info = describe_stage(ScoreChild)
    assert [setting.name for setting in info.settings if setting.is_required] == ["short_side_px"]
    assert info.settings[-1].default is MISSING
    assert info.settings[-1].unit == "px"
    assert info.settings[0].doc == "Where to look."
    assert info.reads is None
    assert info.writes == {}
    assert info.accepts == ("video", "image")


def test_types_are_resolved() -> None:
    assert setting_types(ScoreChild) == {"points": tuple[float, ...], "names": list[str], "plain": int, "short_side_px": int}


def test_a_type_that_the_module_does_not_name() -> None:
    @dataclass(frozen=True, kw_only=True)
    class ScoreLost(Stage):
        box: Unheard | None = None  # type: ignore[name-defined]  # noqa: F821  # wrong on purpose

    with pytest.raises(RecipeError, match="ScoreLost: a setting's type names Unheard"):
        setting_types(ScoreLost)


def test_a_stage_without_settings() -> None:
    assert describe_stage(DropNothing).settings == ()
    assert find_stage("drop_where").__name__ == "DropWhere"
