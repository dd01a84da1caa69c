"""The video encoders that clips can be made with, and what each calls quality and speed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import av.error
import cv2
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext

from shardprep.errors import RecipeError

_X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
# CV_CPU_AVX512_SKX in OpenCV's cvdef.h, which Python has no name for: the AVX-512 parts that x264 looks for.
_AVX512_SKX = 256


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """How one encoder of ffmpeg is told quality and speed."""

    quality: tuple[int, int, int]
    """Of its `crf`: the least, the greatest and the default; lower is better."""
    presets: tuple[str, ...]
    """From fast to slow."""
    preset: str
    """The default among them."""
    quality_option: str = "crf"
    """What ffmpeg calls the quality."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What it needs besides."""
    needs_gpu: bool = False


_NVENC = Encoder(
    quality=(0, 51, 19),
    presets=tuple(f"p{number}" for number in range(1, 8)),
    preset="p4",
    quality_option="cq",
    options={"rc": "vbr", "b": "0"},
    needs_gpu=True,
)
ENCODERS: Mapping[str, Encoder] = {
    "libx264": Encoder(quality=(0, 51, 18), presets=_X264_PRESETS, preset="veryfast"),
    "libx265": Encoder(quality=(0, 51, 20), presets=_X264_PRESETS, preset="veryfast", options={"x265-params": "log-level=none"}),
    "libsvtav1": Encoder(quality=(1, 63, 24), presets=tuple(str(number) for number in range(13, -1, -1)), preset="8"),
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
}
_REFUSED = {
    "mpeg4": "MPEG-4 part 2 takes no times finer than 1/65535 s, and has neither crf nor preset",
    "libx264rgb": "clips are yuv420p",
}


def find_encoder(name: str) -> Encoder:
    """Return what is known of an encoder; RecipeError where it is none of ours."""
    if name not in ENCODERS:
        why = f" ({_REFUSED[name]})" if name in _REFUSED else ""
        raise RecipeError(f"encoder {name!r} is none that clips can be made with{why}; there is {', '.join(ENCODERS)}")
    return ENCODERS[name]


def encoder_options(name: str, crf: int | None, preset: str | None) -> dict[str, str]:
    """Return ffmpeg's options for a quality and a preset (None: the encoder's default); RecipeError where it does not have them."""
    encoder = find_encoder(name)
    least, most, default = encoder.quality
    if crf is not None and not least <= crf <= most:
        raise RecipeError(f"crf {crf}: with {name} it is {least} to {most}, lower is better ({default} by default)")
    if preset is not None and preset not in encoder.presets:
        raise RecipeError(f"preset {preset!r}: {name} has the presets {', '.join(encoder.presets)}")
    quality = {encoder.quality_option: str(default if crf is None else crf)}
    return {**quality, "preset": preset or encoder.preset, **encoder.options, **reproducible_options(name)}


def reproducible_options(encoder: str) -> dict[str, str]:
    """Return the encoder's options without which equal frames give other bytes from one call to the next.

    x264's AVX-512 code (core 165, macroblock tree with B-frames) reads memory that nobody wrote: seen with MALLOC_PERTURB_.
    Its AVX2 code does not, and gives the bytes that machines without AVX-512 give.
    """
    return {"x264-params": "asm=AVX2"} if encoder == "libx264" and cv2.checkHardwareSupport(_AVX512_SKX) else {}


def check_encoder(name: str, crf: int | None = None, preset: str | None = None) -> None:
    """Open the encoder once and close it; RecipeError with the reason where this machine cannot."""
    options = encoder_options(name, crf, preset)
    quiet_encoders()
    try:
        context = CodecContext.create(name, "w")
        assert isinstance(context, VideoCodecContext), "all of ENCODERS are of videos"
        context.width, context.height, context.pix_fmt, context.time_base = 320, 240, "yuv420p", Fraction(1, 25)
        context.options = options
        context.open()
    except (av.error.FFmpegError, ValueError) as error:
        wants = "it needs an NVIDIA GPU with an encoder, and its driver" if find_encoder(name).needs_gpu else str(error)
        raise RecipeError(f"encoder {name} cannot be opened on this machine: {wants}. `shardprep doctor` lists those that can") from error


def quiet_encoders() -> None:
    """Let SVT-AV1 say errors only: it writes its settings to standard error for every clip."""
    os.environ.setdefault("SVT_LOG", "1")
