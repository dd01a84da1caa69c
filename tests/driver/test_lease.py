"""A lease keeps runs with other settings away while its run lives, and nobody once it is dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from shardprep.cli.commands import exit_code
from shardprep.driver.alive import is_alive, own_mark
from shardprep.driver.claims import Claim, claims_of, conflict
from shardprep.driver.lease import LEASES, Lease, LeaseTimes, RunLease
from shardprep.driver.model import RunOptions
from shardprep.driver.run import run
from shardprep.errors import OutputInUse, Stopped, StoreError
from shardprep.executors.stop import StopSignal
from shardprep.recipe.model import RAW
from shardprep.shards.store import Store
from tests.driver.made import Made
from tests.driver.outputs import files, strays
from tests.driver.program import start
from tests.driver.recipes import counted

ONE = {"scores": Claim(digest="1", identity={"stages": [{"stage": "score", "settings": {"x": 1}}]})}
OTHER = {"scores": Claim(digest="2", identity={"stages": [{"stage": "score", "settings": {"x": 2}}]})}
FAST = LeaseTimes(ttl_seconds=0.6, beat_seconds=0.05)


def lease_on(store: Store, claims: Mapping[str, Claim], told: list[str] | None = None, stop: StopSignal | None = None) -> RunLease:
    return RunLease(store, "recipe", lambda: claims, tell=(told if told is not None else []).append, stop=stop, times=FAST)


def leases(store: Store) -> dict[str, Lease]:
    return {name: Lease.decode(store.at(LEASES).read(name)) for name in store.at(LEASES).names()}


def leave(store: Store, **changes: Any) -> None:
    """Write the lease of a run that is not there any more."""
    lease = Lease(run="gone", process=own_mark(), since="then", recipe="old", steps=ONE, times=FAST)
    assert store.at(LEASES).create_bytes("000001.json", replace(lease, **changes).encode())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out"))


def test_equal_runs_work_together(store: Store) -> None:
    with lease_on(store, ONE) as first, lease_on(store, ONE) as second, lease_on(store, {"other": OTHER["scores"]}) as third:
        for lease in (first, second, third):
            lease.take()
        first.take()
        assert list(leases(store)) == ["000001.json", "000002.json", "000003.json"]
    assert leases(store) == {}


def test_another_setting_is_refused_and_the_other_run_is_named(store: Store) -> None:
    with lease_on(store, ONE) as first, lease_on(store, OTHER) as second:
        first.take()
        with pytest.raises(OutputInUse) as refused:
            second.take()
        mark = own_mark()
        assert f"host {mark.host}, process {mark.pid}, since 2" in str(refused.value)
        assert "scores: score.x changed from 1 to 2" in str(refused.value)
        assert "write elsewhere: --output, or the recipe's `output`" in str(refused.value)
        assert exit_code(refused.value) == 5
        assert list(leases(store)) == ["000001.json"], "the refused run is not there any more"
    with lease_on(store, OTHER) as third:
        third.take()


def test_a_lease_is_renewed_as_long_as_its_run_lives(store: Store) -> None:
    with lease_on(store, ONE) as lease:
        lease.take()
        deadline = time.monotonic() + 20
        while leases(store)["000001.json"].beat < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert leases(store) == {}
    assert "lease" not in [thread.name for thread in threading.enumerate()]


def test_the_lease_of_a_dead_process_of_this_machine_is_passed_over_at_once(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        mark = replace(own_mark(), pid=process.pid, started=started)
        assert is_alive(mark) is True
        leave(store, process=mark)
        with pytest.raises(OutputInUse, match=f"process {process.pid}"):
            lease_on(store, OTHER).take()
        process.kill()
    assert is_alive(mark) is False
    told: list[str] = []
    with lease_on(store, OTHER, told) as lease:
        lease.take()
        assert [one.run for one in leases(store).values() if one.run == "gone"] == []
    assert told == []


def test_a_later_process_with_the_same_number_is_no_sign_of_life(store: Store) -> None:
    leave(store, process=replace(own_mark(), started="1"))
    with lease_on(store, OTHER) as lease:
        lease.take()


def test_the_lease_of_another_machine_is_watched_on_our_own_clock(store: Store) -> None:
    leave(store, process=replace(own_mark(), machine="elsewhere", host="far"))
    told: list[str] = []
    started = time.monotonic()
    with lease_on(store, OTHER, told) as lease:
        lease.take()
        assert time.monotonic() - started >= FAST.ttl_seconds
        assert [one.run for one in leases(store).values() if one.run == "gone"] == [], "dead, and taken away"
    assert len(told) == 1
    assert "host far" in told[0]
    assert "watching for 0.6 s" in told[0]


def test_the_lease_of_another_machine_that_is_renewed_is_alive(store: Store) -> None:
    leave(store, process=replace(own_mark(), machine="elsewhere", host="far"))
    renewed = replace(leases(store)["000001.json"], beat=1)
    timer = threading.Timer(0.2, lambda: store.at(LEASES).replace_bytes("000001.json", renewed.encode()))
    timer.start()
    with pytest.raises(OutputInUse, match="host far"):
        lease_on(store, OTHER).take()
    timer.join()


def test_a_lease_that_cannot_be_read_is_watched_too(store: Store) -> None:
    assert store.at(LEASES).create_bytes("000001.json", b"{")
    with lease_on(store, ONE) as lease:
        lease.take()
    assert leases(store) == {}


def test_waiting_for_a_dead_lease_can_be_stopped(store: Store) -> None:
    leave(store, process=replace(own_mark(), machine="elsewhere"))
    stop = StopSignal()
    stop.finish.set()
    with pytest.raises(Stopped):
        lease_on(store, OTHER, stop=stop).take()
    assert list(leases(store)) == ["000001.json"]


class Ignoring(MemoryFileSystem):
    """A store that takes a condition and does not look at it."""

    protocol = "ignoring"
    store: dict[str, Any] = {}  # noqa: RUF012 # as in the class above
    pseudo_dirs = [""]  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, mode="overwrite")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("ignoring://", "memory://"))


def test_a_store_that_ignores_conditions_is_refused_with_the_next_step() -> None:
    fsspec.register_implementation("ignoring", Ignoring, clobber=True)
    ignoring, heeding = Store("ignoring://bucket/out"), Store("memory://lease-test/out")
    with pytest.raises(StoreError, match=r"created the same file twice.* Write to another kind of store, or to a local disk"):
        lease_on(ignoring, ONE).take()
    assert leases(ignoring) == {}
    with lease_on(heeding, ONE) as lease:
        lease.take()
        assert list(leases(heeding)) == ["000001.json"]


def test_what_two_runs_differ_in_is_said(tmp_path: Path) -> None:
    one = counted(tmp_path, tmp_path / "out")
    claims = claims_of(one, None)
    assert list(claims) == [RAW, "numbers", "good", "features", "train"]
    assert list(claims_of(one, "good")) == [RAW, "numbers", "good"]
    read = {name: Claim(**json.loads(json.dumps(vars(claim)))) for name, claim in claims.items()}
    assert conflict(read, claims) == []
    assert conflict(claims, claims_of(counted(tmp_path, tmp_path / "out", length=2), None)) == [
        "features: costly.length changed from 4 to 2"
    ]
    elsewhere = conflict(claims, claims_of(counted(tmp_path / "x", tmp_path / "out"), None))
    assert elsewhere == [f"raw: source.videos changed from ['{tmp_path}'] to ['{tmp_path}/x']"]
    assert conflict(claims_of(one, "numbers"), claims_of(counted(tmp_path, tmp_path / "out", length=2), None)) == []
    secret = replace(one, source=replace(one.source, storage_options={"secret": "XYZ"}))
    assert "XYZ" not in str(claims_of(secret, None))
    assert conflict(claims, claims_of(secret, None)) == []


# --- in a run


def test_a_run_with_nothing_to_do_asks_nobody(made: Made) -> None:
    leave(Store(str(made.output)), steps=claims_of(made.recipe(length=2), None))
    before = files(made.output)
    run(made.recipe())
    assert files(made.output) == before
    with pytest.raises(OutputInUse, match="costly.length changed from 2 to 3"):
        run(made.recipe(length=3))
    after = files(made.output)
    assert after == before, "nothing was begun"
    assert run(made.recipe(length=2)).steps[3].shards_made == 3


def test_a_run_that_is_stopped_takes_its_lease_away(made: Made) -> None:
    stop = StopSignal()
    stop.finish.set()
    with pytest.raises(Stopped):
        run(made.recipe(length=2), RunOptions(stop=stop))
    assert leases(Store(str(made.output))) == {}


def test_a_run_in_another_process_keeps_others_away_until_it_dies(made: Made) -> None:
    process = start("counted", made.videos, made.output, ["length=2", 'where="scores.number >= 0"'])
    try:
        folder = made.output / LEASES
        deadline = time.monotonic() + 60
        while not (folder.is_dir() and any(folder.glob("*.json"))):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGSTOP)
        with pytest.raises(OutputInUse, match=f"process {process.pid}, .*length changed from 2 to 3"):
            run(made.recipe(length=3))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    run(made.recipe(length=3))
    assert strays(made.output) == []
    assert leases(Store(str(made.output))) == {}
