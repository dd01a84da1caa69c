"""How often a run asks an object store: counted by a server that stands before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardprep.driver.run import run
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings, Step
from shardprep.shards.store import Store
from shardprep.sources.spec import SourceSpec
from tests.fates import make_files
from tests.runtime.stages import Measure, SplitInTwo
from tests.s3_server import BUCKET, S3Server, serving

STEPS: tuple[Step, ...] = (
    Pass(name="halves", stages=(SplitInTwo(),)),
    Pass(name="sizes", stages=(Measure(),)),
    Gather(name="good", does=Select(where="true")),
    Gather(name="train", does=Pack(samples_per_shard=8)),
)
A_FURTHER_SHARD = 8
"""Requests for each shard more of a pass: what it reads, the tar and the ledger, and whether another run was first."""
NOTHING_TO_DO = 25


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with serving() as started:
        yield started


@pytest.fixture
def s3(server: S3Server) -> S3Server:
    server.reset()
    return server


def asked(s3: S3Server, recipe: Recipe) -> int:
    """Run a recipe and return how many requests that took, without those of its lease, whose number is a matter of time."""
    s3.requests.clear()
    run(recipe)
    return sum("_leases" not in request.path + request.query for request in s3.requests)


def test_requests_for_each_further_shard_of_a_pass(s3: S3Server, tmp_path: Path) -> None:
    counts = {}
    for number in (2, 6):
        files = make_files(tmp_path / str(number), 2 * number)
        source = SourceSpec(videos=str(files), samples_per_shard=2)
        settings = RunSettings(workers=1, storage_options=s3.options)
        for steps in range(3):
            recipe = Recipe(name="c", source=source, output=f"s3://{BUCKET}/{number}", settings=settings, steps=STEPS[:steps])
            counts[number, steps] = asked(s3, recipe)
    further = [(counts[6, steps] - counts[2, steps]) / 4 for steps in range(3)]
    assert all(1 < number <= A_FURTHER_SHARD for number in further), further


def test_requests_of_a_run_with_nothing_to_do(s3: S3Server, tmp_path: Path) -> None:
    source = SourceSpec(videos=str(make_files(tmp_path / "files", 6)), samples_per_shard=2)
    settings = RunSettings(workers=1, storage_options=s3.options)
    recipe = Recipe(name="c", source=source, output=f"s3://{BUCKET}/out", settings=settings, steps=STEPS)
    run(recipe)
    assert 10 < asked(s3, recipe) <= NOTHING_TO_DO
    assert {request.method for request in s3.requests} <= {"GET", "HEAD"}


def test_small_files_are_read_in_one_request_and_a_tar_is_not_uploaded_twice(s3: S3Server, tmp_path: Path) -> None:
    store = Store(f"s3://{BUCKET}/files", s3.options)
    store.create_bytes("empty", b"")
    store.create_bytes("small", b"small")
    s3.requests.clear()
    assert (store.read("small"), store.read("empty"), store.read_if_there("gone")) == (b"small", b"", None)
    assert [request.method for request in s3.requests] == ["GET"] * 3

    source = SourceSpec(videos=str(make_files(tmp_path / "files", 2)), samples_per_shard=2)
    settings = RunSettings(workers=1, storage_options=s3.options)
    recipe = Recipe(name="c", source=source, output=f"s3://{BUCKET}/again", settings=settings, steps=())
    run(recipe)
    [tar] = [name for name in s3.names("again/raw/") if name.endswith(".tar")]
    [ledger] = [name for name in s3.names("again/raw/0") if name.endswith(".parquet")]
    s3.client().delete_object(Bucket=BUCKET, Key=ledger)
    s3.requests.clear()
    run(recipe)
    uploads = [request for request in s3.requests if request.method == "PUT" and request.path.endswith(tar)]
    assert len(uploads) == 1, "it is tried once, and found to be there"
    s3.client().put_object(Bucket=BUCKET, Key=tar, Body=b"damaged")
    s3.client().delete_object(Bucket=BUCKET, Key=ledger)
    run(recipe)
    assert s3.client().head_object(Bucket=BUCKET, Key=tar)["ContentLength"] > 7, "what was damaged is made whole"
