"""Read one batch of a packed set with plain webdataset: `python examples/read_batch.py OUT/train [BATCH_SIZE]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
import webdataset as wds
from safetensors.torch import load as load_safetensors

from shardprep import shard_urls
from shardprep.errors import ShardprepError


def open_batches(url: str, batch_size: int) -> Any:
    """Return a webdataset pipeline of batches; every shard holds one tensor shape, so that batches of one shard stack."""
    # What `shardprep shards OUT/train --format urls` prints; a configuration can hold that instead.
    try:
        shards = shard_urls(url)
    except ShardprepError as error:
        raise SystemExit(str(error)) from error
    samples = wds.WebDataset(shards[:1], shardshuffle=False).decode(wds.handle_extension("safetensors", load_safetensors))
    return samples.batched(batch_size, collation_fn=collate)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the batch by member and tensor name: equal shapes stacked, others padded with zeros at their first axis, the rest as lists."""
    batch: dict[str, Any] = {}
    for member in samples[0]:
        values = [sample[member] for sample in samples]
        if isinstance(values[0], dict) and member.endswith("safetensors"):
            for name in values[0]:
                batch[f"{member}:{name}"] = stack([value[name] for value in values])
        elif not member.startswith("__") or member == "__key__":
            batch[member] = values
    return batch


def stack(tensors: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    """Return [batch, ...]; a text embedding shorter than the longest ends in zeros. A list where they have nothing in common."""
    # An absent tensor is a file with a tensor of shape [0].
    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        return tensors
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)


def describe(value: Any) -> str:
    """Return what a person wants to see of a batch's field."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value[0], bytes):
        return f"{len(value)} files of {min(map(len, value)):,} to {max(map(len, value)):,} bytes"
    return f"{len(value)} x {type(value[0]).__name__}, first: {str(value[0])[:90]}"


def main(folder: str, batch_size: str = "4") -> None:
    batch = next(iter(open_batches(folder, int(batch_size))))
    for name, value in batch.items():
        print(f"{name:32} {describe(value)}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not all(size.isdecimal() and int(size) for size in sys.argv[2:]):
        raise SystemExit("usage: python examples/read_batch.py OUT/train [BATCH_SIZE]")
    main(*sys.argv[1:])
