"""init writes a recipe that can be run, and never over another file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.cli.starting import recipes
from shardprep.recipe.load import load_recipe


def test_the_first_recipe_is_written_with_its_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["init"])
    assert result.exit_code == 0, result.stderr
    assert "shardprep run first-clips.yaml --input FOLDER" in result.stdout
    text = (tmp_path / "first-clips.yaml").read_text()
    assert text.startswith("# ")
    assert "#   shardprep run first-clips.yaml --input FOLDER" in text
    assert [step.name for step in load_recipe("first-clips.yaml").steps] == ["clips", "scores", "train"]
    (tmp_path / "first-clips.yaml").write_text("mine")
    again = CliRunner().invoke(app, ["init"])
    assert (again.exit_code, (tmp_path / "first-clips.yaml").read_text()) == (2, "mine")
    assert CliRunner().invoke(app, ["init", "--force"]).exit_code == 0
    assert (tmp_path / "first-clips.yaml").read_text() == text


@pytest.mark.parametrize("name", list(recipes()))
def test_the_comments_of_a_recipe_name_the_file_that_is_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["init", name]).exit_code == 0
    named = re.findall(r"[\w/.-]+\.yaml", (tmp_path / f"{name}.yaml").read_text())
    assert f"{name}.yaml" in named
    assert not [path for path in named if "/" in path]


def test_all_recipes_are_listed_with_what_they_are_for(root: Path) -> None:
    lines = CliRunner().invoke(app, ["init", "list"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(path.stem for path in (root / "recipes").glob("*.yaml")) == list(recipes())
    assert all(len(line.split()) > 5 for line in lines)


def test_an_unknown_recipe_is_said() -> None:
    result = CliRunner().invoke(app, ["init", "sora"])
    assert (result.exit_code, "there is no recipe 'sora'; there is first-clips, omnivideo" in result.stderr) == (2, True)
