"""The budget of bytes for frames."""

from __future__ import annotations

import threading
import time

import pytest

from shardprep.runtime.byte_budget import BudgetClosed, ByteBudget


def waits(function, *arguments) -> threading.Thread:
    """Start a call in a thread and make sure that it waits."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    return thread


def ends(thread: threading.Thread) -> None:
    thread.join(5)
    assert not thread.is_alive()


def test_what_does_not_fit_waits_until_bytes_are_given_back() -> None:
    budget = ByteBudget(100)
    budget.acquire(80, 0)
    thread = waits(budget.acquire, 30, 1)
    budget.release(80)
    ends(thread)


def test_whose_turn_it_is_gets_in_however_large() -> None:
    budget = ByteBudget(100)
    budget.acquire(1000, 0)
    thread = waits(budget.acquire, 1000, 2)
    budget.wants(1)
    assert thread.is_alive(), "not yet its turn"
    budget.wants(2)
    ends(thread)


def test_a_closed_budget_lets_everybody_go() -> None:
    budget = ByteBudget(100)
    budget.acquire(100, 0)
    raised = []

    def acquire() -> None:
        try:
            budget.acquire(1, 1)
        except BudgetClosed:
            raised.append(True)

    thread = waits(acquire)
    budget.close()
    ends(thread)
    assert raised
    with pytest.raises(BudgetClosed):
        budget.acquire(0, 0)
