"""Using outcomes again: what an earlier ledger of the shard says of samples that have not changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shardprep.core.fingerprint import digest
from shardprep.core.sample import Member, Sample
from shardprep.runtime.rows import Outgoing, Result
from shardprep.runtime.task import ShardTask
from shardprep.shards.ledger import InputRow, Ledger, OutputRow, read_footer, read_ledger
from shardprep.shards.names import parse_ledger_name
from shardprep.shards.store import Store


@dataclass(frozen=True)
class Earlier:
    """The outcomes of an earlier ledger by the key of the input sample."""

    ledger: Ledger | None = None
    inputs: Mapping[str, InputRow] = field(default_factory=dict)
    children: Mapping[str, list[OutputRow]] = field(default_factory=dict)

    def result(self, key: str, sample_digest: str, store: Store) -> Result | None:
        """Return what became of a sample, or None where it changed or is not known."""
        row = self.inputs.get(key)
        if row is None or row.digest != sample_digest:
            return None
        return Result(row, [Outgoing(out, self._members(out, store)) for out in self.children.get(key, ())])

    def _members(self, row: OutputRow, store: Store) -> list[Member]:
        tar = self.ledger.footer.tar if self.ledger else None
        if tar is None:
            return []
        return [
            Member(placed.suffix, store.blob(tar.name, placed.offset, placed.size), placed.crc32, placed.sha256)
            for placed in row.members
            if placed.suffix != "json"
        ]


def find_earlier(task: ShardTask, store: Store) -> Earlier:
    """Return the outcomes of the newest ledger that the same step made of the same shard.

    A retry takes all but what failed from the ledger that it retries.
    """
    if not task.reuse:
        return Earlier()
    names = [name for name in map(parse_ledger_name, store.names()) if name and name.shard == task.shard]
    made_alike = [name for name in names if read_footer(store.blob(str(name)), str(name)).step_fingerprint == task.step_fingerprint]
    if not made_alike:
        return Earlier()
    own = [name for name in made_alike if name.fingerprint == task.fingerprint[:8]]
    name = max(own or made_alike, key=lambda name: name.retry)
    ledger = read_ledger(store.blob(str(name)), f"{store.url}/{name}")
    children: dict[str, list[OutputRow]] = {}
    for row in ledger.outputs:
        children.setdefault(row.parent, []).append(row)
    failed = {row.key for row in ledger.inputs if row.fate == "failed"} | {row.parent for row in ledger.outputs if row.fate == "failed"}
    inputs = {row.key: row for row in ledger.inputs if not (task.retry and row.key in failed)}
    return Earlier(ledger, inputs, children)


def sample_digest(sample: Sample, reads: tuple[str, ...], is_base: bool) -> str:
    """Return the digest of what a pass reads of a sample: all of it where whole samples are written."""
    columns = sample.record if is_base else {name: sample.get(name) for name in reads if "." in name}
    roles = sample.members if is_base else {role: sample.members[role] for role in reads if role in sample.members}
    members = {role: [member.suffix, member.blob.size, member.sha256] for role, member in roles.items()}
    return digest([sample.key, columns, members])
