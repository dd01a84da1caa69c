"""One run over a folder full of hostile files: each meets the fate that it must, the others go through, nothing else is touched."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardprep.core.sample import KEY_PATTERN
from shardprep.sources.keys import source_key
from tests.driver.outputs import check_fates, strays, tar_members
from tests.hostile.commands import Place, Said
from tests.hostile.files import CONTENTS, NAMES, Lost, Through, good, make_contents, make_links, make_names

LINKS = {"itself.mp4": "missing-file", "nowhere.mp4": "missing-file", "real.mp4": None}


@dataclass(frozen=True)
class Whole:
    """The run and what it left."""

    place: Place
    said: Said
    before: dict[bytes, str]
    after: dict[bytes, str]
    lost: dict[str, list[dict[str, Any]]]
    """Rows of `shardprep table --fate` by key, of all sets, failed and dropped."""
    packed: dict[str, dict[str, Any]]
    """Records in the packed tars by source path."""
    members: dict[str, list[str]]
    """Suffixes in the packed tars by source path."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = Place.make(tmp_path_factory.mktemp("files"))
    make_contents(place.source)
    make_names(place.source)
    make_links(place.source)
    # What lists of files and addresses would read if ffmpeg were let: it lies where the command runs.
    (place.work / "secret.bin").write_bytes(good())
    recipe = place.recipe({"videos": str(place.source), "samples_per_shard": 8, "images": True})
    before = place.around()
    said = place.shardprep("run", recipe, "--max-failed", "1000")
    after = place.around()
    lost: dict[str, list[dict[str, Any]]] = {}
    for name in ("raw", "clips", "scores"):
        for fate in ("failed", "dropped"):
            for line in place.shardprep("table", place.out / name, "--fate", fate, "--format", "json").out.splitlines():
                lost.setdefault(json.loads(line)["key"], []).append(json.loads(line))
    packed, members = _packed(place.out / "train")
    return Whole(place, said, before, after, lost, packed, members)


def _packed(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    records: dict[str, dict[str, Any]] = {}
    suffixes: dict[str, list[str]] = {}
    for found in map(tar_members, folder.rglob("*.tar")):
        for name in filter(lambda name: name.endswith(".json"), found):
            record = json.loads(found[name])
            records[record["source"]["path"]] = record
            key = name.removesuffix(".json")
            suffixes[record["source"]["path"]] = [n.partition(".")[2] for n in found if n.partition(".")[0] == key]
    return records, suffixes


def test_the_run_ends_well_and_says_what_failed(whole: Whole) -> None:
    assert (whole.said.code, "Traceback" in whole.said.err) == (0, False), whole.said.err
    assert "error:" not in whole.said.err
    failed = sum(isinstance(fate, Lost) for _, fate in CONTENTS.values()) + sum(reason is not None for reason in LINKS.values())
    assert f"{failed} failed; work on them again with: shardprep retry" in whole.said.out


@pytest.mark.parametrize("name", CONTENTS)
def test_content(whole: Whole, name: str) -> None:
    fate, key = CONTENTS[name][1], source_key(name)
    if isinstance(fate, Through):
        clip = whole.packed[name]
        assert (clip["media"]["width"], clip["media"]["height"], clip["media"]["num_frames"]) == (fate.width, fate.height, fate.num_frames)
        assert clip["clip"]["seconds"] > 0
        assert key not in whole.lost
        return
    rows = whole.lost[f"{key}-00000"] if fate.as_child else whole.lost[key]
    assert [(row["fate"], row["stage"], row["reason"]) for row in rows] == [("failed", fate.stage, fate.reason)]
    assert fate.words in rows[0]["detail"]
    assert name not in whole.packed
    shown = whole.place.shardprep("show", key, "--output", whole.place.out)
    assert shown.code == 0
    assert f"failed by {fate.stage}: {fate.reason}" in shown.out


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_name(whole: Whole, name: str) -> None:
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    clip = whole.packed[shown]
    assert clip["source"]["name"] == shown.rpartition("/")[2]
    assert clip["clip"]["source_key"] == source_key(name)
    assert KEY_PATTERN.fullmatch(source_key(name))
    assert whole.members[shown] == ["json", "mp4"]
    assert source_key(name) not in whole.lost


def test_names_alike_are_files_of_their_own(whole: Whole) -> None:
    assert len({source_key(name) for name in [*NAMES, *CONTENTS]}) == len(NAMES) + len(CONTENTS)
    assert source_key("one/same.mp4").rpartition("-")[0] == source_key("two/same.mp4").rpartition("-")[0] == "same"
    assert source_key("例え.mp4").rpartition("-")[0] == source_key("測試.mp4").rpartition("-")[0] == "sample"


@pytest.mark.parametrize("name", LINKS)
def test_link(whole: Whole, name: str) -> None:
    rows = whole.lost.get(source_key(name), [])
    assert [row["reason"] for row in rows] == ([LINKS[name]] if LINKS[name] else [])
    assert (name in whole.packed) == (LINKS[name] is None)
    assert all("check the path, or the link" in row["detail"] for row in rows)


def test_every_source_has_one_fate_and_loops_end(whole: Whole) -> None:
    counts = check_fates(whole.place.out, [source_key(name) for name in [*CONTENTS, *NAMES, *LINKS]])
    through = len(NAMES) + sum(isinstance(fate, Through) for _, fate in CONTENTS.values()) + 1
    assert len(whole.packed) == counts["train.output.kept"] == counts["scores.output.kept"] == through
    lost = Counter(row["fate"] for rows in whole.lost.values() for row in rows)
    assert lost["failed"] == sum(count for name, count in counts.items() if name.endswith(".failed"))
    assert lost["dropped"] == sum(count for name, count in counts.items() if name.endswith(".dropped")) == 1


def test_nothing_is_executed_and_nothing_written_but_the_output(whole: Whole) -> None:
    assert whole.after == whole.before
    assert strays(whole.place.out) == []


def test_the_output_is_clean_and_nothing_is_left_to_do(whole: Whole) -> None:
    recipe = whole.place.work / "recipe.yaml"
    assert whole.place.shardprep("verify", whole.place.out) == Said(0, f"{whole.place.out}: clean\n", "")
    assert "nothing to do" in whole.place.shardprep("plan", recipe).out
    # The same failures again; what went through stays as it is.
    trains = {path: path.stat().st_mtime_ns for path in (whole.place.out / "train").rglob("*")}
    again = whole.place.shardprep("retry", recipe, "--max-failed", "1000")
    assert again.code == 0
    assert again.out.splitlines()[-1] == whole.said.out.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in (whole.place.out / "train").rglob("*")} == trains
