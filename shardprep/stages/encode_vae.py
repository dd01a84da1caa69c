"""VAE latents of videos, with frames taken as OmniVideo takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import CropResize, Frames, FramesWanted, Stride, crop_box
from shardprep.core.outcome import Dropped, Failed, Kept, Outcome
from shardprep.core.ranges import Range, check_ranges
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Process, Resources, Stage, Weights, Worker
from shardprep.errors import RecipeError

if TYPE_CHECKING:
    import torch

    from shardprep.models.vae import WanVae

_BYTES_PER_PIXEL = 20 << 10

PROFILES: Mapping[str, tuple[int, int, int, int]] = {"omnivideo-81": (81, 3, 480, 832), "omnivideo-17": (17, 2, 352, 640)}
"""num_frames, stride, height, width: OmniVideo's documented setting, and that of its script and shipped samples."""

_HOLDS: Mapping[str, str] = {
    "moments": "latent: mean; logvar: log variance between -30 and 20; a sample is latent + exp(0.5 * logvar) * noise",
    "mean": "latent: mean; no sample can be drawn of it",
    "normalised": "latent: normalised mean; no sample can be drawn of it",
}


@dataclass(frozen=True, kw_only=True)
class EncodeVae(Stage):
    """Encode a video with the Wan VAE: the posterior's mean and log variance, never sampled, and all that derives a trainer's variant."""

    model: str = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/vae"
    """OWNER/REPO[/FOLDER][@REVISION], a local diffusers folder, or tiny:wan-vae."""
    profile: Literal["omnivideo-81", "omnivideo-17"] = "omnivideo-81"
    """Frames, stride and size where the settings below are not given: 81/3/480x832 or 17/2/352x640."""
    num_frames: int | None = None
    """Frames per latent, 4n + 1."""
    stride: Annotated[int, Range(1)] | None = None
    """Source frames from one frame to the next; lowered for a video too short for it."""
    skip_frames: int = 0
    """Source frames skipped at the start."""
    height: Annotated[int, Range(8)] | None = None
    """Pixels, a multiple of 8: centre crop to the aspect, then bilinear resize."""
    width: Annotated[int, Range(8)] | None = None
    kind: Literal["moments", "mean", "normalised"] = "moments"
    """`moments`: the mean as `latent` and beside it `logvar`, from which a trainer draws samples; `mean`: the mean alone, half as large, no
    sample can be drawn of it; `normalised`: (mean - shift) * (1 / scale) alone."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """How latents are stored."""
    compute: Literal["fp32", "tf32", "bf16"] = "fp32"
    """How they are computed; tf32 is what OmniVideo does on a GPU."""
    tiling: bool = False
    """Encode in overlapping tiles, for small memory; it changes the values, and is recorded."""
    batch_size: int = 1
    """Samples that are handed over at once; the model sees one at a time, so that no byte depends on this."""

    version = 2

    def __post_init__(self) -> None:
        check_ranges(self, "encode_vae")
        if self.profile not in PROFILES:
            raise RecipeError(f"encode_vae: profile {self.profile!r}; there are {', '.join(PROFILES)}")
        at, size = self._at, self._size
        if at.num_frames % 4 != 1:
            raise RecipeError(f"encode_vae: num_frames {at.num_frames}; the Wan VAE takes 4n + 1 frames (1, 5, 17, 81)")
        if size.height % 8 or size.width % 8:
            raise RecipeError(f"encode_vae: height {size.height}, width {size.width}; expected multiples of 8")

    @property
    def _at(self) -> Stride:
        num_frames, stride, _, _ = PROFILES[self.profile]
        num_frames = num_frames if self.num_frames is None else self.num_frames
        return Stride(num_frames, stride if self.stride is None else self.stride, self.skip_frames)

    @property
    def _size(self) -> CropResize:
        _, _, height, width = PROFILES[self.profile]
        return CropResize(height if self.height is None else self.height, width if self.width is None else self.width)

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(self._at, self._size)

    @property
    def accepts(self) -> tuple[str, ...]:
        return ("video", "image") if self._at.num_frames == 1 else ("video",)

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {
            "latent": "member",
            "latent.model": "string",
            "latent.kind": "string",
            "latent.dtype": "string",
            "latent.shape": "list<int64>",
            "latent.frame_indices": "list<int64>",
            "latent.frame_seconds": "list<double>",
            "latent.stride": "int64",
            "latent.crop_box": "list<int64>",
            "latent.source_fps": "double",
        }

    @property
    def resources(self) -> Resources:
        # Measured with Wan's encoder on a CPU: 17 KiB per pixel of the frame, and no more for more frames; a tile is no larger.
        return Resources(memory_bytes=max(Resources().memory_bytes, self._size.height * self._size.width * _BYTES_PER_PIXEL))

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (Weights(self.model),)

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        return (("torch", "models"), ("diffusers", "models"))

    def check(self) -> None:
        from shardprep.models.vae import vae_folder
        from shardprep.models.weights import local_path

        if (folder := local_path(self.model, "wan-vae")) is not None:
            vae_folder(self.model, folder)

    def open(self, worker: Worker) -> Process:
        from shardprep.models.vae import load_vae, pixels_to_float, split_moments

        vae = load_vae(self.model, worker.device, self.compute, tiling=self.tiling)
        note = self._note(vae)

        def process(batch: Sequence[Sample]) -> Sequence[Outcome]:
            return [encoded(sample) for sample in batch]

        def encoded(sample: Sample) -> Outcome:
            frames = self._judge(sample)
            if isinstance(frames, Dropped):
                return frames
            x_bcthw = vae.encode(pixels_to_float(frames.images)[None], self.kind)
            parts = dict(zip(("latent", "logvar"), split_moments(x_bcthw) if self.kind == "moments" else (x_bcthw,), strict=False))
            return self._outcome(sample, frames, {name: part[0] for name, part in parts.items()}, note)

        return process

    def _judge(self, sample: Sample) -> Frames | Dropped:
        """Return the frames, or why the sample has none to encode: OmniVideo skips both cases without a word."""
        frames, size = sample.frames, self._size
        if frames is not None and (size.height - size.width) * (frames.height - frames.width) < 0:
            return Dropped("orientation", f"{frames.width}x{frames.height} into {size.width}x{size.height}")
        if frames is None or not frames.indices:
            found = "" if frames is None else f"{frames.num_frames} frames, "
            return Dropped("too-few-frames", f"{found}at least {self._at.num_frames + self._at.skip} wanted")
        return frames

    def _note(self, vae: WanVae) -> dict[str, str]:
        from shardprep.models.vae import TEMPORAL_CHUNK
        from shardprep.models.weights import describe, digest_weights

        return {
            "model": f"encode_vae@{self.version} {describe(self.model)}",
            "weights": digest_weights(self.model),
            "kind": self.kind,
            "holds": _HOLDS[self.kind],
            "normalised": str(self.kind == "normalised").lower(),
            "shift": json.dumps(vae.shift),
            "scale": json.dumps(vae.scale),
            "normalised_form": "(mean - shift) * (1 / scale)",
            "layout": "CTHW",
            "temporal_chunk": TEMPORAL_CHUNK,
            "compute_dtype": self.compute,
            "tiling": str(self.tiling).lower(),
            "resize": "square pixels, centre crop, then Pillow bilinear on uint8",
        }

    def _outcome(self, sample: Sample, frames: Frames, parts: Mapping[str, torch.Tensor], note: dict[str, str]) -> Outcome:
        import torch

        from shardprep.models.tensors import save_tensors

        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.dtype]
        stored = {name: part.to(dtype) for name, part in parts.items()}
        bad = {name: int((~part.isfinite()).sum()) for name, part in stored.items()}
        if any(bad.values()):
            counts = " and ".join(f"{count} of the {self.dtype} {name}" for name, count in bad.items() if count)
            return Failed("not-finite", f"NaN or infinite values: {counts}, of {stored['latent'].numel()} each")
        size = self._size
        columns = {
            "latent.model": note["model"] + (" tiled" if self.tiling else ""),
            "latent.kind": self.kind,
            "latent.dtype": self.dtype,
            "latent.shape": list(stored["latent"].shape),
            "latent.frame_indices": list(frames.indices),
            "latent.frame_seconds": list(frames.seconds),
            "latent.stride": frames.indices[1] - frames.indices[0] if len(frames.indices) > 1 else self._at.stride,
            "latent.crop_box": list(crop_box(frames.height, frames.width, size.height, size.width)),
            "latent.source_fps": _fps_of(frames),
        }
        data = save_tensors(stored, note)
        return Kept(sample.with_member("latent.safetensors", BytesBlob(data)).with_columns(columns))


def _fps_of(frames: Frames) -> float | None:
    """Return the source's mean frame rate over the frames taken, None for one frame."""
    span = frames.seconds[-1] - frames.seconds[0]
    return (frames.indices[-1] - frames.indices[0]) / span if span > 0 else None
