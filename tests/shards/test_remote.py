"""Stores on object storage: conditional uploads, ranges, and servers that answer in their own ways."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Any

import fsspec
import pytest

from shardprep.core.blob import read_blob
from shardprep.errors import StoreError, Unavailable
from shardprep.shards import remote
from shardprep.shards.store import Store


def write(store: Store, name: str, data: bytes) -> bool:
    with store.create() as file:
        file.write(data)
        return file.commit(name)


def test_a_large_upload_is_exclusive_too(s3: Mapping[str, str]) -> None:
    """Above twice 50 MiB s3fs uploads in parts, and the condition is on their completion."""
    store = Store("s3://bucket/large", s3)
    data = bytes(101 << 20)
    assert write(store, "a", data)
    assert not write(store, "a", data[1:])
    assert store.names() == {"a": len(data)}
    part = store.blob("a", len(data) - 3, 3)
    assert read_blob(part) == bytes(3)


def test_a_missing_bucket_and_a_server_that_is_gone_are_told_apart(s3: Mapping[str, str]) -> None:
    with pytest.raises(StoreError, match=r"writing s3://nobucket/out/a: not found"):
        Store("s3://nobucket/out", s3).create_bytes("a", b"")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = {**s3, "endpoint_url": f"http://127.0.0.1:{unused.getsockname()[1]}", "config_kwargs": {"retries": {"max_attempts": 1}}}
        with pytest.raises(Unavailable, match=r"reading s3://bucket/out/a: the store does not answer"):
            Store("s3://bucket/out", gone).read("a")


class ClientError(Exception):
    """What botocore raises, as far as it is looked at."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


@pytest.mark.parametrize(
    ("codes", "won"),
    [
        (["ConditionalRequestConflict", "409", None], True),
        (["409", "PreconditionFailed"], False),
        (["412"], False),
    ],
)
def test_what_s3_servers_answer_to_conditional_uploads(monkeypatch: pytest.MonkeyPatch, codes: list[str | None], won: bool) -> None:
    """Amazon answers 409 while two uploads race; MinIO and others answer 412 without the words that s3fs looks for."""
    answers = iter(codes)

    def put(*_: object, mode: str, **__: object) -> None:
        assert mode == "create"
        if code := next(answers):
            raise OSError(errno.EIO, code) from ClientError(code)

    monkeypatch.setattr(remote, "_CONFLICT_PAUSES_SECONDS", (0.0, 0.0))
    store = Store("memory://conflicts")
    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", put, raising=False)
    assert store.create_bytes("a", b"") is won
    assert next(answers, "none left") == "none left"


def test_a_conflict_that_lasts_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(*_: object, mode: str, **__: object) -> None:
        raise OSError(errno.EIO, "conflict") from ClientError("409")

    monkeypatch.setattr(remote, "_CONFLICT_PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", put, raising=False)
    with pytest.raises(Unavailable):
        Store("memory://conflicts").create_bytes("a", b"")


def test_a_filesystem_without_exclusive_create_is_refused_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(path: str, value: bytes) -> None:
        raise AssertionError("nothing is uploaded")

    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", put, raising=False)
    with pytest.raises(StoreError, match="cannot create exclusively"):
        Store("memory://conflicts").create_bytes("a", b"")


def test_an_unknown_kind_of_store_is_a_clear_error() -> None:
    with pytest.raises(StoreError, match=r"nosuch://x: .*Known kinds of stores"):
        Store("nosuch://x")


def test_a_server_that_knows_no_ranges_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://ranges")
    store.create_bytes("a", bytes(100))

    def whole(*_: Any, **__: Any) -> bytes:
        return bytes(100)

    monkeypatch.setattr(fsspec.filesystem("memory"), "cat_file", whole, raising=False)
    with pytest.raises(StoreError, match="100 bytes came for 10 asked"):
        read_blob(store.blob("a", 5, 10))
