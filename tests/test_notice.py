"""NOTICE says what is installed: licences that ask for more than a copyright line, and what wheels carry inside."""

from __future__ import annotations

import importlib.metadata as metadata
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DEMANDING = re.compile(r"GPL|MPL|Mozilla|Proprietary|GNU|EULA", re.IGNORECASE)


@pytest.fixture(scope="module")
def notice(root: Path) -> dict[str, str]:
    """The paragraphs of NOTICE by their headings."""
    text = (root / "NOTICE").read_text(encoding="utf-8")
    found = re.findall(r"^(\w[^\n]*)\n((?:    [^\n]*\n)+)", text, re.MULTILINE)
    return {heading: " ".join(body.split()) for heading, body in found}


def requirements(name: str, extras: set[str]) -> Iterator[str]:
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        wanted = Requirement(line)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield from closure(line)


_seen: set[tuple[str, frozenset[str]]] = set()


def closure(line: str) -> Iterator[str]:
    """Yield the names of a requirement and of all that it requires."""
    wanted = Requirement(line)
    place = (canonicalize_name(wanted.name), frozenset(wanted.extras))
    if place not in _seen:
        _seen.add(place)
        yield place[0]
        yield from requirements(place[0], set(wanted.extras))


def licence(name: str) -> str:
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    classifiers = [one for one in about.get_all("Classifier") or [] if one.startswith("License ::")]
    return " ".join([about.get("License-Expression") or "", (about.get("License") or "")[:100], *classifiers])


def group_of(lines: list[str]) -> set[str]:
    _seen.clear()
    return {name for line in lines for name in closure(line)}


def test_every_demanding_licence_of_the_core_and_of_the_extras_is_named(root: Path, notice: dict[str, str]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {name for name in group_of(project["dependencies"]) if DEMANDING.search(licence(name))}
    assert {"pebble", "tqdm"} <= core
    of_core = " ".join(f"{heading} {body}" for heading, body in notice.items() if "(core)" in heading).lower()
    assert not [name for name in core if name not in of_core]
    everything = " ".join(f"{heading} {body}" for heading, body in notice.items()).lower()
    extras = {
        name
        for lines in project["optional-dependencies"].values()
        for name in group_of([line for line in lines if "shardprep[" not in line])
    }
    unnamed = [name for name in extras if DEMANDING.search(licence(name)) and name not in everything]
    assert not [name for name in unnamed if not name.startswith("nvidia-")]
    assert any(name.startswith("nvidia-") for name in unnamed) <= ("nvidia-*" in everything)


def test_pyav_s_ffmpeg_is_what_it_says(notice: dict[str, str]) -> None:
    from av import _core
    from av.codec.codec import codecs_available

    assert "--enable-version3" in _core.library_meta["libavcodec"]["configuration"]
    assert {"libx264", "libx265"} <= set(codecs_available)
    assert "GPL, version 3" in notice["PyAV and FFmpeg (core)"]


def test_imageio_s_ffmpeg_is_what_it_says(notice: dict[str, str]) -> None:
    said = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "GNU General Public License" in said
    assert "version 3 of the License" in said
    assert "ffmpeg program under the GPL, version 3" in notice["For tests and checks (only with the extra `dev`)"]


def bundled(name: str, part: str) -> list[Path]:
    files = metadata.distribution(name).files or []
    return [Path(str(file.locate())) for file in files if part in str(file)]


def test_decord_s_ffmpeg_is_what_it_says(notice: dict[str, str]) -> None:
    pytest.importorskip("decord")
    [library] = bundled("decord", "libavutil")
    assert b"libavutil license: nonfree and unredistributable" in library.read_bytes()
    assert "nonfree and unredistributable" in notice["decord (only with the extra `decord`)"]


def test_opencv_carries_what_it_says(notice: dict[str, str]) -> None:
    assert bundled("opencv-python-headless", "libavcodec")
    assert bundled("opencv-python-headless", "libssl")
    assert {"FFmpeg", "OpenSSL"} <= set(re.findall(r"\w+", notice["OpenCV (core)"]))
