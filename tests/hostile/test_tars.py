"""One run over tars of others, most of them hostile: good samples go through, the others are told, nothing is unpacked or executed."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardprep.sources.keys import source_key
from tests.driver.outputs import check_fates, strays, tar_members
from tests.hostile.commands import Place, Said
from tests.hostile.files import good

Members = list[tuple[tarfile.TarInfo | str, bytes]]


class Touch:
    """What a pickle runs when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def _special(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def _write(path: Path, members: Members) -> bytes:
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path.read_bytes()


HOSTILE = {
    "parent": ("../outside", "refused-member", "leads outside"),
    "absolute": ("/outside", "refused-member", "is absolute"),
    "link": ("l", "refused-member", "is a symbolic link"),
    "hardlink": ("l", "refused-member", "is a hard link"),
    "device": ("l", "refused-member", "is a device"),
    "duplicate": ("b", "refused-member", "occurs twice"),
    "returning": ("a", "refused-member", "comes after other keys"),
    "pickle": ("b", "pickle-member", "neither read nor carried"),
}
"""By tar: the key that fails, why, and in which words; its other samples of `a`, `b` and `z` go through."""
DAMAGED = {
    "truncated": "cut short",
    "empty": "cut short",
    "text": "no tar header",
    "gzipped": "compressed",
}
"""By tar: words about what ended it."""


def make_tars(folder: Path, executed: Path) -> None:
    video = good()
    a, b, z = ("a.mp4", video), ("b.mp4", video), ("z.mp4", video)
    whole = _write(folder / "good.tar", [a, b, z])
    _write(folder / "parent.tar", [a, b, ("../outside.mp4", video), z])
    _write(folder / "absolute.tar", [a, b, ("/outside.mp4", video), z])
    _write(folder / "link.tar", [a, b, _special("l.mp4", tarfile.SYMTYPE, "/etc/passwd"), z])
    _write(folder / "hardlink.tar", [a, b, _special("l.mp4", tarfile.LNKTYPE, "a.mp4"), z])
    _write(folder / "device.tar", [a, b, _special("l.mp4", tarfile.CHRTYPE), z])
    _write(folder / "duplicate.tar", [a, b, b, z])
    _write(folder / "returning.tar", [a, b, ("a.txt", b"late"), z])
    _write(folder / "pickle.tar", [a, b, ("b.pkl", pickle.dumps(Touch(executed))), z])
    (folder / "truncated.tar").write_bytes(whole[: whole.index(b"z.mp4") + 700])
    (folder / "empty.tar").write_bytes(b"")
    (folder / "text.tar").write_bytes(b"This is no tar.\n" * 100)
    (folder / "gzipped.tar").write_bytes(gzip.compress(whole))


@dataclass(frozen=True)
class Whole:
    """The run and what it left."""

    place: Place
    said: Said
    before: dict[bytes, str]
    after: dict[bytes, str]
    failed: dict[str, dict[str, Any]]
    """Rows of `shardprep table --fate failed` of the sources by key."""
    kept: set[str]
    """Keys of the sources that are in the packed set."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = Place.make(tmp_path_factory.mktemp("tars"))
    make_tars(place.source, place.work / "executed")
    recipe = place.recipe({"shards": str(place.source), "samples_per_shard": 16})
    before = place.around()
    said = place.shardprep("run", recipe, "--max-failed", "50%")
    after = place.around()
    rows = place.shardprep("table", place.out / "raw", "--fate", "failed", "--format", "json").out.splitlines()
    names = [name for path in (place.out / "train").rglob("*.tar") for name in tar_members(path)]
    kept = {name.removesuffix("-00000.mp4") for name in names if name.endswith(".mp4")}
    return Whole(place, said, before, after, {json.loads(row)["key"]: json.loads(row) for row in rows}, kept)


def _key(tar: str, key: str) -> str:
    return source_key(f"{tar}.tar!{key}", key.rpartition("/")[2])


@pytest.mark.parametrize("tar", HOSTILE)
def test_a_hostile_member_fails_its_sample_and_the_rest_goes_through(whole: Whole, tar: str) -> None:
    key, reason, words = HOSTILE[tar]
    row = whole.failed[_key(tar, key)]
    assert (row["fate"], row["stage"], row["reason"]) == ("failed", "source", reason)
    assert words in row["detail"]
    assert "ake the tar again without it" in row["detail"] or words in ("occurs twice", "comes after other keys")
    assert {name for name in "abz" if _key(tar, name) in whole.kept} == set("abz") - {key}


@pytest.mark.parametrize("tar", DAMAGED)
def test_a_damaged_tar_is_told_and_what_came_before_goes_through(whole: Whole, tar: str) -> None:
    row = whole.failed[source_key(f"{tar}.tar", f"{tar}.tar")]
    assert (row["reason"], f"{tar}.tar" in row["detail"], DAMAGED[tar] in row["detail"]) == ("damaged-tar", True, True)
    assert "what comes after is lost, make the tar again" in row["detail"]
    assert {name for name in "abz" if _key(tar, name) in whole.kept} == (set("ab") if tar == "truncated" else set())


def test_the_run_ends_well_and_the_good_tar_is_whole(whole: Whole) -> None:
    assert (whole.said.code, "Traceback" in whole.said.err) == (0, False), whole.said.err
    assert f"{len(HOSTILE) + len(DAMAGED) + 1} failed" in whole.said.out, "z of the one that is cut short, too"
    assert {_key("good", name) for name in "abz"} <= whole.kept


def test_every_sample_has_one_fate(whole: Whole) -> None:
    samples = {_key(tar, key) for tar in ["good", *HOSTILE] for key in "abz"} | {_key("truncated", key) for key in "ab"}
    refused = {_key(tar, key) for tar, (key, _, _) in HOSTILE.items()}
    damaged = {source_key(f"{tar}.tar", f"{tar}.tar") for tar in DAMAGED}
    cut = {_key("truncated", "z")}
    check_fates(whole.place.out, samples | refused | damaged | cut)
    assert whole.kept == samples - refused
    assert whole.failed.keys() == refused | damaged | cut


def test_nothing_is_unpacked_or_executed(whole: Whole) -> None:
    assert whole.after == whole.before
    assert not Path("/outside.mp4").exists()
    assert strays(whole.place.out) == []
    assert whole.place.shardprep("verify", whole.place.out).code == 0
    pickled = whole.place.work / "executed"
    pickle.loads(pickle.dumps(Touch(pickled)))  # noqa: S301  # the payload does what it says when somebody loads it
    assert pickled.is_dir()
