"""The journal: what a worker notes is what others read, whatever moment it is read at."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from shardprep.core.progress import gets_on
from shardprep.runtime.journal import Journal, Noted, read_journal


def test_calls_in_progress_are_read_and_those_that_ended_are_not(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = Journal(path)
    noted = read_journal(path)
    assert (noted.pid, noted.calls) == (os.getpid(), ())
    with journal.call("score_a_with_a_long_name", ["first", "second"], 10.0):
        with journal.call("decode", ["third"], None):
            stages = [(call.stage, call.keys, call.limit_seconds) for call in read_journal(path).calls]
            assert stages == [("score_a_with_a_long_name", ("first", "second"), 10.0), ("decode", ("third",), None)]
        assert [call.stage for call in read_journal(path).calls] == ["score_a_with_a_long_name"]
    assert read_journal(path).calls == ()


def test_calls_in_which_somebody_says_that_they_get_on_count_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = Journal(path)
    with journal.call("cut", ["first"], 0.04), journal.call("decode", ["first"], 0.04):
        before = read_journal(path).calls
        time.sleep(0.02)
        gets_on()
        assert [call.since > was.since + 0.02 for call, was in zip(read_journal(path).calls, before, strict=True)] == [True, True]
    gets_on()
    assert read_journal(path).calls == ()


def test_another_threads_calls_do_not_count_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with Journal(path).call("model", ["first"], 0.04):
        before = read_journal(path).calls
        time.sleep(0.02)
        thread = threading.Thread(target=gets_on)
        thread.start()
        thread.join()
        assert read_journal(path).calls == before


def test_a_call_that_raises_has_ended(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = Journal(path)
    with pytest.raises(RuntimeError), journal.call("score", ["a"], 1.0):
        raise RuntimeError
    assert read_journal(path).calls == ()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: data.replace(b"score", b"scare"), lambda data: b"", lambda data: b"x y"]
)
def test_what_was_cut_short_or_overwritten_in_part_says_nothing(tmp_path: Path, damage) -> None:
    path = tmp_path / "journal"
    journal = Journal(str(path))
    with journal.call("score", ["a"], 1.0):
        assert read_journal(str(path)).calls
        path.write_bytes(damage(path.read_bytes()))
        assert read_journal(str(path)) == Noted()


def test_without_a_file_nothing_is_noted_or_read(tmp_path: Path) -> None:
    with Journal(None).call("score", ["a"], 1.0):
        assert read_journal(str(tmp_path / "absent")) == Noted()


def test_a_thread_that_outlives_the_journal_writes_into_no_other_file(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"))
    may_end = threading.Event()

    def work() -> None:
        with journal.call("decode", ["a"], 1.0):
            may_end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    journal.close()
    # The lowest free descriptor: the journal's.
    with (tmp_path / "other").open("w+b", buffering=0) as other:
        may_end.set()
        thread.join()
        assert other.read() == b""
