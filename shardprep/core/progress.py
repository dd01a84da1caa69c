"""How code deep inside a call says that it gets on: a film takes hours to cut, and only what stands still hangs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listeners: ContextVar[tuple[Callable[[], None], ...]] = ContextVar("listeners", default=())


def gets_on() -> None:
    """Say that the calls in progress in this thread get on: their time limits count anew from here. Called as often as you like."""
    for hear in _listeners.get():
        hear()


@contextmanager
def heard_by(hear: Callable[[], None]) -> Iterator[None]:
    """Call `hear` whenever this thread says that it gets on while the body runs."""
    token = _listeners.set((*_listeners.get(), hear))
    try:
        yield
    finally:
        _listeners.reset(token)
