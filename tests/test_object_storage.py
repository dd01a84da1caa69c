"""The walk-through of docs/object-storage.md does what it says, on a server of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shardprep.cli.stores import VARIABLE, read_options
from shardprep.errors import RecipeError
from shardprep.recipe.model import Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.testing import videos
from tests.s3_server import serving

PAGE = "docs/object-storage.md"
AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_PROFILE", VARIABLE)


def test_the_commands_of_the_page(root: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", (root / PAGE).read_text(encoding="utf-8"))
    assert len(blocks) == 3
    with serving() as s3:
        for bucket in ("videos", "datasets"):
            s3.client().create_bucket(Bucket=bucket)
        s3.put("demo/moving.mp4", videos.three_shots(), bucket="videos")
        text = "\n".join(blocks).replace("http://localhost:9000", s3.options["endpoint_url"])
        script = f'set -euo pipefail\nshardprep() {{ echo "+ $*"; {sys.executable} -m shardprep.cli "$@"; }}\n{text}'
        (tmp_path / "recipes").symlink_to(root / "recipes")
        environment = {name: value for name, value in os.environ.items() if name not in AWS} | {
            "PYTHONPATH": str(root),
            "HOME": str(tmp_path),
        }
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=280,
            check=False,
        )
        said = done.stdout.decode()
        assert done.returncode == 0, said
        answers = dict(re.findall(r"(?ms)^\+ (\w+).*?\n(.*?)(?=^\+ |\Z)", said))
        assert "complete" in answers["status"]
        assert "nothing to do" in answers["plan"]
        assert "moving-" in answers["table"]
        assert "3 kept" in answers["select"]
        assert "s3://datasets/first: clean" in answers["verify"]
        assert "clips 000000: moving-" in answers["show"]
        assert "minio-secret" not in said
        missing = subprocess.run(
            [sys.executable, "-m", "shardprep.cli", "status", "s3://nosuch/out", "--storage-options", "store.json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert b"there is no such bucket" in missing.stderr


def test_options_from_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_options(None) == {}
    monkeypatch.setenv(VARIABLE, '{"anon": true}')
    assert read_options(None) == {"anon": True}
    (tmp_path / "o.json").write_text('{"key": "hush-hush"}')
    assert read_options(str(tmp_path / "o.json")) == {"key": "hush-hush"}
    monkeypatch.setenv("MINE", "[hush-hush]")
    for given, words in {"env:MINE": "is no JSON", "env:NOT_THERE": "no variable", str(tmp_path / "gone"): "No such file"}.items():
        with pytest.raises(RecipeError, match=words) as caught:
            read_options(given)
        assert "hush" not in str(caught.value)
    (tmp_path / "o.json").write_text(json.dumps([1]))
    with pytest.raises(RecipeError, match="holds a JSON list, expected an object"):
        read_options(str(tmp_path / "o.json"))


@pytest.mark.parametrize(
    ("source", "output", "is_shared"),
    [
        ({"videos": "s3://a/v"}, "s3://b/out", True),
        ({"videos": "s3://a/v"}, "out", True),
        ({"list": "list.csv"}, "s3://b/out", True),
        ({"videos": "gs://a/v"}, "s3://b/out", False),
        ({"videos": "https://host/{a,b}.mp4"}, "out", False),
        ({"videos": "s3://a/v", "storage_options": {"anon": True}}, "s3://b/out", False),
    ],
)
def test_options_are_given_once_where_source_and_output_share_a_store(source: dict[str, object], output: str, is_shared: bool) -> None:
    spec = SourceSpec(**source)  # type: ignore[arg-type] # settings of each test
    recipe = Recipe(name="r", source=spec, output=output, settings=RunSettings(storage_options={"key": "k"}), steps=())
    assert recipe.reachable_source.storage_options == ({"key": "k"} if is_shared else spec.storage_options)
