"""The entry point of the command `shardprep`: it answers Ctrl-C and SIGTERM, and only then imports what the commands need."""

from __future__ import annotations

from shardprep.cli.early import answer_signals


def main() -> None:
    """Run the command line."""
    answer_signals()
    from shardprep.cli.commands import run_command_line

    run_command_line()
