"""Sharpness and exposure of single frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from shardprep.media.resize import Image


def sharpness(gray: Image) -> float:
    """Return the variance of the Laplacian, 0 for a flat picture, 100 and more for a sharp one at a short side of 320 px.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy"; 3x3 kernel on values 0 to 255.
    """
    return float(cv2.Laplacian(gray, cv2.CV_64F).var())


@dataclass(frozen=True)
class Exposure:
    """How bright a frame is: every value between 0 and 1."""

    luma: float
    """Mean brightness."""
    dark: float
    """Fraction of pixels that are as good as black."""
    bright: float
    """Fraction of pixels that are as good as white."""


def exposure(gray: Image, dark_below: int, bright_above: int) -> Exposure:
    """Return the exposure of a picture; pixels below `dark_below` and above `bright_above` (0 to 255) count as clipped."""
    return Exposure(
        luma=float(gray.mean(dtype=np.float64)) / 255, dark=float((gray < dark_below).mean()), bright=float((gray > bright_above).mean())
    )
