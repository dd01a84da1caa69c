"""A process that kills its whole group at a chosen moment: just before the n-th change that it or a worker makes to an output."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

KILL = "SHARDPREP_TEST_KILL"
"""Environment variable: `LOG N OUTPUT`; changes are noted in the file LOG, before number N all processes of the group die (0: none)."""

_CHANGES = {"os.link", "os.rename", "os.remove"}


def install() -> None:
    """Watch this process's changes to the output, where the environment asks for it."""
    if KILL not in os.environ:
        return
    log, number, output = os.environ[KILL].split(" ", 2)
    fd = os.open(log, os.O_RDWR | os.O_APPEND | os.O_CREAT)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES:
            # The last path is the one that changes: link and rename have the target second.
            paths = [str(argument) for argument in arguments[:2] if isinstance(argument, str) and argument.startswith(output)]
            if paths:
                note(event, paths[-1].removeprefix(output).lstrip("/"))

    def note(event: str, path: str) -> None:
        os.write(fd, f"{event} {path}\n".encode())
        if 0 < int(number) <= os.pread(fd, 1 << 20, 0).count(b"\n"):
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)
