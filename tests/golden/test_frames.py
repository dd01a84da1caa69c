"""Frames equal OmniVideo's `read_video_frames`, on real videos and over its whole rule."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from shardprep.core.blob import FileBlob
from shardprep.core.frames import CropResize, FramesWanted, Stride, crop_box, select_frames
from shardprep.media.decode import decode_frames
from shardprep.media.resize import crop_resize


@pytest.fixture(scope="module")
def golden(shared: Path) -> ModuleType:
    sys.path.insert(0, str(shared / "golden"))
    import check_frames

    return check_frames


def test_the_frame_rule(golden: ModuleType) -> None:
    def rule(count: int, num_frames: int, stride: int, skip: int) -> list[int] | None:
        return select_frames(Stride(num_frames, stride, skip), [k / 24 for k in range(count)]) or None

    golden.check_frame_rule(rule).assert_ok()


def test_the_crop_box(golden: ModuleType) -> None:
    golden.check_crop_box(crop_box).assert_ok()


def test_the_resize(golden: ModuleType) -> None:
    golden.check_resize(lambda image, target: crop_resize(image, *target)).assert_ok()


def test_end_to_end(golden: ModuleType, shared: Path) -> None:
    def frames(path: str, num_frames: int, stride: int, skip: int, target: tuple[int, int]) -> np.ndarray | None:
        blob = FileBlob(path, 0, Path(path).stat().st_size)
        # The reference kept the corrupted file up to its last good frame.
        found = decode_frames(blob, [FramesWanted(Stride(num_frames, stride, skip), CropResize(*target))], on_corrupt="keep").frames[0]
        # OmniVideo's filter: encode_vae applies it, decoding does not.
        is_wrong_way = (target[0] > target[1] and found.height < found.width) or (target[0] < target[1] and found.height > found.width)
        return None if is_wrong_way or not found.indices else found.images

    # The OpenCV wheel cannot decode AV1, so the reference has no frame of that file.
    results = golden.check_end_to_end(frames, corpus=shared / "videos", skip_videos=("av1-640x360.mkv",))
    assert len(results) == 8
    results.assert_ok()
