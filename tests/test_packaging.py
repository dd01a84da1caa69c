"""What is given away: the wheel holds all it needs and runs in a fresh environment, and the sdist's own tests find what they read."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import shardprep
from shardprep.testing.videos import make_videos


@pytest.fixture(scope="session")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("wheel", root, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(_build("sdist", root, folder)) as tar:
        tar.extractall(folder, filter="data")
    [unpacked] = [path for path in folder.iterdir() if path.is_dir()]
    return unpacked


@pytest.fixture(scope="session")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment with the wheel in it; what it depends on is lent by this one, as there is no network."""
    place = tmp_path_factory.mktemp("fresh") / "venv"
    _run([sys.executable, "-m", "venv", "--without-pip", str(place)])
    _run([sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "-q", "--no-deps", "--no-index", str(wheel)])
    [packages] = place.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return place / "bin"


def test_the_wheel_holds_types_recipes_and_licences(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        said = email.message_from_bytes(archive.read(metadata))
        for recipe in (root / "recipes").glob("*.yaml"):
            assert archive.read(f"shardprep/recipes/{recipe.name}") == recipe.read_bytes()
    assert "shardprep/py.typed" in names
    assert {name.rpartition("/")[2] for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]
    assert said["Author"] or said["Author-Email"]
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Version"] == shardprep.__version__


def test_it_runs_in_a_fresh_environment(fresh: Path, tmp_path: Path) -> None:
    make_videos(tmp_path / "videos")
    where = _run([str(fresh / "python"), "-c", "import shardprep; print(shardprep.__file__)"], tmp_path)
    assert where.startswith(str(fresh.parent)), "it is the wheel's"
    assert _run([str(fresh / "shardprep"), "--version"], tmp_path) == f"shardprep {shardprep.__version__}\n"
    _run([str(fresh / "shardprep"), "init"], tmp_path)
    _run([str(fresh / "shardprep"), "run", "first-clips.yaml", "--input", "videos", "--output", "out"], tmp_path)
    assert "out: clean" in _run([str(fresh / "shardprep"), "verify", "out"], tmp_path)


@pytest.mark.prove
def test_a_type_checker_sees_its_types(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import shardprep\n\nreveal_type(shardprep.plan)\n")
    command = [sys.executable, "-m", "mypy", "--python-executable", str(fresh / "python"), "--follow-imports", "silent", "program.py"]
    assert "RunPlan" in _run(command, tmp_path)


def test_the_sdist_s_own_tests_can_run(sdist: Path) -> None:
    quick = ["tests/test_docs.py", "tests/test_layout.py", "tests/recipe/test_messages.py", "tests/cli/test_starting.py"]
    _run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *quick], sdist, PYTHONPATH=str(sdist))


@pytest.mark.prove
def test_every_test_of_the_sdist_finds_what_it_reads(sdist: Path) -> None:
    collected = _run([sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"], sdist, PYTHONPATH=str(sdist))
    assert "error" not in collected.splitlines()[-1]


def _build(kind: str, root: Path, folder: Path) -> Path:
    _run([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)], root)
    [built] = folder.glob("shardprep-*")
    return built


def _run(command: list[str], place: Path | None = None, **environment: str) -> str:
    """Return what a command says; AssertionError where it fails."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=place, env=own | environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
