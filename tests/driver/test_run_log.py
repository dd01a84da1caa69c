"""The run's file of tracebacks holds where code went wrong, and nothing of a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.driver.run_log import LOGS, RunLog
from shardprep.errors import RunFailed, StoreError
from shardprep.executors.local import WorkerTraceback
from shardprep.shards.store import Store


def ended(error: Exception, folder: Path) -> str | None:
    """Return where the run's log went where it ended with this error of a worker."""
    log = RunLog(Store(str(folder)))
    with pytest.raises(type(error)) as caught:
        raise error from WorkerTraceback("Traceback: in a stage")
    log.add_end(caught.value)
    return log.write()


def test_the_traceback_of_a_worker_is_kept(tmp_path: Path) -> None:
    assert ended(RunFailed("s: it is wrong"), tmp_path) is not None
    (file,) = (tmp_path / LOGS).iterdir()
    assert file.read_text() == "s: it is wrong\nTraceback: in a stage"


def test_of_a_full_disk_no_traceback_is_kept(tmp_path: Path) -> None:
    assert ended(StoreError("No space left on device"), tmp_path) is None
    assert not (tmp_path / LOGS).exists()
