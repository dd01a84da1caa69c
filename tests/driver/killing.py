"""Runs that die at a chosen moment: the whole group is killed just before a change that it would make to its output."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

KILL = "SHARDPREP_TEST_KILL"
"""Environment variable: `LOG|NUMBER#WORDS|OUTPUT`. Changes are noted in the file LOG; before the change of this number, of those that
have the words, all processes of the group die. Number 0: none does. Leases are left out: they are renewed by the clock."""

_CHANGES = {"os.link", "os.rename", "os.remove"}


def install() -> None:
    """Watch this process's changes to the output, where the environment asks for it."""
    if KILL not in os.environ:
        return
    log, when, output = os.environ[KILL].split("|", 2)
    number, _, words = when.partition("#")
    fd = os.open(log, os.O_RDWR | os.O_APPEND | os.O_CREAT)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES:
            # The last path is the one that changes: link and rename have the target second.
            paths = [
                str(argument)
                for argument in arguments[:2]
                if isinstance(argument, str) and argument.startswith(output) and "/_leases/" not in argument
            ]
            if paths:
                note(event, paths[-1].removeprefix(output).lstrip("/"))

    def note(event: str, path: str) -> None:
        os.write(fd, f"{event} {path}\n".encode())
        made = os.pread(fd, 1 << 20, 0).decode().splitlines()
        if 0 < int(number) <= sum(words in line for line in made):
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)
