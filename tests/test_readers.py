"""What we write is read by the readers of others: webdataset, Hugging Face datasets, tar; the same keys, the same bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import webdataset
from safetensors.numpy import load
from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.core.blob import read_blob
from shardprep.driver.run import run
from shardprep.gather.settings import Pack, Select
from shardprep.packed.packing import open_packing
from shardprep.packed.sets import open_set
from shardprep.packed.urls import shard_urls
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.shards.packed_record import unpack_record
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.probe_media import ProbeMedia
from shardprep.testing.videos import moving, three_shots
from tests.built_sets import Made, write_base
from tests.gather.packings import pack
from tests.reader_stages import WriteFeatures

# webdataset leaves closing its tars to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

Samples = dict[str, dict[str, bytes]]
"""Bytes by suffix, by key."""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of four videos, two of them with a caption beside them, with features, packed."""
    folder = tmp_path_factory.mktemp("readers")
    videos = folder / "videos"
    videos.mkdir()
    for name in ("one", "two", "three é"):
        (videos / f"{name}.mp4").write_bytes(three_shots())
    (videos / "four.mp4").write_bytes(moving(20, height=120, width=160))
    (videos / "two.txt").write_text("a caption, with ünïcode", encoding="utf-8")
    run(recipe_of(videos, folder / "out"))
    return folder / "out"


def recipe_of(videos: Path, output: Path, *, where: str = "true") -> Recipe:
    return Recipe(
        name="readers",
        source=SourceSpec(videos=str(videos), samples_per_shard=3),
        output=str(output),
        settings=RunSettings(workers=1),
        steps=(
            Pass(name="clips", stages=(ProbeMedia(), DetectScenes(), CutClips(min_seconds=0.5, max_seconds=10))),
            Pass(name="features", stages=(WriteFeatures(),)),
            Gather(name="good", does=Select(where=where)),
            Gather(name="train", does=Pack(samples_per_shard=4)),
        ),
    )


# --- the readers


def shards(folder: Path) -> list[str]:
    """Return the tars of a step, of a packed set those of the packing that counts."""
    return [str(path) for path in sorted(folder.glob("*.tar"))] or shard_urls(str(folder))


def by_webdataset(urls: Sequence[str]) -> Samples:
    """Read with plain webdataset, undecoded: a list of URLs, or one text, which it expands."""
    pipeline = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    return {sample["__key__"]: {name: data for name, data in sample.items() if not name.startswith("__")} for sample in pipeline}


def by_tar(urls: Sequence[str]) -> Samples:
    """Read with the tar program."""
    found: Samples = {}
    for url in urls:
        names = subprocess.run(["tar", "tf", url], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        for name in names:
            key, _, suffix = name.partition(".")
            found.setdefault(key, {})[suffix] = subprocess.run(
                ["tar", "xOf", url, name], capture_output=True, check=True, timeout=60
            ).stdout
    return found


def by_datasets(urls: Sequence[str], cache: Path, *, streaming: bool) -> list[Mapping[str, Any]]:
    """Read with Hugging Face datasets by the names of the tars."""
    return undecoded(datasets.load_dataset("webdataset", data_files=list(urls), split="train", streaming=streaming, cache_dir=str(cache)))


def undecoded(read: Any) -> list[Mapping[str, Any]]:
    """Return the rows of a data set of Hugging Face's; media stay bytes, as decoding them is torchcodec's affair."""
    for name, kind in read.features.items():
        if isinstance(kind, datasets.Video | datasets.Image):
            read = read.cast_column(name, type(kind)(decode=False))
    return list(read)


def as_bytes(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of Hugging Face datasets as the members it was made of; JSON stays an object."""
    members = {name: value for name, value in row.items() if not name.startswith("__")}
    return {
        name: value["bytes"] if name == "mp4" else value.encode() if isinstance(value, str) else value for name, value in members.items()
    }


def expected(output: Path, at_least: int = 10) -> Samples:
    """What the ledgers say of the packed set: the members of all samples."""
    found: Samples = {}
    for sample in open_set(str(output / "train")):
        found[sample.key] = {member.suffix: read_blob(member.blob) for member in sample.members.values()}
    assert len(found) >= at_least, "three shots of three videos and one of the fourth"
    return found


def without(samples: Samples, suffix: str) -> Samples:
    return {key: {name: data for name, data in members.items() if name != suffix} for key, members in samples.items()}


# --- packed shards


def test_webdataset_and_tar_read_packed_shards(output: Path) -> None:
    found = by_webdataset(shards(output / "train"))
    assert without(found, "json") == expected(output)
    assert all(list(members) == ["json", "latent.safetensors", "mp4", "t5.safetensors", "txt"] for members in found.values())
    assert by_tar(shards(output / "train")) == found


def test_webdataset_decodes_and_batches_packed_shards(output: Path) -> None:
    """With its own decoders for JSON and text and the library's for safetensors."""
    pipeline = webdataset.WebDataset(shards(output / "train"), shardshuffle=False).decode(webdataset.handle_extension("safetensors", load))
    seen = 0
    for key, record, tensors, text in pipeline.to_tuple("__key__", "json", "latent.safetensors", "txt"):
        assert tensors["latent"].shape == (16, 1, 4, 6)
        assert (tensors["latent"] == record["scores"]["number"]).all()
        assert text == ("a caption, with ünïcode" if key.startswith("two") else "")
        seen += 1
    assert seen == len(expected(output))


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_reads_packed_shards(output: Path, tmp_path: Path, streaming: bool) -> None:
    rows = by_datasets(shards(output / "train"), tmp_path, streaming=streaming)
    wanted = by_webdataset(shards(output / "train"))
    assert [row["__key__"] for row in rows] == list(wanted)
    for row in rows:
        members = as_bytes(row)
        assert members.pop("json") == json.loads(wanted[row["__key__"]].pop("json"))
        assert members == wanted[row["__key__"]]


@pytest.mark.parametrize("streaming", [False, True])
def test_the_folder_of_the_step_is_enough_for_hugging_face_datasets(output: Path, tmp_path: Path, streaming: bool) -> None:
    """By the dataset card: just the tars of the packing that counts, though an older one lies beside it."""
    folder = tmp_path / "out"
    shutil.copytree(output, folder)
    first = {row["__key__"] for row in undecoded(datasets.load_dataset(str(folder / "train"), split="train", streaming=True))}
    assert first == expected(output).keys()
    recipe = recipe_of(output.parent / "videos", folder, where="clip.index = 0")
    run(recipe)
    assert len(list((folder / "train").glob("*/manifest.json"))) == 2, "the older packing is still there"
    read = datasets.load_dataset(str(folder / "train"), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache"))
    rows = undecoded(read)
    assert {row["__key__"] for row in rows} == expected(folder, 4).keys()
    assert len(rows) == 4, "no sample twice, none of the older packing"


def test_webdataset_reads_what_the_command_prints(output: Path, tmp_path: Path) -> None:
    wanted = by_webdataset(shards(output / "train"))
    printed = CliRunner().invoke(app, ["shards", str(output / "train")])
    assert printed.exit_code == 0
    (pattern,) = printed.stdout.splitlines()
    assert re.fullmatch(rf"{output}/train/[0-9a-f]{{8}}/b000-\{{000000\.\.00000\d\}}\.tar(::.*)?", pattern)
    assert by_webdataset(pattern) == wanted
    urls = CliRunner().invoke(app, ["shards", str(output / "train"), "--format", "urls"]).stdout.splitlines()
    assert by_webdataset(urls) == wanted
    described = json.loads(CliRunner().invoke(app, ["shards", str(output / "train"), "--format", "json"]).stdout)
    assert [shard["url"] for shard in described["shards"]] == urls
    assert described["num_samples"] == sum(shard["num_samples"] for shard in described["shards"]) == len(wanted)


def test_a_path_that_a_pattern_would_change_is_refused(output: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out{a,b}"
    shutil.copytree(output, folder)
    printed = CliRunner().invoke(app, ["shards", str(folder / "train")])
    assert printed.exit_code == 1
    assert "cannot stand in a brace pattern; use --format urls" in printed.stderr
    assert len(shard_urls(str(folder / "train"))) == len(shard_urls(str(output / "train")))


def test_records_hold_what_the_steps_found(output: Path) -> None:
    records = {key: json.loads(members["json"]) for key, members in by_webdataset(shards(output / "train")).items()}
    for sample in open_set(str(output / "features")):
        assert unpack_record(records[sample.key]) == sample.record
    first = next(record for record in records.values() if record["clip"]["index"] == 2)
    assert "sometimes" not in first["scores"]
    assert json.loads(first["sparse"])["scores"] == {"sometimes": 0.5}


# --- shards of other steps


@pytest.mark.parametrize("step", ["raw", "clips", "features"])
def test_webdataset_and_tar_read_the_shards_of_every_step(output: Path, step: str) -> None:
    found = by_webdataset(shards(output / step))
    assert by_tar(shards(output / step)) == found
    view = open_set(str(output / step))
    roles = {"latent", "t5"} if step == "features" else {"video"}
    wanted = {s.key: {m.suffix: read_blob(m.blob) for role, m in s.members.items() if role in roles} for s in view}
    assert without(found, "json") == wanted
    assert len(found) == (4 if step == "raw" else len(expected(output)))
    if step == "clips":
        assert {key: json.loads(members["json"]) for key, members in found.items()} == {s.key: s.record for s in view}


# --- what Hugging Face datasets infers from the first five samples


def packed_records(folder: Path, records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    made = [Made(f"k{place:03d}", record, {"mp4": b"video"}) for place, record in enumerate(records)]
    pack(folder, [write_base(folder / "clips", {"000000": made})], Pack(seed=None, samples_per_shard=6))
    yield from shards(folder / "train")


HARD: dict[str, list[Mapping[str, Any]]] = {
    "null first": [{"a": {"n": 1}}] * 5 + [{"a": {"n": 1, "late": 0.5}}] * 5,
    "null later": [{"a": {"n": 1, "early": "x"}}] * 5 + [{"a": {"n": 1}}] * 5,
    "empty lists first": [{"a": {"l": []}}] * 7 + [{"a": {"l": [0.5]}}] * 5,
    "no record at all first": [{}] * 7 + [{"a": {"n": 1}}] * 2,
    "whole numbers first": [{"media": {"fps": 25.0, "l": [1.0]}}] * 5 + [{"media": {"fps": 29.97, "l": [0.5]}}] * 5,
    "ints before floats": [{"a": {"n": 1}}] * 7 + [{"a": {"n": 0.5}}] * 2,
    "one late": [{"a": {"n": 1}}] * 12 + [{"a": {"n": 1}, "b": {"deep": {"er": [["x"]]}}}],
    "texts": [{"a": {"t": ""}}] * 6 + [{"a": {"t": 'quoted "é" \n'}}],
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("case", sorted(HARD))
def test_no_first_samples_mislead_hugging_face_datasets(tmp_path: Path, case: str, streaming: bool) -> None:
    urls = list(packed_records(tmp_path / "out", HARD[case]))
    rows = by_datasets(urls, tmp_path / "cache", streaming=streaming)
    assert [unpack_record(row["json"] or {}) for row in rows] == [dict(record) for record in HARD[case]]
    # Each tar alone shows the same schema, whichever is read first.
    schemas = {str(datasets.load_dataset("webdataset", data_files=url, split="train", streaming=True).features["json"]) for url in urls}
    assert len(schemas) == 1


def test_images_and_videos_are_read_by_bucket(tmp_path: Path) -> None:
    """A set of both has members of both kinds, so a reader that wants one kind of member names the shards of a bucket."""
    videos = [Made(f"v{n}", {"media": {"fps": 25.0}}, {"mp4": b"video"}) for n in range(3)]
    images = [Made(f"i{n}", {"media": {"width": n}}, {"png": b"image"}) for n in range(3)]
    pack(tmp_path, [write_base(tmp_path / "clips", {"000000": videos + images})], Pack(seed=None))
    manifest = open_packing(str(tmp_path / "train")).manifest
    for kind, keys, record in (("mp4", {"v0", "v1", "v2"}, {"fps"}), ("png", {"i0", "i1", "i2"}, {"width"})):
        buckets = [name for name, bucket in manifest.buckets.items() if bucket["media"] == [kind]]
        urls = [url for url in shards(tmp_path / "train") if Path(url).name.partition("-")[0] in buckets]
        rows = by_datasets(urls, tmp_path / "cache", streaming=True)
        assert {row["__key__"] for row in rows} == keys
        assert all(set(row["json"]["media"]) == record for row in rows)
        assert set(by_webdataset(urls)) == keys
    assert set(by_webdataset(shards(tmp_path / "train"))) == {"v0", "v1", "v2", "i0", "i1", "i2"}


def of_kinds(folder: Path) -> dict[str, set[str]]:
    """Pack samples with four sets of members, in many sizes and with late columns; return the keys by kind."""
    made = [Made(f"v{n:02d}", {"media": {"fps": 25.0, "width": 16 * n + 16}}, {"mp4": b"video"}) for n in range(23)]
    made += [Made(f"i{n:02d}", {"media": {"width": n, "exif": "x"}}, {"jpg": b"image", "txt": b"text"}) for n in range(12)]
    made += [Made(f"w{n}", {"media": {"width": n}}, {"webp": b"image", "cls": b"1"}) for n in range(2)]
    made += [Made(f"t{n}", {"said": n}) for n in range(2)]
    pack(folder, [write_base(folder / "clips", {"000000": made})], Pack(seed=3))
    letters = {"mp4": "v", "jpg": "i", "cls+webp": "w", "json": "t"}
    return {kind: {one.key for one in made if one.key.startswith(letter)} for kind, letter in letters.items()}


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_loses_no_sample_of_a_set_of_several_kinds(tmp_path: Path, streaming: bool) -> None:
    """One table would have the columns of the first kind and, without a word, nothing of the members of the others."""
    wanted = of_kinds(tmp_path)
    train = str(tmp_path / "train")
    with pytest.raises(ValueError, match="Config name is missing"):
        datasets.load_dataset(train, streaming=streaming, cache_dir=str(tmp_path / "cache"))
    assert set(datasets.get_dataset_config_names(train)) == wanted.keys()
    members = by_webdataset(shards(tmp_path / "train"))
    for kind, keys in wanted.items():
        rows = undecoded(datasets.load_dataset(train, kind, split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")))
        assert {row["__key__"] for row in rows} == keys
        assert len(rows) == len(keys), "no sample twice"
        for row in rows:
            assert row.keys() - {"__key__", "__url__"} == members[row["__key__"]].keys()
            assert None not in row.values()
            assert unpack_record(row["json"]) == unpack_record(json.loads(members[row["__key__"]]["json"]))


def test_tensors_read_from_the_tar_by_the_index_alone(output: Path) -> None:
    """As a loader will: three files, then ranges of the tars; no tar is parsed."""
    import pyarrow.parquet as pq

    pointer = json.loads((output / "train/manifest.json").read_text())
    train = output / "train" / pointer["packing"]
    manifest = json.loads((train / "manifest.json").read_text())
    rows = pq.ParquetFile(train / manifest["index"]["name"]).read().to_pylist()
    assert len(rows) == manifest["num_samples"]
    wanted = expected(output)
    for row in rows:
        data = (train / row["shard"]).read_bytes()
        (latent,) = [tensor for tensor in row["tensors"] if tensor["name"] == "latent/latent"]
        assert (latent["dtype"], latent["shape"], latent["offset"] % 64) == ("F16", [16, 1, 4, 6], 0)
        found = np.frombuffer(data, np.float16, count=latent["num_bytes"] // 2, offset=latent["offset"]).reshape(latent["shape"])
        assert (found == load(wanted[row["key"]]["latent.safetensors"])["latent"]).all()
