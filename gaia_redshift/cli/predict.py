"""The command ``predict``: from files, ids or a query to a table of redshifts."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift._quiet import defer_interrupt
from gaia_redshift.clean import find_clean
from gaia_redshift.cli.archive import add_archive, list_archive_sources, make_archive_options
from gaia_redshift.cli.options import (
    Command,
    UsageError,
    add,
    add_option,
    parse_keep,
    read_prior,
    take,
)
from gaia_redshift.cli.output import (
    TRUTH,
    Summary,
    complain,
    format_columns,
    open_output,
    say,
)
from gaia_redshift.errors import InputError
from gaia_redshift.grid import read_grid
from gaia_redshift.readers.content import STANDARD

if TYPE_CHECKING:
    from gaia_redshift.predict.settings import Settings
    from gaia_redshift.tables import PredictedRows

__all__ = ["PREDICT"]

logger = logging.getLogger(__name__)


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="files of XP spectra, or folders of such: csv, ecsv, FITS, VOTable (each also .gz),"
        " zip of these as DataLink delivers it, avro, Parquet, HDF5; or source ids; - reads"
        " standard input",
    )
    add(
        parser,
        "--output",
        help="write the table: .ecsv, .fits, .vot, .xml, .parquet, .h5, .csv (without it the first"
        " rows are printed)",
    )
    add(parser, "--format", "--overwrite")
    add(
        parser,
        "--resume",
        help="go on with a run of the same inputs and options that was ended before FILE was there",
    )
    add(parser, "--model", "--keep", "--grid")
    add_option(parser, "--bases FILE", "further set of bases, in GaiaXPy's XML format")
    add(parser, "--prior", "--std")
    add_option(parser, "--pdf", "add the redshift distributions (not to csv)")
    add_option(
        parser,
        "--no-errors",
        "do not read flux errors: several times faster, intervals a little wider",
    )
    add_option(
        parser,
        "--device",
        "where the network runs; gpu needs Keras with TensorFlow or JAX, and is worth it for"
        " large catalogues (default: cpu)",
        choices=("cpu", "gpu"),
        default="cpu",
    )
    add_option(
        parser,
        "--processes N",
        "predict so many files at once, each in a process of its own that takes one processor"
        " and some 300 MB (0: as many as there are processors; default: 1)",
        type=int,
        default=1,
    )
    add_option(parser, "--shape", "add the median under a flat prior: what the spectrum alone says")
    add_option(
        parser, "--peaks", "add the two most probable peaks of each distribution with their odds"
    )
    add(parser, "--clean")
    add(parser, "--json", help="print the summary as JSON, and no table")
    add_option(parser, "--plot PNG", "draw the redshifts (against the true ones)")
    add(
        parser,
        "--truth",
        help=f"column of true redshifts to compare with (default: {TRUTH} where there is one)",
    )
    add(parser, "--any-release")
    add_archive(parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.json and arguments.output == STANDARD:
        raise UsageError("--json and -o - would both fill standard output: give -o a file")
    with open_output(arguments):
        arguments.piped = True  # words go to stderr: standard output has the rows
        arguments.quiet |= arguments.json  # which says it all
        return _predict(arguments)


def _predict(arguments: argparse.Namespace) -> int:
    from gaia_redshift.tables import check_output

    if arguments.resume and not arguments.output:
        raise InputError("--resume goes with --output: without it nothing is kept")
    if arguments.output:
        check_output(arguments.output, overwrite=arguments.overwrite)
    if arguments.plot:
        from gaia_redshift.plot import check_plot

        check_plot(arguments.plot)
    if arguments.bases:
        from gaia_redshift.sampling import register_basis_set

        register_basis_set("user", arguments.bases)
    if arguments.grid:
        arguments.grid = read_grid(arguments.grid)
    settings = _make_settings(arguments)
    model = settings.model
    logger.info("model %s %s, sha256 %s", model.name, model.version, model.sha256[:12])
    to_fetch, files = list_archive_sources(arguments)
    if not to_fetch and not files:
        raise UsageError("give files, source ids, --ids FILE or --adql QUERY (predict --help)")
    paths, missing = _list_files(files)
    n_inputs = len(paths) + missing
    inputs = [*to_fetch, *paths]
    if not inputs:
        failed, lost = 0, 0
    else:
        with defer_interrupt():  # needed later; half imported, it would crash the process then
            importlib.import_module("pyarrow")
        run = _write if arguments.output else _show
        failed, lost = run(inputs, settings, arguments)
    failed += missing
    if failed and n_inputs > 1:
        complain(f"{failed} of {n_inputs} inputs could not be read")
    if lost:
        complain(f"{lost} sources could not be fetched: the same command asks for them again")
    return 1 if failed or lost else 0


def _make_settings(arguments: argparse.Namespace) -> Settings:
    from gaia_redshift.predict import files
    from gaia_redshift.predict.settings import make_settings

    # True redshifts are carried along where a file has them; asked for by name, they must be there.
    keep = parse_keep(arguments.keep)
    if arguments.truth and keep != "all":
        keep = list(dict.fromkeys([*(keep or []), arguments.truth]))
    return make_settings(
        arguments.model,
        keep=keep,
        optional=() if arguments.truth else (TRUTH,),
        archive=make_archive_options(arguments),
        flux_errors=False if arguments.no_errors else None,
        prior=read_prior(arguments.prior),
        block_size=files.BLOCK_SIZE,
        **take(arguments, "grid any_release device std pdf peaks shape"),
    )


def _list_files(inputs: Sequence[str]) -> tuple[list[Path], int]:
    """Return the files that the inputs stand for, folders opened, and how many inputs failed."""
    from gaia_redshift.readers.sources import iter_sources

    paths: list[Path] = []
    failed = 0
    for name in inputs:
        try:
            paths += [path for path in iter_sources(name) if isinstance(path, Path)]
        except InputError as error:
            failed += 1
            complain(str(error))
    return paths, failed


def _write(
    inputs: Sequence[Any], settings: Settings, arguments: argparse.Namespace
) -> tuple[int, int]:
    """Write the output block by block; return how many inputs and fetched sources failed."""
    from gaia_redshift.predict.files import run_to_file

    summary = Summary(arguments)
    named: list[str] = []

    def name(message: str) -> None:
        named.append(message)
        complain(message)

    try:
        done = run_to_file(
            inputs,
            arguments.output,
            settings,
            complain=name,
            note=lambda account: say(arguments, account),
            collect=summary.collect,
            **take(arguments, "resume overwrite progress processes clean"),
        )
    except InputError:
        if len(named) == len(inputs):  # every one of them has been named
            return len(named), 0
        raise
    if done.n_resumed:
        say(arguments, f"{done.n_resumed:,} sources were predicted before")
    summary.finish(done)
    return len(done.failed), done.flags.get("fetch_failed", 0)


def _show(
    inputs: Sequence[Any], settings: Settings, arguments: argparse.Namespace
) -> tuple[int, int]:
    """Print the first rows; return how many inputs and fetched sources failed."""
    from gaia_redshift.predict.blocks import join_rows
    from gaia_redshift.predict.files import FileSummary
    from gaia_redshift.predict.processes import settle_processes, share_steps
    from gaia_redshift.predict.progress import Progress
    from gaia_redshift.tables.columns import settle_types

    found: dict[int, list[PredictedRows]] = {}
    done = FileSummary(Path())
    processes = settle_processes(arguments.processes, settings)
    bar = Progress(inputs, shown=arguments.progress)
    steps = share_steps(inputs, settings, progress=bar, processes=processes)
    with closing(bar), closing(steps):
        for step in steps:
            if step.rows is not None:
                found.setdefault(step.index, []).append(step.rows)
                if "archive_account" in step.rows.meta:
                    say(arguments, step.rows.meta["archive_account"])
            elif step.failure is not None:
                found.pop(step.index, None)
                path = inputs[step.index]
                done.failed[str(step.index)] = step.failure
                here = getattr(path, "name", "") in step.failure
                complain(step.failure if here else f"{path}: {step.failure}")
    if not found:
        return len(done.failed), 0
    predicted = join_rows([rows for several in found.values() for rows in several])
    summary = Summary(arguments)
    if predicted.columns is None and not arguments.plot:
        columns: Mapping[str, Any] = predicted.to_columns()
    else:  # a table only where its import, half a second, is needed
        if predicted.columns is not None:
            settle_types(predicted.columns)
        table = predicted.to_table()
        summary.collect(table)
        columns = dict(zip(table.colnames, table.itercols(), strict=True))
    shown = columns
    if arguments.clean:
        rows = find_clean(columns, arguments.clean)
        shown = {name: values[rows] for name, values in columns.items()}
    if not arguments.json:
        print(format_columns(shown))
        sys.stdout.flush()
    summary.columns = list(columns)
    done.count(columns)
    done.n_written = len(shown["flags_cnn"])
    summary.finish(done)
    return len(done.failed), done.flags.get("fetch_failed", 0)


PREDICT = Command(
    "predict",
    "predict redshifts from XP spectra",
    _declare,
    _run,
    """examples:
  gaia-redshift predict XP_CONTINUOUS_RAW.csv          print the redshifts
  gaia-redshift predict a.fits b.zip -o redshifts.vot  write a VOTable
  gaia-redshift predict galaxies.parquet --keep ra,dec,phot_g_mean_mag -o redshifts.fits
  gaia-redshift predict bulk/ -o redshifts.parquet     larger than memory: written as it comes
  gaia-redshift predict bulk/ -o redshifts.parquet --processes 8
  gaia-redshift predict bulk/ -o redshifts.parquet --resume
  gaia-redshift predict simulated.csv.gz --plot z.png  compare with the column redshift_true
  gaia-redshift predict a.fits --prior flat --pdf -o z.parquet
  gaia-redshift predict a.fits --prior survey.csv      what brightness says, from your own survey
  gaia-redshift predict a.fits --clean -o clean.ecsv   only the rows to use
  gaia-redshift predict --ids ids.csv -o z.ecsv        fetch the spectra from the Gaia archive

The table is printed on stdout, or written to FILE; the summary goes to stderr, or with --json to
stdout. A source that cannot be predicted is masked and flagged, which is no failure of the command.
A file that cannot be read is: it is named, the other files are still predicted and written, and the
exit code is 1.""",
)
