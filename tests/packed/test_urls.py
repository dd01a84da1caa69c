"""What `shardprep shards` says of folders that hold no training shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.driver.run import run
from shardprep.errors import ShardError
from shardprep.packed.urls import shard_urls
from tests.driver.made import Made


def test_what_was_never_packed_is_no_packing_that_did_not_end(made: Made, tmp_path: Path) -> None:
    for folder in (made.output, made.output / "features", tmp_path / "nosuch"):
        with pytest.raises(ShardError, match=r"is no packed set. Name the folder of a pack step, such as OUT/train"):
            shard_urls(str(folder))
    (made.output / "train" / "manifest.json").unlink()
    with pytest.raises(ShardError, match="packing did not end. Run the recipe again"):
        shard_urls(str(made.output / "train"))


def test_a_packing_without_a_shard_is_an_error_for_a_trainer(made: Made) -> None:
    run(made.recipe(where="scores.number > 1000"))
    assert shard_urls(str(made.output / "train")) == []
    result = CliRunner().invoke(app, ["shards", str(made.output / "train")])
    assert result.exit_code == 1
    assert "holds no training shard: no sample was left to pack" in result.stderr
