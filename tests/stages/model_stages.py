"""What the tests of stages with models share: a small video, decoded as the runtime does, and a call of a stage."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import av
import numpy as np

from shardprep.core.blob import BytesBlob, read_blob
from shardprep.core.outcome import Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage, Worker
from shardprep.media.decode import decode_frames
from shardprep.models.tensors import load_metadata, load_tensors


def video_bytes(num_frames: int, width: int, height: int, fps: int = 25, seed: int = 0) -> bytes:
    """Return an mp4 of blocks that move, a different picture for every seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    picture = noise.repeat(-(-height // 6), axis=0).repeat(-(-width // 10), axis=1)[:height, :width]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 4_000_000
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(picture, 3 * index, axis=1)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def video_sample(key: str, num_frames: int, width: int, height: int, fps: int = 25, seed: int = 0) -> Sample:
    return Sample(key).with_member("mp4", BytesBlob(video_bytes(num_frames, width, height, fps, seed)))


def decoded(stage: Stage, sample: Sample) -> Sample:
    """Return the sample with the frames that the stage wants."""
    assert stage.frames is not None
    (frames,) = decode_frames(sample.members["video"].blob, [stage.frames]).frames
    return replace(sample, frames=frames)


def run(stage: Stage, samples: Sequence[Sample]) -> list[Outcome]:
    """Return the outcomes of one batch."""
    return list(stage.open(Worker())(samples))


def tensors_of(sample: Sample, role: str):
    return load_tensors(read_blob(sample.members[role].blob))


def metadata_of(sample: Sample, role: str) -> dict[str, str]:
    return load_metadata(read_blob(sample.members[role].blob))
