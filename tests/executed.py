"""Which test executes which line: one run under coverage, a context for each test, in the processes that it starts as well.

`map_of` runs the tests once and remembers the answer; the rest of this file is the pytest plugin that does it from the inside.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage, CoverageData
from coverage.exceptions import DataError

FOLDER = "SHARDPREP_EXECUTED"
"""Where the plugin keeps what it saw; without it the plugin does nothing."""
TEST = "SHARDPREP_TEST"
"""The test that is running, for the processes that it starts: the contexts of their lines."""
FAILED = "SHARDPREP_FAILED"
"""A file to which the tests that fail are written, one in a line."""
MOST_BYTES = 8 << 30
"""What a process of the tests of a change may take: one that fills memory is one that fails."""

_FIXTURE = "fixture "


@dataclass(frozen=True)
class Executed:
    """What a run of the unchanged code showed: how long each test took, and the tests that came by each line."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    def of(self, path: str, lines: range | None) -> list[str]:
        """Return the tests that execute one of the lines of a file, or any at all; the quickest first."""
        seen = self.lines.get(path, {})
        tests = {test for line in (seen if lines is None else lines) for test in seen.get(line, ())}
        return sorted(tests, key=lambda test: (self.seconds[test], test))


def map_of(tree: Path, tests: list[str], cache: Path) -> Executed:
    """Run the tests of a tree under coverage, or read what an earlier run over the same files left in `cache`.

    A test that fails without any change is left out: nothing can be learned from a change that fails it too.
    """
    digest = digest_of(tree, tests)
    kept = cache / "executed.json"
    if not kept.exists() or json.loads(kept.read_text())["digest"] != digest:
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob("lines*"):
            old.unlink()
        settings = cache / "coverage.ini"
        settings.write_text(
            f"[run]\nsource = {tree / 'shardprep'}\ndata_file = {cache / 'lines'}\nparallel = true\ncontext = ${{{TEST}-}}\npatch = _exit\n"
        )
        environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", FOLDER: str(cache)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.executed", "-p", "no:cacheprovider", "--timeout", "1800"]
        command += ["--basetemp", str(cache / "made"), *tests]
        ended = subprocess.run(command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
        if ended not in (0, 1):
            raise RuntimeError(f"pytest ended by {ended} without any change; run make test first")
        shutil.rmtree(cache / "made", ignore_errors=True)
        kept.write_text(json.dumps({"digest": digest, **gathered(tree, cache)}))
    told = json.loads(kept.read_text())
    lines = {path: {int(line): seen for line, seen in of_file.items()} for path, of_file in told["lines"].items()}
    return Executed(told["seconds"], lines)


def digest_of(tree: Path, tests: list[str]) -> str:
    """Return a digest of all code and tests of a tree."""
    sum_ = hashlib.sha256(repr(tests).encode())
    for path in sorted([*tree.glob("shardprep/**/*.py"), *tree.glob("tests/**/*.py")]):
        sum_.update(str(path.relative_to(tree)).encode() + b"\0" + path.read_bytes() + b"\0")
    return sum_.hexdigest()


def gathered(tree: Path, cache: Path) -> dict[str, Any]:
    """Return what the plugin and the processes wrote: a line that a shared fixture executes is one of all tests that ask for it."""
    told = json.loads((cache / "tests.json").read_text())
    askers: dict[str, list[str]] = {}
    for test, fixtures in told["fixtures"].items():
        for fixture in fixtures:
            askers.setdefault(_FIXTURE + fixture, []).append(test)
    data = CoverageData(str(cache / "all"), no_disk=True)
    for part in cache.glob("lines*"):
        read = CoverageData(str(part))
        with suppress(DataError):  # that of a process which was killed while it wrote
            read.read()
            data.update(read)
    lines: dict[str, dict[int, list[str]]] = {}
    for file in data.measured_files():
        of_file = lines.setdefault(str(Path(file).relative_to(tree)), {})
        for line, contexts in data.contexts_by_lineno(file).items():
            tests = {test for context in contexts for test in askers.get(context, [context])}
            of_file[line] = sorted(tests & told["seconds"].keys())
    return {"seconds": told["seconds"], "lines": lines}


class Watcher:
    """The plugin: one context for each test and for each fixture that tests share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.fixtures: dict[str, list[str]] = {}
        self.failed: set[str] = set()
        self._contexts: list[str] = []
        self._coverage = Coverage(config_file=str(folder / "coverage.ini"))
        self._coverage.start()
        os.environ["COVERAGE_PROCESS_START"] = str(folder / "coverage.ini")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.fixtures[item.nodeid] = list(getattr(item, "fixturenames", ()))
        self.seconds[item.nodeid] = 0.0
        yield from self._within(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> Iterator[None]:
        own = fixturedef.scope == "function"
        return (yield) if own else (yield from self._within(_FIXTURE + fixturedef.argname))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        self._coverage.save()
        seconds = {test: took for test, took in self.seconds.items() if test not in self.failed}
        (self.folder / "tests.json").write_text(json.dumps({"seconds": seconds, "fixtures": self.fixtures}))

    def _within(self, context: str) -> Iterator[Any]:
        self._contexts.append(context)
        self._switch()
        try:
            return (yield)
        finally:
            self._contexts.pop()
            self._switch()

    def _switch(self) -> None:
        context = self._contexts[-1] if self._contexts else ""
        self._coverage.switch_context(context)
        os.environ[TEST] = context


def pytest_configure(config: pytest.Config) -> None:
    if folder := os.environ.get(FOLDER):
        config.pluginmanager.register(Watcher(Path(folder)))
    if os.environ.get(FAILED):
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report.nodeid, report.failed)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report.nodeid, report.failed)


def _note(test: str, failed: bool) -> None:
    if failed and (path := os.environ.get(FAILED)):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{test}\n")
