"""A budget of bytes for decoded frames, shared by the threads of a worker."""

from __future__ import annotations

import threading


class BudgetClosed(Exception):
    """Nobody waits for the frames any more."""


class ByteBudget:
    """Lets threads hold at most `limit` bytes; the sample whose turn it is always gets in, so nothing waits for itself."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._turn = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def acquire(self, num_bytes: int, ticket: int) -> None:
        """Wait until `num_bytes` fit, or until every earlier ticket was delivered; BudgetClosed where that is in vain."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._held + num_bytes <= self.limit or ticket <= self._turn)
            if self._is_closed:
                raise BudgetClosed
            self._held += num_bytes

    def release(self, num_bytes: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._held -= num_bytes
            self._changed.notify_all()

    def wants(self, ticket: int) -> None:
        """Say that the consumer now waits for this ticket."""
        with self._changed:
            self._turn = max(self._turn, ticket)
            self._changed.notify_all()

    def close(self) -> None:
        """Let go whoever waits: the consumer has ended."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
