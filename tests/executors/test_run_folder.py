"""The folder for temporary files goes with its run, or with the next run after a killed one."""

from __future__ import annotations

import os
from pathlib import Path

from shardprep.executors.run_folder import RunFolder


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
