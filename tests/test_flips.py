"""Every byte of every metadata file of a finished output, changed once: `verify` finds it, and no reader gives a wrong value."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardprep.core.blob import read_blob
from shardprep.driver.run import run
from shardprep.driver.verify import verify
from shardprep.errors import ShardprepError
from shardprep.gather.settings import Pack, Select
from shardprep.packed.sets import fates_table, open_set
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from tests.driver.outputs import make_sources
from tests.driver.stages import Halve, Number

SETS = ("raw", "clips", "scores", "good", "train")
Values = dict[str, Any]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base from a source, clips, scores, a selection, a training set: one shard each, a few samples."""
    folder = tmp_path_factory.mktemp("flips")
    make_sources(folder / "videos", [1, 2])
    recipe = Recipe(
        name="small",
        source=SourceSpec(videos=str(folder / "videos"), samples_per_shard=4),
        output=str(folder / "out"),
        settings=RunSettings(workers=1),
        steps=(
            Pass(name="clips", stages=(Halve(),)),
            Pass(name="scores", stages=(Number(),)),
            Gather(name="good", does=Select(where="scores.number > 1")),
            Gather(name="train", does=Pack()),
        ),
    )
    run(recipe)
    return folder / "out"


def values_of(url: Path) -> Values:
    """Return all that the readers say of a set, the bytes of its members too."""
    view = open_set(str(url))
    members = {s.key: (s.record, {role: read_blob(member.blob) for role, member in s.members.items()}) for s in view}
    return {"samples": members, "table": view.table().to_pydict(), "fates": fates_table(str(url)).to_pydict()}


def metadata(output: Path) -> list[Path]:
    return [path for name in SETS for path in sorted((output / name).rglob("*")) if path.is_file() and path.suffix != ".tar"]


def check_noticed(output: Path, path: Path, whole: dict[str, Values]) -> None:
    """Assert that verify finds a file changed, and that the readers of its set and of those below are right or refuse."""
    step = path.relative_to(output).parts[0]
    try:
        found = list(verify(str(output / step)))
    except ShardprepError as error:
        found = [error]
    assert found, f"{path}: verify finds nothing"
    for reader in {step, "good" if step != "train" else "train"}:
        try:
            values = values_of(output / reader)
        except ShardprepError:
            continue
        assert values == whole[reader], f"{path}: {reader} gives other values"


def flips(path: Path, places: Iterator[int] | range) -> Iterator[int]:
    """Change one bit of a byte at a time, and give it back."""
    data = path.read_bytes()
    try:
        for place in places:
            flipped = bytearray(data)
            flipped[place] ^= 1 << (place % 8)
            path.write_bytes(flipped)
            yield place
    finally:
        path.write_bytes(data)


def check_flips(output: Path, step: int) -> Counter[str]:
    """Flip every `step`-th byte of each metadata file; return how many by kind of file."""
    whole = {name: values_of(output / name) for name in SETS}
    assert all(whole[name]["samples"] for name in SETS)
    counts: Counter[str] = Counter()
    for path in metadata(output):
        for _ in flips(path, range(0, path.stat().st_size, step)):
            check_noticed(output, path, whole)
            counts[path.name if path.suffix == ".json" else path.name.partition("-")[0] if "-" in path.name else path.name] += 1
    assert list(verify(str(output))) == []
    assert {name: values_of(output / name) for name in SETS} == whole
    return counts


def test_changed_bytes_of_metadata_are_found_and_never_give_a_wrong_value(output: Path) -> None:
    counts = check_flips(output, 211)
    assert {"set.json", "digests.json", "assignment", "000000"} <= counts.keys()


@pytest.mark.prove
@pytest.mark.timeout(7200)
def test_every_changed_byte_of_metadata_is_found_and_never_gives_a_wrong_value(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = check_flips(output, 1)
    with capsys.disabled():
        sys.stdout.write(f"\n{counts.total()} bytes changed, each found and no wrong value: {dict(counts)}\n")


def test_changed_bytes_of_tars_are_found(output: Path) -> None:
    whole = {name: values_of(output / name) for name in SETS}
    for path in (path for name in SETS for path in sorted((output / name).rglob("*.tar"))):
        for _ in flips(path, range(0, path.stat().st_size, max(1, path.stat().st_size // 9))):
            check_noticed(output, path, whole)
