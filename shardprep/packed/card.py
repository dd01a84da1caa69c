"""The dataset card of a packed set, by which Hugging Face `datasets` finds the tars of the packing that counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from shardprep.packed.manifest import Manifest
from shardprep.packed.names import packing_name

_CARD = """\
---
configs:
{configs}
---

# {step}

{num_samples} samples in {num_shards} WebDataset shards, packed by shardprep.
The packing that counts is `{packing}`, as `manifest.json` says.

- Hugging Face: {hugging_face}
- webdataset: `shardprep shards` with the path of this folder prints the pattern of the shards.

This file is written by every run that packs. A card of your own belongs beside the copy that you publish.
"""
_ONE_KIND = "`load_dataset` with the path of this folder reads it."
_KINDS = (
    "its samples are of {number} kinds, and one table has the members of one kind. `load_dataset` with the path of this folder and the "
    "name of a kind reads all samples of that kind: {kinds}. Without a name it refuses and lists them."
)
_DIGIT = "[0-9]"


def card_text(manifest: Manifest) -> bytes:
    """Return the card of a packing: a configuration for each kind of sample, or one called `default` where all are of one kind.

    `load_dataset` takes the columns of a configuration from its first samples and leaves out members that they lack, so
    that kinds may not share one; of several configurations none is the default, so that none is read for the whole.
    """
    packing = packing_name(manifest.fingerprint)
    kinds = manifest.kinds()
    configs = {kind: [f"{packing}/{pattern}-*.tar" for pattern in _patterns(buckets)] for kind, buckets in kinds.items()}
    if len(kinds) < 2:
        configs = {"default": [f"{packing}/*.tar"]}
    text = _CARD.format(
        configs="\n".join(_config(name, paths) for name, paths in configs.items()),
        step=manifest.step,
        packing=packing,
        num_samples=manifest.num_samples,
        num_shards=len(manifest.shards),
        hugging_face=_ONE_KIND if len(kinds) < 2 else _KINDS.format(number=len(kinds), kinds=_numbers(manifest)),
    )
    return text.encode()


def _config(name: str, paths: Sequence[str]) -> str:
    # JSON is YAML, and quoted: a member may be called `null` or `1e3`.
    path = json.dumps(paths[0] if len(paths) == 1 else paths)
    shown = name if name == "default" else json.dumps(name)
    return f"- config_name: {shown}\n  data_files:\n  - split: train\n    path: {path}"


def _numbers(manifest: Manifest) -> str:
    """Return the kinds with how many samples each has."""
    samples: Counter[str] = Counter()
    for tar in manifest.shards:
        samples[tar.bucket] += tar.num_samples
    return ", ".join(f"`{kind}` ({sum(samples[bucket] for bucket in buckets)})" for kind, buckets in manifest.kinds().items())


def _patterns(buckets: Iterable[str]) -> list[str]:
    """Return globs that match just these buckets: ten that differ in their last digit are one, as each glob lists the folder."""
    found: list[str] = []
    heads, wild = set(buckets), ""
    while heads:
        tens = Counter(head[:-1] for head in heads if head[-1:].isdigit())
        whole = {head for head, number in tens.items() if number == 10}
        found += (head + wild for head in heads if not (head[-1:].isdigit() and head[:-1] in whole))
        heads, wild = whole, wild + _DIGIT
    return sorted(found)
