"""The dataset card: its globs match just the shards of a kind, however many buckets there are."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
import yaml

from shardprep.packed.card import card_text
from shardprep.packed.manifest import IndexFile, Manifest, PackedTar


def manifest_of(kinds: dict[str, range]) -> Manifest:
    """Return the manifest of a packing whose buckets are of these kinds, by their numbers."""
    buckets = {f"b{number:03d}": {"media": kind.split("+") if kind else []} for kind, numbers in kinds.items() for number in numbers}
    tars = tuple(
        PackedTar(name=f"{bucket}-000000.tar", size=1, sha256="", num_samples=2, bucket=bucket, ledger="", ledger_size=1, digest="")
        for bucket in buckets
    )
    return Manifest(
        step="train",
        step_fingerprint="",
        fingerprint="0a1b2c3d4e",
        dataset_digest="",
        shards=tars,
        buckets=buckets,
        index=IndexFile(name="index.parquet", size=1, sha256=""),
        num_samples=2 * len(tars),
        members=(),
    )


def configs_of(manifest: Manifest) -> dict[str, list[str]]:
    """Return the patterns of each configuration of a card, read as `datasets` reads it."""
    (head,) = re.findall(r"\A---\n(.*?)\n---\n", card_text(manifest).decode(), re.DOTALL)
    found = {}
    for config in yaml.safe_load(head)["configs"]:
        (files,) = config["data_files"]
        assert files["split"] == "train"
        assert "default" not in config
        found[config["config_name"]] = [files["path"]] if isinstance(files["path"], str) else files["path"]
    return found


@pytest.mark.parametrize("kinds", [{}, {"mp4": range(1)}, {"mp4": range(40)}, {"": range(2)}])
def test_samples_of_one_kind_have_the_card_that_they_always_had(kinds: dict[str, range]) -> None:
    assert configs_of(manifest_of(kinds)) == {"default": ["0a1b2c3d/*.tar"]}


@pytest.mark.parametrize("edges", [(0, 1, 2), (0, 7, 23), (0, 10, 20), (0, 137, 1204), (0, 1000, 1001), (0, 995, 2300), (0, 105, 1200)])
def test_each_tar_is_matched_by_the_globs_of_its_kind_alone(edges: tuple[int, int, int]) -> None:
    first, second, third = edges
    manifest = manifest_of({"null": range(first, second), "cls+mp4": range(second, third)})
    configs = configs_of(manifest)
    assert list(configs) == ["null", "cls+mp4"]
    for tar in manifest.shards:
        name = f"0a1b2c3d/{tar.name}"
        matching = [kind for kind, patterns in configs.items() for pattern in patterns if fnmatchcase(name, pattern)]
        assert matching == ["+".join(manifest.buckets[tar.bucket]["media"])]
    assert max(len(patterns) for patterns in configs.values()) < 60, "each glob lists the whole folder"


def test_the_card_says_how_many_samples_of_each_kind_there_are() -> None:
    text = card_text(manifest_of({"jpg": range(3), "": range(3, 4)})).decode()
    assert "`jpg` (6), `json` (2)" in text
    assert "8 samples in 4 WebDataset shards" in text
