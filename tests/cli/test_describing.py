"""stages, schema and models describe what is installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.models.weights import TINY_MODELS
from shardprep.stages.catalogue import stage_names


def test_stages_are_listed() -> None:
    result = CliRunner().invoke(app, ["stages"])
    assert result.exit_code == 0
    for name in stage_names():
        assert name in result.stdout


def test_a_stage_says_its_settings_with_units_and_defaults() -> None:
    result = CliRunner().invoke(app, ["stages", "encode_vae"])
    assert "num_frames [frames]: int | None = null\n      Frames per latent, 4n + 1.\n" in result.stdout
    assert "dtype: Literal['fp32', 'bf16', 'fp16'] = \"fp32\"" in result.stdout
    assert "latent.stride (int64)" in result.stdout
    assert "extra:   models" in result.stdout


def test_what_must_be_given_is_said() -> None:
    result = CliRunner().invoke(app, ["stages", "drop_where"])
    assert "expression: str  required\n" in result.stdout
    assert "reads:   by its settings" in result.stdout


def test_an_unknown_stage() -> None:
    result = CliRunner().invoke(app, ["stages", "embed_clop"])
    assert (result.exit_code, result.stderr) == (2, "error: there is no stage 'embed_clop'; did you mean embed_clip?\n")


def test_the_schema_is_json() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert json.loads(result.stdout)["title"] == "shardprep recipe"


def test_tiny_models_are_made_and_called_random(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["models", "tiny", str(tmp_path)])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines] == [f"tiny:{name}" for name in TINY_MODELS]
    for line in lines:
        assert line.endswith("RANDOM MODEL")
        assert Path(line.split()[1]).is_dir()


def test_a_gather_is_shown_with_its_settings() -> None:
    listed = CliRunner().invoke(app, ["stages"])
    assert "the gathers select and pack" in listed.output
    result = CliRunner().invoke(app, ["stages", "pack"])
    assert result.exit_code == 0
    assert "shard_mib [MiB]: int = 512\n      A shard is closed before it would grow beyond this." in result.output


def test_the_list_of_stages_shows_the_members_that_they_write() -> None:
    lines = CliRunner().invoke(app, ["stages"]).stdout
    assert re.search(r"embed_t5 .* t5, t5\.\*", lines)
    assert re.search(r"latent, latent\.\*", lines)
