"""Hints in messages: the known names that are most like a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str], lead: str = "; did you mean") -> str:
    """Return a hint with the names most like `name`, or an empty string."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"{lead} {', '.join(close)}" if close else ""
