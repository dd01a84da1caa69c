"""The commands and programs of the README run as they are printed; those of the other pages are commands that there are."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

import shardprep
from shardprep.cli.commands import app
from shardprep.core.stage import ColumnType
from shardprep.driver.model import RunOptions
from shardprep.recipe.load import load_recipe
from shardprep.recipe.model import Pass, RunSettings
from shardprep.stages.cut_clips import CutClips
from shardprep.testing.videos import make_videos
from tests.doc_tables import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCED = r"^```%s\n(.*?)^```"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(_FENCED % language, text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Return the commands of all sh blocks in order, as words, comments left out and continued lines joined."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def parse(words: list[str]) -> None:
    """Let the command line read the words, without doing anything; click.UsageError where they are no command."""
    group: Any = typer.main.get_command(app)
    while hasattr(group, "commands"):
        assert words[:1] != [], f"{group.name} needs a command"
        assert words[0] in group.commands, f"there is no command {' '.join(words)!r}"
        group, words = group.commands[words[0]], words[1:]
    group.make_context(group.name, list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_shardprep_in_a_block_is_one(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[0] == "shardprep":
            parse(words[1:])


def test_every_command_of_the_readme_is_run_or_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for words in commands(README):
        if words[:2] == ["pip", "install"]:
            named = [name for word in words for group in re.findall(r"\[([\w,]+)\]", word) for name in group.split(",")]
            assert set(named) <= set(extras), words
        else:
            # `make` targets are looked up by tests/test_docs.py; what shardprep is asked is run below.
            assert words[0] in ("make", "shardprep"), words


def test_the_tour_of_the_readme_runs_as_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    make_videos(tmp_path / "videos")
    told = [words for words in commands(README) if words[0] == "shardprep"]
    assert [words[1] for words in told[:3]] == ["plan", "run", "status"]
    for words in told:
        done = run([sys.executable, "-m", "shardprep.cli", *words[1:]], tmp_path)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
        assert done.stdout, f"{shlex.join(words)} says nothing"
    programs = blocks(README, "python")
    assert programs
    for number, program in enumerate(programs):
        (tmp_path / f"program{number}.py").write_text(program)
        as_file = run([sys.executable, f"program{number}.py"], tmp_path)
        as_text = run([sys.executable, "-"], tmp_path, given=program)
        assert (as_file.returncode, as_text.returncode) == (0, 0), as_file.stderr + as_text.stderr
        assert as_file.stdout.count("\n") > 3, "it prints nothing to speak of"
        assert as_text.stdout == as_file.stdout


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_the_python_example_makes_everything_by_itself(tmp_path: Path, how: str) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    make_videos(tmp_path / "videos")
    program = next(program for program in blocks(README, "python") if "shardprep.run(" in program)
    (tmp_path / "program.py").write_text(program)
    done = run([sys.executable, "program.py"], tmp_path) if how == "file" else run([sys.executable, "-"], tmp_path, given=program)
    # What a person should know of the source is said, and nothing else.
    [said] = done.stderr.splitlines()
    assert (done.returncode, said[:40]) == (0, "2 captions of whole videos were copied t")
    assert len(done.stdout.splitlines()) > 3
    assert (tmp_path / "out" / "train" / "manifest.json").is_file()


def run(command: list[str], place: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=place, input=given, capture_output=True, text=True, timeout=250, check=False)


def test_the_programs_of_the_questions_run_as_they_are_printed(tmp_path: Path) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    make_videos(tmp_path / "videos")
    text = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    first = [sys.executable, "-m", "shardprep.cli", "run", "recipes/first-clips.yaml", "--input", "videos", "--output", "out"]
    assert run(first, tmp_path).returncode == 0
    captions, reader = blocks(text, "python")
    for program, words in ((captions, "A caption of mine."), (reader, "'mp4'")):
        (tmp_path / "program.py").write_text(program)
        done = run([sys.executable, "program.py"], tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(words) == 6, done.stdout
    (tmp_path / "recipe.yaml").write_text(blocks(text, "yaml")[0])
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.source.storage_options == recipe.settings.storage_options == {"endpoint_url": "https://storage.example.org"}
    local = [words for words in commands(text) if words[:2] in (["shardprep", "table"], ["shardprep", "shards"])]
    assert len(local) == 2
    for words in local:
        assert run([sys.executable, "-m", "shardprep.cli", *words[1:]], tmp_path).returncode == 0, words


def test_the_stages_of_the_guide_run_as_they_are_printed(tmp_path: Path) -> None:
    make_videos(tmp_path / "videos")
    text = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    [program] = blocks(text, "python")
    (tmp_path / "program.py").write_text(program)
    done = run([sys.executable, "program.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ["raw 4 4 {} {} 4", "red 4 3 {} {'decode-error': 1} 3", "pictures 3 3 {} {} 11"]
    stills = list(shardprep.open_set(str(tmp_path / "stills" / "pictures")))
    assert len(stills) == done.stdout.count("-0000") == 11
    assert {still.members["image"].suffix for still in stills} == {"png"}
    assert all(still.get("media.seconds") is None and still.get("source.name") for still in stills), "children have what `keeps` says"
    scored = shardprep.open_set(str(tmp_path / "stills" / "red"))
    assert all(0 < sample.get("scores.red") < 255 and len(sample.get("per_frame.red")) > 1 for sample in scored)


def test_the_guide_to_stages_tells_all_types_and_how_settings_are_given() -> None:
    text = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    for kind in get_args(ColumnType):
        assert f"`{kind}`" in text
    [call] = re.findall(r"`(load_recipe\(.*?\]\))`", text)
    changed = load_recipe(ROOT / "recipes/first-clips.yaml", overrides=ast.literal_eval(re.findall(r"overrides=(\[.*?\])\)", call)[0]))
    assert changed.settings.workers == 2
    assert isinstance(changed.steps[0], Pass)
    assert changed.steps[0].stages[2] == CutClips(min_seconds=0.1, max_seconds=10, short_side_px=240, crf=20)
    run_settings = re.findall(r"`([a-z_]+)`", text.partition("top level of a recipe (")[2].partition(")")[0])
    options = re.findall(r"`([a-z_]+)`", text.partition("takes besides (")[2].partition(")")[0])
    assert len(run_settings) == 3
    assert len(options) == 4
    assert set(run_settings) <= {one.name for one in fields(RunSettings)}
    assert {*options, "workers", "max_failed"} <= {one.name for one in fields(RunOptions)}
