"""An output that was damaged after it was made: reading it is a clear error, `verify` names the place, the next run mends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shardprep.cli.commands import app
from shardprep.sources.keys import source_key
from tests.driver.outputs import check_fates, files, strays
from tests.hostile.commands import Place
from tests.hostile.files import good

VIDEOS = ("a.mp4", "b.mp4", "c.mp4")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A finished run over three videos, two to a shard."""
    place = Place.make(tmp_path_factory.mktemp("finished"))
    for name in VIDEOS:
        (place.source / name).write_bytes(good())
    said = place.shardprep("run", place.recipe({"videos": str(place.source), "samples_per_shard": 2}, workers=1))
    assert said.code == 0, said.err
    return place


@pytest.fixture
def output(finished: Place, tmp_path: Path) -> Path:
    """A copy of its output."""
    shutil.copytree(finished.out, tmp_path / "out")
    return tmp_path / "out"


def shardprep(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def the(output: Path, pattern: str) -> Path:
    return sorted(output.glob(pattern))[0]


LEDGERS = {
    "raw": "raw/000000-*.parquet",
    "clips": "clips/000000-*.parquet",
    "scores": "scores/000001-*.parquet",
    "train": "train/*/ledgers/b*.parquet",
}
CUTS = {"to-nothing": lambda size: 0, "in-the-middle": lambda size: size // 2, "by-a-byte": lambda size: size - 1}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("step", LEDGERS)
def test_a_ledger_cut_short_is_named_and_is_a_clear_error(output: Path, step: str, cut: str) -> None:
    path = the(output, LEDGERS[step])
    with path.open("r+b") as file:
        file.truncate(CUTS[cut](path.stat().st_size))
    verified = shardprep("verify", output)
    assert verified.exit_code == 1
    assert path.name in verified.stdout
    assert "un the recipe again" in verified.stdout
    assert verified.stderr.count("error: ") == 1
    for words in (
        ("table", output / step),
        ("table", output / step, "--fate", "kept"),
        ("show", "a-", "--output", output),
        ("status", output),
    ):
        result = shardprep(*words)
        assert (result.exit_code, result.stderr.count("error: ")) in ((0, 0), (1, 1)), result.stderr
        assert result.exit_code == 0 or any(step in result.stderr for step in ("run again", "Run the recipe again")), result.stderr
    assert shardprep("table", output / step).exit_code == 1


@pytest.mark.parametrize(
    "pattern",
    [*LEDGERS.values(), "clips/000000-*.tar", "train/*/b*.tar", "train/*/manifest.json", "train/*/index.parquet", "train/manifest.json"],
)
def test_the_next_run_mends_what_was_cut_short_and_nothing_else(finished: Place, output: Path, pattern: str) -> None:
    before = files(output)
    path = the(output, pattern)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    said = finished.shardprep("run", finished.work / "recipe.yaml", "--output", output)
    assert (said.code, "error:" in said.err) == (0, False), said.err
    check_fates(output, [source_key(name) for name in VIDEOS])
    assert strays(output) == []
    assert shardprep("verify", output).exit_code == 0
    after = files(output)
    assert {name: digest for name, (digest, _) in after.items() if name.endswith(".tar")} == {
        name: digest for name, (digest, _) in before.items() if name.endswith(".tar")
    }
    name = str(path.relative_to(output))
    shard = path.name[:6]
    alone = {
        other for other in before if other.startswith(("raw/", "clips/", "scores/")) and not other.endswith(".json") and shard not in other
    }
    assert {other: after[other] for other in alone - {name}} == {other: before[other] for other in alone - {name}}


@pytest.mark.parametrize("step", ["raw", "clips", "scores", "train"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", bytes(5000), b'{"format": 99}', b"[" * 100_000], ids=["empty", "list", "zeros", "newer", "deep"]
)
def test_a_damaged_set_file_is_one_short_message(output: Path, step: str, content: bytes) -> None:
    (output / step / "set.json").write_bytes(content)
    for words in (("status", output), ("verify", output), ("table", output / step)):
        result = shardprep(*words)
        assert (result.exit_code, result.stderr.count("error: ")) == (1, 1), result.output
        assert f"{step}/set.json" in result.stderr + result.stdout
        assert len(result.stderr) < 500


def test_a_set_without_its_file_is_no_clean_output(output: Path) -> None:
    for step in ("scores", "train"):
        (output / step / "set.json").unlink()
    result = shardprep("verify", output)
    assert result.exit_code == 1
    assert f"{output}/scores: it holds shards but no set.json. Run the recipe again" in result.stdout
    assert f"{output}/train: it holds shards but no set.json. Run the recipe again" in result.stdout


@pytest.mark.parametrize("step", ["raw", "clips", "scores"])
def test_a_damaged_set_file_is_written_anew_by_the_next_run_and_no_shard_is_lost(finished: Place, output: Path, step: str) -> None:
    before = files(output)
    path = output / step / "set.json"
    path.write_bytes(path.read_bytes().replace(b"base" if step != "scores" else b"sidecar", b"xxxx"))
    said = shardprep("table", output / step)
    assert said.exit_code == 1
    assert (
        f"{step}/set.json cannot be read (it was changed after it was written). Run the recipe again: it writes this file anew"
        in said.stderr
    )
    assert finished.shardprep("run", finished.work / "recipe.yaml", "--output", output).code == 0
    assert path.read_bytes() == (finished.out / step / "set.json").read_bytes()
    shards = {name: seen for name, seen in before.items() if name.endswith((".tar", ".parquet"))}
    assert {name: seen for name, seen in files(output).items() if name in shards} == shards
