"""The dataset card of a packed set, by which Hugging Face `datasets` finds the tars of the packing that counts."""

from __future__ import annotations

_CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: "{packing}/*.tar"
---

# {step}

{num_samples} samples in {num_shards} WebDataset shards, packed by shardprep.
The packing that counts is `{packing}`, as `manifest.json` says.

- Hugging Face: `load_dataset` with the path of this folder reads it.
- webdataset: `shardprep shards` with the path of this folder prints the pattern of the shards.

This file is written by every run that packs. A card of your own belongs beside the copy that you publish.
"""


def card_text(*, step: str, packing: str, num_samples: int, num_shards: int) -> bytes:
    """Return the card of a packed set whose shards lie in the folder `packing`."""
    return _CARD.format(step=step, packing=packing, num_samples=num_samples, num_shards=num_shards).encode()
