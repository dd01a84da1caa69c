"""Fingerprints change if and only if a setting, a version or an input changes; differences read as sentences."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.fingerprint import digest, shard_fingerprint
from shardprep.core.stage import Stage, Weights
from shardprep.driver.identity import differences, gather_identity, pass_identity
from shardprep.gather.settings import Pack, Select
from shardprep.models.weights import digest_weights
from shardprep.runtime.task import WorkSettings
from shardprep.sources.entry import SourceEntry, SourceMember


@dataclass(frozen=True)
class Inner:
    """A nested setting."""

    depth: int = 1
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Other:
    """Another one with the same fields."""

    depth: int = 1
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Turn(Stage):
    """A stage with a setting of every kind."""

    count: int = 1
    angle: float = 0.0
    share: int | float = 1
    title: str = ""
    limit: float | None = None
    is_exact: bool = False
    mode: Literal["a", "b"] = "a"
    points: tuple[float, ...] = ()
    inner: Inner | Other = field(default_factory=Inner)
    batch_size: int = 1
    timeout_seconds: float = 60


@dataclass(frozen=True, kw_only=True)
class Made:
    """All that a shard is made from, and how it is made."""

    stage: Turn
    version: int
    settings: WorkSettings
    inputs: tuple[str, ...]

    def fingerprint(self) -> str:
        stage = type("Turn", (Turn,), {"version": self.version})(**vars(self.stage))
        return shard_fingerprint(digest(pass_identity([stage], self.settings)), list(self.inputs))

    def matter(self) -> Any:
        """Return what the bytes of the shard depend on."""
        kept = {name: value for name, value in vars(self.stage).items() if name not in ("batch_size", "timeout_seconds")}
        # 1 and 1.0 are two things where both an int and a float are meant, and one thing where a float is.
        kept["share"] = (type(self.stage.share), self.stage.share)
        # As they are, True equals 1.
        kept["is_exact"] = str(self.stage.is_exact)
        used = (self.settings.threads, self.settings.decoder, self.settings.on_corrupt)
        return kept, self.version, used, self.inputs


few = st.integers(1, 2)
stages = st.builds(
    Turn,
    count=few,
    angle=st.sampled_from([0.0, 0.5, 1.0]) | few,
    share=st.sampled_from([1, 1.0, 2]),
    title=st.sampled_from(["", "a", "1"]),
    limit=st.sampled_from([None, 0.0, 1.0]),
    is_exact=st.booleans(),
    mode=st.sampled_from(["a", "b"]),
    points=st.sampled_from([(), (1.0,), (1.0, 2.0), (1,)]),
    inner=st.sampled_from([Inner(), Inner(2), Other(), Inner(names=("x",))]),
    batch_size=few,
    timeout_seconds=st.sampled_from([1.0, 2.0]),
)
works = st.builds(
    WorkSettings,
    threads=few,
    decoder=st.sampled_from(["pyav", "decord"]),
    on_corrupt=st.sampled_from(["fail", "keep"]),
    memory_bytes=few,
    decode_ahead=few,
)
things = st.builds(Made, stage=stages, version=few, settings=works, inputs=st.sampled_from([("d1",), ("d2",), ("d1", "d2"), ()]))


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[Made, Made]:
    """Two makings that differ in few things: two independent ones are hardly ever equal."""
    one, other = draw(things), draw(things)
    names = draw(st.sets(st.sampled_from([*vars(one.stage), "version", "settings", "inputs"]), max_size=2))
    stage = replace(one.stage, **{name: getattr(other.stage, name) for name in names if name in vars(one.stage)})
    rest = {name: getattr(other, name) for name in names if name not in vars(one.stage)}
    return one, replace(one, stage=stage, **rest)


@given(neighbours())
def test_a_fingerprint_changes_if_and_only_if_something_that_matters_does(pair: tuple[Made, Made]) -> None:
    one, other = pair
    assert (one.fingerprint() == other.fingerprint()) == (one.matter() == other.matter())


@given(neighbours())
def test_a_changed_step_says_what_changed(pair: tuple[Made, Made]) -> None:
    one, other = (pass_identity([made.stage], made.settings) for made in pair)
    lines = differences(one, other)
    if pair[0].matter()[0] != pair[1].matter()[0] and type(pair[0].stage.share) is type(pair[1].stage.share):
        assert lines
    assert differences(one, one) == []
    assert all(" changed from " in line for line in lines)


entries = st.builds(
    SourceEntry,
    key=st.just("k"),
    path=st.sampled_from(["a.mp4", "b.mp4"]),
    size=few,
    version=st.sampled_from(["1", "2"]),
    members=st.lists(st.builds(SourceMember, st.just("mp4"), st.sampled_from(["/here/a", "/there/a"]), few, few), max_size=1).map(tuple),
    columns=st.sampled_from([{}, {"meta": {"x": 1}}]),
    problem=st.sampled_from([None, "missing: no file /here/a", "missing: no file /there/a", "bad-path: x"]),
)


@given(entries, entries)
def test_a_source_is_what_it_says_and_not_where_it_lies(one: SourceEntry, other: SourceEntry) -> None:
    def matter(entry: SourceEntry) -> Any:
        members = [(m.suffix, m.offset, m.size) for m in entry.members]
        return entry.path, entry.size, entry.version, members, entry.record, (entry.problem or "").split(":")[0]

    assert (one.identity() == other.identity()) == (matter(one) == matter(other))


def test_weights_count_by_their_bytes_and_not_by_their_folder(tmp_path: Any) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Load(Stage):
        model: str

        @property
        def weights(self) -> tuple[Weights, ...]:
            return (Weights(self.model),)

    def identity(name: str, data: bytes) -> Any:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "model.safetensors").write_bytes(data)
        assert digest_weights(str(tmp_path / name))
        return pass_identity([Load(model=str(tmp_path / name))], WorkSettings())

    assert identity("a", b"weights") == identity("b", b"weights")
    assert identity("a", b"weights") != identity("c", b"others!")


# --- in words


def stage(name: str, **settings: Any) -> dict[str, Any]:
    return {"stage": name, "version": 1, "settings": settings, "weights": []}


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ([stage("cut", min_seconds=2.0)], [stage("cut", min_seconds=1.0)], ["cut.min_seconds changed from 2 to 1"]),
        ([stage("cut", crf=None)], [stage("cut", crf=18)], ["cut.crf changed from nothing to 18"]),
        ([stage("cut")], [stage("cut") | {"version": 2}], ["cut.version changed from 1 to 2"]),
        ([stage("cut"), stage("probe")], [stage("cut")], ["probe was removed"]),
        ([stage("cut")], [stage("cut"), stage("probe")], ["probe was added"]),
        ([stage("a"), stage("b")], [stage("b"), stage("a")], ["the order of stages changed from a, b to b, a"]),
        ([stage("drop", x=1), stage("drop", x=2)], [stage("drop", x=1), stage("drop", x=3)], ["drop (2).x changed from 2 to 3"]),
        ([stage("drop", x=1), stage("drop", x=2)], [stage("drop", x=1)], ["drop (2) was removed"]),
        ([stage("cut", inner={"a": 1})], [stage("cut", inner={"a": 2})], ["cut.inner.a changed from 1 to 2"]),
        ([stage("cut", points=[1, 2])], [stage("cut", points=[1, 3])], ["cut.points changed from [1, 2] to [1, 3]"]),
    ],
)
def test_differences_of_passes(old: list[dict[str, Any]], new: list[dict[str, Any]], lines: list[str]) -> None:
    identity = {"format": 1, "settings": {"threads": 1}}
    assert differences({**identity, "stages": old}, {**identity, "stages": new}) == lines


def test_differences_of_gathers() -> None:
    old, new = gather_identity(Select(where="a.b > 1", seed=1)), gather_identity(Select(where="a.b > 2", seed=1))
    assert differences(old, new) == ["select.where changed from a.b > 1 to a.b > 2"]
    assert differences(gather_identity(Pack(seed=1)), gather_identity(Pack(seed=None))) == ["pack.seed changed from 1 to nothing"]
    assert differences(gather_identity(Pack(bucket_by=("a",))), gather_identity(Pack())) == ["pack.bucket_by changed from ['a'] to []"]


def test_a_selection_of_one_sample_is_not_a_selection_of_all() -> None:
    assert shard_fingerprint("", gather_identity(Select(sample=1))) != shard_fingerprint("", gather_identity(Select(sample=1.0)))


def test_a_difference_late_in_a_long_expression_is_seen() -> None:
    head = "scores.aesthetic >= 5 AND scores.flow BETWEEN 0.1 AND 100 AND clip.seconds > "
    (line,) = differences(gather_identity(Select(where=f"{head}2")), gather_identity(Select(where=f"{head}3")))
    assert line.endswith(f"to {head}3")
