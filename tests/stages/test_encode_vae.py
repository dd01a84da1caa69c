"""encode_vae: a real video through the real loading code, equal to diffusers on OmniVideo's preprocessing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from shardprep.core.frames import Frames, Stride
from shardprep.core.outcome import Dropped, Failed, Kept
from shardprep.core.sample import Sample
from shardprep.errors import RecipeError
from shardprep.models.vae import draw, pixels_to_float
from shardprep.models.weights import digest_weights
from shardprep.stages.encode_vae import EncodeVae
from shardprep.testing.models import make_tiny_models
from tests.stages.model_stages import decoded, metadata_of, run, tensors_of, video_sample

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

SMALL = {"model": "tiny:wan-vae", "num_frames": 5, "stride": 2, "height": 32, "width": 48}
STAGE = EncodeVae(**SMALL)


@pytest.fixture(scope="module", autouse=True)
def tiny():
    return make_tiny_models()


@pytest.fixture(scope="module")
def sample():
    return video_sample("v", 12, 128, 70, fps=25)


def directly(video: bytes, folder, indices):
    """OmniVideo's steps on frames decoded by PyAV: centre crop, PIL resize on uint8, ToTensor and Normalize, encode, mode."""
    import io

    import av
    from torchvision import transforms

    with av.open(io.BytesIO(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    ratio = 48 / 32
    width, height = frames[0].size
    crop = (int(width / ratio), width) if width < height * ratio else (height, int(height * ratio))
    steps = [transforms.CenterCrop(crop), transforms.Resize((32, 48)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    x = torch.stack([transforms.Compose(steps)(frames[index]) for index in indices], dim=1)
    model = diffusers.AutoencoderKLWan.from_pretrained(folder, low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        return model.encode(x[None]).latent_dist.mode()[0]


def test_the_latent_equals_diffusers_on_omnivideo_s_preprocessing(sample, tiny):
    (outcome,) = run(STAGE, [decoded(STAGE, sample)])
    assert isinstance(outcome, Kept)
    latent = tensors_of(outcome.sample, "latent")["latent"]
    assert latent.shape == (16, 2, 4, 6)
    torch.testing.assert_close(latent, directly(sample.members["video"].blob.data, tiny["wan-vae"], [0, 2, 4, 6, 8]), atol=1e-5, rtol=0)


def test_the_record_and_the_metadata_say_how_it_was_made(sample):
    (outcome,) = run(STAGE, [decoded(STAGE, sample)])
    kept = outcome.sample
    assert kept.get("latent.frame_indices") == [0, 2, 4, 6, 8]
    assert kept.get("latent.frame_seconds") == pytest.approx([0, 0.08, 0.16, 0.24, 0.32])
    assert kept.get("latent.stride") == 2
    assert kept.get("latent.source_fps") == pytest.approx(25)
    assert kept.get("latent.crop_box") == [0, 12, 70, 105]
    assert kept.get("latent.shape") == [16, 2, 4, 6]
    assert (kept.get("latent.kind"), kept.get("latent.dtype")) == ("moments", "fp32")
    assert kept.get("latent.model").startswith("encode_vae@2 tiny:wan-vae@")
    assert kept.get("latent.model").endswith("RANDOM MODEL")
    note = metadata_of(kept, "latent")
    assert note["weights"] == digest_weights("tiny:wan-vae")
    assert (note["layout"], note["compute_dtype"], note["tiling"], note["temporal_chunk"]) == ("CTHW", "fp32", "false", "1,4")
    assert len(json.loads(note["shift"])) == len(json.loads(note["scale"])) == 16


def test_every_variant_follows_from_the_mean(sample):
    def latent(**settings):
        stage = EncodeVae(**{**SMALL, **settings})
        kept = run(stage, [decoded(stage, sample)])[0].sample
        return tensors_of(kept, "latent")["latent"], metadata_of(kept, "latent")

    mean, note = latent()
    shift, scale = (torch.tensor(json.loads(note[name])).view(-1, 1, 1, 1) for name in ("shift", "scale"))
    assert torch.equal(latent(kind="normalised")[0], (mean - shift) * (1.0 / scale))
    assert torch.equal(latent(kind="mean")[0], mean)
    assert torch.equal(latent(dtype="bf16")[0], mean.to(torch.bfloat16))
    assert torch.equal(latent(dtype="fp16")[0], mean.to(torch.float16))
    assert latent(kind="normalised")[1]["normalised"] == "true"


def test_samples_are_drawn_of_moments_as_diffusers_draws_them(sample, tiny):
    frames = decoded(STAGE, sample)
    tensors = tensors_of(run(STAGE, [frames])[0].sample, "latent")
    assert sorted(tensors) == ["latent", "logvar"]
    assert tensors["latent"].shape == tensors["logvar"].shape == (16, 2, 4, 6)
    model = diffusers.AutoencoderKLWan.from_pretrained(tiny["wan-vae"], low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        posterior = model.encode(pixels_to_float(frames.frames.images)[None]).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(3))
    drawn = draw(tensors["latent"], tensors["logvar"], noise[0])
    assert torch.equal(drawn, posterior.sample(torch.Generator().manual_seed(3))[0])
    assert not torch.equal(drawn, tensors["latent"])


@pytest.mark.parametrize(("kind", "names", "words"), [("mean", ["latent"], "no sample"), ("moments", ["latent", "logvar"], "a sample is")])
def test_the_file_says_what_it_holds(sample, kind, names, words):
    stage = EncodeVae(**SMALL, kind=kind, dtype="bf16")
    kept = run(stage, [decoded(stage, sample)])[0].sample
    assert sorted(tensors_of(kept, "latent")) == names
    assert all(tensor.dtype == torch.bfloat16 for tensor in tensors_of(kept, "latent").values())
    assert (metadata_of(kept, "latent")["kind"], kept.get("latent.kind")) == (kind, kind)
    assert words in metadata_of(kept, "latent")["holds"]


def test_a_batch_equals_its_samples_alone():
    samples = [decoded(STAGE, video_sample(str(i), 12 + i, 128, 70, seed=i)) for i in range(3)]
    for outcome, sample in zip(run(STAGE, samples), samples, strict=True):
        (alone,) = run(STAGE, [sample])
        assert outcome.sample.record == alone.sample.record
        torch.testing.assert_close(tensors_of(outcome.sample, "latent"), tensors_of(alone.sample, "latent"), atol=1e-5, rtol=1e-5)


def test_a_short_video_lowers_the_stride_and_a_shorter_one_is_dropped():
    outcomes = run(STAGE, [decoded(STAGE, video_sample(str(n), n, 128, 70)) for n in (10, 9, 5, 4)])
    assert [type(outcome) for outcome in outcomes] == [Kept, Kept, Kept, Dropped]
    assert [outcome.sample.get("latent.stride") for outcome in outcomes[:3]] == [2, 1, 1]
    assert outcomes[3].reason == "too-few-frames"


@pytest.mark.parametrize(
    ("size", "target", "kept"),
    [((70, 128), (32, 48), False), ((64, 64), (32, 48), True), ((128, 70), (48, 32), False), ((128, 70), (32, 32), True)],
)
def test_orientation(size, target, kept):
    stage = EncodeVae(**{**SMALL, "height": target[0], "width": target[1]})
    (outcome,) = run(stage, [decoded(stage, video_sample("v", 12, *size))])
    assert isinstance(outcome, Kept) == kept
    assert kept or outcome.reason == "orientation"


def test_infinite_latents_fail_their_sample(tiny, tmp_path, sample):
    from safetensors.torch import load_file, save_file

    weights = load_file(tiny["wan-vae"] / "diffusion_pytorch_model.safetensors")
    weights["quant_conv.bias"][3] = 1e6
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_bytes((tiny["wan-vae"] / "config.json").read_bytes())
    settings = {**SMALL, "model": str(tmp_path)}
    frames = decoded(STAGE, sample)
    assert isinstance(run(EncodeVae(**settings), [frames])[0], Kept)
    (outcome,) = run(EncodeVae(**settings, dtype="fp16"), [frames])
    assert isinstance(outcome, Failed)
    assert outcome.reason == "not-finite"


def test_profiles_are_omnivideo_s_two_settings():
    assert EncodeVae().frames.at == Stride(81, 3)
    assert (EncodeVae().frames.size.height, EncodeVae().frames.size.width) == (480, 832)
    small = EncodeVae(profile="omnivideo-17", skip_frames=4)
    assert small.frames.at == Stride(17, 2, 4)
    assert (small.frames.size.height, small.frames.size.width) == (352, 640)
    assert EncodeVae(profile="omnivideo-17", stride=1).frames.at == Stride(17, 1)


@pytest.mark.parametrize(
    "settings", [{"num_frames": 80}, {"num_frames": 0}, {"stride": 0}, {"skip_frames": -1}, {"height": 30}, {"width": 0}, {"profile": "x"}]
)
def test_settings_that_the_vae_cannot_take_are_refused(settings):
    with pytest.raises(RecipeError, match="encode_vae"):
        EncodeVae(**settings)


def test_pictures_are_encoded_only_as_one_frame():
    assert EncodeVae().accepts == ("video",)
    one = EncodeVae(**{**SMALL, "num_frames": 1})
    assert one.accepts == ("video", "image")
    frames = Frames(np.full((1, 32, 48, 3), 7, np.uint8), (0,), (0.0,), 1, 32, 48)
    (outcome,) = run(one, [replace(Sample("picture"), frames=frames)])
    assert tensors_of(outcome.sample, "latent")["latent"].shape == (16, 1, 4, 6)
    assert outcome.sample.get("latent.source_fps") is None
