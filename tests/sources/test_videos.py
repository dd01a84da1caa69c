"""Folders, globs and URLs of files, with captions beside them."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from pathlib import Path

import fsspec
import pytest

from shardprep.cli.commands import exit_code
from shardprep.core.blob import read_blob
from shardprep.core.sample import IMAGE_SUFFIXES, KEY_PATTERN, VIDEO_SUFFIXES
from shardprep.errors import RecipeError, SourceChanged, SourceError, WrongSource
from shardprep.shards.store import Store
from shardprep.sources import tar_index, videos
from shardprep.sources.entry import SourceEntry, open_entry
from shardprep.sources.listing import list_source
from shardprep.sources.spec import SourceSpec
from shardprep.sources.tar_index import TarIndexes, damaged_indexes


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"bytes of {name!r}".encode())


def paths(location: object, **settings: object) -> list[str]:
    return [entry.path for entry in list_source(SourceSpec(videos=str(location), **settings))]  # type: ignore[arg-type] # settings of each test


def test_every_known_suffix_in_any_case_and_nothing_else(tmp_path: Path) -> None:
    put(
        tmp_path, *(f"{suffix}.{suffix}" for suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES), "UPPER.MP4", "notes.txt", "x.json", "none", "a.tar"
    )
    assert set(paths(tmp_path)) == {f"{suffix}.{suffix}" for suffix in VIDEO_SUFFIXES} | {"UPPER.MP4"}
    entries = list_source(SourceSpec(videos=str(tmp_path), images=True))
    assert {entry.path for entry in entries} == {f"{suffix}.{suffix}" for suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES} | {"UPPER.MP4"}
    assert set("mp4 mov mkv webm avi m4v ts m2ts mpg mpeg flv gif wmv".split()) <= {entry.members[0].suffix for entry in entries}
    upper = next(entry for entry in entries if entry.path == "UPPER.MP4")
    assert upper.members[0].suffix == "mp4"
    assert upper.record == {"source": {"path": "UPPER.MP4", "name": "UPPER.MP4", "bytes": upper.size}}


def test_entries_open_as_samples(tmp_path: Path) -> None:
    put(tmp_path, "sub/a.mp4", "b.PNG")
    image, video = list_source(SourceSpec(videos=str(tmp_path), images=True))
    sample = open_entry(video)
    assert (sample.key, list(sample.members), sample.get("source.path")) == (video.key, ["video"], "sub/a.mp4")
    assert read_blob(sample.members["video"].blob) == b"bytes of 'sub/a.mp4'"
    assert list(open_entry(image).members) == ["image"]


def test_globs_and_braces(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "x/b.mp4", "x/y/c.mov", "x/y/d.mp4", "z/e.mp4", "z/f.txt")
    assert paths(tmp_path / "*.mp4") == ["a.mp4"]
    assert paths(tmp_path / "**/*.mp4") == ["a.mp4", "x/b.mp4", "x/y/d.mp4", "z/e.mp4"]
    assert paths(tmp_path / "{x,z}/**/*.mp4") == ["x/b.mp4", "x/y/d.mp4", "z/e.mp4"]
    assert paths(tmp_path / "**/*.{mov,mp4}") == ["a.mp4", "x/b.mp4", "x/y/c.mov", "x/y/d.mp4", "z/e.mp4"]
    assert paths(tmp_path / "x/**") == ["b.mp4", "y/c.mov", "y/d.mp4"]
    assert paths(tmp_path / "?/[a-b].mp4") == ["x/b.mp4"]
    assert paths(tmp_path / "{a,gone}.mp4") == ["a.mp4", "gone.mp4"]
    assert paths(tmp_path / "x" / "b.mp4") == ["b.mp4"]


def test_the_key_does_not_depend_on_where_the_source_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "one/x/a.mp4", "two/deep/x/a.mp4")
    monkeypatch.chdir(tmp_path)
    spellings = [
        "one",
        "one/",
        f"{tmp_path}/one",
        f"file://{tmp_path}/one",
        "./two/../one",
        "one/**/*.mp4",
        "two/deep",
        "two/deep/x/../*/a.mp4",
    ]
    assert len({list_source(SourceSpec(videos=place))[0].key for place in spellings}) == 1


def test_a_place_that_is_really_called_like_a_pattern(tmp_path: Path) -> None:
    put(tmp_path, "clips [2024] {a,b}/what?*.mp4", "clips 2/x.mp4")
    assert paths(tmp_path / "clips [2024] {a,b}") == ["what?*.mp4"]
    assert paths(tmp_path / "clips [2024] {a,b}" / "what?*.mp4") == ["what?*.mp4"]


def test_wrong_patterns(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="braces"):
        paths(tmp_path / "{a,b.mp4")
    with pytest.raises(RecipeError, match=r"\*\*"):
        paths(tmp_path / "a**/x.mp4")


@pytest.mark.parametrize("location", ["", "*.mp4", "**/*.mkv"])
def test_nothing_found_says_where_and_what_for(tmp_path: Path, location: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"looked in .*known suffixes are avi, .*, wmv") as caught:
        paths(tmp_path / location)
    assert str(tmp_path) in str(caught.value)


def test_nasty_names(tmp_path: Path) -> None:
    names = [
        "a b.mp4",
        "A B.mp4",
        "-rf.mp4",
        "new\nline.mp4",
        "q'u\"o`te.mp4",
        "a.b.c.mp4",
        "видео.mp4",
        "клипы.mp4",
        "x/same.mp4",
        "y/same.mp4",
        "$(x).mp4",
    ]
    put(tmp_path, *names)
    (Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff\xfe.mp4"))).write_bytes(b"not utf-8")
    entries = list_source(SourceSpec(videos=str(tmp_path)))
    assert {entry.path for entry in entries} == {*names, "\\xff\\xfe.mp4"}
    assert len({entry.key for entry in entries}) == len(names) + 1
    assert all(KEY_PATTERN.fullmatch(entry.key) for entry in entries)
    for entry in entries:
        json.dumps(entry.identity(), ensure_ascii=False).encode()
        expected = b"not utf-8" if "xff" in entry.path else f"bytes of {entry.path!r}".encode()
        assert read_blob(open_entry(entry).members["video"].blob) == expected


def test_links_are_read_once_and_loops_end(tmp_path: Path) -> None:
    put(tmp_path, "in/b.mp4", "in/deep/c.mp4", "elsewhere/d.mp4", "elsewhere/e.mp4")
    (tmp_path / "in/a.mp4").symlink_to(tmp_path / "in/b.mp4")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/deep/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/outside").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/k.mp4").symlink_to(tmp_path / "elsewhere/e.mp4")
    os.link(tmp_path / "in/b.mp4", tmp_path / "in/hard.mp4")
    (tmp_path / "in/broken.mp4").symlink_to(tmp_path / "nowhere.mp4")
    entries = {entry.path: entry for entry in list_source(SourceSpec(videos=str(tmp_path / "in")))}
    assert set(entries) == {"b.mp4", "deep/c.mp4", "outside/d.mp4", "outside/e.mp4", "hard.mp4", "broken.mp4"}
    failure = entries["broken.mp4"].failure
    assert failure is not None
    assert failure.reason == "missing-file"
    with pytest.raises(SourceError, match=r"broken\.mp4: missing-file"):
        open_entry(entries["broken.mp4"])


def test_hidden_files_and_the_output_are_no_source(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", ".git/x.mp4", ".tmp-1/y.mp4", ".hidden.mp4", "x/.z/b.mp4", "out/raw/c.mp4", "outer/d.mp4")
    spec = SourceSpec(videos=str(tmp_path))
    assert [entry.path for entry in list_source(spec, exclude=(str(tmp_path / "out"),))] == ["a.mp4", "outer/d.mp4"]
    (tmp_path / "alias").mkdir()
    (tmp_path / "alias" / "way").symlink_to(tmp_path)
    assert [entry.path for entry in list_source(spec, exclude=(str(tmp_path / "alias/way/out"),))] == ["a.mp4", "outer/d.mp4"]
    inside = SourceSpec(videos=str(tmp_path / "out" / "raw"))
    assert [entry.path for entry in list_source(inside, exclude=(str(tmp_path / "out"),))] == ["c.mp4"]


def test_captions_beside(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}.mp4" for name in "abcdefg"))
    (tmp_path / "a.txt").write_text("\ufeff  a caption\n")
    (tmp_path / "b.json").write_text('{"caption": "from json", "x": 1}')
    (tmp_path / "c.json").write_text('{"text": "first", "caption": "second"}')
    (tmp_path / "d.json").write_text('{"x": 1}')
    (tmp_path / "e.json").write_text("{")
    (tmp_path / "f.txt").write_bytes(b"caf\xe9")
    (tmp_path / "g.txt").write_bytes("as Notepad saves it".encode("utf-16"))
    entries = {entry.path[0]: entry for entry in list_source(SourceSpec(videos=str(tmp_path)))}
    assert [open_entry(entries[name]).get("caption.text") for name in "abcdg"] == [
        "a caption",
        "from json",
        "first",
        None,
        "as Notepad saves it",
    ]
    for name, message in {"e": "is no JSON", "f": "is no UTF-8"}.items():
        with pytest.raises(SourceError, match=message):
            open_entry(entries[name])
    assert list_source(SourceSpec(videos=str(tmp_path / "a.mp4")))[0].captions == entries["a"].captions
    assert list_source(SourceSpec(videos=str(tmp_path / "*.mp4")))[0].captions == entries["a"].captions
    assert not any(entry.captions for entry in list_source(SourceSpec(videos=str(tmp_path), captions="none")))


def test_images_beside_videos_are_left_alone_and_said_once(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "a.jpg", "a.webp", "x/b.mkv", "x/b.PNG", "y/b.png", "poster.jpg")
    said: list[str] = []
    entries = list_source(SourceSpec(videos=str(tmp_path)), say=said.append)
    assert [entry.path for entry in entries] == ["a.mp4", "x/b.mkv"]
    assert said == [
        f"source: 3 images beside a video of the same name were left alone, such as {tmp_path}/a.jpg",
        f"source: 2 images were left alone, such as {tmp_path}/poster.jpg; `images: true` makes samples of images",
    ]
    said.clear()
    entries = list_source(SourceSpec(videos=str(tmp_path), images=True), say=said.append)
    assert [entry.path for entry in entries] == ["a.mp4", "poster.jpg", "x/b.mkv", "y/b.png"]
    assert len(said) == 1, "what is beside a video stays what it is"
    assert paths(tmp_path / "{a,poster}.{mp4,jpg}") == ["a.jpg", "a.mp4", "poster.jpg", "poster.mp4"], "who names a file means it"


def test_files_of_other_kinds_are_left_alone_and_said(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "a.txt", "a.json", "a.srt", "x/b.3gp", "x/c.3gp", "a.TXT", "b.txt", ".hidden.3gp")
    words = "source: 5 files were left alone, as they are no videos or images of a known kind: 2 .3gp, 2 .txt, 1 .srt, such as "
    for place, expected in ((tmp_path, [f"{words}{tmp_path}/a.TXT"]), (tmp_path / "**/*.mp4", []), (tmp_path / "a.mp4", [])):
        said: list[str] = []
        (entry,) = list_source(SourceSpec(videos=str(place), captions="none"), say=said.append)
        assert (entry.path, said) == ("a.mp4", expected)


def test_a_folder_of_images_alone_is_an_error_with_the_setting_for_it(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.png")
    for place in (tmp_path, tmp_path / "*.jpg"):
        with pytest.raises(SourceError, match=r"there (is 1 image|are 2 images) and no videos; write `images: true` below source"):
            paths(place)
    assert paths(tmp_path, images=True) == ["a.jpg", "b.png"]


def test_all_fields_of_a_json_beside_a_video_are_metadata(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    (tmp_path / "a.json").write_text('{"caption": "a cat", "views": 12, "tags": ["x"], "owner": {"na me": "Q"}}')
    (tmp_path / "b.json").write_text('{"views": 1.5, "owner": {}}')
    (tmp_path / "b.txt").write_text("from text")
    (tmp_path / "c.json").write_text("[1]")
    entries = {entry.path[0]: entry for entry in list_source(SourceSpec(videos=str(tmp_path)))}
    samples = {name: open_entry(entries[name]) for name in "abd"}
    assert samples["a"].record["meta"] == {"caption": "a cat", "views": 12.0, "tags": ["x"], "owner": {"na_me": "Q"}}
    assert samples["a"].get("caption.text") == "a cat"
    assert (samples["b"].record["meta"], samples["b"].get("caption.text")) == ({"views": 1.5}, "from text")
    assert "meta" not in samples["d"].record
    failure = entries["c"].failure
    assert failure is not None
    assert (failure.reason, "holds a JSON list" in failure.detail) == ("bad-json", True)
    assert all("meta" not in entry.record for entry in list_source(SourceSpec(videos=str(tmp_path), captions="none")))


def test_a_json_with_a_field_twice_fails_its_own_sample(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    (tmp_path / "a.json").write_text('{"caption": "one", "caption": "two"}')
    (tmp_path / "b.json").write_text('{"owner": {"n": 1, "n": 2}}')
    (tmp_path / "c.json").write_text('{"owner": {"n": 1}, "n": 2}')
    problems = {entry.path[0]: entry.problem for entry in list_source(SourceSpec(videos=str(tmp_path)))}
    assert str(problems["a"]).endswith("a.json: two columns are named 'caption'; rename one")
    assert str(problems["b"]).endswith("b.json: two columns are named 'n'; rename one")
    assert (str(problems["b"]).startswith("bad-json: "), problems["c"]) == (True, None)


def test_a_json_that_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "v/a.mp4", "v/b.mp4")
    for name in "ab":
        (tmp_path / "v" / f"{name}.json").write_text(f'{{"n": "{name}"}}')
    read: list[str] = []
    plain = videos.read_object
    monkeypatch.setattr(videos, "read_object", lambda blob, what: (read.append(what), plain(blob, what))[1])
    spec = SourceSpec(videos=str(tmp_path / "v"))

    def listed() -> list[SourceEntry]:
        read.clear()
        indexes = TarIndexes(Store(str(tmp_path / "kept")))
        entries = list_source(spec, (), indexes)
        indexes.save()
        return entries

    first = listed()
    assert len(read) == 2
    assert (listed(), read) == (first, [])
    assert damaged_indexes(Store(str(tmp_path / "kept"))) == [], "verify asks for this"
    os.utime(tmp_path / "v/b.json", ns=(1, 1))
    (tmp_path / "v/b.json").write_text('{"n": "new"}')
    assert [entry.record["meta"]["n"] for entry in listed()] == ["a", "new"]
    assert [Path(name).name for name in read] == ["b.json"]
    monkeypatch.setattr(tar_index, "_FORMAT", 0)
    assert (len(listed()), len(read)) == (2, 2), "what was read in another way is read again"


def test_the_version_follows_the_file_and_its_caption(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "a.txt").write_text("one")

    def versions() -> list[str]:
        return [entry.version for entry in list_source(SourceSpec(videos=str(tmp_path)))]

    first = versions()
    assert versions() == first
    os.utime(tmp_path / "a.txt", ns=(1, 1))
    second = versions()
    assert (second[0] != first[0], second[1] == first[1]) == (True, True)
    os.utime(tmp_path / "b.mp4", ns=(1, 1))
    assert versions()[1] != second[1]


def test_an_enormous_text_file_is_no_caption(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4")
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(SourceError, match="is it something else"):
        open_entry(list_source(SourceSpec(videos=str(tmp_path)))[0])


def test_other_filesystems() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe(
        {"/sources-test/x/a.mp4": b"aa", "/sources-test/b.MOV": b"b", "/sources-test/b.txt": b"caption", "/sources-test/.h/c.mp4": b"c"}
    )
    try:
        entries = list_source(SourceSpec(videos="memory://sources-test"))
        assert [(entry.path, entry.size) for entry in entries] == [("b.MOV", 1), ("x/a.mp4", 2)]
        sample = open_entry(entries[0])
        assert sample.get("caption.text") == "caption"
        assert read_blob(sample.members["video"].blob) == b"b"
        assert paths("memory://sources-test/**/*.mp4") == ["x/a.mp4"]
        assert paths("memory://sources-test/x/{a,gone}.mp4") == ["a.mp4", "gone.mp4"]
        assert [entry.problem is None for entry in list_source(SourceSpec(videos="memory://sources-test/x/{a,gone}.mp4"))] == [True, False]
    finally:
        fs.rm("/sources-test", recursive=True)


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


def test_a_web_server(tmp_path: Path) -> None:
    put(tmp_path, "v/a.mp4", "v/b.mp4")
    handler = functools.partial(SilentHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v"
        entries = list_source(SourceSpec(videos=f"{url}/{{a,b,gone}}.mp4"))
        (tmp_path / "list.csv").write_text(f"path,text\n{url}/b.mp4?token=a.b,hello\n")
        listed = list_source(SourceSpec(list=str(tmp_path / "list.csv")))
        server.shutdown()
    assert [(entry.path, entry.size, entry.problem is None) for entry in entries] == [
        ("a.mp4", 18, True),
        ("b.mp4", 18, True),
        ("gone.mp4", 0, False),
    ]
    assert [(entry.members[0].suffix, entry.problem) for entry in listed] == [("mp4", None)]


def test_groups_by_folder(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "x/b.mp4", "x/c.mp4", "x/y/d.mp4")
    entries = list_source(SourceSpec(videos=str(tmp_path), group_by="folder"))
    assert [entry.group for entry in entries] == [".", "x", "x", "x/y"]
    assert list_source(SourceSpec(videos=str(tmp_path)))[0].group is None


def test_files_that_are_named_and_not_there_or_no_videos_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "notes.txt")
    with pytest.raises(SourceError, match=r"gone\.mp4': there is no file .*gone\.mp4; check the path"):
        list_source(SourceSpec(videos=str(tmp_path / "gone.mp4")))
    with pytest.raises(SourceError, match=r"the only file there is no video or image: 1 \.txt, such as .*; known suffixes are avi"):
        list_source(SourceSpec(videos=str(tmp_path / "notes.txt")))
    both = list_source(SourceSpec(videos=str(tmp_path / "{a.mp4,gone.mp4,notes.txt}")))
    assert [entry.failure.reason if entry.failure else None for entry in both] == [None, "missing-file", "unknown-suffix"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", r"nowhere' .looked in .*/nowhere.: there is no such folder; check the path"),
        ("empty", "the folder holds no files"),
        ("tars", r"it holds tars and no videos; write source: {shards: '.*/tars/\*\.tar'}"),
        ("*.mp4", r"nothing matches; there are 2 \.tar, 1 \.csv, 1 \.txt, such as .*/above/deeper/a\.tar; known suffixes"),
        (
            "list.csv",
            r"a list is written as source: {list: '.*/list\.csv'}, or given as --input '.*/list\.csv'; known",
        ),
        ("gone.csv", r"there is no such folder; a list is written as source: {list: '.*/gone\.csv'}; check the path, or give --input"),
        ("tars/a.tar", r"write source: {shards: '.*/tars/a\.tar'}, or give --input '.*/tars/a\.tar'"),
        ("tars/*.mov", r"nothing matches; there is 1 \.tar, such as .*/tars/a\.tar; known suffixes"),
        ("above", r"it holds tars and no videos; write source: {shards: '.*/above/deeper/\*\.tar'}"),
        ("texts", r"the only file there is no video or image: 1 \.txt, such as .*/a\.txt; known suffixes are"),
    ],
)
def test_a_place_without_videos_says_what_is_there(tmp_path: Path, name: str, words: str) -> None:
    for folder, file in (("empty", None), ("tars", "a.tar"), ("texts", "a.txt"), ("above/deeper", "a.tar")):
        (tmp_path / folder).mkdir(parents=True)
        if file:
            (tmp_path / folder / file).write_bytes(b"x")
    (tmp_path / "list.csv").write_text("path\na.mp4\n")
    with pytest.raises(WrongSource, match=words) as caught:
        list_source(SourceSpec(videos=str(tmp_path / name)))
    assert exit_code(caught.value) == 2


@pytest.mark.parametrize(("changed", "number"), [("a.mp4", 1), ("a.txt", 1), ("b.json", 2), ("b.mp4", 2)])
def test_a_file_that_changed_since_it_was_listed_is_not_read(tmp_path: Path, changed: str, number: int) -> None:
    for name in ("a.mp4", "a.txt", "b.mp4"):
        (tmp_path / name).write_text(name)
    (tmp_path / "b.json").write_text('{"caption": "old"}')
    entries = list_source(SourceSpec(videos=str(tmp_path)))
    (tmp_path / "new").write_text('{"caption": "another text"}')
    (tmp_path / "new").rename(tmp_path / changed)
    for place, entry in enumerate(entries, 1):
        if place != number:
            assert read_blob(open_entry(entry).members["video"].blob) == entry.path.encode()
            continue
        with pytest.raises(SourceChanged, match=f"{changed} was changed after it was listed"):
            read_blob(open_entry(entry).members["video"].blob)
    now = list_source(SourceSpec(videos=str(tmp_path)))
    assert [was.identity() != new.identity() for was, new in zip(entries, now, strict=True)] == [number == 1, number == 2]
