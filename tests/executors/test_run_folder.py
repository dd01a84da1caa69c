"""The folder for temporary files goes with its run, or with the next run after a killed one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from shardprep.errors import RecipeError
from shardprep.executors.run_folder import RunFolder, check_tmp


def test_folders_of_the_living_stay_and_those_of_the_dead_go(tmp_path: Path) -> None:
    living = RunFolder(str(tmp_path))
    dead = RunFolder(str(tmp_path))
    (dead.path / "fetched-1").mkdir()
    (dead.path / "fetched-1" / "a.tar").write_bytes(b"x")
    # What the end of a process does to its locks.
    os.close(dead._lock)
    foreign = tmp_path / "shardprep-results"
    foreign.mkdir()
    (foreign / "mine").write_text("kept")
    new = RunFolder(str(tmp_path))
    assert living.path.is_dir()
    assert not dead.path.exists()
    assert (foreign / "mine").read_text() == "kept", "a folder of that name that is none of ours"
    new.close()
    living.close()
    assert [path.name for path in tmp_path.iterdir()] == ["shardprep-results"]


def test_the_folder_to_make_it_in_is_made(tmp_path: Path) -> None:
    scratch = RunFolder(str(tmp_path / "new" / "tmp"))
    assert scratch.path.parent == tmp_path / "new" / "tmp"
    scratch.close()


@pytest.mark.parametrize("below", ["", "new", "new/tmp"])
@pytest.mark.parametrize("make", [check_tmp, RunFolder])
def test_a_file_is_no_folder_for_temporary_files(make, below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    wanted = tmp_path / "file" / below
    with pytest.raises(RecipeError) as caught:
        make(str(wanted))
    assert str(caught.value).startswith(f"tmp is {wanted}, which is no folder to write in (")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("make", [check_tmp, RunFolder])
def test_what_cannot_be_made_is_told(make) -> None:
    with pytest.raises(RecipeError, match=r"^tmp is /proc/nope, which is no folder to write in \("):
        make("/proc/nope")


def test_a_name_that_no_file_can_have_is_told() -> None:
    with pytest.raises(RecipeError, match="which is no folder to write in"):
        RunFolder("a\0b")


def test_to_ask_whether_it_can_be_made_makes_nothing(tmp_path: Path) -> None:
    check_tmp(str(tmp_path / "new" / "tmp"))
    check_tmp(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_folder_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    for make in (check_tmp, RunFolder):
        with pytest.raises(RecipeError, match="the system's folder for temporary files cannot be used"):
            make(None)
