"""Resizing frames: each size that a stage can ask for, pixel-exact to the library that it names."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from shardprep.core.frames import CropResize, LongSide, ModelSize, Native, ShortSide, Size, crop_box
from shardprep.errors import MissingExtra

Image = NDArray[np.uint8]
"""uint8 [height, width, 3], or [height, width] for gray."""


def target_size(size: Size, height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of a frame of this size after resizing."""
    match size:
        case Native():
            return height, width
        case CropResize() | ModelSize():
            return size.height, size.width
        case ShortSide():
            scale = size.px / min(height, width)
            return (height, width) if scale >= 1 else (max(1, round(height * scale)), max(1, round(width * scale)))
        case LongSide():
            # scenedetect 0.7.2, scene_manager.compute_downscale_factor and _decode_thread
            factor = max(height, width) / float(size.px)
            return (height, width) if factor <= 1 else (max(1, round(height / factor)), max(1, round(width / factor)))


def square_size(height: int, width: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Return (height, width) of a picture in square pixels: the side that is too short grows, so that no detail is lost."""
    if pixel_aspect >= 1:
        return height, round(width * pixel_aspect)
    return round(height / pixel_aspect), width


def square(image: Image, pixel_aspect: Fraction) -> Image:
    """Return a picture in square pixels, by cubic interpolation; the image itself where they are square."""
    height, width = square_size(image.shape[0], image.shape[1], pixel_aspect)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def resize(image: Image, size: Size) -> Image:
    """Return the image at this size; the image itself where nothing changes."""
    height, width = target_size(size, image.shape[0], image.shape[1])
    if isinstance(size, ModelSize):
        return np.asarray(size.make(image), dtype=np.uint8)
    if isinstance(size, CropResize):
        return crop_resize(image, height, width)
    if (height, width) == image.shape[:2]:
        return image
    linear_or_area = cv2.INTER_LINEAR if isinstance(size, LongSide) else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (width, height), interpolation=linear_or_area), dtype=np.uint8)


def crop_resize(image: Image, height: int, width: int) -> Image:
    """Return the largest centred box of the target's aspect, resized by Pillow's bilinear filter on uint8.

    Equal to OmniVideo's `transform_frames_to_tensor` (torchvision CenterCrop and Resize on Pillow images) to the last bit;
    OpenCV's and torch's bilinear filters are not.
    """
    try:
        from PIL import Image as pillow
    except ImportError as error:
        raise MissingExtra("a crop to an exact size", "Pillow", "models") from error
    top, left, crop_height, crop_width = crop_box(image.shape[0], image.shape[1], height, width)
    box = (left, top, left + crop_width, top + crop_height)
    return np.asarray(pillow.fromarray(image).crop(box).resize((width, height), pillow.Resampling.BILINEAR), dtype=np.uint8)
