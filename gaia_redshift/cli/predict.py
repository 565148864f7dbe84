"""The command ``predict``: from files, ids or a query to a table of redshifts."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift._quiet import defer_interrupt
from gaia_redshift.clean import find_clean
from gaia_redshift.cli.archive import (
    add_archive_options,
    count_failed,
    list_archive_sources,
    make_archive_options,
)
from gaia_redshift.cli.options import add_clean, add_overwrite, parse_keep
from gaia_redshift.cli.output import add_format, open_output
from gaia_redshift.cli.prior import add_prior, read_prior
from gaia_redshift.cli.summary import TRUTH, Summary, say
from gaia_redshift.errors import InputError
from gaia_redshift.grid import read_grid

if TYPE_CHECKING:
    from gaia_redshift.predict.stream import Job
    from gaia_redshift.tables import PredictedRows

__all__ = ["PREDICT_EPILOG", "TRUTH", "add_predict", "run_predict"]

PREDICT_EPILOG = """examples:
  gaia-redshift predict XP_CONTINUOUS_RAW.csv          print the redshifts
  gaia-redshift predict a.fits b.zip -o redshifts.vot  write a VOTable
  gaia-redshift predict galaxies.parquet --keep ra,dec,phot_g_mean_mag -o redshifts.fits
  gaia-redshift predict bulk/ -o redshifts.parquet     larger than memory: written as it comes
  gaia-redshift predict bulk/ -o redshifts.parquet --resume
  gaia-redshift predict simulated.csv.gz --plot z.png  compare with the column redshift_true
  gaia-redshift predict a.fits --prior flat --pdf -o z.parquet
  gaia-redshift predict a.fits --prior survey.csv      what brightness says, from your own survey
  gaia-redshift predict a.fits --clean -o clean.ecsv   only the rows to use
  gaia-redshift predict --ids ids.csv -o z.ecsv        fetch the spectra from the Gaia archive

The table is printed on stdout, or written to FILE; the summary goes to stderr, or with --json to
stdout. A source that cannot be predicted is masked and flagged, which is no failure of the command.
A file that cannot be read is: it is named, the other files are still predicted and written, and the
exit code is 1."""

Complain = Callable[..., None]
logger = logging.getLogger(__name__)


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="files of XP spectra, or folders of such: csv, ecsv, FITS, VOTable (each also .gz),"
        " zip of these as DataLink delivers it, avro, Parquet, HDF5; or source ids; - reads"
        " standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the table: .ecsv, .fits, .vot, .xml, .parquet, .h5, .csv (without it the first"
        " rows are printed)",
    )
    add_format(parser)
    add_overwrite(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run of the same inputs and options that was ended before FILE was there",
    )
    parser.add_argument("--model", default="default", help="name or folder (see `models`)")
    parser.add_argument(
        "--keep",
        action="append",
        metavar="COLUMNS",
        help="columns of the input to carry along, separated by commas, or `all`",
    )
    parser.add_argument(
        "--grid", metavar="FILE", help="table of 120 wavelengths a band (nm), columns bp and rp"
    )
    parser.add_argument(
        "--bases", metavar="FILE", help="further set of bases, in GaiaXPy's XML format"
    )
    add_prior(parser)
    parser.add_argument(
        "--std", action="store_true", help="add the standard deviation of each distribution"
    )
    parser.add_argument(
        "--pdf", action="store_true", help="add the redshift distributions (not to csv)"
    )
    parser.add_argument(
        "--no-errors",
        action="store_true",
        help="do not read flux errors: several times faster, intervals a little wider",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="where the network runs; gpu needs Keras with TensorFlow or JAX, and is worth it for"
        " large catalogues (default: cpu)",
    )
    parser.add_argument(
        "--shape",
        action="store_true",
        help="add the median under a flat prior: what the spectrum alone says",
    )
    parser.add_argument(
        "--peaks",
        action="store_true",
        help="add the two most probable peaks of each distribution with their odds",
    )
    add_clean(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the summary as JSON, and no table"
    )
    parser.add_argument("--plot", metavar="PNG", help="draw the redshifts (against the true ones)")
    parser.add_argument(
        "--truth",
        metavar="COLUMN",
        help=f"column of true redshifts to compare with (default: {TRUTH} where there is one)",
    )
    parser.add_argument(
        "--any-release",
        action="store_true",
        help="predict spectra of another data release than that of the model's training",
    )
    add_archive_options(parser)


def run_predict(arguments: argparse.Namespace, *, progress: bool, complain: Complain) -> int:
    """Predict, then print or write the table; return the exit code.

    ``complain`` prints a message on stderr, in one line.
    """
    with open_output(arguments):
        return _run(arguments, progress=progress, complain=complain)


def _run(arguments: argparse.Namespace, *, progress: bool, complain: Complain) -> int:
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
    job = _make_job(arguments)
    logger.info("model %s %s, sha256 %s", job.model.name, job.model.version, job.model.sha256[:12])
    to_fetch, files = list_archive_sources(arguments)
    if not to_fetch and not files:
        complain("give files, source ids, --ids FILE or --adql QUERY (predict --help)", "usage")
        return 2
    paths, missing = _list_files(files, complain)
    n_inputs = len(paths) + missing
    inputs = [*to_fetch, *paths]
    if not inputs:
        failed, lost = 0, 0
    else:
        with defer_interrupt():  # needed later; half imported, it would crash the process then
            importlib.import_module("pyarrow")
        run = _write if arguments.output else _show
        failed, lost = run(inputs, job, arguments, progress, complain)
    failed += missing
    if failed and n_inputs > 1:
        complain(f"{failed} of {n_inputs} inputs could not be read")
    if lost:
        complain(f"{lost} sources could not be fetched: the same command asks for them again")
    return 1 if failed or lost else 0


def _make_job(arguments: argparse.Namespace) -> Job:
    from gaia_redshift.predict.files import make_job

    # True redshifts are carried along where a file has them; asked for by name, they must be there.
    keep = parse_keep(arguments.keep)
    if arguments.truth and keep != "all":
        keep = list(dict.fromkeys([*(keep or []), arguments.truth]))
    prior = read_prior(arguments.prior)
    asked: dict[str, Any] = {} if prior is None else {"prior": prior}
    asked |= {name: True for name in ("std", "pdf", "peaks", "shape") if getattr(arguments, name)}
    return make_job(
        arguments.model,
        keep=keep,
        optional=() if arguments.truth else (TRUTH,),
        archive=make_archive_options(arguments),
        flux_errors=False if arguments.no_errors else None,
        options={
            "grid": arguments.grid,
            "any_release": arguments.any_release,
            "device": arguments.device,
            **asked,
        },
    )


def _list_files(inputs: Sequence[str], complain: Complain) -> tuple[list[Path], int]:
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
    inputs: Sequence[Any],
    job: Job,
    arguments: argparse.Namespace,
    progress: bool,
    complain: Complain,
) -> tuple[int, int]:
    """Write the output block by block; return how many inputs and fetched sources failed."""
    from gaia_redshift.predict.files import run_to_file

    wanted = Summary(arguments)
    named: list[str] = []

    def name(message: str) -> None:
        named.append(message)
        complain(message)

    try:
        summary = run_to_file(
            inputs,
            arguments.output,
            job,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            progress=progress,
            complain=name,
            note=lambda account: say(arguments, account),
            collect=wanted.collect,
            clean=arguments.clean,
        )
    except InputError:
        if len(named) == len(inputs):  # every one of them has been named
            return len(named), 0
        raise
    if summary.n_resumed:
        say(arguments, f"{summary.n_resumed:,} sources were predicted before")
    wanted.finish(
        n=summary.n_rows,
        n_masked=summary.n_masked,
        n_usable=summary.n_usable,
        n_written=summary.n_written,
        flags=summary.flags,
        n_failed=len(summary.failed),
    )
    return len(summary.failed), summary.flags.get("fetch_failed", 0)


def _show(
    inputs: Sequence[Any],
    job: Job,
    arguments: argparse.Namespace,
    progress: bool,
    complain: Complain,
) -> tuple[int, int]:
    """Print the first rows; return how many inputs and fetched sources failed."""
    from gaia_redshift.cli.terminal import count_columns, format_columns
    from gaia_redshift.predict.progress import Progress
    from gaia_redshift.predict.stream import iter_steps

    found: dict[int, list[PredictedRows]] = {}
    failed = 0
    bar = Progress(inputs, shown=progress)
    try:
        for step in iter_steps(inputs, job, progress=bar):
            if step.rows is not None:
                found.setdefault(step.index, []).append(step.rows)
                bar.update(len(step.rows))
                if "archive_account" in step.rows.meta:
                    say(arguments, step.rows.meta["archive_account"])
            elif step.failure is not None:
                failed += 1
                found.pop(step.index, None)
                path = inputs[step.index]
                here = getattr(path, "name", "") in step.failure
                complain(step.failure if here else f"{path}: {step.failure}")
    finally:
        bar.close()
    if not found:
        return failed, 0
    wanted = Summary(arguments)
    columns = _join([rows for several in found.values() for rows in several], wanted)
    shown = columns
    if arguments.clean:
        rows = find_clean(columns, arguments.clean)
        shown = {name: values[rows] for name, values in columns.items()}
    if not arguments.json:
        print(format_columns(shown))
        sys.stdout.flush()
    wanted.columns = list(columns)
    wanted.finish(**count_columns(columns), n_written=len(shown["flags_cnn"]), n_failed=failed)
    return failed, count_failed(columns["flags_cnn"])


def _join(parts: Sequence[PredictedRows], wanted: Summary) -> Mapping[str, Any]:
    """Return the columns of all; as a table only where its import, half a second, is needed."""
    if len(parts) == 1 and parts[0].columns is None and not wanted.arguments.plot:
        return parts[0].to_columns()
    from gaia_redshift.predict.table import join_predictions

    table = join_predictions([rows.to_table() for rows in parts])
    wanted.collect(table)
    return dict(zip(table.colnames, table.itercols(), strict=True))
