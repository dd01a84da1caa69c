"""`--storage-options` reaches the commands that remove and make again, on a server that knows no other way in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shardprep.cli.commands import app
from tests.s3_server import BUCKET, S3Server, serving

OUT = f"s3://{BUCKET}/out"


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with serving() as server:
        yield server


@pytest.fixture
def options(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_PROFILE", "SHARDPREP_STORAGE_OPTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for name in "ab":
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(b"video " + name.encode())
    (tmp_path / "r.yaml").write_text(
        f"source: {{videos: videos, samples_per_shard: 1}}\noutput: {OUT}\nworkers: 1\n"
        'steps:\n  - big: [drop_where: {expression: "source.bytes < 1"}]\n'
    )
    (tmp_path / "store.json").write_text(json.dumps(dict(s3.options)))
    return ["--storage-options", "store.json"]


def ran(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result


def test_repair_and_clean_reach_the_store(s3: S3Server, options: list[str]) -> None:
    ran("run", "r.yaml", *options)
    (ledger,) = [name for name in s3.names("out/big/") if "/000001-" in name]
    body = s3.client().get_object(Bucket=BUCKET, Key=ledger)["Body"].read()
    s3.put(ledger, body[:40] + bytes([body[40] ^ 0x10]) + body[41:])
    assert CliRunner().invoke(app, ["verify", OUT, *options]).exit_code == 1
    assert "damaged, made again: " in ran("run", "r.yaml", "--repair", *options).output
    assert f"{OUT}: clean" in ran("verify", OUT, *options).output
    Path("r.yaml").write_text(Path("r.yaml").read_text().replace("big:", "large:"))
    ran("run", "r.yaml", *options)
    assert "would remove" in ran("clean", OUT, "--recipe", "r.yaml", "--dry-run", *options).output
    assert s3.names("out/big/")
    assert "removed " in ran("clean", OUT, "--recipe", "r.yaml", *options).output
    assert not s3.names("out/big/")
    assert f"{OUT}: clean" in ran("verify", OUT, "--clean", *options).output
