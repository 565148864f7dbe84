"""Arguments of the command ``gaia-redshift``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from gaia_redshift._version import __version__
from gaia_redshift.cli_archive import (
    CACHE_EPILOG,
    FETCH_EPILOG,
    add_archive_options,
    add_cache,
    add_fetch,
)
from gaia_redshift.cli_crossmatch import CROSSMATCH_EPILOG, add_crossmatch

__all__ = ["PROGRAM", "TRUTH", "build_parser"]

PROGRAM = "gaia-redshift"
TRUTH = "redshift_true"
"""Column of true redshifts that simulated spectra carry; compared with when it is there."""

_EPILOG = """examples:
  gaia-redshift predict XP_CONTINUOUS_RAW.csv
  gaia-redshift predict *.fits --keep ra,dec -o redshifts.ecsv
  gaia-redshift predict --ids ids.csv -o redshifts.ecsv
  gaia-redshift fetch --ids ids.csv -o spectra.parquet
  gaia-redshift simulate -n 1000 --seed 1 -o galaxies.csv.gz
  gaia-redshift predict galaxies.csv.gz --plot predicted.png
  gaia-redshift models kiraleos2023
  gaia-redshift flags 132

Each command explains itself: gaia-redshift predict --help"""

_PREDICT_EPILOG = """examples:
  gaia-redshift predict XP_CONTINUOUS_RAW.csv          print the redshifts
  gaia-redshift predict a.fits b.zip -o redshifts.vot  write a VOTable
  gaia-redshift predict galaxies.parquet --keep ra,dec,phot_g_mean_mag -o redshifts.fits
  gaia-redshift predict simulated.csv.gz --plot z.png  compare with the column redshift_true
  gaia-redshift predict --ids ids.csv -o z.ecsv        fetch the spectra from the Gaia archive

A source that cannot be predicted is masked and flagged, which is no failure of the command. A file
that cannot be read is: it is named, the other files are still predicted and written, and the exit
code is 1."""


_SIMULATE_EPILOG = """examples:
  gaia-redshift simulate -n 1000 --seed 1 -o galaxies.fits
  gaia-redshift simulate -n 100000 --seed 2 --survey flat --no-correlations -o flat.parquet
  gaia-redshift simulate -n 500 --seed 3 --kind star -o stars.fits
  gaia-redshift simulate -n 20000 --seed 1 --report report/

The galaxies are simulated, not observed. The columns are those of the archive, with the true
redshift in redshift_true; the same number, seed and survey give the same galaxies."""

_TRAIN_EPILOG = """examples:
  gaia-redshift train --simulate 300000 --seed 1 -o models/mine
  gaia-redshift train galaxies.parquet --epochs 20 --batch-size 16 -o models/mine
  gaia-redshift train --simulate 300000 --seed 1 -o models/mine --resume
  gaia-redshift predict XP_CONTINUOUS_RAW.csv --model models/mine"""


def build_parser(
    commands_run: dict[str, Callable[[argparse.Namespace], int]],
) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Parameters
    ----------
    commands_run : dict
        For each subcommand the function that runs it; it becomes ``arguments.run``.
    """
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more on stderr (-vv: still more)"
    )
    common.add_argument(
        "-q", "--quiet", action="store_true", help="no progress bars, warnings and summaries"
    )
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Redshifts of galaxies from Gaia BP/RP (XP) low-resolution spectra.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")

    def add(name: str, summary: str, epilog: str = "") -> argparse.ArgumentParser:
        new = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=epilog,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        new.set_defaults(run=commands_run[name])
        return new

    _add_predict(add("predict", "predict redshifts from XP spectra", _PREDICT_EPILOG))
    add_fetch(add("fetch", "fetch XP spectra from the Gaia archive", FETCH_EPILOG))
    add_cache(add("cache", "show, name or clear what has been fetched", CACHE_EPILOG))
    add_crossmatch(
        add("crossmatch", "find SDSS or other spectroscopic redshifts", CROSSMATCH_EPILOG)
    )
    _add_simulate(add("simulate", "simulate XP spectra of galaxies", _SIMULATE_EPILOG))
    _add_train(add("train", "train a model", _TRAIN_EPILOG))
    models = add("models", "list the models, or describe one")
    models.add_argument("name", nargs="?", help="a model to describe")
    flags = add("flags", "explain the flags, or decode values of flags_cnn")
    flags.add_argument("values", nargs="*", type=int, metavar="VALUE", help="values to decode")
    return parser


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="files of XP spectra, or folders of such: csv, ecsv, FITS, VOTable (each also .gz),"
        " zip of these as DataLink delivers it, avro, Parquet, HDF5; or source ids",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the table: .ecsv, .fits, .vot, .xml, .parquet, .h5, .csv (without it the first"
        " rows are printed)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
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


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, required=True, metavar="N", help="number of sources")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="random seed")
    parser.add_argument(
        "--survey",
        choices=["sdss", "flat"],
        help="redshifts of galaxies as SDSS's (the default), or flat",
    )
    parser.add_argument(
        "--kind",
        choices=["galaxy", "star", "quasar"],
        default="galaxy",
        help="stars and quasars have the brightness of galaxies",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="csv, ecsv, FITS, Parquet, ... in the archive's form, with the true redshifts",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="write plots and numbers beside those of real galaxies"
    )
    parser.add_argument(
        "--noise-sources",
        metavar="FILE",
        help="with --report: real spectra with errors and correlations to compare the noise with",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    parser.add_argument(
        "--no-correlations", action="store_true", help="leave the correlations out: smaller files"
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help=f"spectra with a column {TRUTH} (else: --simulate)"
    )
    parser.add_argument(
        "--simulate", type=int, metavar="N", help="train on N galaxies simulated for it"
    )
    parser.add_argument("--survey", choices=["sdss", "flat"], default="sdss")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="random seed (1)")
    parser.add_argument("--network", default="kiraleos2023", help="architecture (kiraleos2023)")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes through the data")
    parser.add_argument("--batch-size", type=int, metavar="N", help="spectra per step")
    parser.add_argument(
        "--grid-jitter",
        action="store_true",
        help="train on moved sampling grids too, so that vectors sampled by others work",
    )
    parser.add_argument("--name", help="name of the model (default: that of the folder)")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the model's folder")
    parser.add_argument("--resume", action="store_true", help="go on after an interruption")
    parser.add_argument(
        "--run-dir", metavar="DIR", help="folder of the checkpoints (default: beside the model's)"
    )
