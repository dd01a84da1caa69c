"""File names inside a set say shard, fingerprint and retry, and nothing else passes for one of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.shards.names import by_shard, ledger_name, parse_ledger_name, shard_name, shard_of, tar_name

HEX = "0123456789abcdef"
shards = st.integers(0, 10**8).map(shard_name) | st.tuples(st.integers(0, 10**4), st.integers(0, 10**7)).map(
    lambda p: f"b{p[0]:03d}-{p[1]:06d}"
)


@given(shards, st.text(HEX, min_size=64, max_size=64), st.integers(0, 10**10))
def test_the_name_of_a_ledger_is_read_back(shard: str, fingerprint: str, retry: int) -> None:
    name = ledger_name(shard, fingerprint, retry)
    assert parse_ledger_name(str(name)) == name
    assert (name.shard, name.fingerprint, name.retry) == (shard, fingerprint[:8], retry)
    assert shard_of(str(name)) == shard


@given(shards, st.text(HEX, min_size=64, max_size=64))
def test_the_name_of_a_tar_is_read_back(shard: str, sha256: str) -> None:
    name = tar_name(shard, sha256)
    assert shard_of(name) == shard
    assert parse_ledger_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *"set.json digests.json index.parquet manifest.json b000-000000.tar .tmp-0123456789abcdef 000000-0123456789ab.rows".split(),
        *"assignment-0123456789ab.parquet assignment-012345678901.parquet x/000000-01234567.parquet".split(),
        *"000000-0123456.parquet 000000-0123456g.parquet 000000.parquet 00000-01234567.parquet 000000-01234567-x.parquet".split(),
        *"000000-0123456789abc.tar 000000-01234567.parquet.tmp".split(),
    ],
)
def test_other_files_are_neither(name: str) -> None:
    assert parse_ledger_name(name) is None
    assert shard_of(name) is None


def test_a_retry_is_later_than_what_it_retries() -> None:
    names = [ledger_name("000000", "f" * 64, retry) for retry in (0, 2, 10)]
    assert max(reversed(names), key=lambda name: name.retry) == names[2]
    assert [str(name) for name in names] == ["000000-ffffffff.parquet", "000000-ffffffff-2.parquet", "000000-ffffffff-10.parquet"]


def test_names_by_shard() -> None:
    names = ["000001-0123456789ab.tar", "000000-01234567.parquet", "set.json", "000001-01234567-2.parquet"]
    assert by_shard(names) == {"000001": [names[0], names[3]], "000000": [names[1]]}
