"""Galaxies of the Unresolved Galaxy Classifier (UGC) in a field, its redshifts beside ours.

    python catalogs/enrich_ugc_field.py --cone 190 30 2 -o field.ecsv --plot field.png

asks the Gaia archive for the galaxies and their spectra. Without network, give a table of galaxies
(source_id, redshift_ugc) and their spectra:

    python catalogs/enrich_ugc_field.py --galaxies field.csv --spectra spectra.parquet -o out.ecsv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from astropy.table import Table, join

from gaia_redshift import predict_table, write_table
from gaia_redshift.archive import query_catalogue, read_ids
from gaia_redshift.errors import GaiaRedshiftError, InputError
from gaia_redshift.evaluate.comparison import in_weak_range
from gaia_redshift.flags import QualityFlag
from gaia_redshift.plot import plot_predictions, save_plot


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    field = parser.add_mutually_exclusive_group(required=True)
    field.add_argument(
        "--cone", nargs=3, type=float, metavar=("RA", "DEC", "RADIUS"), help="degrees"
    )
    field.add_argument("--galaxies", metavar="FILE", help="a table of galaxies instead of a query")
    parser.add_argument("-o", "--output", required=True, help=".ecsv, .fits, .vot, .parquet, ...")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many galaxies")
    parser.add_argument("--all", action="store_true", help="not only the purer selection")
    parser.add_argument(
        "--spectra", nargs="+", metavar="FILE", help="files of XP spectra (else fetched)"
    )
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--plot", metavar="PNG", help="draw our redshifts against UGC's")
    return parser


def predict_field(arguments: argparse.Namespace) -> Table:
    """Return the galaxies with both redshifts, in their order."""
    progress = sys.stderr.isatty()
    if arguments.galaxies:
        galaxies = read_ids(arguments.galaxies)
        if "redshift_ugc" not in galaxies.colnames:
            raise InputError(f"{arguments.galaxies}: has no column 'redshift_ugc'")
    else:
        galaxies = query_catalogue(
            "ugc_galaxies",
            cone=tuple(arguments.cone),
            pure=not arguments.all,
            limit=arguments.limit,
        )
        if not len(galaxies):
            raise InputError("UGC has no galaxies with public spectra in this field")
    if not arguments.spectra:
        return predict_table(galaxies, model=arguments.model, keep="all", progress=progress)
    found = predict_table(arguments.spectra, model=arguments.model, progress=progress)
    galaxies["_row"] = np.arange(len(galaxies))
    table = join(galaxies, found, "source_id", join_type="left", metadata_conflicts="silent")
    absent = int(QualityFlag.MISSING_BP | QualityFlag.MISSING_RP)
    table["flags_cnn"] = np.ma.filled(np.ma.asarray(table["flags_cnn"]), absent)
    table.meta = dict(found.meta)
    table.sort("_row")
    table.remove_column("_row")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        table = predict_field(arguments)
        write_table(table, arguments.output, overwrite=arguments.overwrite)
        ours, theirs = (
            np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan)
            for name in ("redshift_cnn", "redshift_ugc")
        )
        if arguments.plot:
            axes = plot_predictions(table, theirs)
            axes.set(xlabel="redshift by UGC", ylabel="redshift by us")
            save_plot(axes, arguments.plot)
    except GaiaRedshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    both = np.isfinite(ours) & np.isfinite(theirs)
    weak = in_weak_range(theirs) >= 0
    print(f"{len(table):,} galaxies, {int(both.sum()):,} with both redshifts: {arguments.output}")
    good = both & ~weak
    if good.any():
        offset = (ours - theirs)[good] / (1 + theirs[good])
        print(
            f"ours less UGC's, /(1 + z), without UGC's weak ranges ({int(good.sum()):,}):"
            f" median {np.median(offset):+.4f},"
            f" scatter {1.4826 * np.median(np.abs(offset - np.median(offset))):.4f}"
        )
    lost = int(((table["flags_cnn"] & int(QualityFlag.FETCH_FAILED)) != 0).sum())
    if lost:
        print(f"{lost} spectra could not be fetched: ask again", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
