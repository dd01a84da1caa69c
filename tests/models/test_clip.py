"""CLIP embeddings: equal to open_clip called directly, and loaded with the right activation."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from shardprep.errors import RecipeError, Unavailable
from shardprep.models.clip import ClipImageEncoder, load_clip
from shardprep.testing.models import CLIP_DIM, make_tiny_models

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")
ARCHITECTURE = "shardprep-test"


@pytest.fixture(scope="module")
def folder():
    return make_tiny_models()["clip"]


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return [
        random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((64, 64), (97, 33), (48, 200), (1, 1), (720, 405))
    ]


@pytest.fixture
def architecture(folder, monkeypatch):
    """An architecture that open_clip knows, with the tiny weights released under the tag `quick` (trained with QuickGELU)."""
    from open_clip import factory, pretrained

    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    release = {"file": str(folder / "open_clip_model.safetensors"), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setitem(factory._MODEL_CONFIGS, ARCHITECTURE, config)
    monkeypatch.setitem(
        pretrained._PRETRAINED,
        ARCHITECTURE,
        {"quick": {**release, "quick_gelu": True}, "plain": release, "gone": {"hf_hub": "no-one/nothing/x.bin"}},
    )
    return ARCHITECTURE


def directly(folder, images):
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.no_grad():
        return torch.cat([model.eval().encode_image(preprocess(Image.fromarray(image))[None]) for image in images])


def test_features_equal_open_clip(folder, images):
    encoder = load_clip("tiny:clip", "ignored for folders", "cpu")
    features = encoder.embed(images)
    assert features.shape == (len(images), CLIP_DIM)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, directly(folder, images), atol=1e-5, rtol=0)
    assert not torch.allclose(features.norm(dim=1), torch.ones(len(images)), atol=0.1), "stored as they come, not normalised"
    assert encoder.logit_scale == pytest.approx(np.log(100), rel=1e-6)


def test_images_that_differ_have_features_that_differ(images):
    features = torch.nn.functional.normalize(load_clip("tiny:clip", None, "cpu").embed(images))
    cosines = features @ features.T
    assert float((cosines - torch.eye(len(images))).max()) < 0.999


def test_one_at_a_time_equals_many(images, monkeypatch):
    encoder = load_clip("tiny:clip", None, "cpu")
    many = encoder.embed(images * 20)
    one = torch.cat([encoder.embed([image]) for image in images])
    torch.testing.assert_close(many, one.repeat(20, 1), atol=1e-5, rtol=1e-5)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        load_clip("tiny:clip", None, "cpu").embed([])


def test_a_tag_trained_with_quick_gelu_gets_it(architecture, images):
    quick, plain = (load_clip(architecture, tag, "cpu") for tag in ("quick", "plain"))
    assert any(type(module).__name__ == "QuickGELU" for module in quick.model.visual.modules())
    assert not any(type(module).__name__ == "QuickGELU" for module in plain.model.visual.modules())
    assert not torch.allclose(quick.embed(images), plain.embed(images), atol=1e-3)


def test_a_weights_file_for_an_architecture(architecture, folder, images, tmp_path):
    state = open_clip.factory.load_state_dict(str(folder / "open_clip_model.safetensors"))
    torch.save(state, tmp_path / "mine.pt")
    torch.testing.assert_close(
        load_clip(architecture, str(tmp_path / "mine.pt"), "cpu").embed(images), directly(folder, images), atol=1e-5, rtol=0
    )
    with pytest.raises(RecipeError, match="no such weights file"):
        load_clip(architecture, str(tmp_path / "none.pt"), "cpu")


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone(architecture, images):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load_clip(architecture, None, "cpu").embed(images)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(load_clip(architecture, None, "cpu").embed(images), first)


def test_wrong_names_are_answered_with_the_right_ones(architecture):
    with pytest.raises(RecipeError, match="did you mean.*ViT-L-14"):
        load_clip("ViT-L14", "openai", "cpu")
    with pytest.raises(RecipeError, match="there are quick, plain, gone"):
        load_clip(architecture, "openia", "cpu")


def test_a_release_that_cannot_be_reached_is_no_sample_s_fault(architecture):
    with pytest.raises(Unavailable, match="could not download"):
        load_clip(architecture, "gone", "cpu")


def test_folders_without_config_or_weights_are_refused(tmp_path, folder):
    with pytest.raises(RecipeError, match=r"open_clip_config\.json"):
        load_clip(str(tmp_path), None, "cpu")
    (tmp_path / "open_clip_config.json").write_bytes((folder / "open_clip_config.json").read_bytes())
    with pytest.raises(RecipeError, match="no weights file"):
        load_clip(str(tmp_path), None, "cpu")


def test_a_checkpoint_that_wants_to_run_code_is_refused(architecture, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"visual.proj": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        load_clip(architecture, str(tmp_path / "evil.pt"), "cpu")
    assert not (tmp_path / "executed").exists()


def test_frames_made_small_beforehand_give_the_same_bits(images):
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    encoder = load_clip("tiny:clip", None, "cpu")
    size = encoder.frame_size
    for image in images:
        small = encoder.shrink(image)
        assert small.shape == (size.height, size.width, 3)
        assert small.dtype == np.uint8
        assert torch.equal(encoder.embed([small]), encoder.embed([image]))
    for mode in ("shortest", "longest", "squash"):
        for target in (32, (24, 40)):
            preprocess = image_transform_v2(PreprocessCfg(size=target, resize_mode=mode), is_train=False)
            other = ClipImageEncoder(encoder.model, preprocess, "cpu")
            for image in images[:3]:
                assert torch.equal(preprocess(Image.fromarray(other.shrink(image))), preprocess(Image.fromarray(image))), (mode, target)
