"""Tars that are hostile, damaged or written by other tools: refused by name, or read as a source."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from shardprep.core.blob import BytesBlob, FileBlob, read_blob
from shardprep.errors import ShardError
from shardprep.shards.tar import index_tar
from tests.shards.tars import END, headers, index, patched, write_tar

# webdataset leaves the files that it read to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


PICKLE = pickle.dumps({"a": 1})
GOOD = headers("a.mp4", b"content")


def claiming(size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header with these 12 bytes in its size field."""
    return patched(headers("a.mp4", b"", kind), 124, size)


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return headers("pax", records, kind)


HOSTILE = {
    "empty file": (b"", "cut short"),
    "text": (b"this is no tar, " * 64, "no tar header"),
    "gzip": (b"\x1f\x8b\x08" + bytes(2000), "no tar header"),
    "absolute name": (headers("/etc/passwd.txt") + END, r"'/etc/passwd\.txt' is absolute or leads outside"),
    "name with ..": (headers("../x.mp4") + END, r"'\.\./x\.mp4' is absolute or leads outside"),
    "name with .. inside": (headers("a/../../x.mp4") + END, "leads outside"),
    "hard link": (GOOD + headers("b.mp4", b"", tarfile.LNKTYPE, linkname="a.mp4") + END, r"'b\.mp4' is a hard link"),
    "symbolic link": (headers("b.mp4", b"", tarfile.SYMTYPE, linkname="/etc/passwd") + END, r"'b\.mp4' is a symbolic link"),
    "character device": (headers("b.mp4", b"", tarfile.CHRTYPE) + END, "is a device"),
    "block device": (headers("b.mp4", b"", tarfile.BLKTYPE) + END, "is a device"),
    "pipe": (headers("b.mp4", b"", tarfile.FIFOTYPE) + END, "is a pipe"),
    "sparse file": (headers("b.mp4", b"", tarfile.GNUTYPE_SPARSE, tarfile.GNU_FORMAT) + END, "sparse|plain USTAR"),
    "unknown type": (headers("b.mp4", b"", b"Z") + END, "unknown type"),
    "member twice": (GOOD + headers("b.mp4") + headers("b.mp4") + END, r"'b\.mp4' occurs twice"),
    "member twice apart": (GOOD + headers("b.mp4") + GOOD + END, r"'a\.mp4' comes after other keys"),
    "key that returns": (GOOD + headers("b.mp4") + headers("a.json") + END, r"'a\.json' comes after other keys"),
    "more than the file has": (claiming(b"00000010000\0") + bytes(512) + END, r"'a\.mp4' claims 4096 bytes, the file ends before"),
    "8 GiB less 1": (claiming(b"77777777777\0") + END, r"claims 8589934591 bytes, the file ends before"),
    "base-256, 1 TiB": (claiming(b"\x80" + (1 << 40).to_bytes(11, "big")) + END, r"claims 1099511627776 bytes"),
    "base-256, 2^88": (claiming(b"\x80" + b"\xff" * 11) + END, r"claims \d+ bytes"),
    "base-256, negative": (claiming(b"\xff" * 11 + b"\x00") + END, r"claims -256 bytes"),
    "octal, negative": (claiming(b"-0000000512\0") + END, r"claims -330 bytes"),
    "size no number": (claiming(b"abcdefghijk\0") + END, "no tar header"),
    "half an end": (GOOD + bytes(512) + GOOD + END, "half an end mark"),
    "tars behind each other": (GOOD + END + headers("b.mp4") + END, "follow its end mark"),
}


@pytest.mark.parametrize("foreign", [False, True], ids=["shard", "source"])
@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_hostile_is_refused_with_the_tar_and_the_member(case: str, foreign: bool) -> None:
    data, words = HOSTILE[case]
    with pytest.raises(ShardError, match=rf"^some\.tar: .*({words})"):
        index(data, foreign=foreign)


REFUSED_ALONE = {
    "absolute name": headers("/etc/passwd.txt"),
    "name with ..": headers("../x.mp4"),
    "hard link": headers("b.mp4", b"", tarfile.LNKTYPE, linkname="a.mp4"),
    "hard link with a size": patched(headers("b.mp4", b"", tarfile.LNKTYPE, linkname="a.mp4"), 124, b"00000010000\0"),
    "symbolic link": headers("b.mp4", b"", tarfile.SYMTYPE, linkname="/etc/passwd"),
    "device": headers("b.mp4", b"", tarfile.CHRTYPE),
    "pipe": headers("b.mp4", b"", tarfile.FIFOTYPE),
    "member twice": headers("a.mp4"),
}


@pytest.mark.parametrize("case", REFUSED_ALONE)
def test_a_source_is_read_on_past_a_member_that_is_refused(case: str) -> None:
    data = GOOD + REFUSED_ALONE[case] + headers("z.mp4", b"last") + END
    first, refused, last = index_tar(BytesBlob(data), name="some.tar", foreign=True, go_on=True)
    assert (first.problem, last.problem, data[last.offset : last.offset + last.size]) == (None, None, b"last")
    assert refused.problem is not None
    assert refused.problem.startswith("some.tar: ")
    with pytest.raises(ShardError, match="some.tar: "):
        list(index_tar(BytesBlob(data), name="some.tar", foreign=True))


@pytest.mark.parametrize("case", ["unknown type", "sparse file", "more than the file has", "half an end"])
def test_what_cannot_be_stepped_over_ends_a_source(case: str) -> None:
    with pytest.raises(ShardError, match=HOSTILE[case][1]):
        list(index_tar(BytesBlob(HOSTILE[case][0]), name="some.tar", foreign=True, go_on=True))


ONLY_IN_SOURCES = {
    "folder": headers("dir/", b"", tarfile.DIRTYPE) + GOOD + END,
    "name in a folder": headers("dir/a.mp4") + END,
    "name with ./": headers("./a.mp4") + END,
    "no dot": headers("README") + END,
    "upper case": headers("A.mp4") + END,
    "dot first": headers(".hidden") + END,
    "long name in PAX": headers("d/" * 100 + "a.mp4", form=tarfile.PAX_FORMAT) + END,
    "long name in GNU": headers("d/" * 100 + "a.mp4", form=tarfile.GNU_FORMAT) + END,
    "long name in USTAR's prefix": headers("d/" * 60 + "a.mp4") + END,
    "GNU header": headers("a.mp4", form=tarfile.GNU_FORMAT) + END,
    "global PAX header": pax(b"13 comment=x\n", tarfile.XGLTYPE) + GOOD + END,
}


@pytest.mark.parametrize("case", ONLY_IN_SOURCES)
def test_what_other_tools_write_is_read_as_a_source_and_refused_as_a_shard(case: str) -> None:
    assert index(ONLY_IN_SOURCES[case], foreign=True) is not None
    with pytest.raises(ShardError, match=r"^some\.tar: .*as a source|only plain files"):
        index(ONLY_IN_SOURCES[case])


HOSTILE_SOURCES = {
    "PAX size beyond the file": (pax(b"20 size=99999999999\n") + GOOD + END, "claims 99999999999 bytes"),
    "PAX size negative": (pax(b"11 size=-1\n") + GOOD + END, "gives the size '-1'"),
    "PAX size of many digits": (pax(b"36 size=" + b"9" * 27 + b"\n") + GOOD + END, "gives the size"),
    "PAX name outside": (pax(b"17 path=../x.mp4\n") + GOOD + END, r"'\.\./x\.mp4' is absolute or leads outside"),
    "PAX name absolute": (pax(b"15 path=/x.mp4\n") + GOOD + END, "is absolute"),
    "PAX length beyond the header": (pax(b"99 path=x.mp4\n") + GOOD + END, "PAX header is damaged"),
    "PAX length 0": (pax(b"0 path=x.mp4\n") + GOOD + END, "PAX header is damaged"),
    "PAX length too small": (pax(b"3 path=x.mp4\n") + GOOD + END, "PAX header is damaged"),
    "PAX rubbish": (pax(bytes(100)) + GOOD + END, "PAX header is damaged"),
    "PAX sparse": (pax(b"22 GNU.sparse.major=1\n") + GOOD + END, "sparse"),
    "PAX name for all": (pax(b"14 path=x.mp4\n", tarfile.XGLTYPE) + GOOD + END, "for all members"),
    "PAX header too big": (pax(bytes(2 << 20)) + GOOD + END, "extended header of 2097152 bytes"),
    "GNU name outside": (headers("././@LongLink", b"../x.mp4\0", tarfile.GNUTYPE_LONGNAME) + GOOD + END, "leads outside"),
    "GNU name without a member": (headers("././@LongLink", b"x.mp4\0", tarfile.GNUTYPE_LONGNAME) + END, "cut short"),
    "long tail": (GOOD + END + bytes(5 << 20), "follow its end mark"),
}


@pytest.mark.parametrize("case", HOSTILE_SOURCES)
def test_what_is_hostile_in_extended_headers_is_refused(case: str) -> None:
    data, words = HOSTILE_SOURCES[case]
    with pytest.raises(ShardError, match=rf"^some\.tar: .*{words}"):
        index(data, foreign=True)


def test_an_extended_header_of_1_gb_is_refused_without_reading_it(tmp_path: Path) -> None:
    with open(tmp_path / "x.tar", "wb") as file:
        file.write(claiming(b"07346545000\0", tarfile.XHDTYPE))
        file.truncate(1_000_004_096)  # sparse: takes no room
    for foreign in (False, True):
        with pytest.raises(ShardError, match=r"'a\.mp4' is an extended header"):
            list(index_tar(FileBlob(str(tmp_path / "x.tar"), 0, 1_000_004_096), foreign=foreign))


def test_pickles_are_bytes_and_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return Path.touch, (tmp_path / "executed",)  # type: ignore[return-value]  # what a pickle can hold

    bomb = pickle.dumps(Bomb())
    data, _, _ = write_tar({"a": {"pkl": bomb, "pyd": bomb}})
    assert index(data) == index(data, foreign=True) == {"a.pkl": bomb, "a.pyd": bomb}
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_sources_are_split_into_keys_as_webdataset_does(tmp_path: Path, form: int) -> None:
    names = [
        "a.mp4",
        "dir.v1/b.tar.json",
        "dir.v1/b.txt",
        "./c.mp4",
        "d/" * 80 + "e.mp4",
        "ü b\n/f 'g'.MP4",
        "noext",
        ".hidden.mp4",
        "x/.h",
        "g",
    ]
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form) as tar:
        tar.addfile(tarfile.TarInfo("emptyname/"), None)
        folder = tarfile.TarInfo("dir.v1")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name.encode())
            tar.addfile(info, io.BytesIO(name.encode()))
    blob = FileBlob(str(path), 0, path.stat().st_size)
    found = {(m.key, m.suffix): read_blob(FileBlob(str(path), m.offset, m.size)).decode() for m in index_tar(blob, foreign=True)}
    assert found == {
        ("a", "mp4"): "a.mp4",
        ("dir.v1/b", "tar.json"): "dir.v1/b.tar.json",
        ("dir.v1/b", "txt"): "dir.v1/b.txt",
        ("c", "mp4"): "./c.mp4",
        ("d/" * 80 + "e", "mp4"): "d/" * 80 + "e.mp4",
        ("ü b\n/f 'g'", "MP4"): "ü b\n/f 'g'.MP4",
    }
    if form != tarfile.USTAR_FORMAT:  # webdataset strips no ./ and lowers suffixes; otherwise the same
        read = webdataset.WebDataset(str(path), shardshuffle=False)
        theirs = {(s["__key__"].removeprefix("./"), suffix) for s in read for suffix in s if not suffix.startswith("__")}
        # Of a hidden file in a folder it makes a sample that is called like the folder.
        assert theirs - {("x/", "h")} == {(key, suffix.lower()) for key, suffix in found}


def test_a_name_that_is_not_utf8_becomes_readable_text() -> None:
    assert list(index(patched(headers("aQ.mp4", b""), 1, b"\xff") + END, foreign=True)) == ["a\\xff.mp4"]


def test_a_sources_zero_padding_is_no_content() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    assert len(file.getvalue()) == tarfile.RECORDSIZE
    assert index(file.getvalue()) == {"a.mp4": b""}
