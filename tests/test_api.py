"""What Python runs show by themselves."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import shardprep
from shardprep.recipe.load import recipe_from_dict


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def recipe(tmp_path: Path) -> shardprep.Recipe:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    source, step = str(tmp_path / "videos"), {"small": [{"drop_where": {"expression": "source.bytes > 9"}}]}
    return recipe_from_dict({"source": source, "output": str(tmp_path / "out"), "workers": 1, "steps": [step]})


def test_a_terminal_shows_bars(recipe: shardprep.Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shardprep.run(recipe)
    assert "raw" in terminal.getvalue()
    assert "1/1" in terminal.getvalue()


def test_a_notebook_shows_lines(recipe: shardprep.Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    shardprep.run(recipe)
    assert "raw 000000  in 1  out 1" in capsys.readouterr().err


SCRIPT = """
from dataclasses import dataclass
import shardprep
from shardprep.core.stage import Map
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec

@dataclass(frozen=True, kw_only=True)
class ScoreOne(Map):
    writes = {"scores.one": "double"}
    def apply(self, sample):
        return sample.with_columns({"scores.one": 1.0})

if __name__ == "__main__":
    steps = (Pass(name="scores", stages=(ScoreOne(),)),)
    source, settings = SourceSpec(videos="videos"), RunSettings(workers=1)
    summary = shardprep.run(Recipe(name="r", source=source, output="out", steps=steps, settings=settings))
    print(list(summary.steps[-1].notes))
"""


def test_a_program_is_told_which_stages_have_other_code_than_made_the_shards(recipe: shardprep.Recipe, tmp_path: Path) -> None:
    def ran(script: str) -> tuple[str, str]:
        (tmp_path / "script.py").write_text(script)
        done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.strip(), done.stderr.strip()

    assert ran(SCRIPT) == ("[]", "")
    assert ran(SCRIPT) == ("[]", "")
    changed = "score_one: its code changed since 1 of 1 shard was made"
    note = f"{changed}; raise version, or run with --redo scores. Until then their old values stay"
    assert ran(SCRIPT.replace("1.0", "9.0")) == (str([note]), note)


def test_a_program_whose_errors_go_to_a_file_says_nothing(recipe: shardprep.Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    shardprep.run(recipe)
    assert capsys.readouterr() == ("", "")
