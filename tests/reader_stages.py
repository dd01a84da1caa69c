"""A stage that writes what training reads beside the video: a latent, a text embedding, scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import save

from shardprep.core.blob import BytesBlob
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Map

_WRITES: Mapping[str, ColumnType] = {"latent": "member", "t5": "member", "scores.number": "double", "scores.sometimes": "double"}


@dataclass(frozen=True, kw_only=True)
class WriteFeatures(Map):
    """Tensors whose values say the clip's index; a T5 of a length of its own, and none for the first clip of a video."""

    reads = ("clip.index",)
    writes = _WRITES

    def apply(self, sample: Sample) -> Sample:
        index = int(sample.get("clip.index"))
        sample = sample.with_member("latent.safetensors", BytesBlob(save({"latent": np.full((16, 1, 4, 6), index, np.float16)})))
        if index:
            sample = sample.with_member("t5.safetensors", BytesBlob(save({"t5": np.full((2 + index, 8), index, np.float32)})))
        return sample.with_columns({"scores.number": float(index), "scores.sometimes": 0.5 if index > 1 else None})
