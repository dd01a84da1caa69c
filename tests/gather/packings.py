"""Packing in this process: sets written by hand, packed as a run packs them, without workers."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from shardprep.driver.packing import PackStep
from shardprep.driver.state import StepState
from shardprep.gather.outline import outline_shard
from shardprep.gather.pack import PackedShard, pack_shard
from shardprep.gather.settings import Pack
from shardprep.packed.manifest import Manifest
from shardprep.packed.packing import current_packing
from shardprep.recipe.model import Recipe
from shardprep.shards.set import ShardSet
from shardprep.shards.store import Store
from shardprep.sources.spec import SourceSpec
from tests.built_sets import Made

SIZES = [(64, 48), (48, 64)]


def packing_of(output: Path | str, sets: Sequence[ShardSet], settings: Pack) -> PackStep:
    """Return the pack step `train` of a run whose earlier steps made `sets`, base first."""
    states: list[StepState] = []
    for one in sets:
        states.append(StepState(one.info.step, one, one.info, tuple(states), {}, seen=one.current()))
    recipe = Recipe(name="made", source=SourceSpec(videos="nowhere"), steps=(), output=str(output))
    return PackStep(recipe, "train", settings, states[-1])


def pack(output: Path, sets: Sequence[ShardSet], settings: Pack | None = None) -> list[PackedShard]:
    """Pack and return the shards that were written: none where all were there."""
    packing = packing_of(output, sets, settings or Pack())
    if packing.is_done():
        packing.tidy()
        return []
    if packing.adopt():
        return []
    tasks = packing.start([outline_shard(task) for task in packing.outline_tasks()])
    made = [pack_shard(task) for task in tasks]
    packing.finish()
    packing.finished()
    return made


def manifest_of(output: Path) -> Manifest:
    return current_packing(Store(str(output / "train"))).manifest


def packing_folder(output: Path) -> Path:
    """Return the folder of the packing that counts, as its pointer says."""
    found: str = json.loads((output / "train/manifest.json").read_text())["packing"]
    return output / "train" / found


def tars(output: Path) -> dict[str, dict[str, dict[str, bytes]]]:
    """Return suffix and bytes of the members, by tar and key, in the order of the tar."""
    found: dict[str, dict[str, dict[str, bytes]]] = {}
    for path in sorted(packing_folder(output).glob("*.tar")):
        samples = found.setdefault(path.name, {})
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, suffix = info.name.partition(".")
                file = tar.extractfile(info)
                assert file is not None
                samples.setdefault(key, {})[suffix] = file.read()
    return found


def samples(output: Path) -> dict[str, dict[str, bytes]]:
    """Return the members of all samples by key; a key in two tars is an error."""
    found: dict[str, dict[str, bytes]] = {}
    for members in tars(output).values():
        assert not members.keys() & found.keys(), "a sample lies in two tars"
        found |= members
    return found


def record(output: Path, key: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(samples(output)[key]["json"])
    return loaded


def tensor_file(**tensors: Any) -> bytes:
    """Return the bytes of a safetensors file as other programs write them: aligned to 8."""
    return save(tensors)


def files(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def order(output: Path) -> list[str]:
    return [key for members in tars(output).values() for key in members]


def clip(number: int, **record: Any) -> Made:
    width, height = SIZES[number % 2]
    columns = {"clip": {"index": number}, "media": {"width": width, "height": height}, **record}
    return Made(f"clip-{number:02d}", columns, {"mp4": b"video %d" % number})


def image(number: int) -> Made:
    return Made(f"image-{number:02d}", {"media": {"width": 64, "height": 48}}, {"jpg": b"image %d" % number})


def features(sample: Made, number: int) -> Made:
    """A latent of a shape by the video's, a T5 of a length of its own."""
    latent = np.full((16, 1, 8, 6) if number % 2 else (16, 1, 6, 8), number, np.float32)
    t5 = np.full((3 + number, 4), number, np.float16)
    return Made(
        sample.key,
        {"t5": {"length": 3 + number}},
        {"latent.safetensors": tensor_file(latent=latent), "t5.safetensors": tensor_file(t5=t5, odd=t5[:1])},
    )
