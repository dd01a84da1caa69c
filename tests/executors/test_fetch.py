"""Fetching ahead: from an S3 server that counts and is slow, within bounds, and whole runs on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from shardprep.core.blob import read_blob
from shardprep.core.reads import parse_read
from shardprep.driver.model import Silent
from shardprep.driver.run import run
from shardprep.executors.fetch import Fetcher
from shardprep.executors.local import LocalExecutor
from shardprep.executors.stop import StopSignal
from shardprep.gather.settings import Pack
from shardprep.packed.sets import open_set
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.runtime.inputs import RemoteFile, remote_files, with_copies
from shardprep.runtime.task import ShardResult, ShardTask
from shardprep.runtime.worker import work_on
from shardprep.shards.join import LedgerAt
from shardprep.sources.entry import SourceEntry, SourceMember
from shardprep.sources.spec import SourceSpec
from tests.fates import make_files
from tests.misbehaving import Linger
from tests.runtime.stages import Measure, SplitInTwo

BUCKET = "fetching"


@dataclass
class SlowS3:
    """A server that notes what is read of it, and when."""

    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    """How long an answer takes."""
    reads: list[tuple[float, str, str]] = field(default_factory=list)
    """Time, path and range of every GET of an object."""

    def application(self) -> Callable[..., Any]:
        moto = DomainDispatcherApplication(create_backend_app)

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].count("/") > 2:
                self.reads.append((time.monotonic(), environ["PATH_INFO"], environ.get("HTTP_RANGE", "")))
                time.sleep(self.seconds)
            return moto(environ, start_response)

        return answer

    def tars_read(self) -> dict[str, list[str]]:
        """Return the ranges that were read of every tar."""
        found: dict[str, list[str]] = {}
        for _, path, part in self.reads:
            if path.endswith(".tar"):
                found.setdefault(path, []).append(part)
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[SlowS3]:
    s3 = SlowS3()
    http = make_server("127.0.0.1", 0, s3.application(), threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{http.server_port}"
    s3.options = {"key": "k", "secret": "s", "endpoint_url": url}
    boto3.client("s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1").create_bucket(
        Bucket=BUCKET
    )
    yield s3
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def slow_s3(server: SlowS3) -> SlowS3:
    server.reads.clear()
    server.seconds = 0.0
    return server


def put(s3: SlowS3, name: str, data: bytes) -> RemoteFile:
    client = boto3.client(
        "s3", endpoint_url=s3.options["endpoint_url"], aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    client.put_object(Bucket=BUCKET, Key=name, Body=data)
    return RemoteFile(f"s3://{BUCKET}/{name}", len(data), s3.options)


def test_files_are_copied_and_dropped(slow_s3: SlowS3, tmp_path: Path) -> None:
    files = [put(slow_s3, "one/a.tar", b"first"), put(slow_s3, "two/a.tar", b"second")]
    fetcher = Fetcher(tmp_path)
    fetched = fetcher.begin(files)
    assert fetched is not None
    assert fetched.done.wait(20)
    assert {url: Path(path).read_bytes() for url, path in fetched.copies.items()} == {files[0].url: b"first", files[1].url: b"second"}
    fetcher.drop(fetched)
    assert not list(tmp_path.iterdir())


def test_no_more_is_held_than_the_bound(slow_s3: SlowS3, tmp_path: Path) -> None:
    files = [put(slow_s3, f"bound/{number}.tar", bytes(400)) for number in range(4)]
    fetcher = Fetcher(tmp_path, max_bytes=1000)
    first, second, third = (fetcher.begin([file]) for file in files[:3])
    assert first is not None
    assert second is not None
    assert third is None, "800 of 1000 bytes are held"
    fetcher.drop(first)
    assert fetcher.begin([files[2]]) is not None
    assert fetcher.fitting([*files, RemoteFile("s3://x/large", 2000)]) == files[:2], "together they would never fit"
    fetcher.close()


def test_what_cannot_be_fetched_is_left_to_the_worker(slow_s3: SlowS3, tmp_path: Path) -> None:
    absent = RemoteFile(f"s3://{BUCKET}/absent.tar", 10, slow_s3.options)
    short = replace(put(slow_s3, "short.tar", b"123"), size=10)
    fetched = Fetcher(tmp_path).begin([absent, short, put(slow_s3, "good.tar", b"good")])
    assert fetched is not None
    assert fetched.done.wait(20)
    assert list(fetched.copies) == [f"s3://{BUCKET}/good.tar"]


def test_a_download_in_progress_does_not_hold_up_the_end(slow_s3: SlowS3, tmp_path: Path) -> None:
    slow_s3.seconds = 1.0
    fetcher = Fetcher(tmp_path)
    fetched = fetcher.begin([put(slow_s3, "slow.tar", bytes(100)), put(slow_s3, "never.tar", bytes(100))])
    assert fetched is not None
    started = time.monotonic()
    fetcher.close()
    assert time.monotonic() - started < 0.5
    assert fetched.done.wait(20)
    assert not list(tmp_path.iterdir())
    assert not [path for _, path, _ in slow_s3.reads if "never" in path], "the second is not even begun"


def at(url: str, tar: str | None, size: int, *roles: str) -> LedgerAt:
    return LedgerAt(url=url, set=url.rsplit("/", 1)[-1], ledger="l.parquet", digest="d", tar=tar, tar_bytes=size, roles=roles)


CHAIN = (
    at("s3://b/clips", "c.tar", 1000),
    at("s3://b/scores", None, 0),
    at("s3://b/latents", "l.tar", 100, "latent"),
)


@pytest.mark.parametrize(
    ("reads", "is_base", "tars"),
    [
        (("video", "scores.flow"), False, ["clips/c.tar"]),
        (("latent",), False, ["latents/l.tar"]),
        (("video", "latent"), False, ["clips/c.tar", "latents/l.tar"]),
        (("scores.flow",), False, []),
        ((), True, ["clips/c.tar", "latents/l.tar"]),
    ],
)
def test_only_tars_that_the_task_reads_are_fetched(reads: tuple[str, ...], is_base: bool, tars: list[str]) -> None:
    task = task_of(chain=CHAIN, reads=tuple(map(parse_read, reads)), is_base=is_base)
    assert [file.url for file in remote_files(task)] == [f"s3://b/{tar}" for tar in tars]
    changed = replace(task, **with_copies(task, {"s3://b/clips/c.tar": "/tmp/c"}))
    assert [part.tar_copy for part in changed.chain] == ["/tmp/c", None, None]
    assert [part.reference() for part in changed.chain] == [part.reference() for part in CHAIN]


def test_nothing_local_is_fetched() -> None:
    assert remote_files(task_of(chain=(at("/data/clips", "c.tar", 10),), reads=(parse_read("video"),))) == []


def test_of_a_foreign_tar_only_the_larger_part_is_worth_a_copy() -> None:
    def entry(key: str, offset: int, size: int) -> SourceEntry:
        return SourceEntry(
            key=key, path=f"big.tar!{key}", size=size, version="1", members=(SourceMember("mp4", "s3://b/big.tar", offset, size),)
        )

    few = [entry("a", 512, 100), entry("b", 5000, 100)]
    many = [entry("a", 512, 4000), entry("b", 5000, 4000)]
    assert remote_files(task_of(entries=tuple(few))) == []
    [file] = remote_files(task_of(entries=tuple(many)))
    assert (file.url, file.size) == ("s3://b/big.tar", 9000)
    task = task_of(entries=tuple(many))
    changed = replace(task, **with_copies(task, {"s3://b/big.tar": "/tmp/big"}))
    assert {member.url for one in changed.entries for member in one.members} == {"/tmp/big"}
    assert [one.identity() for one in changed.entries] == [one.identity() for one in task.entries]


def task_of(**fields: Any) -> ShardTask:
    plain = {"step": "s", "shard": "0", "out_url": "s3://b/o", "fingerprint": "f", "step_fingerprint": "f", "stages": (), "adds": {}}
    return ShardTask(**{**plain, "is_base": False, "reads": (), **fields})


def recipe_on(s3: SlowS3, output: str, sources: str, **settings: Any) -> Recipe:
    return Recipe(
        name="remote",
        source=SourceSpec(videos=sources, samples_per_shard=4, storage_options=s3.options),
        output=output,
        settings=RunSettings(storage_options=s3.options, **settings),
        steps=(
            Pass(name="halves", stages=(SplitInTwo(),)),
            Pass(name="lengths", stages=(Measure(),)),
            Gather(name="train", does=Pack(samples_per_shard=5)),
        ),
    )


def test_a_whole_run_on_s3_reads_every_tar_once_and_gives_the_bytes_of_a_local_one(slow_s3: SlowS3, tmp_path: Path) -> None:
    for path in make_files(tmp_path / "files", 10).iterdir():
        put(slow_s3, f"sources/{path.name}", path.read_bytes())
    slow_s3.seconds = 0.02
    tmp = tmp_path / "tmp"
    run(recipe_on(slow_s3, f"s3://{BUCKET}/out", f"s3://{BUCKET}/sources", workers=2, tmp=str(tmp)))
    raw = {path: parts for path, parts in slow_s3.tars_read().items() if "/raw/" in path}
    assert len(raw) == 3
    assert all(len(parts) == 1 for parts in raw.values()), "one request, for the whole tar, by whoever fetches"
    assert not list(tmp.iterdir())

    local = recipe_on(slow_s3, str(tmp_path / "local"), str(tmp_path / "files"), workers=1)
    run(local)
    on_s3, here = (
        {s.key: s for s in open_set(url, options)}
        for url, options in (
            (f"s3://{BUCKET}/out/train", slow_s3.options),
            (str(tmp_path / "local" / "train"), None),
        )
    )
    assert len(here) == 20
    assert on_s3.keys() == here.keys()
    for key, sample in here.items():
        assert on_s3[key].record == sample.record
        assert {role: read_blob(m.blob) for role, m in on_s3[key].members.items()} == {
            role: read_blob(m.blob) for role, m in sample.members.items()
        }


class Clock(Silent):
    """Notes when shards are done."""

    def __init__(self) -> None:
        self.done: dict[tuple[str, str], float] = {}

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        self.done[name, shard] = time.monotonic()


def test_the_next_shard_is_fetched_while_one_runs_and_no_more(slow_s3: SlowS3, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    stage = Linger(folder=str(notes), seconds=0.1, accepts=("video",))
    files = make_files(tmp_path / "files", 12)
    recipe = replace(recipe_on(slow_s3, f"s3://{BUCKET}/ahead", str(files), workers=1), steps=(Pass(name="work", stages=(stage,)),))
    clock = Clock()
    run(recipe, None, clock)
    fetched = sorted(time for time, path, _ in slow_s3.reads if "/raw/" in path and path.endswith(".tar"))
    done = [clock.done["work", f"{number:06d}"] for number in range(3)]
    assert len(fetched) == 3
    assert fetched[1] < done[0] < fetched[2] < done[1], "each while the one before it is made, and not earlier"


def test_two_runs_on_one_output_on_s3_commit_every_shard_once(slow_s3: SlowS3, tmp_path: Path) -> None:
    files = make_files(tmp_path / "files", 8)
    output = f"s3://{BUCKET}/twice"
    summaries = []
    threads = [threading.Thread(target=lambda: summaries.append(run(recipe_on(slow_s3, output, str(files), workers=1)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[step.kept for step in summary.steps] for summary in summaries] == [[8, 8, 16, 16]] * 2
    client = boto3.client(
        "s3", endpoint_url=slow_s3.options["endpoint_url"], aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    names = [entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET, Prefix="twice/")["Contents"]]
    ledgers = [name for name in names if name.endswith(".parquet") and "/0" in name]
    assert len(ledgers) == 2 + 2 + 2, "one ledger per shard of raw, halves and lengths"
    assert len([name for name in names if "/raw/" in name and name.endswith(".tar")]) == 2
    assert len(list(open_set(f"{output}/train", slow_s3.options))) == 16


def test_copies_go_with_their_shard_so_that_a_small_bound_holds_up_nobody(slow_s3: SlowS3, tmp_path: Path) -> None:
    files = [put(slow_s3, f"many/{number}.mp4", bytes([number]) * 400) for number in range(5)]
    entries = [
        SourceEntry(key=f"k{n}", path=f"{n}.mp4", size=400, version="1", members=(SourceMember("mp4", file.url, 0, 400),))
        for n, file in enumerate(files)
    ]
    tasks = [
        task_of(
            shard=f"{n:06d}", out_url=str(tmp_path / "out"), fingerprint=f"{n:064x}", is_base=True, entries=(one,), source_options=s.options
        )
        for n, (one, s) in enumerate(zip(entries, files, strict=True))
    ]
    stop = StopSignal()
    # Where copies stay, the third shard waits for room for ever.
    timer = threading.Timer(60, stop.abandon.set)
    timer.start()
    with LocalExecutor(1, stop=stop, tmp=str(tmp_path / "tmp"), fetch_bytes=1000) as executor:
        answers = list(executor.run(tasks, work_on))
        timer.cancel()
        assert [type(answer) for answer in answers] == [ShardResult] * 5
        assert not list((tmp_path / "tmp").rglob("fetched-*")), "no copy outlives its shard"
