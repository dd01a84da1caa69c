"""Bodies that come cut short, with a length as if that were all: what is left out is asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardprep.core.blob import read_blob
from shardprep.driver.run import run
from shardprep.errors import SourceChanged, StoreError, Unavailable
from shardprep.recipe.model import Recipe, RunSettings
from shardprep.shards import remote
from shardprep.shards.store import Store
from shardprep.sources.spec import SourceSpec
from tests.s3_server import BUCKET, S3Server, serving

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with serving() as started:
        yield started


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setattr(remote, "_SHORT_BODY_PAUSES_SECONDS", (0.0, 0.0, 0.0))
    server.reset()
    return server


def test_what_a_server_leaves_out_is_asked_for_again(s3: S3Server) -> None:
    s3.put("a.bin", DATA)
    store = Store(f"s3://{BUCKET}", s3.options)
    s3.short[f"/{BUCKET}/a.bin"] = 3
    assert read_blob(store.blob("a.bin", 100, 10_000)) == DATA[100:10_100]
    ranges = [request.part for request in s3.requests if request.method == "GET"]
    assert ranges == ["bytes=100-10099", "bytes=5100-10099", "bytes=7600-10099", "bytes=8850-10099"]


def test_a_server_that_always_breaks_off_is_unavailable_and_a_file_that_shrank_is_said(s3: S3Server) -> None:
    s3.put("b.bin", DATA)
    store = Store(f"s3://{BUCKET}", s3.options)
    blob = store.blob("b.bin", 0, len(DATA))
    s3.short[f"/{BUCKET}/b.bin"] = 100
    with pytest.raises(Unavailable, match="the store breaks off after 9365 of 9990 bytes, again and again"):
        read_blob(store.blob("b.bin", 0, 9_990))
    # Of a whole object the checksum is known: nothing of a body that came short is used.
    with pytest.raises(Unavailable, match="reading bucket/b.bin: the store does not answer .*checksum"):
        read_blob(blob)
    s3.short.clear()
    s3.put("b.bin", DATA[:1000])
    with pytest.raises(StoreError, match="reading bucket/b.bin: "):
        read_blob(blob)


def test_a_run_goes_on_over_bodies_that_come_short(s3: S3Server, tmp_path: Path) -> None:
    for number in range(3):
        s3.put(f"short/v{number}.mp4", DATA)
        s3.short[f"/{BUCKET}/short/v{number}.mp4"] = 2
    source = SourceSpec(videos=f"s3://{BUCKET}/short", storage_options=s3.options)
    [raw] = run(Recipe(name="r", source=source, output=str(tmp_path / "out"), settings=RunSettings(workers=1), steps=())).steps
    assert (raw.samples_out, raw.failed) == (3, {})
    tars = list((tmp_path / "out" / "raw").glob("*.tar"))
    assert sum(tar.read_bytes().count(DATA) for tar in tars) == 3


def test_an_object_that_is_replaced_while_it_is_read_is_named(s3: S3Server, tmp_path: Path) -> None:
    s3.put("v/a.bin", DATA)
    store = Store(f"s3://{BUCKET}/v", s3.options)
    [listed] = store.walk()
    assert listed.seen == store.version("a.bin")
    blob = store.blob("a.bin", 100, 10_000, listed.seen)
    s3.requests.clear()
    assert read_blob(blob) == DATA[100:10_100]
    assert [request.method for request in s3.requests] == ["GET", "HEAD"]
    s3.put("v/a.bin", DATA[::-1])
    with pytest.raises(SourceChanged, match=r"v/a\.bin was changed after it was listed; run again"):
        read_blob(blob)
    with pytest.raises(SourceChanged, match=r"v/a\.bin was changed"), blob.open() as file:
        file.read(10)  # and no more: what was read counts when it is closed
    with pytest.raises(SourceChanged, match=r"v/a\.bin was changed"):
        store.fetch("a.bin", tmp_path, listed.seen)
    assert list(tmp_path.iterdir()) == []
    s3.put("v/a.bin", DATA[:5000])
    with pytest.raises(SourceChanged, match=r"it had 10240 bytes and has 5000"):
        read_blob(blob)
    s3.client().delete_object(Bucket=BUCKET, Key="v/a.bin")
    with pytest.raises(SourceChanged, match=r"v/a\.bin was removed after it was listed"):
        read_blob(blob)
