"""Sharpness falls with blur; exposure counts what is black and white."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from shardprep.media.quality import Exposure, exposure, sharpness


def test_blur_lowers_sharpness() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    blurred = [cv2.GaussianBlur(sharp, (0, 0), sigma) for sigma in (1, 2, 4)]
    values = [sharpness(image) for image in (sharp, *blurred)]
    assert values == sorted(values, reverse=True)
    assert sharpness(np.full((10, 10), 77, np.uint8)) == 0


def test_sharpness_of_a_known_picture() -> None:
    point = np.zeros((5, 5), np.uint8)
    point[2, 2] = 1
    # The Laplacian is -4 at the point and 1 at its four neighbours: mean 0, mean of squares 20 / 25.
    assert sharpness(point) == pytest.approx(20 / 25)


def test_exposure_counts() -> None:
    image = np.array([[0, 9, 10, 245, 246, 255, 100, 100]], np.uint8)
    assert exposure(image, 10, 245) == Exposure(luma=pytest.approx(image.mean() / 255), dark=0.25, bright=0.25)
