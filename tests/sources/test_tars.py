"""Samples of foreign WebDataset tars: all good ones are taken, all damage is told."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shardprep.cli.commands import exit_code
from shardprep.core.blob import read_blob
from shardprep.core.sample import KEY_PATTERN
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.errors import RecipeError, SourceError, WrongSource
from shardprep.recipe.model import Pass, Recipe
from shardprep.shards.join import open_view
from shardprep.shards.store import Store, StoredFile
from shardprep.sources.entry import SourceEntry, open_entry
from shardprep.sources.listing import list_source
from shardprep.sources.spec import SourceSpec
from shardprep.sources.tar_index import TarContents, TarIndexes
from shardprep.stages.cut_clips import CutClips
from shardprep.testing import videos
from tests.driver.test_run import Told


def write_tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def listed(location: object, **settings: Any) -> list[SourceEntry]:
    return list_source(SourceSpec(shards=str(location), **settings))


def reasons(entries: list[SourceEntry]) -> dict[str, str | None]:
    return {entry.path: entry.failure.reason if entry.failure else None for entry in entries}


def test_samples_with_metadata_and_captions(tmp_path: Path) -> None:
    members = {
        "Dir A/Clip 1.MP4": b"video one",
        "Dir A/Clip 1.json": json.dumps({"caption": "from json", "fps": 24, "a.b": None, "id": 1}).encode(),
        "Dir A/Clip 1.seg.npy": b"other data",
        "Dir A/Clip 2.MP4": b"video two",
        "Dir A/Clip 2.json": json.dumps({"fps": 23.9, "id": "x"}).encode(),
        "Dir A/Clip 2.txt": b"from text\n",
        "b.jpg": b"image",
    }
    entries = listed(write_tar(tmp_path / "000.tar", members))
    assert [entry.path for entry in entries] == ["000.tar!Dir A/Clip 1", "000.tar!Dir A/Clip 2", "000.tar!b"]
    assert all(KEY_PATTERN.fullmatch(entry.key) for entry in entries)
    assert entries[0].key.startswith("clip-1-")
    first, second, third = [open_entry(entry) for entry in entries]
    assert first.record == {
        "source": {"path": "000.tar!Dir A/Clip 1", "name": "Clip 1", "bytes": 19},
        "caption": {"text": "from json"},
        "meta": {"caption": "from json", "fps": 24.0, "id": "1"},
    }
    assert {role: read_blob(member.blob) for role, member in first.members.items()} == {"video": b"video one", "seg": b"other data"}
    assert second.get("caption.text") == "from text"
    assert second.get("meta.id") == "x"
    assert {role: (member.suffix, read_blob(member.blob)) for role, member in third.members.items()} == {"image": ("jpg", b"image")}


def test_clips_of_foreign_tars_have_their_labels_and_what_they_lack_is_said(tmp_path: Path) -> None:
    video = videos.three_shots()
    members = {f"{key}.{suffix}": data for key in "ab" for suffix, data in (("mp4", video), ("cls", key.encode()), ("seg.npy", b"array"))}
    write_tar(tmp_path / "t.tar", {**members, "still.png": b"an image", "still.npy": b"array"})
    cuts = Pass(name="clips", stages=(CutClips(preset="ultrafast", max_seconds=2.0),))
    recipe = Recipe(name="r", source=SourceSpec(shards=str(tmp_path / "t.tar")), output=str(tmp_path / "out"), steps=(cuts,))
    words = (
        "labels of whole videos are copied to all of their clips: 2 .cls",
        "NOT CARRIED to clips, as they hold for the whole video: 2 .seg.npy; cut_clips leaves them in raw/",
    )
    assert plan(recipe).notes == words
    told = Told()
    run(recipe, None, told)
    assert tuple(told.messages) == words
    clips = [sample for sample in open_view(str(tmp_path / "out/clips")) if sample.get("clip.index") is not None]
    assert [(s.get("clip.index"), read_blob(s.members["cls"].blob), sorted(s.members)) for s in clips] == [
        (index, key, ["cls", "video"]) for key in (b"a", b"b") for index in (0, 1)
    ]


def test_braces_globs_and_equal_keys_in_several_tars(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number:03d}.tar", {"a.mp4": bytes([number])})
    entries = listed(tmp_path / "{000..002}.tar")
    assert [entry.path for entry in entries] == ["000.tar!a", "001.tar!a", "002.tar!a"]
    assert len({entry.key for entry in entries}) == 3
    assert [entry.key for entry in listed(tmp_path / "*.tar")] == [entry.key for entry in entries]
    assert [entry.key for entry in listed(tmp_path)] == [entry.key for entry in entries]
    several = SourceSpec(shards=(str(tmp_path / "000.tar"), str(tmp_path / "001.tar")))
    assert [entry.path for entry in list_source(several)] == ["000.tar!a", "001.tar!a"]
    with pytest.raises(SourceError, match=r"1 of 4 tars is not there, e\.g\. .*003\.tar"):
        listed(tmp_path / "{000..003}.tar")
    with pytest.raises(SourceError, match=r"no \.tar file"):
        listed(tmp_path / "x" / "*.tar")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_dotted_names_and_folders(tmp_path: Path, form: int) -> None:
    long = "d" * 120
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        folder = tarfile.TarInfo(long)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in (f"./{long}/a.b.mp4", f"./{long}/ü.webm"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    entries = listed(tmp_path / "a.tar")
    assert [(entry.path, entry.members[0].suffix) for entry in entries] == [(f"a.tar!{long}/a", "b.mp4"), (f"a.tar!{long}/ü", "webm")]
    assert list(open_entry(entries[1]).members) == ["video"]


def test_a_tar_cut_anywhere_keeps_only_whole_samples(tmp_path: Path) -> None:
    members = [(f"{name}.{suffix}", name.encode() * 700) for name in "abc" for suffix in ("mp4", "npy")]
    whole = write_tar(tmp_path / "a.tar", members).read_bytes()
    kept = []
    for size in range(0, 10 * 1024, 300):
        (tmp_path / "a.tar").write_bytes(whole[:size])
        entries = listed(tmp_path / "a.tar")
        assert reasons(entries)["a.tar"] == "damaged-tar"
        good = [entry for entry in entries if entry.problem is None]
        kept.append(len(good))
        for entry in good:
            expected = entry.path[-1].encode() * 700
            assert {role: read_blob(member.blob) for role, member in open_entry(entry).members.items()} == {
                "video": expected,
                "npy": expected,
            }
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, 2), "of the last one nobody knows whether it is whole"


def test_a_cut_after_whole_samples_keeps_them(tmp_path: Path) -> None:
    members = [(f"{name}.{suffix}", name.encode()) for name in "abc" for suffix in ("mp4", "npy")]
    whole = write_tar(tmp_path / "a.tar", members).read_bytes()
    # The header of the next sample says that the one before it is whole; without it nothing does.
    (tmp_path / "a.tar").write_bytes(whole[: 4 * 1024 + 512])
    assert reasons(listed(tmp_path / "a.tar")) == {"a.tar": "damaged-tar", "a.tar!a": None, "a.tar!b": None, "a.tar!c": "damaged-tar"}
    (tmp_path / "a.tar").write_bytes(whole[: 4 * 1024 + 100])
    assert reasons(listed(tmp_path / "a.tar")) == {"a.tar": "damaged-tar", "a.tar!a": None, "a.tar!b": "damaged-tar"}
    (tmp_path / "a.tar").write_bytes(whole[: 3 * 1024 + 100])
    assert reasons(listed(tmp_path / "a.tar")) == {"a.tar": "damaged-tar", "a.tar!a": None, "a.tar!b": "damaged-tar"}


@pytest.mark.parametrize("where", ["at its end", "in the next header", "in its data"])
def test_a_tar_cut_after_a_video_does_not_keep_it_without_its_caption(tmp_path: Path, where: str) -> None:
    # The sample before has no caption, so nothing there says that one is missing.
    whole = write_tar(tmp_path / "a.tar", {"a.mp4": b"a", "b.mp4": b"b", "b.txt": b"a caption"}).read_bytes()
    cut = {"at its end": 2048, "in the next header": 2148, "in its data": 2048 + 512 + 3}[where]
    (tmp_path / "a.tar").write_bytes(whole[:cut])
    entries = listed(tmp_path / "a.tar")
    assert reasons(entries) == {"a.tar": "damaged-tar", "a.tar!a": None, "a.tar!b": "damaged-tar"}
    assert "the sample may lack members" in str(next(entry for entry in entries if entry.path == "a.tar!b").problem)


@pytest.mark.parametrize("kind", ["../x.mp4", "/etc/x.mp4", "link", "hardlink", "duplicate", "returning key"])
def test_hostile_members_fail_their_sample_and_no_other(tmp_path: Path, kind: str) -> None:
    write_tar(tmp_path / "good.tar", {"g.mp4": b"g"})
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        bad = {"duplicate": "b.mp4", "returning key": "a.txt", "link": "l.mp4", "hardlink": "l.mp4"}.get(kind, kind)
        names = ["a.mp4", "b.mp4", bad, "z.mp4"]
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            if number == 2 and "link" in kind:
                info.type, info.linkname = tarfile.LNKTYPE if kind == "hardlink" else tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
                continue
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    entries = listed(tmp_path)
    refused = {"duplicate": "b", "returning key": "a", "../x.mp4": "../x", "/etc/x.mp4": "/etc/x"}.get(kind, "l")
    good = {f"bad.tar!{key}": None for key in "abz"} | {"good.tar!g": None}
    assert reasons(entries) == good | {f"bad.tar!{refused}": "refused-member"}
    entry = next(entry for entry in entries if entry.problem)
    assert (entry.members, entry.size) == ((), 0)
    with pytest.raises(SourceError, match="refused-member: bad.tar: .*(Make the tar again|Write the tar|Remove or rename)"):
        open_entry(entry)


def test_a_hostile_member_before_the_damage(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("l.mp4")
        link.type, link.linkname, link.size = tarfile.SYMTYPE, "/etc/passwd", 0
        tar.addfile(link)
        for name in ("a.mp4", "b.mp4"):
            info = tarfile.TarInfo(name)
            info.size = 600
            tar.addfile(info, io.BytesIO(bytes(600)))
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:2600])
    expected = {"a.tar!l": "refused-member", "a.tar!a": None, "a.tar!b": "damaged-tar", "a.tar": "damaged-tar"}
    assert reasons(listed(tmp_path / "a.tar")) == expected


class Boom:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_samples_that_cannot_be_carried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = [
        ("a.mp4", b"a"),
        ("b.mp4", b"b"),
        ("b.pyd", pickle.dumps(Boom())),
        ("c.mp4", b"c"),
        ("c.webm", b"c"),
        ("d.txt", b"only text"),
        ("e.mp4", b"e"),
        ("e.json", b"[1]"),
        ("f.mp4", b"f"),
        ("f.json", b"{"),
        ("g.m p", b"g"),
        ("h.mp4", b"h"),
    ]
    entries = listed(write_tar(tmp_path / "a.tar", members))
    assert {path[-1]: reason for path, reason in reasons(entries).items()} == {
        "a": None,
        "b": "pickle-member",
        "c": "two-members-of-a-role",
        "d": "no-media",
        "e": "bad-json",
        "f": "bad-json",
        "g": "bad-suffix",
        "h": None,
    }
    assert not capsys.readouterr().out


def test_settings_of_columns(tmp_path: Path) -> None:
    document = json.dumps({"caption": "c", "info": {"long": "the long one", "ep": 3}}).encode()
    path = write_tar(tmp_path / "a.tar", {"a.mp4": b"a", "a.json": document, "a.txt": b"text"})
    entry = listed(path, text_column="info.long", columns={"episode": "info.ep"}, group_by="episode")[0]
    assert open_entry(entry).record["caption"] == {"text": "the long one"}
    assert entry.record["meta"] == {"episode": 3}
    assert entry.group == "3"
    assert listed(path, group_by="folder")[0].group == "a.tar"
    with pytest.raises(RecipeError, match=r"meta\.caption"):
        listed(path, group_by="captoin")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone", r"source\.shards '.*/gone' .looked in .*/gone.: there is no \.tar file; check the path, or give --input"),
        ("gone.tar", r"1 of 1 tar is not there, e\.g\. .*/gone\.tar; check the names in source\.shards"),
        ("videos", r"none of the files there is a \.tar: 1 \.mp4, such as .*/videos/a\.mp4; check the path"),
        ("list.csv", r"does not end in \.tar; a list is written as source: {list: '.*/list\.csv'}, or given as --input '.*/list\.csv'"),
        ("videos/a.mp4", r"a video is written as source: {videos: '.*/videos/a\.mp4'}"),
        ("empty.tar", r"1 of 1 tar holds no sample, such as .*/empty\.tar; members are called KEY\.SUFFIX"),
    ],
)
def test_a_place_without_tars_says_what_is_there(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("path\na.mp4\n")
    write_tar(tmp_path / "empty.tar", {})
    with pytest.raises(WrongSource, match=words) as caught:
        listed(tmp_path / name)
    assert exit_code(caught.value) == 2


def test_compressed_tars_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    with pytest.raises(SourceError, match="unpack what is compressed"):
        listed(tmp_path / "a.tar.gz")


def test_what_lies_beside_tars_is_said(tmp_path: Path) -> None:
    write_tar(tmp_path / "a-000.tar", {"a.mp4": b"x"})
    write_tar(tmp_path / "a-001.tar", {"no suffix": b"x"})
    for name in ("a-002.tar.gz", "a-003.tar.gz", "x/a-004.tgz", "a-005.tar.zst", "README", ".hidden.tgz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    words = (
        "source: 5 files were left alone, as only .tar is read; unpack what is compressed: "
        f"2 .tar.gz, 1 without a suffix, 1 .tar.zst, 1 .tgz, such as {tmp_path}/README"
    )
    empty = f"source: 1 of 2 tars holds no sample, such as {tmp_path}/a-001.tar; members are called KEY.SUFFIX"
    for place, expected in ((tmp_path, [words, empty]), (tmp_path / "*.tar", [empty]), (tmp_path / "a-000.tar", [])):
        said: list[str] = []
        assert len(list_source(SourceSpec(shards=str(place)), say=said.append)) == 1
        assert said == expected
    recipe = Recipe(name="r", source=SourceSpec(shards=str(tmp_path)), output=str(tmp_path / "out"), steps=())
    assert plan(recipe).notes == (words, empty)
    with pytest.raises(SourceError, match=r"1 of 1 tar holds no sample, such as .*/a-001\.tar; members are called KEY\.SUFFIX"):
        listed(tmp_path / "a-001.tar")


def test_json_of_too_many_columns_or_levels_costs_its_own_sample(tmp_path: Path) -> None:
    many = json.dumps({f"c{n}": n for n in range(5000)}).encode()
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    write_tar(tmp_path / "a.tar", {"a.mp4": b"a", "a.json": many, "b.mp4": b"b", "b.json": deep, "c.mp4": b"c", "c.json": b'{"n": 1}'})
    entries = listed(tmp_path / "a.tar")
    assert reasons(entries) == {"a.tar!a": "bad-json", "a.tar!b": "bad-json", "a.tar!c": None}
    assert [entry.problem.partition(": ")[2] for entry in entries[:2] if entry.problem] == [
        "a.json: it has more than 4096 columns; make it smaller",
        "b.json: it nests more than 32 levels; make it smaller",
    ]


def test_a_json_with_a_field_twice_fails_its_own_sample(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.mp4": b"a", "a.json": b'{"n": 1, "n": 2}', "b.mp4": b"b", "b.json": b'{"n": 1}'})
    first, second = listed(tmp_path / "a.tar")
    assert (first.problem, second.problem) == ("bad-json: a.json: two columns are named 'n'; rename one", None)


@pytest.mark.parametrize("empty", ["", " \n\t", "\ufeff"])
def test_an_empty_text_file_does_not_hide_the_caption_of_the_json_in_folders_and_tars(tmp_path: Path, empty: str) -> None:
    document = {"text": "  ", "caption": "from json"}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.mp4").write_bytes(b"a")
    (tmp_path / "folder/a.txt").write_text(empty)
    (tmp_path / "folder/a.json").write_text(json.dumps(document))
    write_tar(tmp_path / "t.tar", {"a.json": json.dumps(document).encode(), "a.mp4": b"a", "a.txt": empty.encode()})
    (beside,), (inside,) = list_source(SourceSpec(videos=str(tmp_path / "folder"))), listed(tmp_path / "t.tar")
    assert [open_entry(entry).get("caption.text") for entry in (beside, inside)] == ["from json", "from json"]
    (tmp_path / "folder/a.txt").write_text("from text")
    (written,) = list_source(SourceSpec(videos=str(tmp_path / "folder")))
    assert open_entry(written).get("caption.text") == "from text"


@pytest.mark.parametrize("suffixes", [("json", "JSON"), ("txt", "TXT")])
def test_two_members_of_one_meaning_are_said(tmp_path: Path, suffixes: tuple[str, str]) -> None:
    members = {"jj.mp4": b"video", f"jj.{suffixes[0]}": b"{}", f"jj.{suffixes[1]}": b"{}", "ok.mp4": b"video"}
    bad, ok = listed(write_tar(tmp_path / "0.tar", members))
    assert bad.failure is not None
    assert (bad.failure.reason, ok.failure) == ("two-members-of-a-role", None)
    assert f"jj.{suffixes[0]} and jj.{suffixes[1]} are both its" in bad.failure.detail


class Overtaken(TarIndexes):
    """A tar is replaced by another, just before it is read, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.number = times, 0

    def contents(self, url: str, file: StoredFile, name: str, storage_options: Mapping[str, Any] | None = None) -> TarContents:
        if self.number < self.times:
            self.number += 1
            write_tar(Path(url), {f"{self.number}{key}.mp4": b"video %d" % self.number for key in "abc"[: self.number]})
        return super().contents(url, file, name, storage_options)


def test_a_tar_that_changes_while_it_is_listed_is_listed_as_it_is(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {f"0{key}.mp4": b"video 0" for key in "abcd"})
    entries = list_source(SourceSpec(shards=str(tmp_path)), indexes=Overtaken(2))
    assert [entry.path for entry in entries] == ["a.tar!2a", "a.tar!2b"]
    assert {entry.version for entry in entries} == {str((tmp_path / "a.tar").stat().st_mtime_ns)}
    assert [read_blob(open_entry(entry).members["video"].blob) for entry in entries] == [b"video 2"] * 2


def test_a_tar_that_keeps_changing_fails_as_that(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0a.mp4": b"video 0"})
    [entry] = list_source(SourceSpec(shards=str(tmp_path)), indexes=Overtaken(9))
    assert (entry.path, entry.problem is not None and entry.problem.partition(": ")[0]) == ("a.tar", "source-changed")


def test_files_of_a_tar_that_are_no_samples_are_said(tmp_path: Path) -> None:
    names = ["a.bin", "clip_0001", "c.bin", "clip_0002", "in/.hidden.mp4", "b."]
    write_tar(tmp_path / "a.tar", [(name, b"1") for name in names])
    write_tar(tmp_path / "b.tar", [("d.bin", b"1"), ("e", b"1")])
    kept = TarIndexes(Store(str(tmp_path / "kept")))
    for indexes in (kept, TarIndexes(Store(str(tmp_path / "kept")))):
        said: list[str] = []
        entries = list_source(SourceSpec(shards=str(tmp_path / "*.tar")), indexes=indexes, say=said.append)
        assert [entry.path for entry in entries] == ["a.tar!a", "a.tar!c", "b.tar!d"]
        assert said == [
            "source: 5 files in tars were left alone, such as a.tar!clip_0001: members are called KEY.SUFFIX, without a dot in front"
        ]
        indexes.save()
