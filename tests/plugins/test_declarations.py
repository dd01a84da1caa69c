"""A plug-in's stage that declares something wrongly, or whose check breaks, is one message that names it, and exit code 2."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.plugins.distribution import install, shardprep

STAGE = '''
    from dataclasses import dataclass

    from shardprep.core.outcome import Kept
    from shardprep.core.stage import Stage


    @dataclass(frozen=True, kw_only=True)
    class ScoreMine(Stage):
        """Somebody's own."""

        {declared}

        def process(self, batch):
            return [Kept(sample) for sample in batch]
'''
CHECK = "def check(self): return {}['driver']"


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ('accepts = ("video")', "error: r.yaml:4: step mine: score_mine: accepts is 'video'; expected roles"),
        ('writes = ("mine.x",)', "error: r.yaml:4: step mine: score_mine: writes is ('mine.x',); expected a mapping"),
        ('weights = ("file.json",)', "error: r.yaml:4: step mine: score_mine: weights is ('file.json',); expected Weights"),
        ('reads = "video"', "error: r.yaml:4: step mine: score_mine: reads is 'video'; expected roles and columns"),
        (CHECK, "error: r.yaml:4: step mine: score_mine: check raises KeyError: 'driver'; --debug shows its traceback"),
    ],
)
def test_it_is_told_before_anything_runs(command: str, declared: str, said: str, tmp_path: Path) -> None:
    done = tried(tmp_path, declared, command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_debug_shows_where_a_check_broke(tmp_path: Path) -> None:
    done = tried(tmp_path, CHECK, "run", "--debug")
    assert 'mine_stages.py", line' in done.stderr
    assert "in check" in done.stderr


def test_a_stage_that_declares_wrongly_is_listed_as_broken(tmp_path: Path) -> None:
    env = install(tmp_path / "site", "mine_stages", STAGE.format(declared='accepts = "video"'), score_mine="ScoreMine")
    listed = shardprep("stages", env=env, cwd=tmp_path)
    assert listed.returncode == 0
    assert "score_mine: accepts is 'video'" in " ".join(listed.stdout.split())


def tried(place: Path, declared: str, *command: str) -> subprocess.CompletedProcess[str]:
    env = install(place / "site", "mine_stages", STAGE.format(declared=declared), score_mine="ScoreMine")
    (place / "videos").mkdir()
    (place / "r.yaml").write_text("source: videos\noutput: out\nsteps:\n  - mine: [score_mine]\n")
    return shardprep(*command, "r.yaml", env=env, cwd=place)
