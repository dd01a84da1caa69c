"""Sealed documents: what was written comes back, every changed byte is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardprep.core.fingerprint import FORMAT_VERSION
from shardprep.errors import ShardError
from shardprep.shards.sealed import create_sealed, read_sealed, seal, unseal, write_sealed
from shardprep.shards.store import Store

VALUES = {"kind": "packed", "shards": ["000000", "000001"], "share": 0.5, "name": "é", "nothing": None}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert read_sealed(store, "x.json", "Write it again", dict) is None
    write_sealed(store, "x.json", VALUES)
    assert read_sealed(store, "x.json", "Write it again", dict) == VALUES
    assert not create_sealed(store, "x.json", {"other": 1})
    assert read_sealed(store, "x.json", "Write it again", dict) == VALUES


def test_every_changed_byte_is_noticed() -> None:
    data = seal(VALUES)
    for place in range(len(data)):
        for changed in (data[place] ^ 1, data[place] ^ 0x20, 0x20, 0x0A):
            if changed != data[place]:
                spoiled = data[:place] + bytes([changed]) + data[place + 1 :]
                with pytest.raises(ShardError, match=r"^x cannot be read \((?s:.+)\)\. Write it again$"):
                    unseal(spoiled, "x", "Write it again", dict)


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_document_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ShardError, match="x cannot be read"):
        unseal(seal(VALUES)[:cut], "x", "Write it again", dict)


@pytest.mark.parametrize("data", [b"[]", b"null", b"[" * 100_000, b'{"a": NaN}', b"\xff", b'{"digest": []}'])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(ShardError):
        unseal(data, "x", "Write it again", dict)


def test_another_format_is_said_and_not_called_damage() -> None:
    """A document of the first format had no seal."""
    assert FORMAT_VERSION == 2
    with pytest.raises(ShardError, match="x has format 1; this version of shardprep reads 2"):
        unseal(json.dumps({"format": 1, "kind": "base"}).encode(), "x", "Write it again", dict)
