"""A store that refuses its credentials stops the run and blames no sample; one refused object is that sample's own fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardprep.driver.run import run
from shardprep.errors import StoreError
from shardprep.recipe.model import Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from tests.fates import fates
from tests.s3_server import BUCKET, Request, S3Server, serving

NAMES = tuple(f"v{number}.mp4" for number in range(6))


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with serving() as started:
        for name in NAMES:
            started.put(f"sources/{name}", name.encode())
            started.put(f"captioned/{name}", name.encode())
            started.put(f"captioned/{name.replace('mp4', 'txt')}", b"words")
        yield started


@pytest.fixture
def s3(server: S3Server) -> S3Server:
    server.reset()
    return server


def recipe_over(s3: S3Server, tmp_path: Path, samples_per_shard: int = 2, **source: str) -> Recipe:
    return Recipe(
        name="refused",
        source=SourceSpec(
            **(source or {"videos": f"s3://{BUCKET}/sources"}),  # type: ignore[arg-type] # settings of each test
            samples_per_shard=samples_per_shard,
            storage_options={**s3.options, "config_kwargs": {"retries": {"max_attempts": 1}}},
        ),
        output=str(tmp_path / "out"),
        settings=RunSettings(workers=1, max_failed=100),
        steps=(),
    )


def reasons(tmp_path: Path) -> dict[str, str | None]:
    return {key.rpartition("-")[0]: fate.reason for key, fate in fates(tmp_path / "out", "raw").items()}


def refuse_objects(code: str, *names: str) -> object:
    return lambda request: code if request.method == "GET" and request.path.rpartition("/")[2] in names else None


def refused(code: str) -> str:
    """What the store refuses, in words: credentials may have been good for other files before they expired."""
    return "every file of the source" if code == "AccessDenied" else "the credentials, now at least"


@pytest.mark.parametrize(
    ("code", "samples_per_shard"), [("AccessDenied", 1), ("AccessDenied", 6), ("ExpiredToken", 2), ("InvalidToken", 2)]
)
def test_where_all_objects_are_refused_nothing_is_committed_and_a_rerun_makes_everything(
    s3: S3Server, tmp_path: Path, code: str, samples_per_shard: int
) -> None:
    s3.refuse = refuse_objects(code, *NAMES)  # type: ignore[assignment]
    recipe = recipe_over(s3, tmp_path, samples_per_shard)
    with pytest.raises(StoreError, match=rf"s3://bucket refuses {refused(code)}.* no sample is blamed: .*Mend the access .*run again"):
        run(recipe)
    assert not list((tmp_path / "out").rglob("0*.parquet"))
    s3.reset()
    [raw] = run(recipe).steps
    assert (raw.samples_out, raw.failed) == (6, {})


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken"])
def test_where_captions_are_refused_as_well_no_sample_is_blamed_and_one_alone_is(s3: S3Server, tmp_path: Path, code: str) -> None:
    """Captions are read before the videos are."""
    captions = [name.replace("mp4", "txt") for name in NAMES]
    recipe = recipe_over(s3, tmp_path, videos=f"s3://{BUCKET}/captioned")
    s3.refuse = refuse_objects(code, *NAMES, *captions)  # type: ignore[assignment]
    with pytest.raises(StoreError, match=rf"s3://bucket refuses {refused(code)}.* no sample is blamed"):
        run(recipe)
    assert not list((tmp_path / "out").rglob("0*.parquet"))
    s3.refuse = refuse_objects("AccessDenied", captions[2])  # type: ignore[assignment]
    [raw] = run(recipe).steps
    assert (raw.samples_out, raw.failed) == (5, {"unreadable": 1})


@pytest.mark.parametrize("samples_per_shard", [1, 6])
def test_one_object_that_is_refused_while_others_are_read_fails_alone(s3: S3Server, tmp_path: Path, samples_per_shard: int) -> None:
    s3.refuse = refuse_objects("AccessDenied", "v2.mp4")  # type: ignore[assignment]
    [raw] = run(recipe_over(s3, tmp_path, samples_per_shard)).steps
    assert (raw.samples_out, raw.failed) == (5, {"unreadable": 1})


def test_credentials_that_expire_in_the_middle_stop_the_run_and_blame_nobody(s3: S3Server, tmp_path: Path) -> None:
    read: set[str] = set()

    def expires(request: Request) -> str | None:
        if request.method == "GET" and request.path.endswith(".mp4"):
            read.add(request.path)
            return "AccessDenied" if len(read) > 3 else None
        return None

    s3.refuse = expires
    recipe = recipe_over(s3, tmp_path, 1)
    with pytest.raises(StoreError, match="no sample is blamed"):
        run(recipe)
    assert set(reasons(tmp_path).values()) <= {None}
    s3.reset()
    [raw] = run(recipe).steps
    assert (raw.samples_out, raw.failed) == (6, {})


def test_a_listing_that_is_refused_stops_the_run(s3: S3Server, tmp_path: Path) -> None:
    s3.refuse = lambda request: "AccessDenied" if "list-type" in request.query else None
    with pytest.raises(StoreError, match="listing s3://bucket/sources: permission denied.*credentials"):
        run(recipe_over(s3, tmp_path))
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"s3://{BUCKET}/sources/{name}\n" for name in NAMES))
    with pytest.raises(StoreError, match="s3://bucket refuses every file"):
        run(recipe_over(s3, tmp_path, list=str(tmp_path / "list.csv")))
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_row_that_names_a_bucket_of_others_or_none_costs_its_own_sample(s3: S3Server, tmp_path: Path) -> None:
    s3.refuse = lambda request: "AccessDenied" if request.path.startswith("/secret") else None
    rows = [*(f"s3://{BUCKET}/sources/{name}" for name in NAMES), "s3://nosuch/a.mp4", "s3://secret/b.mp4", "s3://Bad_Bucket!/c.mp4"]
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(rows) + "\n")
    run(recipe_over(s3, tmp_path, list=str(tmp_path / "list.csv")))
    assert reasons(tmp_path) == {
        **{name.partition(".")[0]: None for name in NAMES},
        "a": "missing-file",
        "b": "unreachable",
        "c": "missing-file",
    }


def test_a_missing_bucket_says_so(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="listing s3://nosuch/x: there is no such bucket. Check its name and the endpoint"):
        run(recipe_over(s3, tmp_path, videos="s3://nosuch/x"))
