"""Using outcomes again: what an earlier ledger of the shard says of samples that have not changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from shardprep.core.code import changed_codes
from shardprep.core.fingerprint import digest
from shardprep.core.reads import Read, columns_of, narrowed, roles_of
from shardprep.core.sample import Member, Sample
from shardprep.errors import ShardError
from shardprep.runtime.rows import Outgoing, Result
from shardprep.runtime.task import ShardTask
from shardprep.shards.ledger import Footer, InputRow, Ledger, OutputRow, comparable, read_footer, read_ledger
from shardprep.shards.names import parse_ledger_name
from shardprep.shards.store import Store


@dataclass(frozen=True)
class Earlier:
    """The outcomes of an earlier ledger by the key of the input sample."""

    ledger: Ledger | None = None
    inputs: Mapping[str, InputRow] = field(default_factory=dict)
    children: Mapping[str, list[OutputRow]] = field(default_factory=dict)

    @property
    def seconds_per_sample(self) -> float:
        """What a sample took in the runs before."""
        if self.ledger is None or not self.ledger.inputs:
            return 0.0
        footer = self.ledger.footer
        return (sum(footer.seconds.values()) + footer.reused_seconds) / len(self.ledger.inputs)

    def results(self, digests: Mapping[str, str], store: Store, *, together: bool) -> dict[str, Result]:
        """Return what became of the samples that have not changed, by key; `digests` are those of the samples now.

        Where samples are worked on `together` (a stage joins groups) the outcomes hold for all of them or for none.
        """
        known = {key: row for key, row in self.inputs.items() if digests.get(key) == row.digest}
        if together and not known.keys() == digests.keys() == self.inputs.keys():
            return {}
        return {
            key: Result(row, [Outgoing(out, self._members(out, store)) for out in self.children.get(key, ())]) for key, row in known.items()
        }

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
    """Return the outcomes of the newest ledger that the same step, with the same code, made of the same shard.

    A ledger that cannot be read, or whose tar is not there whole, counts as not there. With
    `redo_failed` all but what failed is taken.
    """
    if not task.reuse:
        return Earlier()
    # Outcomes of a stage's code as it was are not mixed with those of its code as it is.
    footers = {
        name: footer
        for name, footer in _footers(task, store).items()
        if footer.step_fingerprint == task.step_fingerprint and not changed_codes(footer.code, task.code)
    }
    own = [name for name, footer in footers.items() if footer.fingerprint == task.fingerprint]
    ledger = _newest(own or list(footers), store)
    if ledger is None:
        return Earlier()
    children: dict[str, list[OutputRow]] = {}
    for row in ledger.outputs:
        children.setdefault(row.parent, []).append(row)
    failed = {row.key for row in ledger.inputs if row.fate == "failed"} | {row.parent for row in ledger.outputs if row.fate == "failed"}
    inputs = {row.key: row for row in ledger.inputs if not (task.redo_failed and row.key in failed)}
    return Earlier(ledger, inputs, children)


def sample_digest(sample: Sample, reads: Sequence[Read], is_base: bool) -> str:
    """Return the digest of what a pass reads of a sample: all of it where whole samples are written."""
    columns = sample.record if is_base else narrowed(sample.record, columns_of(reads))
    roles = sample.members if is_base else {role: sample.members[role] for role in roles_of(reads) if role in sample.members}
    members = {role: [member.suffix, member.blob.size, member.sha256] for role, member in roles.items()}
    return digest([sample.key, comparable(columns), members])


def _footers(task: ShardTask, store: Store) -> dict[str, Footer]:
    """Return the footers of the shard's whole ledgers by file name."""
    found = {}
    for name in filter(parse_ledger_name, task.earlier):
        with suppress(ShardError), store.unless_gone(name):
            footer = read_footer(store.small(name), f"{store.url}/{name}")
            if footer.tar is None or store.size(footer.tar.name) == footer.tar.size:
                found[name] = footer
    return found


def _newest(names: list[str], store: Store) -> Ledger | None:
    """Return the ledger with the highest number that can be read; its footer alone may have been whole."""
    for name in sorted(names, key=_retry, reverse=True):
        with suppress(ShardError), store.unless_gone(name):
            return read_ledger(store.small(name), f"{store.url}/{name}")
    return None


def _retry(name: str) -> int:
    parsed = parse_ledger_name(name)
    return parsed.retry if parsed else 0
