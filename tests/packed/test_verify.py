"""Verifying a packed set: whatever does not fit together is found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardprep.core.blob import read_blob
from shardprep.driver.status import status
from shardprep.errors import IncompleteSet, ShardError
from shardprep.gather.settings import Pack
from shardprep.packed import clean
from shardprep.packed.clean import remove_left_behind
from shardprep.packed.manifest import read_manifest
from shardprep.packed.pointer import point
from shardprep.packed.sets import fates_table, open_set
from shardprep.packed.urls import shard_urls
from shardprep.packed.verify import verify_packed
from shardprep.shards.ledger import encode_ledger, read_ledger, shard_digest
from shardprep.shards.sealed import seal, unseal
from shardprep.shards.set import ShardSet
from shardprep.shards.store import Store
from tests.built_sets import Made, write_base
from tests.gather.packings import pack, packing_folder, tensor_file


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


@pytest.fixture
def packing(train: Path) -> Path:
    """The folder of the packing that counts."""
    return packing_folder(train.parent)


def problems(train: Path) -> list[str]:
    return [f"{Path(problem.where).name}: {problem.what}" for problem in verify_packed(str(train))]


def test_a_packed_set_is_clean_with_its_parents_and_alone(train: Path) -> None:
    assert problems(train) == []
    shutil.rmtree(train.parent / "clips")
    assert problems(train) == []


def test_random_models_are_named(packing: Path) -> None:
    assert json.loads((packing / "manifest.json").read_text())["random_models"] == ["score_aesthetic@1 tiny RANDOM MODEL"]


def what_readers_find(train: Path) -> list[Any]:
    """Return all that a reader can learn of a packed set: samples with every byte, fates, shards."""
    found: list[Any] = shard_urls(str(train))
    for sample in open_set(str(train)):
        found.append([sample.key, sample.record, {role: read_blob(member.blob) for role, member in sample.members.items()}])
    table = open_set(str(train)).table()
    return [*found, table.to_pylist(), fates_table(str(train)).to_pylist(), [step.done for step in status(str(train)).steps]]


def metadata(train: Path) -> list[Path]:
    return sorted(path for path in train.rglob("*") if path.is_file() and path.suffix != ".tar")


def test_every_flipped_byte_of_the_documents_is_found_and_misleads_no_reader(train: Path) -> None:
    """The two manifests, the two set.json and the card: each byte once."""
    documents = [path for path in metadata(train) if path.suffix in (".json", ".md")]
    assert len(documents) == 5
    for path in documents:
        data = path.read_bytes()
        for place in range(len(data)):
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 + place % 255)]) + data[place + 1 :])
            assert list(first_problem(train)), f"{path} {place}"
            # No reader of ours opens the card.
            assert path.suffix == ".md" or readers_refuse(train), f"{path} {place}"
        path.write_bytes(data)
    assert problems(train) == []


def first_problem(train: Path) -> Iterator[Any]:
    """Return what verify finds first, where it finds anything."""
    return islice(verify_packed(str(train)), 1)


def readers_refuse(train: Path) -> bool:
    try:
        open_set(str(train))
    except ShardError:
        return True
    return False


@pytest.mark.parametrize("pattern", ["*/index.parquet", "*/ledgers/b000-000000-*.parquet", "*/b000-000001.tar"])
def test_flipped_bytes_and_cuts_of_data_are_found(train: Path, pattern: str) -> None:
    (path,) = train.glob(pattern)
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 100)):
        change(path, place)
        assert list(first_problem(train)), f"{path.name} {place}"
        path.write_bytes(data[:place])
        assert problems(train), f"{path.name} cut at {place}"
        with pytest.raises(IncompleteSet):
            open_set(str(train))
        path.write_bytes(data)
    assert problems(train) == []


def change(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name", ["b000-000009.tar", "b000-000000.tar.idx", "ledgers/000000-0123.rows", "notes", "ledgers/b001-000000-01234567.parquet"]
)
def test_a_file_too_many_is_found(packing: Path, train: Path, name: str) -> None:
    (packing / name).write_bytes(b"")
    assert any(what.startswith(f"{Path(name).name}: ") for what in problems(train))


@pytest.mark.parametrize("name", ["b000-000000.tar", "notes", "README.md.orig"])
def test_a_file_too_many_beside_the_packings_is_found(train: Path, name: str) -> None:
    (train / name).write_bytes(b"")
    assert problems(train) == [f"{name}: no packing needs this file"]


def test_a_second_ledger_of_a_shard_is_found_and_not_read(packing: Path, train: Path) -> None:
    right = what_readers_find(train)
    (path,) = packing.glob("ledgers/b000-000000-*.parquet")
    shutil.copy(path, packing / "ledgers" / "b000-000000-00000000.parquet")
    assert problems(train)
    assert what_readers_find(train) == right


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("manifest.json", "there is no manifest.json: packing did not end"),
        ("*/manifest.json", "there is no manifest.json: packing did not end"),
        ("*/set.json", "its set.json is missing"),
        ("*/index.parquet", "1 of its files is missing or cut short, first index.parquet"),
        ("*/b000-000001.tar", "1 of its files is missing or cut short, first b000-000001.tar"),
        ("*/ledgers/b000-000001-*.parquet", "1 of its files is missing or cut short, first ledgers/b000-000001"),
    ],
)
def test_a_torn_packed_set_is_refused_by_all_in_the_same_words(train: Path, pattern: str, words: str) -> None:
    (path,) = train.glob(pattern)
    path.unlink()
    assert words in " ".join(problems(train))
    (step,) = status(str(train)).steps
    assert (step.done, step.new) == (0, 1)
    assert words in step.reasons[0]
    for read in (open_set, shard_urls, fates_table):
        with pytest.raises(IncompleteSet, match=words):
            read(str(train))


def test_a_problem_says_once_where_it_is_and_what_to_do(train: Path) -> None:
    (train / "manifest.json").unlink()
    said = [str(problem) for problem in verify_packed(str(train)) if "packing did not end" in problem.what]
    assert said == [f"{train}: there is no manifest.json: packing did not end. Run the recipe again"]


def test_of_several_files_that_lack_the_first_is_named(train: Path, packing: Path) -> None:
    for path in (packing / "b000-000000.tar", packing / "b000-000001.tar", *packing.glob("ledgers/b000-000000-*.parquet")):
        path.unlink()
    with pytest.raises(IncompleteSet, match="3 of its files are missing or cut short, first b000-000000.tar"):
        open_set(str(train))


def test_the_card_is_the_one_of_the_packing_that_counts(train: Path) -> None:
    (train / "README.md").unlink()
    (what,) = problems(train)
    assert what.startswith("README.md: it is not the card of the packing")


def test_a_set_that_has_changed_since_it_was_packed_is_refused_by_all(train: Path, packing: Path) -> None:
    shutil.rmtree(train.parent / "clips")
    write_base(train.parent / "clips", {"000000": [Made("k0")], "000001": []})
    words = "it was packed from another clips than the one that is there"
    assert any(words in what for what in problems(train))
    assert words in status(str(train)).steps[0].reasons[0]
    with pytest.raises(IncompleteSet, match=f"{words}.*or name the packing itself to read it as it is: {packing}"):
        open_set(str(train))
    assert len(list(open_set(str(packing)))) == len(list(open_set(str(train), partial=True))) == 5
    assert list(verify_packed(str(packing))) == []


def test_a_damaged_older_packing_is_found(train: Path, packing: Path) -> None:
    base = ShardSet.open(Store(str(train.parent / "clips")))
    pack(train.parent, [base], Pack(seed=7))
    assert packing_folder(train.parent) != packing
    assert problems(train) == []
    change(packing / "b000-000000.tar", 600)
    assert problems(train)
    (packing / "b000-000000.tar").unlink()
    (problem,) = verify_packed(str(train))
    assert "1 of its files is missing or cut short, first b000-000000.tar" in problem.what
    assert (problem.where, problem.remedy) == (str(packing), "Remove it with shardprep clean")


def edit(values: dict[str, Any], path: str, change: Callable[[Any], Any]) -> None:
    *parts, last = path.split(".")
    for part in parts:
        values = values[int(part)] if isinstance(values, list) else values[part]
    values[last] = change(values[last])


@pytest.mark.parametrize(
    "path",
    [
        "fingerprint", "dataset_digest", "num_samples", "members", "random_models", "buckets", "index.sha256", "index.size", "shards",
        "shards.0.name", "shards.0.size", "shards.0.sha256", "shards.0.num_samples", "shards.0.bucket", "shards.0.ledger",
        "shards.0.digest", "step_fingerprint", "step", "failed", "index", "kind",
    ],
)  # fmt: skip
def test_a_manifest_that_was_written_wrong_is_found_though_its_seal_fits(train: Path, packing: Path, path: str) -> None:
    """Sealed again by whoever wrote it: then what it says must fit what lies there."""
    values = unseal((packing / "manifest.json").read_bytes(), "x", "", dict)

    def changed(value: Any) -> Any:
        match value:
            case int():
                return value + 1
            case str():
                return f"x{value[1:]}"
            case list():
                return value[1:]
            case None:
                return {"ledger": "x", "ledger_size": 1, "digest": "", "reasons": {}}
            case _:
                return {}

    edit(values, path, changed)
    (packing / "manifest.json").write_bytes(seal(values))
    with suppress(ShardError):
        point(Store(str(train)), *read_manifest(Store(str(packing))))
    assert problems(train)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 3, "moon": "full"}'])
@pytest.mark.parametrize("inner", [False, True])
def test_a_damaged_manifest_is_found(train: Path, packing: Path, text: str, inner: bool) -> None:
    (packing if inner else train).joinpath("manifest.json").write_text(text)
    assert "manifest.json" in problems(train)[0]
    with pytest.raises(ShardError, match="manifest.json"):
        open_set(str(train))


@pytest.mark.parametrize("packing_name", ["../clips", "/etc", "0123456789", "", 7])
def test_a_pointer_leads_nowhere_else(train: Path, packing_name: Any) -> None:
    values = unseal((train / "manifest.json").read_bytes(), "x", "", dict)
    (train / "manifest.json").write_bytes(seal({**values, "packing": packing_name}))
    with pytest.raises(ShardError, match="names no packing"):
        open_set(str(train))


def test_tensors_that_are_not_in_the_tar_are_found(train: Path, packing: Path) -> None:
    """The ledger says another shape than the file's header."""
    (path,) = packing.glob("ledgers/b000-000000-*.parquet")
    ledger = read_ledger(Store(str(path.parent)).blob(path.name), "x")
    row, *rest = ledger.outputs
    (tensor,) = row.tensors
    outputs = (replace(row, tensors=(replace(tensor, shape=(1, 3)),)), *rest)
    assert shard_digest(ledger.inputs, outputs, ledger.footer.tar) == ledger.footer.digest
    path.write_bytes(encode_ledger(replace(ledger, outputs=outputs), {}))
    values = unseal((packing / "manifest.json").read_bytes(), "x", "", dict)
    values["shards"][0]["ledger_size"] = path.stat().st_size
    (packing / "manifest.json").write_bytes(seal(values))
    point(Store(str(train)), *read_manifest(Store(str(packing))))
    found = " ".join(problems(train))
    assert "the tensors of k0 are not those that its ledger lists" in found
    assert "its rows are not those of the ledgers" in found


@pytest.mark.parametrize("next_step", ["clean", "run"])
def test_a_run_killed_between_card_and_pointer_leaves_a_card_of_a_whole_packing(tmp_path: Path, next_step: str) -> None:
    """A card that names a packing which is not there would be a data set of no shard to `load_dataset`."""
    sets = [write_base(tmp_path / "clips", {"000000": [Made(f"k{n}", {}, {"mp4": b"v%d" % n}) for n in range(5)]})]
    train, second = tmp_path / "train", Pack(seed=2)
    pack(tmp_path, sets, Pack(seed=1))
    pointer, counts = (train / "manifest.json").read_bytes(), packing_folder(tmp_path)
    pack(tmp_path, sets, second)
    (train / "manifest.json").write_bytes(pointer)
    named = named_by_card(train)
    assert named != counts
    assert list(verify_packed(str(named))) == [], "what the card names is whole"
    assert problems(train) == [f"README.md: it is not the card of the packing {counts.name}"]
    if next_step == "clean":
        assert f"{named.name}/manifest.json" in remove_left_behind(Store(str(train)))
        assert not named.exists() or not list(named.glob("*.tar"))
        assert named_by_card(train) == counts
    else:
        assert pack(tmp_path, sets, second) == [], "it only comes to count"
        assert named_by_card(train) == packing_folder(tmp_path) == named
    assert problems(train) == []


@pytest.mark.parametrize("counting", [0, 1, 2])
def test_older_packings_go_whatever_their_names(tmp_path: Path, counting: int) -> None:
    sets = [write_base(tmp_path / "clips", {"000000": [Made(f"k{n}", {}, {"mp4": b"v%d" % n}) for n in range(3)]})]
    seeds = {}
    for seed in range(3):
        pack(tmp_path, sets, Pack(seed=seed))
        seeds[packing_folder(tmp_path).name] = seed
    kept = sorted(seeds)[counting]
    pack(tmp_path, sets, Pack(seed=seeds[kept]))
    remove_left_behind(Store(str(tmp_path / "train")))
    assert packing_folder(tmp_path).name == kept
    assert {path.parent.name for path in (tmp_path / "train").glob("*/manifest.json")} == {kept}
    assert problems(tmp_path / "train") == []


def test_of_two_older_packings_the_one_that_comes_to_count_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run goes back to it after clean has looked; the other one still goes."""
    sets = [write_base(tmp_path / "clips", {"000000": [Made(f"k{n}", {}, {"mp4": b"v%d" % n}) for n in range(3)]})]
    seeds = {}
    for seed in range(3):
        pack(tmp_path, sets, Pack(seed=seed))
        seeds[packing_folder(tmp_path).name] = seed
    first = min(seeds.keys() - {packing_folder(tmp_path).name})
    looked = clean.left_behind

    def looked_and_then(*arguments: Any, **options: Any) -> list[str]:
        found = looked(*arguments, **options)
        pack(tmp_path, sets, Pack(seed=seeds[first]))
        return found

    monkeypatch.setattr(clean, "left_behind", looked_and_then)
    removed = remove_left_behind(Store(str(tmp_path / "train")))
    assert packing_folder(tmp_path).name == first
    gone = {name.partition("/")[0] for name in removed}
    assert first not in gone
    assert len(gone) == 1
    assert problems(tmp_path / "train") == []


def named_by_card(train: Path) -> Path:
    """Return the folder whose tars the dataset card names."""
    (pattern,) = re.findall(r'path: "(\w+)/\*\.tar"', (train / "README.md").read_text())
    return train / pattern
