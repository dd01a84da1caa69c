"""Sizes are those that each consumer's own library would make."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from scenedetect.scene_manager import compute_downscale_factor

from shardprep.core.frames import CropResize, LongSide, Native, ShortSide
from shardprep.media.resize import crop_resize, resize, square, target_size


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (Native(), (120, 160), (120, 160)),
        (ShortSide(60), (120, 160), (60, 80)),
        (ShortSide(60), (160, 120), (80, 60)),
        (ShortSide(320), (120, 160), (120, 160)),
        (LongSide(256), (640, 362), (256, 145)),
        (LongSide(256), (120, 160), (120, 160)),
        (CropResize(48, 80), (120, 160), (48, 80)),
        (ShortSide(1), (2, 4000), (1, 2000)),
    ],
)
def test_target_size(size: object, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert target_size(size, *shape) == expected
    image = np.zeros((*shape, 3), np.uint8)
    assert resize(image, size).shape[:2] == expected
    assert resize(image[..., 0], size).shape == expected


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (480, 854), (640, 362), (257, 256), (300, 100), (200, 255)])
def test_long_side_is_pyscenedetects_rounding(height: int, width: int) -> None:
    factor = compute_downscale_factor(max(height, width), 256)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    theirs = image
    if factor > 1:
        theirs = cv2.resize(image, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize(image, LongSide(256)), theirs)


def test_an_unchanged_image_is_not_copied() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    assert resize(image, ShortSide(10)) is image


def test_square_pixels_stay_as_they_are() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    assert square(image, Fraction(1)) is image
    assert square(image, Fraction(3, 2)).shape == (10, 30, 3)
    assert square(image[..., 0], Fraction(2, 3)).shape == (15, 20)


def test_crop_keeps_the_centre() -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 255
    assert crop_resize(image, 40, 40).min() == 255
