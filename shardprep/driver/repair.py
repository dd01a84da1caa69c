"""Repair: shards whose bytes are not those that were written are made again."""

from __future__ import annotations

from shardprep.driver.state import StepState, Todo
from shardprep.errors import ShardprepError
from shardprep.shards.checksums import sha256_of
from shardprep.shards.names import by_shard, parse_ledger_name, tar_name
from shardprep.shards.set import Committed
from shardprep.shards.store import Store
from shardprep.shards.verify import verify_ledger


def mark_damaged(state: StepState) -> list[str]:
    """Have a step make again what `verify` finds damaged; return what is wrong, a line per shard. Every byte of the step is read.

    A damaged tar is removed: its name says what its bytes must be, and the new one takes it.
    """
    names = by_shard(state.set.store.names())
    lines = []
    for shard, committed in list(state.seen.items()):
        if line := _damage(state, committed):
            parsed = parse_ledger_name(committed.ledger)
            assert parsed is not None, "what is seen was found by its name"
            state.seen.pop(shard)
            _remove_damaged_tar(state.set.store, shard, committed)
            earlier = tuple(names.get(shard, ()))
            state.todo[shard] = Todo(str(state.fingerprints[shard]), "damaged", earlier, parsed.retry + 1)
            lines.append(line)
    return lines


def _damage(state: StepState, committed: Committed) -> str | None:
    where = f"{state.name}/{committed.ledger}"
    try:
        problem = next(verify_ledger(state.set.store, state.set.ledger(committed.ledger), where, committed.ledger), None)
    except ShardprepError as error:
        return str(error)
    return f"{problem.where}: {problem.what}" if problem else None


def _remove_damaged_tar(store: Store, shard: str, committed: Committed) -> None:
    tar = committed.tar
    if tar is not None and store.size(tar) is not None and tar_name(shard, sha256_of(store.blob(tar))) != tar:
        store.remove(tar)
