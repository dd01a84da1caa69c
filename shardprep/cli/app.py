"""The entry point of the command `shardprep`: it answers Ctrl-C and SIGTERM, and only then imports what the commands need."""

from __future__ import annotations

from shardprep.cli.early import answer_signals
from shardprep.core.streams import open_closed_streams


def main() -> None:
    """Run the command line."""
    open_closed_streams()
    answer_signals()
    from shardprep.cli.commands import run_command_line

    run_command_line()
