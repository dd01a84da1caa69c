"""Standard output and error that are closed, full or read by nobody: no command breaks on them, and none loses words in silence."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import shardprep
from shardprep.cli.discreet import Discreet
from tests.plugins.distribution import install

SIGPIPE_IN_A_SHELL = 141
RECIPE = """
source: {videos: videos, samples_per_shard: 2}
output: OUT
workers: 1
steps:
  - small: [drop_where: {expression: "source.bytes > 450"}]
"""
FULL = "error: standard output cannot be written: No space left on device. Part of what was said is lost"
CLOSED = "error: standard output cannot be written: it is closed. Part of what was said is lost"


def shell(line: str, place: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `sp` is the command line; a pipe ends by the code of its first command."""
    python = shlex.quote(sys.executable)
    script = f'sp() {{ exec {python} -m shardprep.cli "$@"; }}\n{line}\nexit ${{PIPESTATUS[0]}}'
    return subprocess.run(["bash", "-c", script], cwd=place, env=env, capture_output=True, text=True, timeout=250, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of five samples, one of them dropped."""
    place = tmp_path_factory.mktemp("streams")
    (place / "videos").mkdir()
    for number in range(1, 6):
        (place / "videos" / f"v{number}.mp4").write_bytes(bytes(100 * number))
    (place / "r.yaml").write_text(RECIPE, encoding="utf-8")
    done = shell("(sp run r.yaml --output out --log summary)", place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize(
    "command", ["status out", "table out/small", "table out/small --format csv", "plan r.yaml --output out", "--version"]
)
@pytest.mark.parametrize(("where", "said"), [(">&-", CLOSED), (">/dev/full", FULL)])
def test_output_that_cannot_be_written_is_one_message_and_an_error(command: str, where: str, said: str, made: Path) -> None:
    done = shell(f"(sp {command} {where})", made)
    assert (done.returncode, done.stderr.splitlines()) == (1, [said])


def test_the_code_of_an_error_stays_where_output_is_lost_too(made: Path) -> None:
    done = shell("(sp verify nowhere --clean >&-)", made)
    assert (done.returncode, done.stderr.count("error: "), "Traceback" in done.stderr) == (1, 1, False)
    done = shell("(sp plan absent.yaml >&-)", made)
    assert (done.returncode, done.stderr.count("error: ")) == (2, 1)


@pytest.mark.parametrize(
    ("how", "where"),
    [
        *(("auto", where) for where in (">&-", ">/dev/full", "2>&-", "2>/dev/full", ">&- 2>&- <&-")),
        *(("json", where) for where in (">&-", ">/dev/full", ">/dev/full 2>/dev/full")),
        ("summary", "2>&-"),
    ],
)
def test_a_run_is_made_whether_or_not_its_words_can_be_written(how: str, where: str, made: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = shell(f"(sp run r.yaml --output {output} --log {how} {where})", made)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if not where.startswith("2") and "2>" not in where:
        assert done.stderr.splitlines()[-1] == (CLOSED if where == ">&-" else FULL).removeprefix("error: ")
    assert [(step.name, step.done) for step in shardprep.status(str(output)).steps] == [("raw", 3), ("small", 3)]
    assert not shardprep.verify(str(output))


def test_nothing_is_written_into_a_file_that_took_the_place_of_a_closed_stream(made: Path) -> None:
    """A process without standard output or error gives their numbers to the next files that it opens."""
    program = "from shardprep.core.streams import open_closed_streams as o; import os; o(); print(os.open('x', os.O_CREAT | os.O_RDWR))"
    done = shell(f"({shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- 2>&-)", made)
    assert int(done.stdout) > 2


def test_an_error_keeps_its_code_where_nobody_hears_it(made: Path) -> None:
    assert shell("(sp run absent.yaml 2>&-)", made).returncode == 2
    assert shell("(sp no-such-command 2>&-)", made).returncode == 2
    assert shell("(sp table out/absent 2>/dev/full)", made).returncode == 1


@pytest.mark.parametrize("command", ["schema", "status out", "table out/small --format json", "--help", "verify out"])
def test_a_reader_that_left_ends_a_command_as_it_ends_others(command: str, made: Path) -> None:
    # The reader is gone before the first word.
    done = shell(f"(sleep 0.1; sp {command}) | exec true", made)
    assert (done.returncode, done.stderr) == (SIGPIPE_IN_A_SHELL, "")


@pytest.mark.parametrize("how", ["auto", "json"])
def test_a_run_goes_on_where_its_reader_left(how: str, made: Path) -> None:
    done = shell(f"(sleep 0.1; sp run r.yaml --output left-{how} --log {how} 2>&1) | exec true", made)
    assert (done.returncode, done.stderr) == (0, "")
    assert [step.done for step in shardprep.status(str(made / f"left-{how}")).steps] == [3, 3]


TALKER = """
    from dataclasses import dataclass

    from shardprep.core.stage import Map


    @dataclass(frozen=True, kw_only=True)
    class SayMuch(Map):
        accepts = ()

        def apply(self, sample):
            print("word " * 5000, flush=True)
            return sample
"""


@pytest.mark.parametrize("where", [">&-", ">/dev/full", "| exec true"])
def test_a_stage_that_prints_fails_no_sample(where: str, made: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(made / "videos")
    (tmp_path / "r.yaml").write_text("source: {videos: videos}\nworkers: 1\nsteps:\n  - said: [say_much]\n", encoding="utf-8")
    done = shell(
        f"(sp run r.yaml --output out {where if '>' in where else ''}) {'' if '>' in where else where}",
        tmp_path,
        install(tmp_path / "site", "talker", TALKER, say_much="SayMuch"),
    )
    assert done.returncode == 0, done.stderr
    assert len(list(shardprep.open_set(str(tmp_path / "out" / "said")))) == 5


def test_python_runs_where_standard_error_is_closed(made: Path, tmp_path: Path) -> None:
    program = "import shardprep; shardprep.run(shardprep.load_recipe('r.yaml', output='quiet'))"
    done = shell(f"({shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- 2>&-)", made)
    assert done.returncode == 0
    assert [step.done for step in shardprep.status(str(made / "quiet")).steps] == [3, 3]


def test_a_ctrl_c_that_cannot_be_answered_in_words_is_answered(tmp_path: Path) -> None:
    program = "import os, signal\nfrom shardprep.cli.early import answer_signals\nanswer_signals()\nos.kill(os.getpid(), signal.SIGINT)\n"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], stderr=full, timeout=60, check=False)
    assert done.returncode == 3


def test_a_stream_goes_on_after_what_could_not_be_written() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = Discreet(os.fdopen(write, "w"), is_report=True)
    print("lost", file=stream, flush=True)
    stream.buffer.write(b"lost as well")
    stream.buffer.flush()
    assert isinstance(stream.lost, BrokenPipeError)
    stream.end()
    stream.close()
