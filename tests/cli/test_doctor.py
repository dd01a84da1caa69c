"""doctor says what is here and what is missing, with the command that installs it."""

from __future__ import annotations

import importlib.metadata

from typer.testing import CliRunner

from shardprep.cli.app import app
from shardprep.cli.doctor import Package, packages_of


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
