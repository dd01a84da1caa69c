"""What Python runs show by themselves."""

from __future__ import annotations

import io
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


def test_a_program_whose_errors_go_to_a_file_says_nothing(recipe: shardprep.Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    shardprep.run(recipe)
    assert capsys.readouterr() == ("", "")
