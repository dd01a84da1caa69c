"""Writing a shard: members into a tar as they come, then the ledger, whose creation is the commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType

from shardprep.core.blob import BytesBlob
from shardprep.core.fingerprint import canonical_json
from shardprep.core.outcome import Failed
from shardprep.core.sample import RECORD_SUFFIX, Member
from shardprep.errors import ShardError, Unavailable
from shardprep.runtime.guarded import SourceUnreadable
from shardprep.runtime.item import Work
from shardprep.runtime.rows import SOURCE, WRITING, Outgoing, Result
from shardprep.runtime.task import ShardTask
from shardprep.shards.checksums import sha256_of
from shardprep.shards.counts import count_rows
from shardprep.shards.ledger import (
    Footer,
    InputRow,
    Ledger,
    OutputRow,
    TarRef,
    encode_ledger,
    read_footer,
    shard_digest,
    without_nulls,
)
from shardprep.shards.names import ledger_name, parse_ledger_name, tar_name
from shardprep.shards.refusal import refusals
from shardprep.shards.set import Committed
from shardprep.shards.store import NewFile, Store
from shardprep.shards.tar import Placed, TarDigest, TarWriter

_RECORDED_VERSIONS = (
    "shardprep",
    "av",
    "opencv-python-headless",
    "scenedetect-headless",
    "torch",
    "transformers",
    "diffusers",
    "open_clip_torch",
)


class ShardWriter:
    """Takes the results of one shard in order and commits them; leaves nothing behind where it is not asked to."""

    def __init__(self, task: ShardTask, store: Store, work: Work) -> None:
        self._task, self._store, self._work = task, store, work
        self._file: NewFile | None = None
        self._tar: TarWriter | None = None
        self._inputs: list[InputRow] = []
        self._receivers: dict[str, str] = {}
        """By key of a joined input sample: the input sample that it went into."""
        self._outputs: list[OutputRow] = []
        self._keys: set[str] = set()
        self._stage = WRITING if task.chain else SOURCE

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.__exit__(kind, error, trace)

    def add(self, result: Result) -> None:
        """Write the members of one input sample's results and note its rows; what cannot be written fails."""
        self._work.journal.beat()
        if result.receiver is not None:
            self._receivers[result.row.key] = result.receiver
        if again := next((out.row.key for out in result.outgoing if out.row.key in self._keys), None):
            twice = Failed("duplicate-key", f"the key {again} came out twice; a stage that splits gives each child its own key")
            self._inputs.append(_failed_input(result.row, twice, self._stage))
            return
        self._keys.update(out.row.key for out in result.outgoing)
        lost = {out.row.key: failure for out in result.outgoing if (failure := self._write(out))}
        if not lost:
            self._inputs.append(result.row)
            return
        if self._task.joins or result.row.into == (result.row.key,):
            [failure] = lost.values()
            self._inputs.append(_failed_input(result.row, failure, self._stage))
            return
        # The rows of what was written are noted already.
        self._outputs += [_failed_output(out.row, lost[out.row.key], self._stage) for out in result.outgoing if out.row.key in lost]
        into = tuple(key for key in result.row.into if key not in lost)
        gone = replace(result.row, fate="dropped", stage=self._stage, reason="no-child-kept", into=())
        self._inputs.append(replace(result.row, into=into) if into else gone)

    def commit(self, num_reused: int, reused_seconds: float = 0.0) -> tuple[Committed, bool]:
        """Make the shard exist; return what stands in the store now and whether another writer was first."""
        self._inputs = with_shared_fates(self._inputs, self._receivers)
        kept = {row.key for row in self._outputs if row.fate == "kept"}
        assert kept == {key for row in self._inputs for key in row.into}, "input and output rows name each other"
        size = self._tar.size if self._tar is not None else 0
        with self._work.journal.commit(size):
            return self._commit(num_reused, reused_seconds)

    def _commit(self, num_reused: int, reused_seconds: float) -> tuple[Committed, bool]:
        task, store = self._task, self._store
        tar = self._commit_tar()
        name = str(ledger_name(task.shard, task.fingerprint, task.retry))
        footer = replace(self._footer(tar), reused=num_reused, reused_seconds=round(reused_seconds, 3))
        mine = store.create_bytes(name, encode_ledger(Ledger(tuple(self._inputs), tuple(self._outputs), footer), task.adds))
        if not mine:
            footer = read_footer(store.small(name), f"{store.url}/{name}")
        elif tar is not None and store.size(tar.name) is None:
            # Another run took it for a leftover before this ledger said that it is none.
            store.remove(name)
            raise Unavailable(f"{store.url}/{tar.name} vanished before its ledger was written: another run uses this output")
        # Nothing reads them any more, now that the new ledger stands; what came meanwhile goes when the step is done.
        written = {tar.name} if tar else set()
        for superseded in sorted({*task.earlier, *written} - {name, footer.tar.name if footer.tar else None}):
            store.remove(superseded)
        return Committed.from_footer(name, footer), not mine

    def _write(self, out: Outgoing) -> Failed | None:
        """Write one row's members and note the row; return why that is impossible, where it is the sample's fault."""
        members = list(out.members)
        if self._task.is_base and out.row.fate == "kept":
            # In the form in which a ledger gives it back, so that a copied outcome has the same bytes.
            members.insert(0, Member(RECORD_SUFFIX, BytesBlob(canonical_json(without_nulls(out.row.record)).encode())))
        placed = []
        for member in members:
            try:
                with self._work.timed("write"):
                    placed.append(self._place(out.row.key, member))
            except SourceUnreadable as error:
                return Failed(error.reason, str(error))
            except ShardError as error:
                # A member that lay in a shard already is the shard's fault; a new one has a name or a size that no tar takes.
                if member.sha256 is not None:
                    raise
                return Failed("not-packable", str(error))
        self._outputs.append(replace(out.row, members=tuple(placed)))
        return None

    def _place(self, key: str, member: Member) -> Placed:
        if self._tar is None:
            self._file = self._store.create()
            self._file.__enter__()
            self._tar = TarWriter(self._file, beat=self._work.journal.beat)
        with refusals(f"copying {key}.{member.suffix} into shard {self._task.shard}"):
            return self._tar.add(key, member)

    def _commit_tar(self) -> TarRef | None:
        # Of what cannot be written nothing stays in the tar, so that it may have been begun for nothing.
        if self._tar is None or self._file is None or not any(row.members for row in self._outputs):
            return None
        done = self._tar.close()
        name = tar_name(self._task.shard, done.sha256)
        # The name says what its bytes must be; what lies there may have been damaged, and is not uploaded again where it is not.
        if not self._file.commit(name) and not self._is_whole(name, done):
            self._file.commit(name, replace=True)
        return TarRef(name=name, sha256=done.sha256, size=done.size)

    def _is_whole(self, name: str, done: TarDigest) -> bool:
        return self._store.size(name) == done.size and sha256_of(self._store.blob(name, 0, done.size)) == done.sha256

    def _footer(self, tar: TarRef | None) -> Footer:
        task = self._task
        return Footer(
            step=task.step,
            shard=task.shard,
            fingerprint=task.fingerprint,
            step_fingerprint=task.step_fingerprint,
            digest=shard_digest(self._inputs, self._outputs, tar),
            inputs=tuple(at.reference() for at in task.chain),
            tar=tar,
            counts=count_rows(self._inputs, self._outputs),
            seconds={name: round(value, 3) for name, value in self._work.seconds.items()},
            decodes=self._work.decodes,
            halved=self._work.halved,
            versions=library_versions(),
            code=dict(task.code),
            supersedes=tuple(sorted(name for name in task.earlier if parse_ledger_name(name))),
        )


def find_standing(task: ShardTask, store: Store) -> Committed | None:
    """Return the shard where it is made already: another run on the same output was first."""
    name = str(ledger_name(task.shard, task.fingerprint, task.retry))
    if (data := store.read_if_there(name)) is None:
        return None
    footer = read_footer(BytesBlob(data), f"{store.url}/{name}")
    return Committed.from_footer(name, footer) if footer.fingerprint == task.fingerprint else None


def with_shared_fates(rows: Sequence[InputRow], receivers: Mapping[str, str]) -> list[InputRow]:
    """Return the rows with each joined sample's fate that of the sample it went into, however far that went itself.

    `receivers` names for each joined sample the one that it went into; both are input samples.
    """
    by_key = {row.key: row for row in rows}

    def shared(row: InputRow) -> InputRow:
        last = row.key
        while last in receivers:
            last = receivers[last]
        end = by_key[last]
        if end.fate == "kept":
            return replace(row, into=end.into)
        detail = f"it went into {row.into[0]}, which was {end.fate}" + (f": {end.detail}" if end.detail else "")
        return replace(row, fate=end.fate, stage=end.stage, reason=end.reason, detail=detail, into=())

    return [shared(row) if row.key in receivers else row for row in rows]


def _failed_input(row: InputRow, why: Failed, stage: str) -> InputRow:
    return replace(row, fate="failed", stage=stage, reason=why.reason, detail=why.detail, into=())


def _failed_output(row: OutputRow, why: Failed, stage: str) -> OutputRow:
    return OutputRow(key=row.key, parent=row.parent, fate="failed", stage=stage, reason=why.reason, detail=why.detail)


@cache  # reading them takes as long as writing a small shard
def library_versions() -> dict[str, str]:
    """Return the versions of the installed libraries that results can depend on."""
    found = {}
    for package in _RECORDED_VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
