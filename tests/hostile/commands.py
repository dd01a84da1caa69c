"""The command line in a process of its own, and all that it left around: the only thing it may write into is its output."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

STEPS: list[dict[str, Any]] = [
    {"clips": ["probe_media", "detect_scenes", {"cut_clips": {"max_seconds": 10, "short_side_px": 240}}]},
    {"scores": ["score_sharpness"]},
    {"train": {"pack": {"shard_mib": 64, "seed": 0}}},
]
"""recipes/first-clips.yaml with one scorer."""
TIMEOUT_SECONDS = 240


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Its one message of error; AssertionError where it said anything that is not for people."""
        assert "Traceback" not in self.err + self.out, self.err
        messages = re.findall(r"(?m)^error: (.*)$", self.err)
        assert len(messages) == 1, f"expected one error, came: {self.err!r}"
        return str(messages[0])


@dataclass(frozen=True)
class Place:
    """A folder of its own for one story: `work` is where the commands run, `home` and `tmp` are theirs, `out` is their output."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Place:
        place = cls(root)
        for folder in (place.work, place.home, place.tmp, place.source):
            folder.mkdir(parents=True)
        return place

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def recipe(self, source: dict[str, Any], steps: list[dict[str, Any]] | None = None, **settings: Any) -> Path:
        """Write a recipe; `settings` are those of a recipe's top level."""
        path = self.work / "recipe.yaml"
        document = {"name": "hostile", "source": source, "output": str(self.out), "workers": 2, **settings, "steps": steps or STEPS}
        path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
        return path

    def shardprep(self, *arguments: str | os.PathLike[str], prefix: Sequence[str] = (), **environment: str) -> Said:
        """Run a command as a user does who has nothing but this place; `prefix` is a command that runs it."""
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
        own = {"HOME": str(self.home), "TMPDIR": str(self.tmp), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "shardprep.cli", *map(os.fspath, arguments)],
            cwd=self.work,
            env=kept | own | environment,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def around(self) -> dict[bytes, str]:
        """Return everything in the place but the output, and what would tell that it changed."""
        found: dict[bytes, str] = {}
        for folder, names, files in os.walk(os.fsencode(self.root)):
            if folder == os.fsencode(self.root):
                names[:] = [name for name in names if name != b"out"]
            for name in [*names, *files]:
                path = os.path.join(folder, name)
                found[path] = _looks(path)
        return found


def _looks(path: bytes) -> str:
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        return f"link {os.fsdecode(os.readlink(path))!r}"
    if stat.S_ISREG(info.st_mode):
        return f"{hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()} {info.st_mtime_ns}"
    return f"{stat.S_IFMT(info.st_mode):o}"
