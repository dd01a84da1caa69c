"""Programs as people write them: without a guard, from standard input, in a notebook; with stages of their own and without."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

RUN = """
    import shardprep
    from shardprep.recipe.load import recipe_from_dict

    print("began")
    steps = [{"small": [{"drop_where": {"expression": "source.bytes > 150"}}]}]
    recipe = recipe_from_dict({"source": "videos", "output": "out", "workers": 2, "steps": steps})
    summary = shardprep.run(recipe)
    print([(step.name, step.kept, dict(step.dropped)) for step in summary.steps])
"""
OWN = """
    import sys
    from dataclasses import dataclass
    import shardprep
    from shardprep.core.outcome import Dropped
    from shardprep.recipe.model import Pass, Recipe
    from shardprep.sources.spec import SourceSpec

    @dataclass(frozen=True, kw_only=True)
    class DropLarge(shardprep.Filter):
        accepts = ()
        reads = ("source.bytes",)
        def judge(self, sample):
            return Dropped("where") if sample.get("source.bytes") > 150 else None

    print("began")
    steps = (Pass(name="small", stages=(DropLarge(),)),)
    summary = shardprep.run(Recipe(name="own", source=SourceSpec(videos="videos"), output="out", steps=steps))
    print([(step.name, step.kept, dict(step.dropped)) for step in summary.steps])
"""
SAID = ["began", "[('raw', 2, {}), ('small', 1, {'where': 1})]"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for number in (1, 2):
        (tmp_path / "videos" / f"v{number}.mp4").write_bytes(bytes(100 * number))
    return tmp_path


def python(place: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=place, input=given, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("how", ["file", "module", "stdin", "-c", "notebook"])
def test_a_run_needs_no_guard(place: Path, how: str) -> None:
    text = textwrap.dedent(RUN)
    (place / "script.py").write_text(text)
    # A notebook's cells run in a main module that has no file.
    notebook = "import runpy, sys; del sys.modules['__main__'].__spec__; exec(open('script.py').read(), sys.modules['__main__'].__dict__)"
    arguments = {"file": ["script.py"], "module": ["-m", "script"], "stdin": ["-"], "-c": ["-c", text], "notebook": ["-c", notebook]}[how]
    done = python(place, *arguments, given=text if how == "stdin" else "")
    assert (done.returncode, done.stdout.splitlines()) == (0, SAID), done.stderr
    assert "Traceback" not in done.stderr


def test_stages_of_a_script_run_in_workers_under_a_guard(place: Path) -> None:
    head, _, rest = textwrap.dedent(OWN).partition('print("began")')
    body = textwrap.indent(f'print("began"){rest}', "    ")
    (place / "script.py").write_text(f'{head}if __name__ == "__main__":\n{body}')
    done = python(place, "script.py")
    assert (done.returncode, done.stdout.splitlines()) == (0, SAID), done.stderr


def test_stages_of_a_script_without_a_guard_are_one_clear_error(place: Path) -> None:
    (place / "script.py").write_text(textwrap.dedent(OWN))
    done = python(place, "script.py")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1, done.stderr
    assert 'Put what runs under `if __name__ == "__main__":`, or move the stages to a module of their own' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("how", ["stdin", "-c"])
def test_stages_of_a_program_without_a_file_run_in_its_own_process(place: Path, how: str) -> None:
    text = textwrap.dedent(OWN)
    done = python(place, "-", given=text) if how == "stdin" else python(place, "-c", text)
    assert (done.returncode, done.stdout.splitlines()) == (0, SAID), done.stderr
