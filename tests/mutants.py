"""Small wrong changes to the code, one at a time, and whether the tests notice: `make mutants`.

Places are drawn by seed from the rooms below, operators are Cosmic Ray's. The tests of a room run once under coverage, without any
change, so that it is known which of them come by a line and how long each takes. Each change is then made in a copy of the tree and
only the tests that come by it run, the quickest first, until one fails: it has caught the change. Tests that do not end are not a
catch by themselves: the same tests run again without the change, and only where they then take a fraction of the time is the change
caught by them. What nobody caught is printed as a diff.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code

from tests.executed import FAILED, Executed, map_of

ROOT = Path(__file__).parent.parent
ROOMS = ("core", "shards", "packed", "runtime", "gather", "expressions", "executors", "media")
WHOLE_RUNS = (
    "tests/test_rerun.py",
    "tests/test_lost_files.py",
    "tests/test_second_run.py",
    "tests/test_crash.py",
    "tests/test_readers.py",
    "tests/driver",
    "tests/hostile",
)
COPIED = ("shardprep", "tests", "recipes", "examples", "docs", "README.md", "CONTRIBUTING.md", "pyproject.toml", "Makefile", "NOTICE")
MOST_SECONDS = 300
"""Of tests for one change, as long as they took without it; what comes after is not asked, and that is said."""
GOAL = 0.85

_UNTOUCHED = frozenset({"core/VariableReplacer", "core/VariableInserter", "core/NoOp"})
"""Operators that need arguments or change nothing."""

Span = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Mutant:
    """One change: the operator's occurrence in a file."""

    path: str
    operator: str
    occurrence: int
    line: int

    def code(self, before: str) -> str:
        """Return the file's text with the change; ValueError where the operator cannot make it or it is no Python."""
        try:
            changed = mutate_code(before, cosmic_ray.plugins.get_operator(self.operator)(), self.occurrence)
            compile(changed or "", self.path, "exec")
        except (AttributeError, SyntaxError) as error:
            raise ValueError(f"{self.operator} makes no change of {self.path}:{self.line}") from error
        return str(changed)

    def diff(self, before: str) -> str:
        lines = self.code(before).splitlines()
        return "\n".join(
            difflib.unified_diff(before.splitlines(), lines, self.path, f"{self.operator} {self.occurrence}", lineterm="", n=1)
        )


@dataclass(frozen=True)
class Fate:
    """What came of a change: a word, the test that says so, and how many tests were asked of those that come by the line."""

    word: str
    test: str = ""
    asked: int = 0
    known: int = 0

    def __str__(self) -> str:
        if self.word == "NOT CAUGHT":
            return f"NOT CAUGHT by {self.asked} tests" + (f" of {self.known} that come by" if self.asked < self.known else "")
        return f"{self.word} {self.test}"


def main() -> int:
    """Run the sample; 0 where at least `GOAL` of what was tried was caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="changes to draw")
    parser.add_argument("--minutes", type=float, default=120, help="no change is begun after that")
    parser.add_argument("--jobs", type=int, default=2, help="changes at a time")
    parser.add_argument("--rooms", nargs="*", default=ROOMS)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    trees: SimpleQueue[Tree] = SimpleQueue()
    unchanged = Tree.copied("unchanged")
    for number in range(options.jobs):
        trees.put(Tree.copied(str(number)))
    sample = draw(unchanged.folder, options.rooms, options.count, options.seed)

    def tried(mutant: Mutant) -> Fate | None:
        if time.monotonic() > end:
            return None
        tree = trees.get()
        try:
            return fate_of(mutant, tree, unchanged)
        finally:
            trees.put(tree)

    fates: dict[Mutant, Fate] = {}
    with ThreadPoolExecutor(options.jobs) as threads:
        running = {threads.submit(tried, mutant): mutant for mutant in sample}
        for done in as_completed(running):
            mutant, fate = running[done], done.result()
            if fate is not None:
                fates[mutant] = fate
                print(f"{len(fates):4} {mutant.path}:{mutant.line} {mutant.operator}: {fate}", flush=True)
    fates |= not_sure(unchanged, fates)
    return told(options.seed, sample, fates, unchanged)


def told(seed: int, sample: Sequence[Mutant], fates: dict[Mutant, Fate], unchanged: Tree) -> int:
    """Print what nobody caught, and the score of each room."""
    for mutant, fate in fates.items():
        if fate.word in ("NOT CAUGHT", "undecided"):
            print(f"\n{fate}\n{mutant.diff(unchanged.text(mutant.path))}")
    print()
    for room in sorted({room_of(mutant) for mutant in sample}):
        words = Counter(fate.word for mutant, fate in fates.items() if room_of(mutant) == room)
        drawn = sum(room_of(mutant) == room for mutant in sample)
        print(f"{room:12} {drawn:4} drawn", *(f"{number} {word}" for word, number in sorted(words.items())), sep=", ")
    caught = sum(fate.word.startswith("caught") for fate in fates.values())
    print(f"\ncaught {caught} of {len(fates)} ({caught / max(1, len(fates)):.0%}), seed {seed}, {len(sample)} drawn")
    return 0 if fates and caught >= GOAL * len(fates) else 1


def room_of(mutant: Mutant) -> str:
    return Path(mutant.path).parts[1]


def draw(tree: Path, rooms: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """Return a sample of changes: lines drawn alike, then one change of each line, so that a long sum does not outweigh the rest."""
    by_line: dict[tuple[str, int], list[Mutant]] = {}
    for room in rooms:
        for path in sorted((tree / "shardprep" / room).rglob("*.py")):
            for mutant in mutants_of(tree, path):
                by_line.setdefault((mutant.path, mutant.line), []).append(mutant)
    chosen = random.Random(seed)
    lines = chosen.sample(sorted(by_line), min(count, len(by_line)))
    return [mutant for line in lines if (mutant := one_of(by_line[line], chosen, (tree / line[0]).read_text(encoding="utf-8")))]


def one_of(mutants: list[Mutant], chosen: random.Random, before: str) -> Mutant | None:
    """Return one of the changes that can be made."""
    for mutant in chosen.sample(mutants, len(mutants)):
        with suppress(ValueError):
            mutant.code(before)
            return mutant
    return None


def mutants_of(tree: Path, path: Path) -> Iterator[Mutant]:
    """Yield every change of a file that alters what it does: annotations are left alone."""
    annotations = list(annotation_spans(ast.parse(path.read_text(encoding="utf-8"))))
    nodes = list(ast_nodes(get_ast_from_path(path)))
    for name in sorted(set(cosmic_ray.plugins.operator_names()) - _UNTOUCHED):
        kind = cosmic_ray.plugins.get_operator(name)
        if kind.arguments():
            continue
        positions = chain.from_iterable(kind().mutation_positions(node) for node in nodes)
        for occurrence, (start, _) in enumerate(positions):
            if not any(first <= start < last for first, last in annotations):
                yield Mutant(str(path.relative_to(tree)), name, occurrence, start[0])


def annotation_spans(tree: ast.AST) -> Iterator[Span]:
    """Yield where annotations and type aliases stand; `from __future__ import annotations` makes them text."""
    for node in ast.walk(tree):
        named = [getattr(node, field, None) for field in ("annotation", "returns")]
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr):
            named.append(node.value)
        for annotation in filter(None, named):
            yield (annotation.lineno, annotation.col_offset), (annotation.end_lineno, annotation.end_col_offset)


@dataclass(frozen=True)
class Tree:
    """A copy of the repository, and how tests are run there."""

    folder: Path

    @classmethod
    def copied(cls, name: str) -> Tree:
        """Return a fresh copy of the tree."""
        folder = ROOT / "build" / "mutants" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for part in COPIED:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, folder / part)
        beside = folder.with_name("shared")
        if (ROOT.parent / "shared").exists() and not beside.exists():
            beside.symlink_to(ROOT.parent / "shared")
        return cls(folder)

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def failed(self, tests: Sequence[str], seconds: float, *, all_of_them: bool = False) -> list[str]:
        """Return the first of the tests that fails, or all that do; `TimeoutError` where they do not end in time.

        What they started is killed with them.
        """
        failures = self.folder.with_name(f"{self.folder.name}.failed")
        failures.unlink(missing_ok=True)
        base = self.folder.with_name(f"{self.folder.name}.made")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.executed", "--timeout", "0"]
        command += ["--basetemp", str(base), *([] if all_of_them else ["-x"]), *tests]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", FAILED: str(failures)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"no end after {seconds:.0f} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            shutil.rmtree(base, ignore_errors=True)
        if code in (0, 5):  # 5: no test was collected, which says nothing
            return []
        if code == 4 and any("::" in test for test in tests):  # not a catch: a change may give a test another name
            return self.failed(list(dict.fromkeys(test.partition("::")[0] for test in tests)), seconds, all_of_them=all_of_them)
        return failures.read_text(encoding="utf-8").splitlines() if failures.exists() else [f"pytest, which ended by {code}"]


def fate_of(mutant: Mutant, tree: Tree, unchanged: Tree) -> Fate:
    """Make the change and ask the tests that come by it: those of its room, then the rest."""
    before = tree.text(mutant.path)
    lines = lines_asked(before, mutant.line)
    asked: list[str] = []
    known: list[str] = []
    left = float(MOST_SECONDS)
    try:
        (tree.folder / mutant.path).write_text(mutant.code(before), encoding="utf-8")
        own = f"tests/{room_of(mutant)}"
        for group in (own, *(f"tests/{room}" for room in ROOMS if f"tests/{room}" != own), *WHOLE_RUNS):
            executed = asked_once(unchanged, group)
            known += executed.of(mutant.path, lines)
            tests = within(executed, executed.of(mutant.path, lines), left)
            left -= sum(executed.seconds[test] for test in tests)
            for some in (tests[:20], tests[20:]):
                asked += some
                if some and (fate := tried_on(some, tree, unchanged, limit_of(executed, some))):
                    return fate
        return Fate("NOT CAUGHT", asked=len(asked), known=len(known))
    finally:
        (tree.folder / mutant.path).write_text(before, encoding="utf-8")


def limit_of(executed: Executed, tests: list[str]) -> float:
    """Return after how many seconds tests are late."""
    return 60 + 6 * sum(executed.seconds[test] for test in tests)


def tried_on(tests: list[str], tree: Tree, unchanged: Tree, limit: float) -> Fate | None:
    """Return the fate of the change in `tree` if these tests decide it."""
    try:
        failed = tree.failed(tests, limit)
    except TimeoutError as late:
        begun = time.monotonic()
        with suppress(TimeoutError):
            unchanged.failed(tests, limit)
        took = time.monotonic() - begun
        words = f"{late}; {took:.0f} s without the change: {len(tests)} tests from {tests[0]}"
        return Fate("caught by time", words) if took < limit / 3 else Fate("undecided", words)
    return Fate("caught by", failed[0]) if failed else None


def not_sure(unchanged: Tree, fates: dict[Mutant, Fate]) -> dict[Mutant, Fate]:
    """Return the changes whose test, asked again at the end, fails without them too: on a busy machine a test may fail by itself."""
    catchers = {fate.test for fate in fates.values() if fate.word == "caught by" and "::" in fate.test}
    if not catchers:
        return {}
    failing = set(unchanged.failed(sorted(catchers), seconds=3600, all_of_them=True))
    return {mutant: Fate("undecided", fate.test) for mutant, fate in fates.items() if fate.test in failing}


_maps: dict[str, Executed] = {}
_measuring = Lock()


def asked_once(unchanged: Tree, tests: str) -> Executed:
    """Return which test of a file or folder comes by which line; measured when it is first asked for."""
    with _measuring:
        if tests not in _maps:
            there = (unchanged.folder / tests).exists()
            kept = ROOT / "build" / "mutants" / "map" / Path(tests).stem
            _maps[tests] = map_of(unchanged.folder, [tests], kept) if there else Executed({}, {})
        return _maps[tests]


def lines_asked(code: str, line: int) -> range | None:
    """Return the lines of the statement at a line; None where it runs at import: then every test of the file is asked.

    Of a compound statement only the head counts: what follows is other statements.
    """
    functions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    if not any(node.body[0].lineno <= line <= (node.end_lineno or 0) for node in functions):
        return None
    heads = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            if node.lineno <= line <= max(last, node.lineno):
                heads.append(range(node.lineno, max(last, node.lineno) + 1))
    return min(heads, key=len, default=range(line, line + 1))


def within(executed: Executed, tests: list[str], seconds: float) -> list[str]:
    """Return as many of the tests as take no longer than that together; the quickest come first."""
    return [test for test, total in zip(tests, accumulate(executed.seconds[test] for test in tests), strict=True) if total <= seconds]


if __name__ == "__main__":
    sys.exit(main())
