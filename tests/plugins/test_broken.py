"""Plug-ins that cannot be used are listed with their error; the others, and our own stages, work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugins.distribution import install, shardprep

GOOD = '''
    from dataclasses import dataclass

    from shardprep.core.stage import Map


    @dataclass(frozen=True, kw_only=True)
    class ScoreGood(Map):
        """Works."""

        def apply(self, sample):
            return sample
'''

BROKEN = {
    "score_value": "raise ValueError('not today')",
    "score_syntax": "def broken(:",
    "score_exit": "import sys\nsys.exit(0)",
    "score_missing": "import no_such_module_at_all",
    "score_none": "ScoreNone = None",
    "score_asked": """
        from dataclasses import dataclass
        from shardprep.core.stage import Stage


        @dataclass(frozen=True, kw_only=True)
        class ScoreAsked(Stage):
            @property
            def writes(self):
                raise RuntimeError('nobody knows')
    """,
    "score_odd": """
        import re
        from dataclasses import dataclass
        from shardprep.core.stage import Stage


        @dataclass(frozen=True, kw_only=True)
        class ScoreOdd(Stage):
            pattern: re.Match[str] | None = None

            def process(self, batch):
                return []
    """,
    "cut_clips": GOOD.replace("ScoreGood", "CutClips"),
    "select": GOOD.replace("ScoreGood", "Select"),
}
WORDS = {
    "score_value": "ValueError: not today",
    "score_syntax": "SyntaxError",
    "score_exit": "SystemExit: 0",
    "score_missing": "no_such_module_at_all",
    "score_none": "no subclass of shardprep's Stage",
    "score_asked": "RuntimeError: nobody knows",
    "score_odd": "Match",
    "cut_clips": "shardprep itself, cut_clips_stages",
    "select": "select is a gather of shardprep itself, and select_stages brings a stage",
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Install a package per stage, one of which works."""
    site = tmp_path / "site"
    for name, source in BROKEN.items():
        install(site, f"{name}_stages", source, **{name: "".join(word.title() for word in name.split("_"))})
    return install(site, "good_stages", GOOD, score_good="ScoreGood")


def test_each_is_listed_with_its_error_and_the_others_work(tmp_path: Path, env: dict[str, str]) -> None:
    listed = shardprep("stages", env=env, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert all(name in listed.stdout for name in ("score_good", "cut_clips", "drop_where"))
    broken = [line for line in listed.stdout.splitlines() if line.startswith("BROKEN ")]
    for name, words in WORDS.items():
        if name != "score_odd":
            (line,) = [line for line in broken if line.startswith(f"BROKEN {name}, of {name}_stages: ")]
            assert words in line
    assert len(broken) == len(WORDS) - 1


def test_the_schema_holds_the_others_and_says_what_is_broken(tmp_path: Path, env: dict[str, str]) -> None:
    done = shardprep("schema", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["$defs"]["stage"]
    assert {"score_good", "probe_media", "cut_clips"} <= set(stages["then"]["enum"])
    for name in WORDS.keys() - {"cut_clips"}:
        assert WORDS[name] in stages["else"]["properties"][name]["description"]
        assert stages["else"]["properties"][name]["not"] == {}
    for name in WORDS.keys() - {"score_odd"}:
        assert f"broken: {name}, of {name}_stages: " in done.stderr


@pytest.mark.parametrize("name", sorted(WORDS.keys() - {"select", "score_asked", "score_odd"}))
def test_a_recipe_that_names_one_is_refused_with_its_error(tmp_path: Path, env: dict[str, str], name: str) -> None:
    (tmp_path / "recipe.yaml").write_text(f"source: {{videos: .}}\nsteps:\n  - a: [probe_media]\n  - b: [{name}]\n")
    done = shardprep("plan", "recipe.yaml", env=env, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    text = " ".join(done.stderr.split())
    assert name in text
    assert "Traceback" not in text
    assert WORDS[name] in text
