"""A stage from somewhere else: in one file of an installed distribution, or in a script; listed, validated, planned and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shardprep.testing.videos import Shot, draw, encode
from tests.fates import scores
from tests.plugins.distribution import install, shardprep

SCORE_LUMA = '''
    """Mean brightness."""

    from dataclasses import dataclass

    from shardprep.core.frames import Fractions, FramesWanted
    from shardprep.core.stage import Map


    @dataclass(frozen=True, kw_only=True)
    class ScoreLuma(Map):
        """Measure how bright a video is, from 0 to 1."""

        points: int = 2
        """How many frames are looked at."""

        version = 1
        accepts = ("video",)

        @property
        def writes(self):
            return {"scores.luma": "double"}

        @property
        def frames(self):
            return FramesWanted(Fractions(tuple(k / self.points for k in range(self.points))), colour="gray")

        def apply(self, sample):
            return sample.with_columns({"scores.luma": float(sample.frames.images.mean()) / 255})
'''

RECIPE = """
name: bright
source: {{videos: videos}}
output: out
workers: 1
steps:
  - scores: [probe_media, score_luma: {settings}]
  - good: {{select: "scores.luma >= 0"}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with two small videos and a recipe that uses the plug-in."""
    (tmp_path / "videos").mkdir()
    for seed in range(2):
        (tmp_path / "videos" / f"v{seed}.mp4").write_bytes(encode(draw([Shot(seconds=0.25, seed=seed)], height=32, width=48)))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(settings="{points: 3}"))
    return tmp_path


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return install(tmp_path / "site", "luma_stages", SCORE_LUMA, score_luma="ScoreLuma")


def test_without_the_distribution_there_is_no_such_stage(place: Path) -> None:
    done = shardprep("plan", "recipe.yaml", env=dict(os.environ), cwd=place)
    assert done.returncode == 2
    assert "there is no stage 'score_luma'" in done.stderr


def test_it_is_listed_with_what_it_says_of_itself(place: Path, env: dict[str, str]) -> None:
    listed = shardprep("stages", env=env, cwd=place)
    assert listed.returncode == 0, listed.stderr
    assert "score_luma" in listed.stdout
    assert "Measure how bright a video is" in listed.stdout
    one = shardprep("stages", "score_luma", env=env, cwd=place)
    assert one.returncode == 0, one.stderr
    assert "How many frames are looked at" in one.stdout
    assert "scores.luma" in one.stdout
    schema = shardprep("schema", env=env, cwd=place)
    assert "score_luma" in json.dumps(json.loads(schema.stdout))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{point: 3}", ["recipe.yaml:7", "points"]),
        ("{points: many}", ["recipe.yaml:7", "points", "many"]),
    ],
)
def test_a_wrong_setting_is_found_before_anything_runs(place: Path, env: dict[str, str], settings: str, words: list[str]) -> None:
    (place / "recipe.yaml").write_text(RECIPE.format(settings=settings))
    done = shardprep("run", "recipe.yaml", env=env, cwd=place)
    assert done.returncode == 2
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert not (place / "out").exists()


def test_it_is_planned_and_run_and_a_changed_setting_is_noticed(place: Path, env: dict[str, str]) -> None:
    planned = shardprep("plan", "recipe.yaml", "--json", env=env, cwd=place)
    assert planned.returncode == 0, planned.stderr
    assert [step["name"] for step in json.loads(planned.stdout)["steps"]] == ["raw", "scores", "good"]
    done = shardprep("run", "recipe.yaml", env=env, cwd=place)
    assert done.returncode == 0, done.stderr
    luma = scores(place / "out", "luma", "scores")
    assert len(luma) == 2
    assert all(0 < value < 1 for value in luma.values())
    changed = shardprep("plan", "recipe.yaml", "--set", "steps.scores.score_luma.points=4", env=env, cwd=place)
    assert "score_luma.points changed from 3 to 4" in " ".join(changed.stdout.split())


SCRIPT = '''
    """A stage of one's own, and a run with it."""

    import sys
    from dataclasses import dataclass

    import shardprep
    from shardprep.core.outcome import Dropped
    from shardprep.gather.settings import Pack
    from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
    from shardprep.sources.spec import SourceSpec


    @dataclass(frozen=True, kw_only=True)
    class DropNamed(shardprep.Filter):
        """Drop videos by name."""

        name: str

        reads = ("source.name",)

        def judge(self, sample):
            return Dropped("unwanted") if sample.get("source.name") == self.name else None


    def recipe(reads=("source.name",)):
        return Recipe(
            name="script",
            source=SourceSpec(videos="videos"),
            output="out",
            settings=RunSettings(workers=1),
            steps=(Pass(name="chosen", stages=(DropNamed(name=sys.argv[1]),)), Gather(name="train", does=Pack())),
        )


    if __name__ == "__main__":
        print([(step.name, step.new, step.follows) for step in shardprep.plan(recipe()).steps])
        summary = shardprep.run(recipe())
        print([(step.name, step.kept, step.dropped) for step in summary.steps])
        print(len(list(shardprep.open_set("out/train"))))
'''


def test_a_stage_in_a_script_is_planned_and_run(place: Path) -> None:
    (place / "script.py").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run([sys.executable, "script.py", "v1.mp4"], cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[('raw', 2, 0), ('chosen', 0, 2), ('train', 0, 1)]",
        "[('raw', 2, {}), ('chosen', 1, {'unwanted': 1}), ('train', 1, {})]",
        "1",
    ]


def test_a_stage_in_a_script_is_validated(place: Path) -> None:
    script = textwrap.dedent(SCRIPT).replace('reads = ("source.name",)', 'reads = ("source.nam",)')
    (place / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py", "v1.mp4"], cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "RecipeError" in done.stderr
    assert "drop_named reads source.nam, which no earlier stage writes; there is source.name" in done.stderr
    assert not (place / "out").exists()


def test_a_script_without_its_guard_is_told_so(place: Path) -> None:
    (place / "script.py").write_text(textwrap.dedent(SCRIPT).replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run([sys.executable, "script.py", "v1.mp4"], cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert 'under `if __name__ == "__main__":`' in done.stderr


def test_changed_code_is_noticed_and_redone_when_asked(place: Path, env: dict[str, str]) -> None:
    def said(command: str, *options: str) -> str:
        done = shardprep(command, "recipe.yaml", *options, env=env, cwd=place)
        assert done.returncode == 0, done.stderr
        return " ".join((done.stdout + done.stderr).split())

    said("run")
    old = scores(place / "out", "luma", "scores")
    module = place / "site" / "luma_stages.py"
    module.write_text(module.read_text() + "\n# a remark\n")
    assert "code changed" not in said("plan")
    module.write_text(module.read_text().replace(") / 255", ") / 510"))
    for command in ("plan", "run"):
        notice = said(command)
        for words in ("score_luma: its code changed since", "raise version, or run with --redo scores"):
            assert words in notice, notice
    assert scores(place / "out", "luma", "scores") == old
    assert "nothing to do" in said("plan")
    assert "code changed" not in said("run", "--redo", "scores")
    assert scores(place / "out", "luma", "scores") == pytest.approx({key: value / 2 for key, value in old.items()})
    assert "code changed" not in said("plan")
    wrong = shardprep("run", "recipe.yaml", "--redo", "scorse", env=env, cwd=place)
    assert wrong.returncode == 2
    assert "--redo scorse: scorse is no step of the recipe; these can be made again: scores, good" in " ".join(wrong.stderr.split())
