"""Real disks that are full or read-only, where this machine lets a test mount one."""

from __future__ import annotations

import gc
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardprep.testing.videos import Shot, draw, encode
from tests.driver.outputs import check_fates
from tests.hostile.commands import Place
from tests.hostile.five_videos import check_whole


class Disk:
    """A small file system in memory."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        _mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path))

    def set(self, option: str) -> None:
        _mount("-o", f"remount,{option}", str(self._path))

    def remove(self) -> None:
        """Unmount, as soon as no file on it is open any more: what a reader let go is closed when it is collected."""

        def is_free() -> bool:
            gc.collect()
            return subprocess.run(["umount", str(self._path)], capture_output=True, check=False).returncode == 0

        for _ in range(40):
            if is_free():
                return
            time.sleep(0.25)
        raise AssertionError(f"{self._path} is in use 10 s after the test")


def _mount(*arguments: str) -> None:
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def mounted() -> Iterator[Callable[[Path], Disk]]:
    """A function that makes a folder a disk of its own until the test ends."""
    disks: list[Disk] = []

    def make(path: Path) -> Disk:
        disks.append(Disk(path))
        return disks[-1]

    yield make
    for disk in disks:
        disk.remove()


@pytest.mark.parametrize("kib", [8, 60], ids=["at-once", "on-the-way"])
def test_a_full_disk_ends_the_run_and_room_ends_the_rest(
    place: Place, mounted: Callable[[Path], Disk], undisturbed: dict[str, str], kib: int
) -> None:
    disk = mounted(place.out)
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


def test_a_read_only_disk_is_a_clear_error_and_reading_goes_on(
    place: Place, mounted: Callable[[Path], Disk], undisturbed: dict[str, str]
) -> None:
    disk, recipe = mounted(place.out), place.work / "recipe.yaml"
    assert place.shardprep("run", recipe, "--until", "clips").code == 0
    disk.set("ro")
    said = place.shardprep("run", recipe)
    assert said.code == 1
    assert f"{place.out}/_leases" in said.error, "the first thing that a run with work writes"
    assert "the filesystem is read-only. Choose another place, or mount it for writing" in said.error
    disk.set("rw")
    assert place.shardprep("run", recipe).code == 0
    disk.set("ro")
    for words in (("run", recipe), ("plan", recipe), ("status", place.out), ("verify", "--clean", place.out)):
        said = place.shardprep(*words)
        assert (said.code, "error:" in said.err) == (0, False), said.err
    check_whole(place, undisturbed)


@pytest.mark.parametrize("kib", [24, 32], ids=["in-the-middle-of-a-clip", "with-the-finished-clip"])
def test_a_full_disk_for_temporary_files_is_no_videos_fault(place: Place, mounted: Callable[[Path], Disk], kib: int) -> None:
    small, recipe = place.root / "small", place.work / "recipe.yaml"
    disk = mounted(small)
    for video in place.source.iterdir():
        video.unlink()
    large = encode(draw([Shot(seconds=2, px_per_second=90, seed=1)], height=240, width=320), options={"crf": "10"})
    (place.source / "large.mp4").write_bytes(large)
    disk.set(f"size={kib}k")
    said = place.shardprep("run", recipe, "--until", "clips", TMPDIR=str(small))
    assert said.code == 1, said.out
    assert "No space left on device" in said.error
    assert "Free some space in the folder for temporary files" in said.error
    assert list((place.out / "clips").glob("*.parquet")) == []
    disk.set("size=64m")
    assert place.shardprep("run", recipe, "--until", "clips", TMPDIR=str(small)).code == 0
    assert check_fates(place.out)["clips.output.kept"] == 1
    assert list(small.iterdir()) == []


def test_all_but_the_output_may_be_read_only(place: Place, undisturbed: dict[str, str]) -> None:
    """The whole machine is read-only for this run, but its output and its folder for temporary files."""
    place.out.mkdir()
    keep = " && ".join(f"mount --bind {folder} {folder}" for folder in (place.out, place.tmp))
    script = f"mount --make-rprivate / && {keep} && mount -o remount,bind,ro / && cd {place.work} && ! touch {place.work}/x || exit 99"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    said = place.shardprep("run", place.work / "recipe.yaml", prefix=("unshare", "--mount", "sh", "-c", f'{script}; exec "$@"', "sh"))
    assert said.code == 0, said.err
    check_whole(place, undisturbed)
