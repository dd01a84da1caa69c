"""Tiny models: the same bytes in every process, read by the real libraries, and marked as random."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shardprep.models.weights import RANDOM_MARKER, TINY_MODELS, describe
from shardprep.testing.models import make_tiny_models

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_bytes_are_the_same_in_every_process(tmp_path):
    make_tiny_models(tmp_path / "here")
    code = "import sys, torch; torch.manual_seed(9); from shardprep.testing.models import make_tiny_models as m; m(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True)
    here = digests(tmp_path / "here")
    assert here == digests(tmp_path / "there")
    assert len(here) >= 4 * 3 - 1


def test_every_folder_says_that_its_weights_are_random():
    made = make_tiny_models()
    assert tuple(made) == TINY_MODELS
    for name, folder in made.items():
        assert "random numbers" in (folder / RANDOM_MARKER).read_text()
        assert describe(f"tiny:{name}").endswith("RANDOM MODEL")


def test_no_parameter_is_left_at_a_value_that_hides_mistakes():
    from safetensors.torch import load_file

    for folder in make_tiny_models().values():
        for path in folder.glob("*.safetensors"):
            for name, tensor in load_file(path).items():
                assert bool(tensor.isfinite().all())
                assert float(tensor.abs().max()) > 1e-4, name
                assert tensor.numel() == 1 or float(tensor.float().std()) > 1e-4, name


def test_two_at_the_same_moment_do_not_disturb_each_other(tmp_path):
    threads = [threading.Thread(target=make_tiny_models, args=(tmp_path,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aesthetic-1", "clip-1", "t5-1", "wan-vae-1"]
    assert digests(tmp_path) == digests(make_tiny_models()["clip"].parent)
