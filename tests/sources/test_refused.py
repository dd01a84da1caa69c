"""A refused file is its sample's fault where its store gives others, and the store's where it gives none."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from shardprep.errors import Forbidden, StoreError
from shardprep.sources.entry import SourceEntry, SourceMember
from shardprep.sources.refused import Witnesses, check_store

REFUSAL = Forbidden("reading a.json: 403")


@pytest.fixture
def store() -> Iterator[str]:
    """Return the URL of a store that gives `b.mp4`."""
    fs, name = MemoryFileSystem(), f"bucket-{uuid.uuid4().hex}"
    fs.pipe(f"/{name}/b.mp4", b"video")
    yield f"memory://{name}"
    fs.rm(f"/{name}", recursive=True)


def test_a_refused_document_costs_its_sample_alone_where_the_video_was_fetched_beforehand(store: str) -> None:
    copy, document = SourceMember("mp4", "/tmp/fetched-1/a.mp4", 0, 5), SourceMember("json", f"{store}/a.json", 0, 5)
    entry = SourceEntry(key="a", path="a.mp4", size=5, version="1", members=(copy,), documents=(document,))
    other = SourceMember("mp4", f"{store}/b.mp4", 0, 5)
    check_store(entry, REFUSAL, Witnesses(of_store={store: [other]}, is_only_store=True), None)
    gone = Witnesses(of_store={store: [document]}, is_only_store=True)
    with pytest.raises(StoreError, match=f"{store} refuses every file of the source"):
        check_store(entry, REFUSAL, gone, None)
