"""The command that says what this machine has and lacks: codecs, extras, devices, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass

DECODERS = ("h264", "hevc", "libdav1d", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "prores")
NEEDED_DECODERS = ("h264", "hevc", "mpeg4", "vp9")
NEEDED_ENCODER = "libx264"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*])?[^;]*(?:;(?P<marker>.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"](?P<extra>[\w-]+)['"]""")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A distribution that shardprep requires, for an extra or (`""`) for itself."""

    name: str
    extra: str
    version: str | None
    """None where it is not installed."""


def doctor() -> None:
    """Say what this machine has, what is missing and the command that installs it."""
    version = _version("shardprep") or "(not installed)"
    print(f"shardprep {version}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    missing = [*_say_codecs(), *_say_packages()]
    print(f"\ndevices: {_devices()}")
    print("\nmissing:" if missing else "\nnothing is missing")
    for line in dict.fromkeys(missing):
        print(f"  {line}")


def packages_of(requirements: Iterable[str]) -> list[Package]:
    """Return the packages of requirement lines, as in a distribution's metadata, with their installed versions."""
    found: dict[tuple[str, str], Package] = {}
    for line in requirements:
        match = _REQUIREMENT.fullmatch(line.strip())
        if match is None or match["name"].lower() == "shardprep":
            continue
        extra = _EXTRA.search(match["marker"] or "")
        key = (match["name"], extra["extra"] if extra else "")
        found[key] = Package(name=key[0], extra=key[1], version=_version(key[0]))
    return sorted(found.values(), key=lambda package: (package.extra, package.name))


def _say_codecs() -> list[str]:
    from av.codec.codec import codecs_available

    there = [name for name in DECODERS if name in codecs_available and _decodes(name)]
    print(f"decoders: {', '.join(there)}")
    missing = [_codec_missing("decoder", name) for name in NEEDED_DECODERS if name not in there]
    if not {"libdav1d", "av1"} & set(there):
        missing.append(_codec_missing("decoder", "for AV1"))
    encoders = encoders_here()
    print(f"encoders: {', '.join(name for name, wrong in encoders.items() if not wrong)}")
    for name, wrong in encoders.items():
        if wrong:
            print(f"          not {name}: {wrong}")
    return missing + ([_codec_missing("encoder", NEEDED_ENCODER)] if encoders[NEEDED_ENCODER] else [])


def encoders_here() -> dict[str, str]:
    """Return the encoders that clips can be made with, each with an empty text, or why it cannot be opened here."""
    from shardprep.errors import RecipeError
    from shardprep.media.encoders import ENCODERS, check_encoder

    found = {}
    for name in ENCODERS:
        try:
            check_encoder(name)
            found[name] = ""
        except RecipeError as error:
            found[name] = str(error).partition(": ")[2].partition(". ")[0]
    return found


def _codec_missing(kind: str, name: str) -> str:
    return f"{kind} {name}: pip install --force-reinstall --only-binary av av"


def _decodes(name: str) -> bool:
    from av.codec.codec import Codec

    try:
        Codec(name, "r")
    except ValueError:
        # PyAV's UnknownCodecError: there, but not in this direction.
        return False
    return True


def _say_packages() -> list[str]:
    try:
        requirements = importlib.metadata.requires("shardprep") or []
    except importlib.metadata.PackageNotFoundError:
        return ["shardprep itself: pip install -e ."]
    missing = []
    packages = packages_of(requirements)
    # `all` is the other extras once more.
    for extra in dict.fromkeys(package.extra for package in packages if package.extra != "all"):
        own = [package for package in packages if package.extra == extra]
        shown = [f"{package.name} {package.version or '(missing)'}" for package in own]
        print(f"{extra or 'core'}: {', '.join(shown)}")
        if extra != "dev" and any(package.version is None for package in own):
            absent = ", ".join(package.name for package in own if package.version is None)
            missing.append(f'{absent}: pip install "shardprep[{extra}]"' if extra else f"{absent}: pip install shardprep")
    return missing


def _devices() -> str:
    if _version("torch") is None:
        return "cpu (torch is not installed)"
    import torch

    if not torch.cuda.is_available():
        return f"cpu (torch {torch.__version__} sees no GPU)"
    return ", ".join(f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count()))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
