"""The command line as a whole: help, exit codes, and errors as one message."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import shardprep
from shardprep.cli.commands import app, exit_code
from shardprep.errors import MissingExtra, RecipeError, RunFailed, ShardprepError, Stopped, StoreError

COMMANDS = "init run plan status retry table select verify show stages schema models doctor".split()


def test_help_names_every_command_and_the_exit_codes() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f" {name} " in result.output
    assert "Exit codes" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.strip()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError("x"), 2),
        (MissingExtra("a", "b", "c"), 1),
        (RunFailed("x"), 1),
        (StoreError("x"), 1),
        (Stopped("x", finished=True), 3),
        (Stopped("x", finished=False), 4),
    ],
)
def test_exit_codes(error: ShardprepError, code: int) -> None:
    assert exit_code(error) == code


def test_a_wrong_recipe_is_one_message(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("source: v\nsteps:\n  - s: [embed_clop]\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["plan", str(recipe)])
    assert result.exit_code == 2
    assert result.stderr == f"error: {recipe}:3: there is no stage 'embed_clop'; did you mean embed_clip?\n"
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["--debug", "plan", "absent.yaml"], ["plan", "absent.yaml", "--debug"]])
def test_debug_shows_the_traceback(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, RecipeError)


@pytest.mark.parametrize("arguments", [["plan"], ["no-such-command"], ["table", "x", "--limit", "-1"], ["run", "r", "--log", "xml"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("command", [["status"], ["verify"], ["table"], ["show", "key", "--output"]])
def test_what_is_no_set_is_said(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*command, str(tmp_path)])
    assert result.exit_code == 1
    assert "set.json" in result.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["models", "tiny"]])
def test_help_has_a_short_name(command: list[str]) -> None:
    assert CliRunner().invoke(app, [*command, "-h"]).output == CliRunner().invoke(app, [*command, "--help"]).output
    assert CliRunner().invoke(app, [*command, "-h"]).exit_code == 0


def test_the_version_is_said() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"shardprep {shardprep.__version__}\n")


@pytest.mark.parametrize("name", ["", *COMMANDS, "shards", "clean"])
def test_help_is_whole_in_80_columns(name: str) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert "…" not in result.output, "a name that is cut cannot be typed"
    assert max(map(len, result.output.splitlines())) == 80
