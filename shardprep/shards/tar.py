"""Plain USTAR tars: a writer whose bytes are a function of its members, and a strict index of what lies where."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from zlib_ng import zlib_ng

from shardprep.core.blob import Blob
from shardprep.core.sample import KEY_PATTERN, Member
from shardprep.errors import ShardError
from shardprep.shards.hashed import HashedWriter, TarDigest, TarFile

__all__ = ["MAX_MEMBER_BYTES", "Placed", "TarDigest", "TarMember", "TarWriter", "index_tar"]

BLOCK = 512
MAX_MEMBER_BYTES = 8 * 1024**3 - 1
"""USTAR holds a size in 11 octal digits."""
MAX_NAME_BYTES = 100

# Not `__key__` and the like: WebDataset keeps its own values under such names.
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*")
_ZEROS = bytes(BLOCK)
_MAX_EXTENSION_BYTES = 1 << 20
_MAX_TAIL_BYTES = 4 << 20
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True)
class Placed:
    """Where a member's data lies in its tar, with its checksums."""

    suffix: str
    offset: int
    size: int
    crc32: int
    sha256: str
    """The first 32 hex digits."""


@dataclass(frozen=True)
class TarMember:
    """A member as found in a tar; `key` and `suffix` are its name split at the first dot of its last part."""

    name: str
    key: str
    suffix: str
    offset: int
    size: int
    problem: str | None = None
    """Why it is not read, where its tar is read on all the same."""


class TarWriter:
    """Writes members one after the other; the same members give the same bytes.

    Where adding a member fails, all of its sample is taken out of the tar again, so that the others can go on.
    """

    def __init__(self, file: TarFile, name: str = "tar", beat: Callable[[], None] | None = None) -> None:
        """`file` is empty and writable; `name` stands for the tar in messages; `beat` is called while a long member is copied."""
        self._out = HashedWriter(file, beat)
        self._order = _Order(name)
        self._where = name
        self._is_whole = True

    def add(self, key: str, member: Member) -> Placed:
        """Append a member, streaming; what is known of its bytes from another shard is checked and not computed again.

        ShardError where a name or size is not for USTAR, a key returns or a member comes twice, or the bytes are not those announced.
        """
        name = f"{key}.{member.suffix}"
        if self._order.begin(key, name):
            self._out.mark()
        try:
            _check_new(self._where, key, member)
            self._order.add(member.suffix.lower(), name)
            return self._copy(name, member)
        except BaseException:
            self._is_whole = False
            self.take_back()
            raise

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._out.position

    def take_back(self) -> None:
        """Remove the members of the key that was added last; it may come again."""
        if self._order.forget():
            self._out.rewind()
        self._is_whole = True

    def close(self) -> TarDigest:
        """Write the end of the tar and return its digest; the file stays open."""
        assert self._is_whole, "a tar whose last member failed was closed"
        self._out.write(2 * _ZEROS)
        return self._out.finish()

    def _copy(self, name: str, member: Member) -> Placed:
        info = tarfile.TarInfo(name)
        info.size = member.blob.size
        self._out.write(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        offset, left, crc32 = self._out.position, info.size, 0
        known = member.sha256 if member.crc32 is not None else None
        sha256 = None if known else hashlib.sha256()
        with cast(io.BufferedIOBase, member.blob.open()) as source:
            while left:
                piece = self._out.space()[:left]
                count = source.readinto(piece)
                if not count:
                    raise ShardError(f"{self._where}: {name} has {info.size - left} bytes, expected {info.size}; its file was cut short")
                crc32 = zlib_ng.crc32(piece[:count], crc32)
                if sha256:
                    sha256.update(piece[:count])
                self._out.advance(count)
                left -= count
        self._out.write(bytes(-info.size % BLOCK))
        placed = Placed(member.suffix, offset, info.size, crc32, known or cast("hashlib._Hash", sha256).hexdigest()[:32])
        _check_known(self._where, name, member, placed)
        return placed


def index_tar(
    blob: Blob, *, name: str = "", foreign: bool = False, go_on: bool = False, pass_over: Callable[[str], object] = str
) -> Iterator[TarMember]:
    """Yield where each member lies, in order, reading headers only; ShardError at the first thing that a shard must not hold.

    That is: anything but plain files, names that are absolute or lead outside, a key that returns, a member that comes twice,
    a header that claims more than the file has, bytes after the end, no end.

    A foreign tar (a source) may besides have folders and files whose names WebDataset takes for no sample's (no dot, or one
    in front), which are passed over (`pass_over` is told the names of the files), and long names in PAX or GNU form; its keys
    hold folders. With `go_on` its members that are refused for their own sake (links, devices, names, keys that return, twice
    the same) come with their `problem`; what says that the tar itself is damaged still ends it, after the member that is cut
    short, where it has a header.
    """
    where = name or str(getattr(blob, "path", "tar"))
    order = _Order(where)
    with blob.open() as file:
        for entry, problem in _Headers(cast(io.BufferedIOBase, file), blob.size, where, foreign, go_on).files():
            split = _split_foreign(entry.name) if foreign else _split_own(where, entry.name)
            if not split:
                pass_over(entry.name)
                continue
            if problem is None:
                try:
                    order.begin(split[0], entry.name)
                    order.add(split[1], entry.name)
                except ShardError as error:
                    if not go_on:
                        raise
                    problem = str(error)
            yield TarMember(entry.name, *split, entry.offset_data, entry.size, problem)


class _Order:
    """Holds the rule that a sample's members are adjacent and different."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._keys: set[str] = set()
        self._key: str | None = None
        self._suffixes: set[str] = set()

    def begin(self, key: str, name: str) -> bool:
        """Take the next member's key; say whether it begins a sample."""
        if key == self._key:
            return False
        if key in self._keys:
            raise ShardError(
                f"{self._where}: {name!r} comes after other keys; members of a sample must be adjacent. Write the tar sorted by name"
            )
        self._keys.add(key)
        self._key, self._suffixes = key, set()
        return True

    def add(self, suffix: str, name: str) -> None:
        """Take the next member's suffix."""
        if suffix in self._suffixes:
            raise ShardError(f"{self._where}: {name!r} occurs twice; every member of a sample has its own suffix. Remove or rename one")
        self._suffixes.add(suffix)

    def forget(self) -> bool:
        """Forget the last key; False where there is none."""
        known = self._key is not None
        self._keys.discard(self._key or "")
        self._key, self._suffixes = None, set()
        return known


class _Headers:
    """Walks the headers of a tar, trusting none of them."""

    def __init__(self, file: io.BufferedIOBase, size: int, where: str, foreign: bool, go_on: bool) -> None:
        self._file, self._size, self._where, self._foreign, self._go_on = file, size, where, foreign, go_on
        self._long_name: str | None = None
        self._long_size: int | None = None

    def files(self) -> Iterator[tuple[tarfile.TarInfo, str | None]]:
        """Yield the regular files with `name`, `size` and `offset_data`, and why one is not read where the tar goes on."""
        position = 0
        while (block := self._block(position)) != _ZEROS:
            info = self._parse(block, position)
            info.offset_data = position + BLOCK
            if info.type in _EXTENSIONS:
                self._extend(info)
            else:
                self._apply(info)
                if info.type == tarfile.DIRTYPE and self._foreign:
                    info.size = 0  # old tars note a size there; no data follows
                else:
                    problem = self._problem_of(info)
                    try:
                        self._check_bounds(info)
                    except ShardError as error:
                        if self._go_on:
                            # Its header tells at least that the sample before it is whole.
                            yield info, str(error)
                        raise
                    yield info, problem
            position = info.offset_data + info.size + -info.size % BLOCK
        if self._long_name is not None or self._long_size is not None:
            raise self._error(f"ends after a long name at byte {position}, before its member; it is cut short. Copy or make it again")
        self._check_end(position + BLOCK)

    def _block(self, position: int) -> bytes:
        self._file.seek(position)
        block = self._file.read(BLOCK)
        if len(block) < BLOCK:
            raise self._error(f"has {self._size} bytes and no end mark; it is cut short. Copy or make it again")
        return block

    def _parse(self, block: bytes, position: int) -> tarfile.TarInfo:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except tarfile.HeaderError as error:
            raise self._error(
                f"byte {position} is no tar header ({error}); it is damaged, compressed or no tar. Copy or make it again"
            ) from error
        if not self._foreign and (block[257:265] != b"ustar\x0000" or block[345]):
            raise self._error(f"{info.name!r} has no plain USTAR header; shards hold nothing else. Read it as a source, not as a shard")
        if not self._foreign and block[124] & 0x80:
            raise self._error(
                f"{info.name!r} claims {info.size} bytes in base-256, which plain USTAR (below 8 GiB) lacks. Make the tar again"
            )
        return info

    def _extend(self, info: tarfile.TarInfo) -> None:
        """Take what a PAX or GNU header says about the next member."""
        if not self._foreign:
            raise self._error(f"{info.name!r} is an extended header; shards are plain USTAR. Read it as a source, not as a shard")
        self._check_bounds(info)
        if info.size > _MAX_EXTENSION_BYTES:
            raise self._error(
                f"{info.name!r} is an extended header of {info.size} bytes, expected at most {_MAX_EXTENSION_BYTES}. Make the tar again"
            )
        self._file.seek(info.offset_data)
        data = self._file.read(info.size)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            self._long_name = data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        elif info.type != tarfile.GNUTYPE_LONGLINK:
            self._take_pax(info, _pax_records(self._where, data))

    def _take_pax(self, info: tarfile.TarInfo, records: dict[str, str]) -> None:
        told = records.keys() & {"path", "size"}
        if any(key.startswith("GNU.sparse") for key in records) or (told and info.type == tarfile.XGLTYPE):
            raise self._error(
                f"{info.name!r} describes a sparse file, or names and sizes for all members; that is not read. Make the tar again"
            )
        if "size" in told:
            if not re.fullmatch("[0-9]{1,18}", records["size"]):
                raise self._error(f"{info.name!r} gives the size {records['size'][:40]!r}, expected a number. Make the tar again")
            self._long_size = int(records["size"])
        if "path" in told:
            self._long_name = records["path"]

    def _apply(self, info: tarfile.TarInfo) -> None:
        info.name = info.name if self._long_name is None else self._long_name
        info.size = info.size if self._long_size is None else self._long_size
        self._long_name = self._long_size = None

    def _problem_of(self, info: tarfile.TarInfo) -> str | None:
        """Return what is wrong with one member, None where nothing is; ShardError where that ends the tar."""
        error = None
        if info.type not in _FILES:
            kind = _KINDS.get(info.type, f"of the unknown type {info.type!r}")
            error = self._error(f"{info.name!r} is {kind}; only plain files are read. Make the tar again without it")
        elif info.name.startswith("/") or ".." in info.name.split("/"):
            error = self._error(f"{info.name!r} is absolute or leads outside; names are relative. Make the tar again without it")
        if error is None:
            return None
        if not self._go_on or info.type not in (*_FILES, *_WITHOUT_DATA):
            raise error
        if info.type in _WITHOUT_DATA:
            info.size = 0  # whatever it says: no data follows
        return str(error)

    def _check_bounds(self, info: tarfile.TarInfo) -> None:
        if info.size < 0:
            raise self._error(f"{info.name!r} claims {info.size} bytes; a size is not negative. Make the tar again")
        if info.offset_data + info.size + -info.size % BLOCK > self._size:
            raise self._error(
                f"{info.name!r} claims {info.size} bytes, the file ends before; it is cut short or hostile. Copy or make it again"
            )

    def _check_end(self, position: int) -> None:
        if self._block(position) != _ZEROS:
            raise self._error(f"has half an end mark before byte {position}; it is damaged. Copy or make it again")
        tail = self._size - position - BLOCK
        if tail > _MAX_TAIL_BYTES or any(self._file.read(tail)):
            raise self._error(f"{tail} bytes follow its end mark; tars put behind each other must be split. Split it, or make it again")

    def _error(self, what: str) -> ShardError:
        return ShardError(f"{self._where}: {what}")


def _check_new(where: str, key: str, member: Member) -> None:
    name = f"{key}.{member.suffix}"
    if not KEY_PATTERN.fullmatch(key):
        raise ShardError(f"{where}: key {key!r}: keys hold a-z 0-9 _ - and begin with a letter or digit. Rename it in the source list")
    if not _SUFFIX.fullmatch(member.suffix):
        raise ShardError(
            f"{where}: {name!r}: suffixes are A-Z a-z 0-9 _ + - and single dots inside, such as latent.safetensors. Rename the member"
        )
    if len(name) > MAX_NAME_BYTES:
        raise ShardError(f"{where}: {name!r} has {len(name)} bytes; USTAR names hold {MAX_NAME_BYTES}. Shorten the key or the suffix")
    if member.blob.size > MAX_MEMBER_BYTES:
        raise ShardError(f"{where}: {name} has {member.blob.size} bytes; a tar member holds less than 8 GiB. Cut or re-encode it first")


def _check_known(where: str, name: str, member: Member, placed: Placed) -> None:
    for kind, known, found in (("crc32", member.crc32, placed.crc32), ("sha256", member.sha256, placed.sha256)):
        if known is not None and known != found:
            raise ShardError(f"{where}: {name} has {kind} {found}, expected {known}; the shard it comes from is damaged. Make that again")


def _split_own(where: str, name: str) -> tuple[str, str]:
    key, _, suffix = name.partition(".")
    if not KEY_PATTERN.fullmatch(key) or not _SUFFIX.fullmatch(suffix):
        raise ShardError(f"{where}: {name!r} is no KEY.SUFFIX with a key of a-z 0-9 _ -. Read the tar as a source, not as a shard")
    return key, suffix


def _split_foreign(name: str) -> tuple[str, str] | None:
    """Return key and suffix by WebDataset's rule, or None where a name is no sample's."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return (folder + slash + stem, suffix) if stem and suffix else None


def _pax_records(where: str, data: bytes) -> dict[str, str]:
    """Return the `LENGTH KEY=VALUE\\n` records of a PAX header; ShardError where the lengths do not add up."""
    records = {}
    position = 0
    while position < len(data):
        match = re.compile(rb"([1-9][0-9]{0,6}) ([^=]+)=").match(data, position)
        end = position + int(match[1]) if match else 0
        if not match or end < match.end() + 1 or data[end - 1 : end] != b"\n":
            raise ShardError(f"{where}: a PAX header is damaged at its byte {position}. Make the tar again")
        records[match[2].decode("utf-8", "backslashreplace")] = data[match.end() : end - 1].decode("utf-8", "backslashreplace")
        position = end
    return records
