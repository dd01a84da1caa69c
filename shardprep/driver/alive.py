"""Whether the process that wrote something down still lives: told at once on its own machine, by a number that no other process has."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_TIME = 19
"""Place of the start time, in clock ticks since boot, among the fields of /proc/PID/stat behind the name."""


@dataclass(frozen=True, kw_only=True)
class ProcessMark:
    """What tells one process from all others, also from a later one with its number."""

    host: str
    pid: int
    machine: str
    """Boot and process namespace: where both are equal the numbers of processes mean the same. Empty where the system does not say."""
    started: str
    """The process's start time in clock ticks since boot; empty where the system does not say."""


def own_mark() -> ProcessMark:
    """Return the mark of this process."""
    pid = os.getpid()
    return ProcessMark(host=socket.gethostname(), pid=pid, machine=_machine(), started=_start_of(pid) or "")


def is_alive(mark: ProcessMark) -> bool | None:
    """Return whether a process lives; None where it ran on another machine and nobody here can tell."""
    if not mark.machine or not mark.started or mark.machine != _machine():
        return None
    return _start_of(mark.pid) == mark.started


def _machine() -> str:
    try:
        return f"{_BOOT_ID.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """Return the start time of a process, None where there is none or it has ended and is only waited for."""
    try:
        # The name may hold spaces and brackets; behind the last bracket the fields are plain.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[_START_TIME - 1]
