"""Stores that refuse: an unreadable source, a full and a read-only output; what was made stays, and the next run ends what is left."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator

import pytest

from shardprep.sources.keys import source_key
from shardprep.testing.faulty_store import ENVIRONMENT_VARIABLE, Faults
from tests.driver.outputs import check_fates
from tests.hostile.commands import Place, Said
from tests.hostile.five_videos import VIDEOS, check_whole


class FaultyPlace:
    """A place whose stores fail as a file says."""

    def __init__(self, place: Place) -> None:
        self.place, self._faults = place, place.home / "faults.json"
        # What an installed plug-in would do: make faulty:// known in every process.
        (place.home / "sitecustomize.py").write_text("from shardprep.testing.faulty_store import register_faulty\nregister_faulty()\n")
        self.set(Faults())

    def set(self, faults: Faults) -> None:
        faults.save(self._faults)

    def shardprep(self, command: str, *arguments: str) -> Said:
        path = os.pathsep.join(filter(None, [str(self.place.home), os.environ.get("PYTHONPATH", "")]))
        known = {"PYTHONPATH": path, ENVIRONMENT_VARIABLE: str(self._faults)}
        return self.place.shardprep(command, self.place.work / "recipe.yaml", *arguments, **known)


@pytest.fixture
def faulty(place: Place) -> FaultyPlace:
    return FaultyPlace(place)


def failed_rows(place: Place) -> list[dict[str, str]]:
    said = place.shardprep("table", place.out / "raw", "--fate", "failed", "--format", "json")
    return [json.loads(line) for line in said.out.splitlines()]


def test_an_unreadable_file_fails_alone_and_is_retried(faulty: FaultyPlace, undisturbed: dict[str, str]) -> None:
    place, source = faulty.place, f"faulty://{faulty.place.source}"
    faulty.set(Faults(unreadable=("*/v3.mp4",)))
    before = place.around()
    said = faulty.shardprep("run", "--input", source)
    assert (said.code, "Traceback" in said.err) == (0, False), said.err
    assert "1 failed; work on them again with: shardprep retry" in said.out
    (row,) = failed_rows(place)
    assert (row["key"], row["stage"], row["reason"]) == (source_key("v3.mp4"), "source", "unreadable")
    assert "v3.mp4: permission denied. Check its owner and mode" in row["detail"]
    assert check_fates(place.out)["train.output.kept"] == len(VIDEOS) - 1
    assert place.around() == before
    faulty.set(Faults())
    assert faulty.shardprep("retry", "--input", source).code == 0
    check_whole(place, undisturbed)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_local_file_fails_alone(place: Place) -> None:
    (place.source / "v3.mp4").chmod(0)
    said = place.shardprep("run", place.work / "recipe.yaml")
    assert said.code == 0
    assert [row["reason"] for row in failed_rows(place)] == ["unreadable"]


class OneForbidden(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, but refuses one file, as it does whose signed address is no longer valid."""

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        if self.path.endswith("v3.mp4"):
            self.send_error(http.HTTPStatus.FORBIDDEN)
        else:
            super().do_GET()


@pytest.fixture
def website(place: Place) -> Iterator[str]:
    handler = functools.partial(OneForbidden, directory=str(place.source))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_that_a_server_forbids_fails_alone(place: Place, website: str) -> None:
    said = place.shardprep("run", place.work / "recipe.yaml", "--input", f"{website}/v{{0..4}}.mp4", "--until", "clips")
    assert said.code == 0, said.err
    (row,) = failed_rows(place)
    assert (row["key"], row["reason"]) == (source_key("v3.mp4"), "unreadable")
    assert "403" in row["detail"]
    assert check_fates(place.out)["clips.output.kept"] == len(VIDEOS) - 1


def test_a_source_out_of_reach_is_nobodys_fault(faulty: FaultyPlace) -> None:
    faulty.set(Faults(unreachable=True))
    said = faulty.shardprep("run", "--input", f"faulty://{faulty.place.source}")
    assert said.code == 1
    assert "the store does not answer" in said.error
    assert "Check the network" in said.error
    assert not list(faulty.place.out.rglob("*.parquet"))


def test_a_full_store_ends_the_run_and_room_ends_the_rest(faulty: FaultyPlace, undisturbed: dict[str, str]) -> None:
    output = ("--output", f"faulty://{faulty.place.out}")
    faulty.set(Faults(capacity_bytes=60_000, folder=str(faulty.place.out)))
    said = faulty.shardprep("run", *output)
    assert said.code == 1
    assert "no space left" in said.error
    assert "Free some, or choose another place" in said.error
    faulty.set(Faults())
    assert faulty.shardprep("run", *output).code == 0
    check_whole(faulty.place, undisturbed)


def test_a_read_only_store_is_a_clear_error_and_reading_goes_on(faulty: FaultyPlace, undisturbed: dict[str, str]) -> None:
    output = ("--output", f"faulty://{faulty.place.out}")
    faulty.set(Faults(read_only=True))
    said = faulty.shardprep("run", *output)
    assert said.code == 1
    assert "the filesystem is read-only. Choose another place, or mount it for writing" in said.error
    assert not faulty.place.out.exists()
    faulty.set(Faults())
    assert faulty.shardprep("run", *output).code == 0
    faulty.set(Faults(read_only=True))
    for command in ("run", "plan"):
        assert faulty.shardprep(command, *output).code == 0
    check_whole(faulty.place, undisturbed)
