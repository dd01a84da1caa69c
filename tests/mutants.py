"""Small wrong changes to the code, one at a time, and whether the tests notice: `make mutants`.

Places are drawn by seed from the rooms below, operators are Cosmic Ray's. Each change is made in a copy of the tree; the tests
nearest to it run first, then those of its room, then whole runs; the first that fails has caught it. What nobody caught is
printed as a diff.
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parent.parent
ROOMS = ("core", "shards", "packed", "runtime", "gather", "expressions", "executors", "media")
WHOLE_RUNS = ("tests/test_rerun.py", "tests/test_crash.py", "tests/test_readers.py", "tests/driver", "tests/hostile")
COPIED = ("shardprep", "tests", "recipes", "examples", "docs", "README.md", "CONTRIBUTING.md", "pyproject.toml", "Makefile", "NOTICE")
SECONDS_PER_GROUP = 420
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

    def code(self) -> str:
        """Return the file's text with the change."""
        operator = cosmic_ray.plugins.get_operator(self.operator)()
        changed = mutate_code((ROOT / self.path).read_text(encoding="utf-8"), operator, self.occurrence)
        assert changed is not None, "the occurrence was found before"
        return str(changed)

    def diff(self) -> str:
        before = (ROOT / self.path).read_text(encoding="utf-8").splitlines()
        lines = list(
            difflib.unified_diff(before, self.code().splitlines(), self.path, f"{self.operator} {self.occurrence}", lineterm="", n=1)
        )
        return "\n".join(lines)


def main() -> int:
    """Run the sample; 0 where at least `GOAL` of it was caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="changes to try")
    parser.add_argument("--minutes", type=float, default=120, help="no change is begun after that")
    parser.add_argument("--jobs", type=int, default=2, help="changes at a time")
    parser.add_argument("--rooms", nargs="*", default=ROOMS)
    options = parser.parse_args()
    sample = draw(options.rooms, options.count, options.seed)
    trees: SimpleQueue[Path] = SimpleQueue()
    for number in range(options.jobs):
        trees.put(copied_tree(number))
    everything = [*(f"tests/{room}" for room in options.rooms if (ROOT / "tests" / room).is_dir()), *WHOLE_RUNS]
    if not passes(ROOT / "build/mutants/0", list(dict.fromkeys(everything)), seconds=3600):
        print("the tests fail without any change; run make test first")
        return 1
    end = time.monotonic() + 60 * options.minutes

    def tried(mutant: Mutant) -> str | None:
        if time.monotonic() > end:
            return None
        tree = trees.get()
        try:
            return caught_by(tree, mutant)
        finally:
            trees.put(tree)

    survivors, num_tried = [], 0
    with ThreadPoolExecutor(options.jobs) as threads:
        for mutant, catcher in zip(sample, threads.map(tried, sample), strict=True):
            if catcher is None:
                continue
            num_tried += 1
            if not catcher:
                survivors.append(mutant)
            print(f"{num_tried:4} {mutant.path}:{mutant.line} {mutant.operator}: {catcher or 'NOT CAUGHT'}", flush=True)
    print(*(f"\n{mutant.diff()}" for mutant in survivors), sep="\n")
    caught = num_tried - len(survivors)
    print(f"\ncaught {caught} of {num_tried} ({caught / max(1, num_tried):.0%}), seed {options.seed}, of {len(sample)} drawn")
    return 0 if num_tried and caught >= GOAL * num_tried else 1


def draw(rooms: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """Return a sample of changes: lines drawn alike, then one change of each line, so that a long sum does not outweigh the rest."""
    by_line: dict[tuple[str, int], list[Mutant]] = {}
    for room in rooms:
        for path in sorted((ROOT / "shardprep" / room).rglob("*.py")):
            for mutant in mutants_of(path):
                by_line.setdefault((mutant.path, mutant.line), []).append(mutant)
    chosen = random.Random(seed)
    lines = chosen.sample(sorted(by_line), min(count, len(by_line)))
    return [chosen.choice(by_line[line]) for line in lines]


def mutants_of(path: Path) -> Iterator[Mutant]:
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
                yield Mutant(str(path.relative_to(ROOT)), name, occurrence, start[0])


def annotation_spans(tree: ast.AST) -> Iterator[Span]:
    """Yield where annotations and type aliases stand; `from __future__ import annotations` makes them text."""
    for node in ast.walk(tree):
        named = [getattr(node, field, None) for field in ("annotation", "returns")]
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr):
            named.append(node.value)
        for annotation in filter(None, named):
            yield (annotation.lineno, annotation.col_offset), (annotation.end_lineno, annotation.end_col_offset)


def caught_by(tree: Path, mutant: Mutant) -> str:
    """Return the tests that fail with the change, or an empty string."""
    target = tree / mutant.path
    before = target.read_text(encoding="utf-8")
    try:
        target.write_text(mutant.code(), encoding="utf-8")
        seen: set[str] = set()
        for group in (nearest_tests(tree, mutant.path), [f"tests/{Path(mutant.path).parts[1]}"], list(WHOLE_RUNS)):
            wanted = [test for test in group if test not in seen and (tree / test).exists()]
            seen.update(wanted)
            if wanted and not passes(tree, wanted):
                return " ".join(wanted)
        return ""
    finally:
        target.write_text(before, encoding="utf-8")


def nearest_tests(tree: Path, path: str) -> list[str]:
    """Return the test file that mirrors a module, and those that import it."""
    _, *rooms, file = Path(path).parts
    mirror = Path("tests", *rooms, f"test_{file}")
    module = ".".join(Path(path).with_suffix("").parts)
    importing = [test.relative_to(tree) for test in sorted(tree.glob("tests/**/test_*.py")) if f"{module} import" in test.read_text()]
    return list(dict.fromkeys(str(test) for test in [mirror, *importing] if (tree / test).exists()))


def passes(tree: Path, tests: Sequence[str], seconds: float = SECONDS_PER_GROUP) -> bool:
    """Whether the tests pass within the time; what they started is killed with them."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "120", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # 5: no test was collected, which says nothing
        return process.wait(seconds) in (0, 5)
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def copied_tree(number: int) -> Path:
    """Return a fresh copy of the tree, in which one change at a time is made."""
    tree = ROOT / "build" / "mutants" / str(number)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tree / name)
    return tree


if __name__ == "__main__":
    sys.exit(main())
