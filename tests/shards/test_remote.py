"""Stores on object storage: conditional uploads, ranges, and servers that answer in their own ways."""

from __future__ import annotations

import errno
import re
import socket
import sys
from collections.abc import Mapping
from typing import Any

import boto3
import fsspec
import pytest

from shardprep.core.blob import read_blob
from shardprep.errors import RecipeError, StoreError, Unavailable, UnknownStore
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


def test_a_listing_is_not_remembered(s3: Mapping[str, str]) -> None:
    store = Store("s3://bucket/remembered", s3)
    store.create_bytes("a", b"1")
    assert store.names() == {"a": 1}
    # Another process writes, of which this one's filesystem knows nothing.
    client = boto3.client("s3", endpoint_url=s3["endpoint_url"], aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1")
    data = bytes(remote.BLOCK_BYTES + 1)
    client.put_object(Bucket="bucket", Key="remembered/b", Body=data)
    assert store.read("b") == data


def test_a_missing_bucket_and_a_server_that_is_gone_are_told_apart(s3: Mapping[str, str]) -> None:
    with pytest.raises(StoreError, match=r"writing s3://nobucket/out/a: there is no such bucket\. Check its name and the endpoint"):
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


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://x", "nosuch:// is no kind of store that is read here; copy the files first. Known kinds of stores: local paths, s3://"),
        ("hf://datasets/a/b", "hf:// is no kind of store"),
        ("ftp://host/x", "ftp:// is no kind of store"),
        ("github://org/x", "github:// is no kind of store"),
        ("s3::file:///tmp/x", "chained URLs (a::b) are not read"),
        ("simplecache::s3://bucket/x", "chained URLs (a::b) are not read"),
        ("zip://x::/tmp/a.zip", "zip:// is no kind of store"),
        ("s3://", "it names no bucket or host; expected s3://NAME/PATH"),
        ("https://", "it names no bucket or host"),
        ("gs://bucket/x", 'gs:// needs the extra gcs. Install it with: pip install "shardprep[gcs]"'),
        ("az://box/x", "az:// needs adlfs. Install it with: pip install adlfs"),
    ],
)
def test_an_unknown_kind_of_store_is_a_clear_error_before_anything_runs(monkeypatch: pytest.MonkeyPatch, url: str, message: str) -> None:
    # What is not installed here may be elsewhere.
    for module in ("gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnknownStore, match=re.escape(f"{url}: ") + ".*" + re.escape(message)) as caught:
        Store(url)
    assert isinstance(caught.value, RecipeError), "exit code 2"


def test_a_server_that_knows_no_ranges_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://ranges")
    store.create_bytes("a", bytes(100))

    def whole(*_: Any, **__: Any) -> bytes:
        return bytes(100)

    monkeypatch.setattr(fsspec.filesystem("memory"), "cat_file", whole, raising=False)
    with pytest.raises(StoreError, match="100 bytes came for 10 asked"):
        read_blob(store.blob("a", 5, 10))
