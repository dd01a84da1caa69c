"""A run tells what it does, shares an output with another, and runs on object storage as on a disk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from shardprep.driver.model import VIDEO_MS, RunOptions, RunSummary, Silent, StepSummary
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.driver.verify import verify
from shardprep.errors import RecipeError, RunFailed
from shardprep.recipe.model import Pass, Recipe
from shardprep.shards.join import open_view
from shardprep.shards.store import Store
from shardprep.sources.spec import SourceSpec
from shardprep.stages.probe_media import ProbeMedia
from shardprep.stages.score_exposure import ScoreExposure
from tests.driver.made import Made
from tests.driver.outputs import digests, make_sources
from tests.driver.recipes import counted


@dataclass
class Told:
    """A reporter that keeps what it is told."""

    started: list[tuple[str, int, int | None]] = field(default_factory=list)
    shards: list[tuple[str, str]] = field(default_factory=list)
    done: list[StepSummary] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    video_ms: Counter[str] = field(default_factory=Counter)

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        self.started.append((name, num_shards, num_samples))

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        self.shards.append((name, shard))
        if VIDEO_MS in counts:
            self.video_ms[name] += counts[VIDEO_MS]

    def step_done(self, summary: StepSummary) -> None:
        self.done.append(summary)

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_a_run_tells_its_steps_shards_and_samples(made: Made, tmp_path: Path) -> None:
    told = Told()
    summary = run(replace(made.recipe(), output=str(tmp_path / "fresh")), reporter=told)
    assert told.started == [("raw", 3, 10), ("numbers", 3, 10), ("good", 3, 10), ("features", 3, 6), ("train", 2, 6)]
    assert sorted(told.shards)[:3] == [("features", "000000"), ("features", "000001"), ("features", "000002")]
    assert len(told.shards) == 14
    assert tuple(told.done) == summary.steps
    good = summary.steps[2]
    assert (good.samples_in, good.kept, good.samples_out, good.dropped, good.failed) == (10, 6, 6, {"where": 4}, {})
    assert told.messages == []


def test_a_second_run_tells_of_no_shard(made: Made) -> None:
    told = Told()
    summary = run(made.recipe(), reporter=told)
    assert [entry[:2] for entry in told.started] == [("raw", 0), ("numbers", 0), ("good", 0), ("features", 0)]
    assert told.shards == []
    assert [(step.samples_in, step.samples_out) for step in summary.steps] == [(10, 10), (10, 10), (10, 6), (6, 6), (6, 6)]


def test_a_small_folder_is_several_shards_and_its_seconds_of_video_are_told(tmp_path: Path) -> None:
    make_sources(tmp_path / "videos", range(5))
    (tmp_path / "videos" / "v000.jpg").write_bytes(b"a poster")
    told = Told()
    clips = Pass(name="clips", stages=(ProbeMedia(),))
    lights = Pass(name="lights", stages=(ScoreExposure(),))
    run(
        Recipe(name="r", source=SourceSpec(videos=str(tmp_path / "videos")), output=str(tmp_path / "out"), steps=(clips, lights)),
        None,
        told,
    )
    assert [(name, num_shards) for name, num_shards, _ in told.started] == [("raw", 5), ("clips", 5), ("lights", 5)]
    assert told.messages == [f"source: 1 image beside a video of the same name was left alone, such as {tmp_path}/videos/v000.jpg"], (
        "once in a run, not once for each step"
    )
    assert told.video_ms == {"clips": 1250, "lights": 1250}, "five of a quarter of a second each"


def test_folders_are_listed_as_often_however_many_shards_they_hold(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Store.names
    listings: list[str] = []

    def counting(self: Store) -> dict[str, int]:
        listings.append(self.url)
        return plain(self)

    monkeypatch.setattr(Store, "names", counting)
    found = []
    for samples_per_shard in (10, 1):
        output = tmp_path / str(samples_per_shard)
        listings.clear()
        summary = run(replace(made.recipe(samples_per_shard=samples_per_shard), output=str(output)))
        assert summary.steps[0].shards_made == 10 // samples_per_shard
        # The packing's name is not the same, as other shards went in.
        found.append(Counter(re.sub("[0-9a-f]{8}", "PACKING", url.removeprefix(str(output))) for url in listings))
    assert found[0] == found[1]


def test_a_shard_that_cannot_be_made_leaves_the_others_committed(made: Made) -> None:
    # The bytes of a tar changed since it was made: its clips are not packed with the wrong bytes, nor passed over.
    tar = sorted((made.output / "raw").glob("000001-*.tar"))[0]
    data = bytearray(tar.read_bytes())
    data[2000] ^= 1
    tar.write_bytes(data)
    with pytest.raises(RunFailed, match="train: 1 shard could not be made; the others are committed. Shard b000-00000.*has crc32"):
        run(made.recipe(seed=1))
    next((made.output / "raw").glob("000001-*.parquet")).unlink()
    run(made.recipe(seed=1))
    assert list(verify(str(made.output))) == []


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """Storage options of a server on loopback with the bucket `bucket`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "k", "secret": "s", "endpoint_url": f"http://{host}:{port}"}
    client = boto3.client(
        "s3", endpoint_url=options["endpoint_url"], aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    client.create_bucket(Bucket="bucket")
    yield options
    server.stop()


def test_object_storage_gets_the_same_bytes_and_reruns_as_a_disk(made: Made, s3: dict[str, str]) -> None:
    local = made.recipe()
    recipe = replace(local, output="s3://bucket/as-a-disk", settings=replace(local.settings, storage_options=s3))
    run(recipe)
    filesystem = fsspec.filesystem("s3", **s3)

    def stored() -> dict[str, str]:
        filesystem.invalidate_cache()
        return {
            path.removeprefix("bucket/as-a-disk/"): info["ETag"] for path, info in filesystem.find("bucket/as-a-disk", detail=True).items()
        }

    expected = digests(made.output, ".tar", "index.parquet", "manifest.json")
    for name in expected:
        assert filesystem.cat_file(f"bucket/as-a-disk/{name}") == (made.output / name).read_bytes()
    before = stored()
    assert {name for name in before if name.endswith((".tar", "index.parquet", "manifest.json"))} == expected.keys()

    assert not plan(recipe).has_work
    assert sum(step.shards_made for step in run(recipe).steps) == 0
    assert stored() == before

    gone = next(name for name in before if name.startswith("features/000001-") and name.endswith(".parquet"))
    filesystem.rm_file(f"bucket/as-a-disk/{gone}")
    assert {step.name: step.shards_made for step in run(recipe).steps} == {"raw": 0, "numbers": 0, "good": 0, "features": 1, "train": 0}
    assert stored().keys() == before.keys()

    loosened = replace(counted(made.videos, made.output, where="scores.number >= 2"), output=recipe.output, settings=recipe.settings)
    assert {step.name: step.worked_on for step in run(loosened).steps}["features"] == 2
    assert len(list(open_view("s3://bucket/as-a-disk/features", s3))) == 8
    assert list(verify("s3://bucket/as-a-disk", s3)) == []
    assert len([name for name in stored() if name.startswith("features/")]) == 3 + 3 + 2


def test_retry_without_failures_works_on_nothing(made: Made) -> None:
    summary = run(made.recipe(), RunOptions(retry=True))
    assert sum(step.shards_made for step in summary.steps) == 0


class Overtaken(Silent):
    """Told that the first step begins, it lets an equal run make everything."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.other: RunSummary | None = None

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        if self.other is None:
            self.other = run(self.recipe)


def test_of_two_equal_runs_each_counts_the_shards_that_it_made_itself(tmp_path: Path) -> None:
    make_sources(tmp_path / "videos", range(5))
    recipe = counted(tmp_path / "videos", tmp_path / "out")
    reporter = Overtaken(recipe)
    late = run(recipe, reporter=reporter)
    assert reporter.other is not None
    assert [step.shards_made for step in reporter.other.steps[:3]] == [2, 2, 2]
    assert [(step.shards_made, step.shards_done) for step in late.steps[:3]] == [(0, 2), (0, 2), (0, 2)]
    assert late.steps[-1].shards_made == 0


@pytest.mark.parametrize(
    ("until", "redo", "said"), [("numbers", "features", "features comes after numbers"), ("raw", "numbers", "numbers comes after raw")]
)
def test_a_step_to_make_again_that_the_run_does_not_come_to_is_refused(made: Made, until: str, redo: str, said: str) -> None:
    told = Told()
    with pytest.raises(RecipeError, match=f"--redo {redo}: {said}, with which this run ends. Say --until {redo}, or leave --until out"):
        run(made.recipe(), RunOptions(until=until, redo=(redo,)), told)
    assert told.started == []
    assert [step.shards_made for step in run(made.recipe(), RunOptions(until="numbers", redo=("numbers",))).steps] == [0, 3]
