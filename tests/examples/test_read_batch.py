"""The example that reads a packed set with plain webdataset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from examples.read_batch import open_batches
from shardprep.gather.settings import Pack
from tests.built_sets import Made, write_base
from tests.gather.packings import pack

# webdataset leaves closing its tars to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture
def train(tmp_path: Path) -> str:
    """Five samples of one latent shape and texts of 3 to 7 tokens, in bfloat16 as embed_t5 does, packed."""
    made = [
        Made(
            f"clip-{index}",
            {"clip": {"seconds": 2.5}},
            {
                "mp4": b"x" * (10 + index),
                "latent.safetensors": save({"latent": torch.full((16, 2, 4, 4), float(index))}),
                "t5.safetensors": save({"t5": torch.ones(3 + index, 8, dtype=torch.bfloat16)}),
            },
        )
        for index in range(5)
    ]
    pack(tmp_path, [write_base(tmp_path / "clips", {"000000": made})], Pack(seed=None))
    return str(tmp_path / "train")


def test_a_batch_is_stacked_and_texts_are_padded(train: str) -> None:
    batch = next(iter(open_batches(train, batch_size=4)))
    assert batch["__key__"] == ["clip-0", "clip-1", "clip-2", "clip-3"]
    assert batch["latent.safetensors:latent"].shape == (4, 16, 2, 4, 4)
    assert batch["latent.safetensors:latent"][:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert batch["t5.safetensors:t5"].dtype == torch.bfloat16
    assert batch["t5.safetensors:t5"][:, :, 0].sum(dim=1).tolist() == [3, 4, 5, 6]
    assert [len(video) for video in batch["mp4"]] == [10, 11, 12, 13]


def test_the_program_prints_what_is_in_a_batch(root: Path, train: str) -> None:
    command = [sys.executable, str(root / "examples/read_batch.py"), train, "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "float32 [2, 16, 2, 4, 4]" in done.stdout
    assert "2 files of 10 to 11 bytes" in done.stdout


def test_a_folder_that_is_no_packed_set_is_said(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(root / "examples/read_batch.py"), str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "is no packed set. Name the folder of a pack step, such as OUT/train" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["-", "0"]])
def test_wrong_arguments_are_answered_by_the_usage(root: Path, arguments: list[str]) -> None:
    command = [sys.executable, str(root / "examples/read_batch.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "usage: python examples/read_batch.py OUT/train [BATCH_SIZE]\n")
