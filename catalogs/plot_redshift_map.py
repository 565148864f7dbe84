"""Draw redshifts on the sky: medians in HEALPix cells, numbers of sources, or a wedge.

    python catalogs/plot_redshift_map.py redshifts.ecsv -o map.png
    python catalogs/plot_redshift_map.py redshifts.fits --kind cone -o cone.png

The table needs positions (predict --keep ra,dec). To try it with the demo galaxies, which are
simulated and have no positions, give them some that are made up:

    gaia-redshift predict catalogs/demo_galaxies.parquet -o demo.ecsv
    python catalogs/plot_redshift_map.py demo.ecsv --made-up-positions -o map.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from astropy.table import Table

from gaia_redshift import read_table
from gaia_redshift.errors import GaiaRedshiftError
from gaia_redshift.plot import check_plot, plot_redshift_cone, plot_redshift_map, save_plot


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", help=".ecsv, .fits, .vot, .parquet, .h5, .csv")
    parser.add_argument("-o", "--output", required=True, metavar="PNG", help="or .pdf, .svg")
    parser.add_argument("--kind", choices=["map", "count", "cone"], default="map")
    parser.add_argument("--redshift", default="redshift_cnn", metavar="COLUMN")
    parser.add_argument("--ra", default="ra", metavar="COLUMN")
    parser.add_argument("--dec", default="dec", metavar="COLUMN")
    parser.add_argument("--level", type=int, default=4, help="HEALPix level of the cells (4)")
    parser.add_argument(
        "--made-up-positions", action="store_true", help="strew the sources over a strip"
    )
    return parser


def make_up_positions(table: Table) -> None:
    """Strew the sources over a strip of the sky, always alike."""
    rng = np.random.default_rng(1)
    table["ra"] = rng.uniform(120, 240, len(table))
    table["dec"] = np.degrees(np.arcsin(rng.uniform(0, 0.7, len(table))))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        check_plot(arguments.output)
        table = read_table(arguments.table)
        if arguments.made_up_positions:
            make_up_positions(table)
        columns = {"redshift": arguments.redshift, "ra": arguments.ra, "dec": arguments.dec}
        if arguments.kind == "cone":
            axes = plot_redshift_cone(table, **columns)
        else:
            value = "count" if arguments.kind == "count" else "median"
            axes = plot_redshift_map(table, **columns, level=arguments.level, value=value)
        if arguments.made_up_positions:
            axes.set_title(f"{axes.get_title()} (positions made up)")
        save_plot(axes, arguments.output)
    except GaiaRedshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"plot: {arguments.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
