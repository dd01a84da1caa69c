"""Ctrl-C and SIGTERM in every phase of a command: an answer within ten seconds, by the documented exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.executors.test_local import first_note
from tests.executors.test_signals import PLUG_IN
from tests.fates import make_files
from tests.plugins.distribution import install

# A command line of which one function waits: in Python, or deep in a library that does not let Python's handlers run.
HELD = """
    import hashlib, pkgutil, sys, time
    from pathlib import Path
    from shardprep.cli.app import main
    from shardprep.errors import RecipeError

    def hold(*args, **kwargs):
        (Path(notes) / "held").write_text("1")
        if how == "deep":
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)
        try:
            time.sleep(1000)
        except KeyboardInterrupt as error:
            raise RecipeError("the library could not read its data") if how == "hidden" else error

    _, held, notes, how, *sys.argv[1:] = sys.argv
    module, _, name = held.rpartition(".")
    setattr(pkgutil.resolve_name(module), name, hold)
    main()
"""
RECIPE = """
name: stopped
source: {videos: files, samples_per_shard: 2}
output: out
workers: 1
steps:
  - work: [measure]
  - good: {select: {where: "true", limit: 3}}
  - train: {pack: {samples_per_shard: 2}}
"""
MEASURE = '''
    """Measures nothing."""

    from dataclasses import dataclass

    from shardprep.core.stage import Map


    @dataclass(frozen=True, kw_only=True)
    class Measure(Map):
        """Keep all."""

        accepts = ()

        def apply(self, sample):
            return sample
'''


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make_files(tmp_path / "files", 4)
    (tmp_path / "notes").mkdir()
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "held.py").write_text(textwrap.dedent(HELD))
    return tmp_path


def stopped(
    place: Path, command: list[str], env: dict[str, str], *signals: signal.Signals, gap: float = 0.0, last: float = 0.0
) -> tuple[int, str, float]:
    """Begin a command, send signals once it has noted something, and return its exit code, its words and how long it took to end.

    After `last` seconds, unless these are 0, one more Ctrl-C is sent.
    """
    with subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        first_note(place / "notes")
        asked = time.monotonic()
        for number in signals:
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
            time.sleep(gap)
        if last:
            time.sleep(last)
            os.killpg(process.pid, signal.SIGINT)
        try:
            _, told = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, told, time.monotonic() - asked


@pytest.mark.parametrize(
    ("held", "arguments"),
    [
        ("shardprep.driver.run.raw_state", "run recipe.yaml"),
        ("shardprep.driver.packing.plan_shards", "run recipe.yaml"),
        ("shardprep.gather.select.Selection.cuts", "run recipe.yaml"),
        ("shardprep.driver.run.write_info", "run recipe.yaml"),
        ("shardprep.driver.plan.plan", "plan recipe.yaml"),
        ("shardprep.driver.verify.verify", "verify out"),
        ("shardprep.driver.status.status", "status out"),
    ],
)
def test_whatever_the_command_itself_does_is_interrupted(place: Path, held: str, arguments: str) -> None:
    env = install(place / "site", "measuring", MEASURE, measure="Measure")
    command = [sys.executable, "held.py", held, "notes", "python", *arguments.split()]
    code, told, seconds = stopped(place, command, env, signal.SIGINT)
    assert (code, "Stopped: no shard was in work. Run the same command again." in told) == (3, True), told
    assert "Traceback" not in told
    assert seconds < 10


def test_an_interrupt_that_a_library_makes_into_its_own_error_is_one(place: Path) -> None:
    command = [sys.executable, "held.py", "shardprep.driver.plan.plan", "notes", "hidden", "plan", "recipe.yaml"]
    code, told, _ = stopped(place, command, install(place / "site", "measuring", MEASURE, measure="Measure"), signal.SIGINT)
    assert (code, told) == (3, STOPPED)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_does_not_come_back_is_left_as_it_stands(place: Path, number: signal.Signals) -> None:
    env = install(place / "site", "measuring", MEASURE, measure="Measure")
    command = [sys.executable, "held.py", "shardprep.driver.run.raw_state", "notes", "deep", "run", "recipe.yaml"]
    code, told, seconds = stopped(place, command, env, number)
    assert (code, "did not end within 8 s" in told) == (4, True), told
    assert seconds < 10


@pytest.mark.parametrize("held", ["shardprep.cli.commands.run_command_line", "shardprep.driver.plan.plan"])
def test_a_ctrl_c_that_was_ignored_at_the_start_stays_ignored(place: Path, held: str) -> None:
    """As a script's shell has it for what runs in the background; SIGTERM ends it all the same."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    command = [*ignoring, sys.executable, "held.py", held, "notes", "python", "plan", "recipe.yaml"]
    env = install(place / "site", "measuring", MEASURE, measure="Measure")
    with subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        first_note(place / "notes")
        os.killpg(process.pid, signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.terminate()
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (3, STOPPED)


SLOW = (
    f"list_sum(list_transform({list(range(300))}, "
    "lambda i: levenshtein(lpad((source.bytes + i)::varchar, 10000, 'x'), rpad((source.bytes * i)::varchar, 10000, 'y')))) > 0"
)
"""It takes half a minute of a sample."""


@pytest.mark.parametrize(("signals", "code"), [([signal.SIGINT, signal.SIGINT], 4), ([signal.SIGTERM], 4)])
def test_a_selection_is_abandoned_and_nothing_of_it_remains(place: Path, signals: list[signal.Signals], code: int) -> None:
    env = install(place / "site", "measuring", MEASURE, measure="Measure")
    (place / "recipe.yaml").write_text(RECIPE.replace('"true", limit: 3', f'"{SLOW}"'))
    command = [sys.executable, "-m", "shardprep.cli", "run", "recipe.yaml"]
    told, seconds = "", 0.0
    with subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not (place / "out" / "good" / "set.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        asked = time.monotonic()
        for number in signals:
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
            time.sleep(0.2)
        _, told = process.communicate(timeout=60)
        seconds = time.monotonic() - asked
    assert process.returncode == code, told
    assert seconds < 10
    assert "Stopped: 1 unfinished shard was abandoned" in told
    assert not list((place / "out" / "good").glob("*.parquet"))


def test_the_second_ctrl_c_ends_the_run_however_soon_it_comes(place: Path) -> None:
    env = install(place / "site", "waiting", PLUG_IN, wait_a_while="WaitAWhile")
    (place / "recipe.yaml").write_text(RECIPE.replace("measure", "wait_a_while: {folder: notes, seconds: 1000}"))
    for gap in (0.0, 0.01, 0.2):
        for note in (place / "notes").iterdir():
            note.unlink()
        command = [sys.executable, "-m", "shardprep.cli", "run", "recipe.yaml"]
        # Those that come before the first was delivered are one to the system, so one that comes later makes sure.
        code, told, seconds = stopped(place, command, env, *[signal.SIGINT] * 2, gap=gap, last=1.0)
        assert code == 4, told
        assert "Stopped: 1 unfinished shard was abandoned, 1 shard not begun. Run the recipe again to make them." in told
        assert "Traceback" not in told
        assert seconds < 10


def test_ctrl_c_in_a_terminal_while_workers_start_shows_no_traceback(place: Path) -> None:
    # A terminal sends it to the workers, too, which have not come to ignore it yet.
    env = install(place / "site", "measuring", MEASURE, measure="Measure")
    command = [sys.executable, "-m", "shardprep.cli", "run", "recipe.yaml", "--log", "lines"]
    for number in range(4):
        with subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if line.startswith("raw: 2 shards to make"))
            time.sleep(0.05 + 0.1 * number)
            os.killpg(process.pid, signal.SIGINT)
            told = process.stderr.read()
        assert "Traceback" not in told
        shutil.rmtree(place / "out", ignore_errors=True)


DOWN = '''
    """Asks a server that is down."""

    from dataclasses import dataclass
    from pathlib import Path

    from shardprep.core.stage import Map
    from shardprep.errors import Unavailable


    @dataclass(frozen=True, kw_only=True)
    class AskNobody(Map):
        """Wait."""

        accepts = ()

        def apply(self, sample):
            Path("notes/asked").write_text("1")
            raise Unavailable("the server is down")
'''


def test_waiting_for_a_server_is_interrupted(place: Path) -> None:
    env = install(place / "site", "asking", DOWN, ask_nobody="AskNobody")
    (place / "recipe.yaml").write_text(RECIPE.replace("measure", "ask_nobody"))
    code, told, seconds = stopped(place, [sys.executable, "-m", "shardprep.cli", "run", "recipe.yaml"], env, signal.SIGINT)
    assert code == 3, told
    assert "Stopped: the shards in work were finished, 2 shards of this step are left." in told
    assert seconds < 10


# Says when the entry point begins to import what it needs: from there on it answers.
ENTERED = """
    import os, sys

    class Announced:
        def find_spec(self, name, path=None, target=None):
            if name == "typer":
                sys.meta_path.remove(self)
                os.write(1, b"entered")

    sys.meta_path.insert(0, Announced())
    from shardprep.cli.app import main
    main()
"""
STOPPED = "Stopped: no shard was in work. Run the same command again.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_from_the_entry_point_on_a_command_ends_with_3_and_one_line(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "entered.py").write_text(textwrap.dedent(ENTERED))
    # Nobody writes to it, so that the command does not end by itself.
    os.mkfifo(tmp_path / "recipe.yaml")
    command = [sys.executable, "entered.py", "plan", "recipe.yaml"]
    for delay in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0):
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.read(7) == "entered"
            time.sleep(delay)
            process.send_signal(number)
            _, told = process.communicate(timeout=60)
        assert (process.returncode, told) == (3, STOPPED), f"{delay} s after the entry point"
