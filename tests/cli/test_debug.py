"""`--debug` on the line of the command that people type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.plugins.distribution import install, shardprep

STAGE = '''
    from dataclasses import dataclass

    from shardprep.core.stage import Map


    @dataclass(frozen=True, kw_only=True)
    class ScoreWrong(Map):
        """Fails."""

        def apply(self, sample):
            return sample.with_columns({"scores.wrong": 1 / 0})
'''


@pytest.mark.parametrize(("command", "shown"), [(["run", "--debug"], True), (["--debug", "retry"], True), (["run"], False)])
def test_debug_shows_where_a_stage_failed(command: list[str], shown: bool, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "wrong_stages", STAGE, score_wrong="ScoreWrong")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    (tmp_path / "r.yaml").write_text("source: videos\nworkers: 1\nsteps:\n  - wrong: [score_wrong]\n")
    done = shardprep(*command, "r.yaml", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert bool(re.search(r"wrong_stages\.py\", line \d+, in apply", done.stderr)) is shown
    assert "ZeroDivisionError: division by zero" in done.stdout
