"""Ordinary footage, generated: shots with textures, camera movement, things that move, noise and sound, as h264 in mp4."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from shardprep.core.sample import VIDEO_SUFFIXES
from tests.bench.measure import workplace

Picture = NDArray[np.uint8]
_SOUND_RATE = 48000
_NUM_NOISES = 16


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What a generated video is."""

    seconds: float
    height: int = 720
    width: int = 1280
    fps: int = 25
    seed: int = 0
    shot_seconds: tuple[float, float] = (3.0, 9.0)
    """Shortest and longest shot."""
    noise: float = 2.0
    """Standard deviation of the camera's noise, in steps of 255."""
    repeats: int = 1
    """How often the packets of these seconds follow each other: long videos in a short time."""

    @property
    def name(self) -> str:
        """Return a file name that tells the settings apart."""
        return f"{self.height}p-{self.seconds * self.repeats:g}s-{self.seed}.mp4"


def make(footage: Footage, folder: Path) -> Path:
    """Return the path of the video in `folder`, generated where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / footage.name
    if not path.exists():
        print(f"generating {path.name}, once", flush=True)
        unfinished = path.with_suffix(".unfinished.mp4")
        if footage.repeats == 1:
            _encode(footage, unfinished)
        else:
            once = Footage(**{**vars(footage), "repeats": 1})
            _repeat(make(once, folder), footage.repeats, unfinished)
        os.replace(unfinished, path)
    return path


def ordinary_videos(quick: bool = False, repeats: int = 1) -> list[Path]:
    """Return four generated videos of a minute each (times `repeats`), 1280x720; two small ones of 3 s where it must be quick."""
    kinds = [Footage(seconds=60, seed=seed, repeats=repeats) for seed in (1, 2, 3, 4)]
    if quick:
        kinds = [Footage(seconds=3, height=180, width=320, seed=seed, shot_seconds=(1, 2), repeats=repeats) for seed in (1, 2)]
    return [make(kind, workplace("videos")) for kind in kinds]


def own_videos(folder: Path) -> list[Path]:
    """Return the videos in a folder."""
    found = sorted(path.resolve() for path in folder.iterdir() if path.suffix.lower().lstrip(".") in VIDEO_SUFFIXES)
    if not found:
        raise SystemExit(f"{folder} holds no video")
    return found


def shots_of(footage: Footage) -> Iterator[tuple[int, int]]:
    """Yield seed and number of frames of each shot."""
    random = np.random.default_rng(footage.seed)
    left = round(footage.seconds * footage.fps)
    number = 0
    while left:
        num = min(left, round(random.uniform(*footage.shot_seconds) * footage.fps))
        if left - num < footage.fps:
            num = left
        yield footage.seed * 1000 + number, num
        left -= num
        number += 1


def frames_of(footage: Footage) -> Iterator[Picture]:
    """Yield BGR frames."""
    noises = _noises(footage)
    for seed, num in shots_of(footage):
        yield from _shot(footage, seed, num, noises)


def _shot(footage: Footage, seed: int, num: int, noises: list[NDArray[np.int16]]) -> Iterator[Picture]:
    """Yield one shot: a large picture panned and zoomed over, with two things crossing it."""
    random = np.random.default_rng(seed)
    height, width = footage.height, footage.width
    scene = _scene(random, round(height * 1.5), round(width * 1.5), 500)
    things = [(_scene(random, height // 4, width // 6, 30), random.uniform(0.1, 0.7, 2), random.uniform(-0.25, 0.25, 2)) for _ in (0, 1)]
    pan = random.uniform(-0.06, 0.06, 2) * (width, height)
    zoom = random.uniform(-0.02, 0.02)
    for k in range(num):
        t = k / footage.fps
        scale = 1.25 + zoom * t
        left, top = 0.25 * width + pan[0] * t - 0.1 * width, 0.25 * height + pan[1] * t - 0.1 * height
        matrix = np.array([[scale, 0, left], [0, scale, top]], np.float32)
        frame = cv2.warpAffine(
            scene, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
        )
        for picture, place, speed in things:
            y, x = ((place + speed * t) % 0.75 * (height, width)).astype(int)
            part = frame[y : y + picture.shape[0], x : x + picture.shape[1]]
            part[:] = picture[: part.shape[0], : part.shape[1]]
        dy, dx = random.integers(0, 64, 2)
        noise = noises[k % _NUM_NOISES][dy : dy + height, dx : dx + width]
        yield cv2.add(frame, noise, dtype=cv2.CV_8U)


def _scene(random: np.random.Generator, height: int, width: int, num: int) -> Picture:
    """Return a picture of `num` things that hide each other, few large and many small, each with a texture of its own.

    Such "dead leaves" have edges and detail at every size like photographs (Lee, Mumford and Huang 2001).
    """
    scene = _texture(random, height, width)
    for k in range(num):
        radius = height * 0.5 / (1 + 24 * k / num)
        centre = (int(random.uniform(0, width)), int(random.uniform(0, height)))
        axes = (int(radius * random.uniform(0.3, 1)) + 2, int(radius * random.uniform(0.3, 1)) + 2)
        colour = tuple(float(value) for value in random.uniform(10, 245, 3))
        cv2.ellipse(scene, centre, axes, random.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    rough = cv2.GaussianBlur(random.standard_normal((height, width)).astype(np.float32), (0, 0), 1.2) * 14
    rough += cv2.GaussianBlur(random.standard_normal((height, width)).astype(np.float32), (0, 0), 4) * 60
    return np.clip(scene + rough[:, :, None], 0, 255).astype(np.uint8)


def _texture(random: np.random.Generator, height: int, width: int) -> Picture:
    """Return a smooth picture around a colour of its own."""
    grid = random.standard_normal((9, 16, 3)).astype(np.float32)
    smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 25
    return np.clip(smooth + random.uniform(50, 200, 3).astype(np.float32), 0, 255).astype(np.uint8)


def _noises(footage: Footage) -> list[NDArray[np.int16]]:
    random = np.random.default_rng(footage.seed)
    shape = (footage.height + 64, footage.width + 64, 3)
    return [np.rint(random.normal(0, footage.noise, shape)).astype(np.int16) for _ in range(_NUM_NOISES)]


def _encode(footage: Footage, path: Path) -> None:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=footage.fps)
        video.height, video.width, video.pix_fmt = footage.height, footage.width, "yuv420p"
        video.codec_context.options = {"crf": "23", "preset": "medium"}
        sound = out.add_stream("aac", rate=_SOUND_RATE, layout="stereo")
        for k, picture in enumerate(frames_of(footage)):
            frame = VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = k, Fraction(1, footage.fps)
            out.mux(video.encode(frame))
            if k % footage.fps == 0:
                out.mux(sound.encode(_second_of_sound(k // footage.fps)))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))


def _second_of_sound(second: int) -> AudioFrame:
    times = np.arange(_SOUND_RATE, dtype=np.float32) / _SOUND_RATE
    wave = 0.2 * np.sin(2 * np.pi * (220 + 20 * (second % 12)) * times)
    frame = AudioFrame.from_ndarray(np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = _SOUND_RATE, second * _SOUND_RATE
    return frame


def _repeat(once: Path, repeats: int, path: Path) -> None:
    """Write the video stream of `once` so many times behind itself, packets copied."""
    with av.open(str(path), "w") as out:
        copied = None
        for turn in range(repeats):
            with av.open(str(once)) as source:
                stream = source.streams.video[0]
                copied = copied or out.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.dts is not None:
                        shift = turn * stream.duration
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copied
                        out.mux(packet)
