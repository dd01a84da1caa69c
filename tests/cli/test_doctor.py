"""doctor says what is here and what is missing, with the command that installs it."""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.cli.doctor import Package, encoders_here, packages_of


def test_requirements_are_read_with_their_extras() -> None:
    lines = [
        "numpy>=2",
        "no-such-thing-anywhere<2,>=1.5; extra == 'models'",
        'moto[s3]>=5.2 ; python_version > "3" and extra == "dev"',
        "shardprep[models]; extra == 'all'",
    ]
    assert packages_of(lines) == [
        Package(name="numpy", extra="", version=importlib.metadata.version("numpy")),
        Package(name="moto", extra="dev", version=importlib.metadata.version("moto")),
        Package(name="no-such-thing-anywhere", extra="models", version=None),
    ]


def test_codecs_and_devices_are_told() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    encoders = next(line for line in result.stdout.splitlines() if line.startswith("encoders: "))
    decoders = next(line for line in result.stdout.splitlines() if line.startswith("decoders: "))
    assert "libx264" in encoders
    assert {"h264", "hevc", "vp9"} <= set(decoders.removeprefix("decoders: ").split(", "))
    assert "devices: " in result.stdout


def test_every_extra_has_a_feature_behind_it(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    code = "\n".join(path.read_text(encoding="utf-8") for path in (root / "shardprep").rglob("*.py"))
    without = [extra for extra in extras if extra not in ("dev", "all") and f'"{extra}"' not in code]
    assert not without, "doctor would recommend what nothing uses"
    assert set(extras["all"][0].removeprefix("shardprep[").removesuffix("]").split(",")) == {*extras} - {"dev", "all"}


def test_encoders_that_cannot_be_opened_are_said_with_the_reason() -> None:
    found = encoders_here()
    assert found["libx264"] == ""
    if not os.path.exists("/dev/nvidia0"):
        assert found["h264_nvenc"] == "it needs an NVIDIA GPU with an encoder, and its driver"
