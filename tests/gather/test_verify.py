"""Verifying a packed set: whatever does not fit together is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardprep.gather.settings import Pack
from shardprep.gather.verify import verify_packed
from shardprep.shards.ledger import encode_ledger, read_ledger, shard_digest
from shardprep.shards.store import Store
from tests.built_sets import Made, write_base
from tests.gather.packings import pack, tensor_file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five samples with a latent each, two to a shard."""
    output = tmp_path_factory.mktemp("made")
    scorers = {"flow": "score_flow@1 dis", "aesthetic": "score_aesthetic@1 tiny RANDOM MODEL"}
    samples = [
        Made(f"k{n}", {"clip": {"index": n}, "scorers": scorers}, {"mp4": b"v", "latent.safetensors": tensor_file(latent=np.ones(n + 1))})
        for n in range(5)
    ]
    settings = Pack(samples_per_shard=2, seed=None, roles=("video", "latent"))
    varying = [replace(s, members={**s.members, "latent.safetensors": tensor_file(latent=np.ones(3))}) for s in samples]
    pack(output, [write_base(output / "clips", {"000000": varying[:3], "000001": varying[3:]})], settings)
    return output


@pytest.fixture
def train(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out" / "train"


def problems(train: Path) -> list[str]:
    return [f"{Path(problem.where).name}: {problem.what}" for problem in verify_packed(str(train))]


def test_a_packed_set_is_clean_with_its_parents_and_alone(train: Path) -> None:
    assert problems(train) == []
    shutil.rmtree(train.parent / "clips")
    assert problems(train) == []


def test_random_models_are_named(train: Path) -> None:
    assert json.loads((train / "manifest.json").read_text())["random_models"] == ["score_aesthetic@1 tiny RANDOM MODEL"]


def change(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_flipped_bytes_and_cuts_are_found(train: Path) -> None:
    for path in [*sorted(train.rglob("*.tar"))[:1], train / "index.parquet", *sorted(train.rglob("b000-000000-*.parquet"))]:
        data = path.read_bytes()
        for place in range(0, len(data), max(1, len(data) // 40)):
            change(path, place)
            assert problems(train), f"{path.name} {place}"
            path.write_bytes(data[:place])
            assert problems(train), f"{path.name} cut at {place}"
            path.write_bytes(data)
    assert problems(train) == []


@pytest.mark.parametrize(
    "name", ["b000-000009.tar", "b000-000000.tar.idx", "ledgers/000000-0123.rows", "notes", "ledgers/b001-000000-01234567.parquet"]
)
def test_a_file_too_many_is_found(train: Path, name: str) -> None:
    (train / name).write_bytes(b"")
    assert any(what.startswith(f"{Path(name).name}: ") for what in problems(train))


def test_two_ledgers_of_a_shard_are_found(train: Path) -> None:
    (path,) = train.glob("ledgers/b000-000000-*.parquet")
    shutil.copy(path, train / "ledgers" / "b000-000000-00000000.parquet")
    assert problems(train)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("manifest.json", "packing did not end"),
        ("index.parquet", "it is missing"),
        ("b000-000001.tar", "is missing"),
        ("ledgers/b000-000001-*.parquet", "it has no ledger"),
    ],
)
def test_a_missing_file_is_found(train: Path, pattern: str, words: str) -> None:
    (path,) = train.glob(pattern)
    path.unlink()
    assert words in " ".join(problems(train))


def edit(values: dict[str, Any], path: str, change: Callable[[Any], Any]) -> None:
    *parts, last = path.split(".")
    for part in parts:
        values = values[int(part)] if isinstance(values, list) else values[part]
    values[last] = change(values[last])


@pytest.mark.parametrize(
    "path",
    [
        "fingerprint", "dataset_digest", "num_samples", "members", "random_models", "buckets", "index.sha256", "index.size", "shards",
        "shards.0.name", "shards.0.size", "shards.0.sha256", "shards.0.num_samples", "shards.0.bucket", "format",
    ],
)  # fmt: skip
def test_a_manifest_that_says_something_else_is_found(train: Path, path: str) -> None:
    manifest = train / "manifest.json"
    values = json.loads(manifest.read_text())

    def changed(value: Any) -> Any:
        match value:
            case int():
                return value + 1
            case str():
                return f"x{value[1:]}"
            case list():
                return value[1:]
            case _:
                return {}

    edit(values, path, changed)
    manifest.write_text(json.dumps(values))
    assert problems(train)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 3, "moon": "full"}'])
def test_a_damaged_manifest_is_found(train: Path, text: str) -> None:
    (train / "manifest.json").write_text(text)
    (what,) = problems(train)
    assert "manifest.json" in what


def test_a_set_packed_from_other_samples_is_found(train: Path) -> None:
    shutil.rmtree(train.parent / "clips")
    write_base(train.parent / "clips", {"000000": [Made("k0")], "000001": []})
    assert any("it was packed from another" in what for what in problems(train))


def test_tensors_that_are_not_in_the_tar_are_found(train: Path) -> None:
    """The ledger says another shape than the file's header."""
    (path,) = train.glob("ledgers/b000-000000-*.parquet")
    ledger = read_ledger(Store(str(path.parent)).blob(path.name), "x")
    row, *rest = ledger.outputs
    (tensor,) = row.tensors
    outputs = (replace(row, tensors=(replace(tensor, shape=(1, 3)),)), *rest)
    assert shard_digest(ledger.inputs, outputs, ledger.footer.tar) == ledger.footer.digest
    path.write_bytes(encode_ledger(replace(ledger, outputs=outputs), {}))
    (train / "ledgers" / "digests.json").unlink(missing_ok=True)
    found = " ".join(problems(train))
    assert "the tensors of k0 are not those that its ledger lists" in found
    assert "its rows are not those of the ledgers" in found
