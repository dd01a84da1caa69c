"""Stores that refuse: an unreadable source, a full and a read-only output; what was made stays, and the next run ends what is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardprep.sources.keys import source_key
from shardprep.testing.faulty_store import ENVIRONMENT_VARIABLE, Faults
from tests.driver.outputs import check_fates, digests, strays
from tests.hostile.commands import Place, Said
from tests.hostile.files import good

VIDEOS = tuple(f"v{number}.mp4" for number in range(5))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Five good videos, two to a shard."""
    place = Place.make(tmp_path / "place")
    for name in VIDEOS:
        (place.source / name).write_bytes(good())
    place.recipe({"videos": str(place.source), "samples_per_shard": 2})
    return place


class FaultyPlace:
    """A place whose stores fail as a file says."""

    def __init__(self, place: Place) -> None:
        self.place, self.faults = place, place.home / "faults.json"
        # What a `.pth` or an installed plug-in would do: make faulty:// known in every process.
        (place.home / "sitecustomize.py").write_text("from shardprep.testing.faulty_store import register_faulty\nregister_faulty()\n")
        Faults().save(self.faults)

    def run(self, command: str = "run", *arguments: str) -> Said:
        path = os.pathsep.join(filter(None, [str(self.place.home), os.environ.get("PYTHONPATH", "")]))
        known = {"PYTHONPATH": path, ENVIRONMENT_VARIABLE: str(self.faults)}
        return self.place.shardprep(command, self.place.work / "recipe.yaml", *arguments, **known)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes that a run without faults makes."""
    place = Place.make(tmp_path_factory.mktemp("undisturbed"))
    for name in VIDEOS:
        (place.source / name).write_bytes(good())
    assert place.shardprep("run", place.recipe({"videos": str(place.source), "samples_per_shard": 2})).code == 0
    return digests(place.out, ".tar")


def check_whole(place: Place, undisturbed: dict[str, str]) -> None:
    check_fates(place.out, [source_key(name) for name in VIDEOS])
    assert digests(place.out, ".tar") == undisturbed
    assert strays(place.out) == []
    assert place.shardprep("verify", place.out).code == 0


def test_an_unreadable_file_fails_alone_and_is_retried(place: Place, undisturbed: dict[str, str]) -> None:
    faulty = FaultyPlace(place)
    source = f"faulty://{place.source}"
    before = place.around()
    Faults(unreadable=("*/v3.mp4",)).save(faulty.faults)
    said = faulty.run("run", "--input", source)
    assert (said.code, "Traceback" in said.err) == (0, False), said.err
    assert "1 failed; work on them again with: shardprep retry" in said.out
    rows = place.shardprep("table", place.out / "raw", "--fate", "failed", "--format", "json").out.splitlines()
    row = json.loads("".join(rows))
    assert (row["key"], row["stage"], row["reason"]) == (source_key("v3.mp4"), "source", "unreadable")
    assert "v3.mp4: permission denied. Check its owner and mode" in row["detail"]
    assert check_fates(place.out)["train.output.kept"] == len(VIDEOS) - 1
    Faults().save(faulty.faults)
    assert {path: seen for path, seen in place.around().items() if b"faults" not in path and b"sitecustomize" not in path} == {
        path: seen for path, seen in before.items() if b"faults" not in path and b"sitecustomize" not in path
    }
    assert "nothing to do" in faulty.run("plan", "--input", source).out
    assert faulty.run("retry", "--input", source).code == 0
    check_whole(place, undisturbed)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_local_file_fails_alone(place: Place) -> None:
    (place.source / "v3.mp4").chmod(0)
    said = place.shardprep("run", place.work / "recipe.yaml")
    assert said.code == 0
    assert "unreadable 1" in said.out


def test_a_source_out_of_reach_is_nobodys_fault(place: Place) -> None:
    faulty = FaultyPlace(place)
    Faults(unreachable=True).save(faulty.faults)
    said = faulty.run("run", "--input", f"faulty://{place.source}")
    assert said.code == 1
    assert "the store does not answer" in said.error
    assert "Check the network" in said.error
    assert not list(place.out.rglob("*.parquet"))


@pytest.mark.parametrize("capacity_bytes", [500, 20_000, 60_000, 100_000])
def test_a_full_store_ends_the_run_and_room_ends_the_rest(place: Place, undisturbed: dict[str, str], capacity_bytes: int) -> None:
    faulty = FaultyPlace(place)
    output = ("--output", f"faulty://{place.out}")
    Faults(capacity_bytes=capacity_bytes, folder=str(place.out)).save(faulty.faults)
    said = faulty.run("run", *output)
    assert said.code == 1
    assert "no space left" in said.error
    assert "Free some, or choose another place" in said.error
    Faults().save(faulty.faults)
    assert faulty.run("run", *output).code == 0
    check_whole(place, undisturbed)


def test_a_read_only_store_is_a_clear_error_and_reading_goes_on(place: Place, undisturbed: dict[str, str]) -> None:
    faulty = FaultyPlace(place)
    output = ("--output", f"faulty://{place.out}")
    Faults(read_only=True).save(faulty.faults)
    said = faulty.run("run", *output)
    assert said.code == 1
    assert "the filesystem is read-only. Choose another place, or mount it for writing" in said.error
    assert not place.out.exists()
    Faults().save(faulty.faults)
    assert faulty.run("run", *output).code == 0
    Faults(read_only=True).save(faulty.faults)
    for command in ("run", "plan", "retry"):
        assert faulty.run(command, *output).code == 0
    check_whole(place, undisturbed)


@pytest.fixture
def disk(place: Place) -> Iterator[Disk]:
    """The output as a disk of its own."""
    disk = Disk(place.out)
    try:
        yield disk
    finally:
        disk.remove()


class Disk:
    """A small file system in memory, where this machine lets us mount one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir()
        if shutil.which("mount") is None:
            pytest.skip("there is no mount here")
        self._mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path))

    def set(self, option: str) -> None:
        self._mount("-o", f"remount,{option}", str(self._path))

    def remove(self) -> None:
        subprocess.run(["umount", str(self._path)], check=True)

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.mark.parametrize("kib", [8, 60, 200])
def test_a_full_disk_ends_the_run_and_room_ends_the_rest(place: Place, disk: Disk, undisturbed: dict[str, str], kib: int) -> None:
    disk.set(f"size={kib}k")
    before = place.around()
    said = place.shardprep("run", place.work / "recipe.yaml")
    assert said.code == 1
    assert str(place.out) in said.error
    assert "no space left (" in said.error
    assert "bytes are free). Free some, or choose another place" in said.error
    # What is there is whole: no half-written file, no temporary.
    assert all(path.name.endswith((".parquet", ".tar", ".json")) for path in place.out.rglob("*") if path.is_file())
    assert place.around() == before
    disk.set("size=64m")
    assert place.shardprep("run", place.work / "recipe.yaml").code == 0
    check_whole(place, undisturbed)


def test_a_read_only_disk_is_a_clear_error_and_reading_goes_on(place: Place, disk: Disk, undisturbed: dict[str, str]) -> None:
    recipe = place.work / "recipe.yaml"
    disk.set("ro")
    said = place.shardprep("run", recipe)
    assert said.code == 1
    assert "the filesystem is read-only. Choose another place, or mount it for writing" in said.error
    disk.set("rw")
    assert place.shardprep("run", recipe, "--until", "clips").code == 0
    disk.set("ro")
    said = place.shardprep("run", recipe)
    assert said.code == 1
    assert "scores" in said.error
    assert "read-only" in said.error
    disk.set("rw")
    assert place.shardprep("run", recipe).code == 0
    disk.set("ro")
    for words in (
        ("run", recipe),
        ("plan", recipe),
        ("status", place.out),
        ("table", place.out / "scores"),
        ("verify", "--clean", place.out),
    ):
        said = place.shardprep(*words)
        assert (said.code, "error:" in said.err) == (0, False), said.err
    check_whole(place, undisturbed)


def test_a_full_disk_for_temporary_files_is_no_videos_fault(place: Place, undisturbed: dict[str, str]) -> None:
    disk = Disk(place.tmp / "small")
    try:
        disk.set("size=8k")
        said = place.shardprep("run", place.work / "recipe.yaml", TMPDIR=str(place.tmp / "small"))
    finally:
        disk.remove()
    assert said.code == 1
    assert "No space left on device" in said.error
    assert "Free some space in the folder for temporary files" in said.error
    assert place.shardprep("run", place.work / "recipe.yaml").code == 0
    check_whole(place, undisturbed)


def test_all_but_the_output_may_be_read_only(place: Place, undisturbed: dict[str, str]) -> None:
    """The whole machine is read-only for this run, but its output and its folder for temporary files."""
    place.out.mkdir()
    recipe = place.work / "recipe.yaml"
    keep = " && ".join(f"mount --bind {folder} {folder}" for folder in (place.out, place.tmp))
    script = f"mount --make-rprivate / && {keep} && mount -o remount,bind,ro / && cd {place.work} || exit 99"
    if subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    said = place.shardprep("run", recipe, prefix=("unshare", "--mount", "sh", "-c", f'{script}; exec "$@"', "sh"))
    assert said.code == 0, said.err
    check_whole(place, undisturbed)
