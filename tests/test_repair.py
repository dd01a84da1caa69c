"""What was damaged is made again by `run --repair`, and nothing else is: no file has to be deleted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.core.blob import read_blob
from shardprep.driver.model import RunOptions, Silent
from shardprep.driver.run import run
from shardprep.driver.verify import verify
from shardprep.errors import ShardError
from shardprep.shards.join import open_view
from tests.driver.made import Made
from tests.driver.outputs import current_packing, files, footer, ledgers, shard_digests


class Telling(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def file_of(made: Made, step: str, what: str) -> Path:
    ledger = ledgers(made.output / step)["000001"]
    return ledger if what == "ledger" else ledger.parent / footer(ledger)["tar"]["name"]


@pytest.mark.parametrize(("step", "what"), [("raw", "ledger"), ("raw", "tar"), ("numbers", "ledger"), ("features", "tar")])
def test_a_flipped_byte_is_mended_and_nothing_else_is_made(made: Made, step: str, what: str) -> None:
    before, shards = files(made.output), shard_digests(made.output)
    path = file_of(made, step, what)
    # In the middle: rows or members, and of a size that no listing tells.
    flip(path, path.stat().st_size // 2 if what == "tar" else 40)
    (problem, *_) = verify(str(made.output))
    assert "Run the recipe again with --repair" in str(problem)
    run(made.recipe())
    assert list(verify(str(made.output))), "without --repair a run looks at names"
    reporter = Telling()
    summary = run(made.recipe(), RunOptions(repair=True), reporter)
    assert len(reporter.lines) == 1
    assert reporter.lines[0].startswith("damaged, made again: ")
    assert path.name in reporter.lines[0] or step in reporter.lines[0]
    assert {one.name: one.shards_made for one in summary.steps if one.shards_made} == {step: 1}
    assert [str(problem) for problem in verify(str(made.output))] == []
    assert shard_digests(made.output) == shards
    lost = {name for name in before if name not in files(made.output)}
    assert lost <= {f"{step}/{ledgers_name}" for ledgers_name in [Path(name).name for name in before if name.startswith(f"{step}/000001-")]}
    run(made.recipe(), RunOptions(repair=True), again := Telling())
    assert again.lines == []


@pytest.mark.parametrize("pattern", ["b000-000001.tar", "ledgers/b000-000001-*.parquet", "index.parquet"])
def test_a_flipped_byte_of_a_packing_is_mended_and_nothing_else_is_made(made: Made, pattern: str) -> None:
    before = files(made.output / "train")
    (path,) = current_packing(made.output / "train").glob(pattern)
    flip(path, 700 if path.suffix == ".tar" else path.stat().st_size // 2)
    (problem, *_) = verify(str(made.output))
    assert "Run the recipe again with --repair" in str(problem)
    run(made.recipe())
    assert list(verify(str(made.output))), "without --repair a run looks at names"
    reporter = Telling()
    summary = run(made.recipe(), RunOptions(repair=True), reporter)
    assert reporter.lines[0].startswith("damaged, made again: ")
    assert {one.name: one.shards_made for one in summary.steps if one.shards_made} == ({} if "index" in pattern else {"train": 1})
    assert [str(problem) for problem in verify(str(made.output))] == []
    after = files(made.output / "train")
    assert {name: digest for name, (digest, _) in after.items()} == {name: digest for name, (digest, _) in before.items()}
    written = {Path(name).name.partition("-")[2][:6] or Path(name).name for name in after if after[name] != before[name]}
    assert written <= {"000001", "index.parquet", "manifest.json"}
    run(made.recipe(), RunOptions(repair=True), again := Telling())
    assert again.lines == []


def test_a_changed_member_is_an_error_to_whoever_reads_it(made: Made) -> None:
    path = file_of(made, "features", "tar")
    flip(path, 600)
    with pytest.raises(ShardError, match=r"features/000001-.*\.tar: .*\.tail\.bin does not have the crc32 .* --repair"):
        [read_blob(sample.members["tail"].blob) for sample in open_view(str(made.output / "features"))]


@pytest.mark.parametrize("file", ["manifest.json", "PACKING/manifest.json", "PACKING/set.json", "README.md", "set.json"])
@pytest.mark.parametrize("how", ["flipped", "emptied"])
def test_a_document_of_a_packed_set_is_mended_as_its_message_says(made: Made, file: str, how: str) -> None:
    train = made.output / "train"
    path = train / file.replace("PACKING", current_packing(train).name)
    before, whole = files(train), path.read_bytes()
    flip(path, len(whole) // 2) if how == "flipped" else path.write_bytes(b"")
    problems = [str(problem) for problem in verify(str(made.output))]
    assert problems, "it is found"
    assert all("Run the recipe again" in problem for problem in problems)
    assert not any("Delete" in problem for problem in problems), problems
    summary = run(made.recipe())
    assert {one.name: one.shards_made for one in summary.steps if one.shards_made} == {}, "no shard is made again"
    assert [str(problem) for problem in verify(str(made.output))] == []
    assert path.read_bytes() == whole
    assert {name: digest for name, (digest, _) in files(train).items()} == {name: digest for name, (digest, _) in before.items()}
