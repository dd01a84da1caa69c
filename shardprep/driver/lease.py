"""A run's lease: a file in the output that says who works there with which settings, so that another run does not work against it.

It only saves work. What makes a shard exist, once, is the exclusive creation of its ledger.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType

from shardprep.driver.alive import ProcessMark, is_alive, own_mark
from shardprep.driver.claims import Claim, conflict
from shardprep.errors import OutputInUse, ShardprepError, Stopped, StoreError
from shardprep.executors.stop import StopSignal
from shardprep.shards.store import Store

LEASES = "_leases"
"""The folder of an output that holds the leases; no step can have this name."""

_NAME = re.compile(r"([0-9]{6,})\.json")


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """How long a lease holds: ten beats may be late before a run is taken for dead."""

    ttl_seconds: float = 30.0
    beat_seconds: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What a run says of itself."""

    run: str
    process: ProcessMark
    since: str
    """When the run began, for people: no clock is compared with another."""
    recipe: str
    steps: Mapping[str, Claim]
    times: LeaseTimes = field(default_factory=LeaseTimes)
    beat: int = 0

    def encode(self) -> bytes:
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> Lease:
        values = json.loads(data)
        steps = {name: Claim(**claim) for name, claim in values["steps"].items()}
        process, times = ProcessMark(**values["process"]), LeaseTimes(**values["times"])
        return cls(**{**values, "steps": steps, "process": process, "times": times})

    def __str__(self) -> str:
        return f"host {self.process.host}, process {self.process.pid}, since {self.since}, recipe {self.recipe}"


class RunLease:
    """The lease of one run: taken before it writes anything, renewed by a thread, removed at its end."""

    def __init__(
        self,
        output: Store,
        recipe: str,
        claims: Callable[[], Mapping[str, Claim]],
        *,
        tell: Callable[[str], None],
        stop: StopSignal | None = None,
        times: LeaseTimes | None = None,
    ) -> None:
        """`claims` gives the steps that the run works on; it is asked where the lease is taken, as a run with nothing to do takes none."""
        self._store = output.at(LEASES)
        self._output, self._recipe, self._claims = output.url, recipe, claims
        self._tell, self._stop = tell, stop or StopSignal()
        self._times = times or LeaseTimes()
        self._lease: Lease | None = None
        self._name = ""
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def was_taken(self) -> bool:
        """Whether the run had something to write."""
        return self._name != ""

    def __enter__(self) -> RunLease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def take(self) -> None:
        """Say that this run is there, once; OutputInUse where another one lives whose settings differ on a step of both.

        StoreError where the store lets two writers create one file: no run there could rely on what it made.
        """
        if self._lease is not None:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        lease = Lease(run=secrets.token_hex(8), process=own_mark(), since=now, recipe=self._recipe, steps=self._claims(), times=self._times)
        earlier = self._enter(lease)
        self._lease = lease
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()
        try:
            for name in earlier:
                self._judge(name, lease)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Take the lease away, where there is one."""
        if self._lease is None:
            return
        self._released.set()
        if self._thread is not None:
            self._thread.join()
        self._lease = None
        # The run is over: what it says to the store now must not hide how it ended.
        with suppress(ShardprepError):
            self._store.remove(self._name)

    def _enter(self, lease: Lease) -> list[str]:
        """Create the lease under the next number; return the names of those with smaller numbers."""
        while True:
            number = max(self._numbers(), default=0) + 1
            name = f"{number:06d}.json"
            if not self._store.create_bytes(name, lease.encode()):
                continue
            self._name = name
            if not self._store.is_local and self._store.create_bytes(name, lease.encode()):
                self._store.remove(name)
                raise StoreError(
                    f"{self._store.url}: the store created the same file twice, so it ignores the condition that a new file must not "
                    "exist yet, and two runs would overwrite each other. Write to another kind of store, or to a local disk and copy it"
                )
            numbers = self._numbers()
            if max(numbers, default=0) == number:
                return [numbers[other] for other in sorted(numbers) if other < number]
            # One that came meanwhile may have looked at smaller numbers before this one was there.
            self._store.remove(name)
            time.sleep(secrets.randbelow(100) / 1000)

    def _numbers(self) -> dict[int, str]:
        return {int(match[1]): name for name in self._store.names() if (match := _NAME.fullmatch(name))}

    def _judge(self, name: str, own: Lease) -> None:
        """Pass over a lease that says the same or whose run is dead; OutputInUse otherwise."""
        other, lives = self._watched(name, lambda other: not conflict(other.steps, own.steps))
        lines = conflict(other.steps, own.steps) if other else ["what it works on cannot be read"]
        if not lives or not lines:
            return
        differing = "; ".join(lines[:3])
        raise OutputInUse(
            f"{self._output}: another run works there with other settings ({other or name}). What differs, theirs first: {differing}. "
            "Wait until it ends, stop it, or let this run write elsewhere: --output, or the recipe's `output`"
        )

    def refuse_while_leased(self) -> None:
        """Raise OutputInUse while any run lives; remove the leases of dead ones."""
        for name in self._numbers().values():
            other, lives = self._watched(name, lambda other: False)
            if lives:
                raise OutputInUse(f"{self._output}: a run works there ({other or name}). Wait until it ends, or stop it")

    def _watched(self, name: str, is_harmless: Callable[[Lease], bool]) -> tuple[Lease | None, bool]:
        """Return a lease, None where it cannot be read, and whether its run lives; remove that of a dead one.

        A harmless one of another machine counts as alive without watching it.
        """
        body = self._read(name)
        if body is None:
            return None, False
        other = _decoded(body)
        lives = is_alive(other.process) if other else None
        if lives is None:
            lives = (other is not None and is_harmless(other)) or self._changes(name, body, other)
        if not lives:
            self._store.remove(name)
        return other, lives

    def _changes(self, name: str, body: bytes, other: Lease | None) -> bool:
        """Watch a lease of another machine on our own clock; return whether it was renewed within its time."""
        times = other.times if other else self._times
        self._tell(f"another run has left word in {self._output} ({other or name}); watching for {times.ttl_seconds:g} s whether it lives")
        end = time.monotonic() + times.ttl_seconds
        while time.monotonic() < end:
            if self._stop.finish.wait(min(times.beat_seconds, max(0.0, end - time.monotonic()))):
                raise Stopped("Stopped before anything was begun. Run the recipe again to go on.", finished=True)
            if (now := self._read(name)) != body:
                return now is not None
        return False

    def _read(self, name: str) -> bytes | None:
        with self._store.unless_gone(name):
            return self._store.read(name)
        return None

    def _renew(self) -> None:
        while not self._released.wait(self._times.beat_seconds):
            assert self._lease is not None, "the thread ends before the lease is given up"
            self._lease = replace(self._lease, beat=self._lease.beat + 1)
            # A store that is away for a moment costs at most work that is done twice.
            with suppress(ShardprepError):
                self._store.replace_bytes(self._name, self._lease.encode())


def refuse_while_leased(output: Store, tell: Callable[[str], None]) -> None:
    """Raise OutputInUse while a run works on an output; remove the leases of dead ones."""
    RunLease(output, "", dict, tell=tell).refuse_while_leased()


def _decoded(body: bytes | None) -> Lease | None:
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Lease.decode(body or b"")
    return None
