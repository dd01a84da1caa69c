"""The commands that look into shard sets and tidy them: table, select, show, shards, verify, clean."""

from __future__ import annotations

import io
import json
import sys
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any

import typer

from shardprep.cli.stores import StoreOptions, read_options
from shardprep.errors import RecipeError, ShardError

SetUrl = Annotated[str, typer.Argument(metavar="SET", help="The folder or URL of a shard set, such as OUT/scores.")]
Where = Annotated[str | None, typer.Option("--where", help="SQL over the columns: scores.flow > 1 AND clip.seconds < 10")]
Sort = Annotated[str | None, typer.Option("--sort", help="SQL order: scores.flow DESC")]
Limit = Annotated[int | None, typer.Option("--limit", min=0, metavar="N", help="At most so many rows.")]
Out = Annotated[str | None, typer.Option("--out", help="Write to this file or URL; its suffix says the format.")]


class Fate(StrEnum):
    """What became of a sample."""

    kept = "kept"
    dropped = "dropped"
    failed = "failed"


class Format(StrEnum):
    """What a table is written as."""

    text = "text"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def table(
    url: SetUrl,
    where: Where = None,
    sort: Sort = None,
    columns: Annotated[str | None, typer.Option("--columns", help="Names or prefixes with commas: key,scores,clip.seconds")] = None,
    limit: Limit = None,
    fate: Annotated[
        Fate | None,
        typer.Option(
            "--fate", metavar="FATE", help="Samples that were kept, dropped or failed: stage, reason and detail instead of columns."
        ),
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="A row per column: count, nulls, min, quantiles, max.")] = False,
    out: Out = None,
    form: Annotated[
        Format | None, typer.Option("--format", metavar="FORMAT", help="text, csv, json or parquet; else by the suffix of --out, or text.")
    ] = None,
    store: StoreOptions = None,
) -> None:
    """Show the columns of a set's samples: filter, sort, write as CSV, JSON lines or Parquet."""
    from shardprep.cli import tables
    from shardprep.cli.stats import column_stats
    from shardprep.expressions.query import run_query

    options = read_options(store)
    found = tables.samples(url, options) if fate is None else tables.fates(url, fate.value, options)
    rows = run_query(found, where=where, order_by=sort, limit=limit)
    rows = tables.pick(tables.flatten(rows), columns.split(",") if columns else None)
    if stats:
        rows = column_stats(rows)
    form = form or _format_of(out)
    if out is None and form is Format.text:
        tables.print_text(rows, asked=columns is not None and not stats)
        return
    sink = io.BytesIO()
    tables.write(rows, form, sink)
    _write_out(sink.getvalue(), out, options)


def select(
    url: SetUrl,
    where: Annotated[str, typer.Argument(metavar="WHERE", help="SQL over the columns: scores.aesthetic >= 5")],
    sort: Sort = None,
    limit: Limit = None,
    out: Annotated[str | None, typer.Option("--out", help="Write the keys that are kept to this file or URL, one per line.")] = None,
    store: StoreOptions = None,
) -> None:
    """Say how many samples an expression would keep, before it goes into a recipe's select."""
    from shardprep.cli import tables
    from shardprep.core.quantity import counted
    from shardprep.expressions.query import filter as verdicts_of
    from shardprep.expressions.query import run_query

    options = read_options(store)
    rows = tables.samples(url, options)
    verdicts = verdicts_of(rows, where)
    kept = run_query(rows, select=["key"], where=where, order_by=sort, limit=limit).column(0).to_pylist()
    fates = f"{verdicts.count(True)} kept, {verdicts.count(False)} not, {verdicts.count(None)} unknown (null)"
    print(f"{counted(len(verdicts), 'sample')}: {fates}")
    if limit is not None and len(kept) < verdicts.count(True):
        print(f"--limit keeps the first {len(kept)}")
    if out is not None:
        _write_out("".join(f"{key}\n" for key in kept).encode(), out, options)


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key, the beginning of one, or the name of a source file.")],
    output: Annotated[str, typer.Option("--output", help="The output of the run, or one of its sets.")] = "out",
    store: StoreOptions = None,
) -> None:
    """Show what became of a sample in every step: its fates, reasons, columns and members."""
    from shardprep.cli.tracing import trace

    found = False
    for line in trace(output, key, read_options(store)):
        found = True
        print(line)
    if not found:
        raise ShardError(
            f"no set under {output} has a key that begins with {key!r}, or a source of that name; "
            "`shardprep table SET --columns key` lists the keys"
        )


class Pattern(StrEnum):
    """How training shards are named."""

    brace = "brace"
    urls = "urls"
    json = "json"


def shards(
    url: Annotated[str, typer.Argument(metavar="SET", help="The folder or URL of a packed set, such as OUT/train.")],
    form: Annotated[
        Pattern, typer.Option("--format", help="brace: one line that webdataset expands; urls: one per line; json: with sizes and counts.")
    ] = Pattern.brace,
    store: StoreOptions = None,
) -> None:
    """Print the training shards of a packed set, for a trainer's configuration."""
    from shardprep.packed.packing import open_packing
    from shardprep.packed.urls import brace_pattern, describe

    packing = open_packing(url, read_options(store))
    if not packing.manifest.shards:
        raise ShardError(f"{packing.store.url} holds no training shard: no sample was left to pack. See shardprep status")
    if form is Pattern.json:
        print(json.dumps(describe(packing), indent=2))
        return
    print(brace_pattern(packing) if form is Pattern.brace else "\n".join(packing.urls()))


def verify(
    url: Annotated[str, typer.Argument(metavar="SET", help="A set, or the output of a run.")],
    clean: Annotated[bool, typer.Option("--clean", help="First do what `shardprep clean` does.")] = False,
    store: StoreOptions = None,
) -> None:
    """Check every digest of a set: tars, ledgers, members, and what each was made from."""
    from shardprep.core.quantity import counted
    from shardprep.driver import verify as verifying
    from shardprep.driver.left_behind import what_is_left
    from shardprep.driver.noted_steps import what_is_lacking

    options = read_options(store)
    if clean:
        _clean(url, options, None, dry_run=False)
    num_problems = 0
    for problem in verifying.verify(url, options):
        num_problems += 1
        print(problem)
    if (left := what_is_left(url, options)).former:
        print(left.not_checked(() if store is None else ("--storage-options", store)))
    if lacks := what_is_lacking(url, options):
        print(lacks)
    if num_problems:
        raise ShardError(f"{url}: {counted(num_problems, 'problem')}")
    print(f"{url}: clean")


def clean(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The output folder or URL of a run, or one of its sets.")],
    recipe: Annotated[str | None, typer.Option("--recipe", help="Also remove the sets of steps that this recipe does not have.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    store: StoreOptions = None,
) -> None:
    """Remove what no set counts on: superseded files, older packings, what killed runs left."""
    _clean(output, read_options(store), recipe, dry_run=dry_run)


def _clean(url: str, options: dict[str, Any], recipe: str | None, *, dry_run: bool) -> None:
    from shardprep.core.quantity import counted, size_words
    from shardprep.driver import clean as cleaning
    from shardprep.recipe.load import load_recipe

    steps = None if recipe is None else [step.name for step in load_recipe(recipe, output=url).steps]
    if dry_run:
        done = cleaning.find_leftovers(url, options, steps)
    else:
        done = cleaning.clean(url, options, steps, tell=lambda text: print(text, file=sys.stderr))
    for leftover in done.leftovers:
        print(f"{'would remove' if dry_run else 'removed'} {leftover}")
    for line in done.kept:
        print(f"kept {line}")
    print(f"{counted(len(done.leftovers), 'file')}, {size_words(done.num_bytes)}")


def _format_of(out: str | None) -> Format:
    if out is None:
        return Format.text
    suffix = PurePosixPath(out).suffix.lower().lstrip(".")
    named = {"csv": Format.csv, "json": Format.json, "jsonl": Format.json, "parquet": Format.parquet, "txt": Format.text}
    if suffix not in named:
        raise RecipeError(f"--out {out}: the suffix says no format; use .csv, .json, .jsonl, .parquet or .txt, or give --format")
    return named[suffix]


def _write_out(data: bytes, out: str | None, options: dict[str, Any]) -> None:
    from shardprep.shards.store import Store

    if out is None:
        sys.stdout.buffer.write(data)
        return
    folder, _, name = out.rpartition("/")
    Store(folder or ("/" if out.startswith("/") else "."), options).replace_bytes(name, data)
    print(f"wrote {out}", file=sys.stderr)
