"""The subcommands of `shardprep`, and how an error becomes a message and an exit code."""

from __future__ import annotations

import io
import sys
from typing import Any

import typer
import typer.core

from shardprep.cli import describing, doctor, looking, running, starting
from shardprep.cli.discreet import end_streams, take_streams
from shardprep.cli.early import EXIT_STOPPED, say_stopped
from shardprep.cli.stopping import EXIT_ABANDONED, stopping
from shardprep.core.address_space import check_address_space, spare_address_space
from shardprep.errors import OutputInUse, RecipeError, ShardprepError, Stopped

EXIT_ERROR, EXIT_USAGE, EXIT_IN_USE = 1, 2, 5
EPILOG = (
    "Exit codes: 0 done, 1 error, 2 wrong recipe or usage, 3 stopped after the shards in work, 4 stopped, shards in work abandoned, "
    "5 another run works on the output with other settings."
)


class Shardprep(typer.core.TyperGroup):
    """The group of commands; takes `--debug` anywhere on the line and says errors in one message."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["debug"] = "--debug" in args
        return super().parse_args(ctx, [argument for argument in args if argument != "--debug"])

    def invoke(self, ctx: Any) -> Any:
        try:
            check_address_space()
            with stopping():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            say_stopped()
            raise typer.Exit(EXIT_STOPPED) from error
        except ShardprepError as error:
            if ctx.meta["debug"]:
                raise
            print(error if isinstance(error, Stopped) else f"error: {error}", file=sys.stderr)
            raise typer.Exit(exit_code(error)) from error


def exit_code(error: ShardprepError) -> int:
    """Return the exit code that says what kind of error it was."""
    if isinstance(error, Stopped):
        return EXIT_STOPPED if error.finished else EXIT_ABANDONED
    if isinstance(error, OutputInUse):
        return EXIT_IN_USE
    return EXIT_USAGE if isinstance(error, RecipeError) else EXIT_ERROR


app = typer.Typer(
    name="shardprep",
    cls=Shardprep,
    help="Turn raw videos into training-ready WebDataset shards.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"shardprep {version('shardprep')}")
        raise typer.Exit


@app.callback(context_settings={"help_option_names": ["-h", "--help"]})
def _root(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; may stand anywhere on the line."),
    version: bool = typer.Option(False, "--version", callback=_say_version, is_eager=True, help="Say the version and end."),
) -> None:
    """Turn raw videos into training-ready WebDataset shards."""


for command in (
    starting.init,
    *(running.run, running.plan, running.status, running.retry),
    *(looking.table, looking.select, looking.show, looking.shards, looking.verify, looking.clean),
    *(describing.stages, describing.schema, doctor.doctor),
):
    app.command()(command)
app.add_typer(describing.models, name="models")


def run_command_line() -> None:
    """Run the command that the arguments of the process name, and end the process by its exit code."""
    spare_address_space()
    # A folder's name may be no UTF-8, and a terminal may know few characters: neither ends a run.
    if isinstance(sys.stdout, io.TextIOWrapper) and (sys.stdout.encoding, sys.stdout.errors) != ("utf-8", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")
    take_streams()
    try:
        app()
    except SystemExit as ended:
        raise SystemExit(end_streams(ended.code if isinstance(ended.code, int) else bool(ended.code))) from ended
