"""How a run is asked to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class StopSignal:
    """`finish` lets the shards in work end, `abandon` does not wait for them."""

    finish: threading.Event = field(default_factory=threading.Event)
    abandon: threading.Event = field(default_factory=threading.Event)
    is_watched: bool = False
    """Whether somebody looks at the events from time to time. Where nobody does, whoever sets them must interrupt the main thread."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Promise to look at the events while the body runs."""
        before, self.is_watched = self.is_watched, True
        try:
            yield
        finally:
            self.is_watched = before
