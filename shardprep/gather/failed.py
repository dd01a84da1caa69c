"""The samples that cannot be packed: their fates, in a ledger of the packing that holds no sample."""

from __future__ import annotations

from collections.abc import Mapping

from shardprep.core.fingerprint import digest
from shardprep.gather.outline import UNREADABLE, Unpackable
from shardprep.packed.names import FAILED_SHARD
from shardprep.shards.counts import count_rows
from shardprep.shards.ledger import Footer, InputRef, InputRow, Ledger, encode_ledger, shard_digest
from shardprep.shards.names import ledger_name
from shardprep.shards.set import Committed, SetInfo
from shardprep.shards.store import Store


def commit_failed(
    ledgers: Store, info: SetInfo, unpackable: Mapping[str, tuple[Unpackable, ...]], references: Mapping[str, InputRef]
) -> Committed:
    """Write the ledger of the samples that failed, by input shard, where it is not there yet, and return it."""
    rows = tuple(
        InputRow(key=sample.key, fate="failed", stage="pack", reason=UNREADABLE, detail=sample.detail)
        for shard in sorted(unpackable)
        for sample in unpackable[shard]
    )
    footer = Footer(
        step=info.step,
        shard=FAILED_SHARD,
        fingerprint=digest([info.step_fingerprint, FAILED_SHARD, [[row.key, row.detail] for row in rows]]),
        step_fingerprint=info.step_fingerprint,
        digest=shard_digest(rows, (), None),
        inputs=tuple(references[shard] for shard in sorted(unpackable)),
        counts=count_rows(rows, ()),
    )
    name = str(ledger_name(FAILED_SHARD, footer.fingerprint))
    ledgers.create_bytes(name, encode_ledger(Ledger(rows, (), footer), {}))
    return Committed.from_footer(name, footer)
