"""Optical flow between frames: how fast a picture moves, independent of its size and of the frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np

from shardprep.media.resize import Image

REFERENCE_SHORT_SIDE = 320
"""Speeds are given for a picture whose short side has this many pixels."""

MIN_SIDE_PX = 16
"""DIS matches patches of 8 pixels on a pyramid: smaller pictures have no flow."""

Preset = Literal["ultrafast", "fast", "medium"]
_PRESETS: dict[str, int] = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def flow_speeds(grays: Sequence[Image], seconds: Sequence[float], preset: Preset = "medium") -> list[float]:
    """Return the mean speed between each frame and the next, in px per second at a short side of 320 px.

    The mean over all pixels of the length of the flow vector (Kroeger et al. 2016, dense inverse search, OpenCV's DIS),
    divided by the time between the frames. Two frames of one time give no value; pictures with a side below 16 px have none.
    """
    if any(min(gray.shape) < MIN_SIDE_PX for gray in grays):
        return []
    dis = cv2.DISOpticalFlow.create(_PRESETS[preset])
    speeds = []
    for (earlier, start), (later, end) in pairwise(zip(grays, seconds, strict=True)):
        if end > start:
            flow = dis.calc(earlier, later, None)
            scale = REFERENCE_SHORT_SIDE / min(earlier.shape[:2])
            speeds.append(float(np.hypot(flow[..., 0], flow[..., 1]).mean(dtype=np.float64)) * scale / (end - start))
    return speeds
