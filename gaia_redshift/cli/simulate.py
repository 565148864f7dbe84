"""The command ``simulate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from gaia_redshift._extras import import_research
from gaia_redshift.cli.options import Command, add
from gaia_redshift.cli.output import say
from gaia_redshift.errors import InputError

__all__ = ["SIMULATE"]


def _declare_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, required=True, metavar="N", help="number of sources")
    add(parser, "--seed", required=True)
    parser.add_argument(
        "--survey",
        choices=["sdss", "flat", "mixed"],
        help="redshifts of galaxies as SDSS's (the default), flat, or both mixed",
    )
    parser.add_argument(
        "--kind",
        choices=["galaxy", "star", "quasar", "double_star", "star_galaxy", "smeared_star"],
        default="galaxy",
        help="all kinds have the brightness of galaxies",
    )
    add(
        parser,
        "--output",
        help="csv, ecsv, FITS, Parquet, ... in the archive's form, with the true redshifts",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="in a checkout: numbers and plots beside real galaxies"
    )
    parser.add_argument(
        "--noise-sources",
        metavar="FILE",
        help="with --report: real spectra with errors and correlations to compare the noise with",
    )
    add(parser, "--overwrite")
    parser.add_argument(
        "--no-correlations", action="store_true", help="leave the correlations out: smaller files"
    )


def _run_simulate(arguments: argparse.Namespace) -> int:
    if arguments.n < 1:
        raise InputError(f"-n must be at least 1, not {arguments.n}")
    galaxies = arguments.kind == "galaxy"
    if not (arguments.output or arguments.report):
        raise InputError("nothing to do: give -o FILE, --report DIR or both")
    if not galaxies and (arguments.report or arguments.survey):
        raise InputError(f"--report and --survey are for galaxies, not for --kind {arguments.kind}")
    if arguments.noise_sources and not arguments.report:
        raise InputError("--noise-sources goes with --report")
    report = import_research("simulator.report", "--report") if arguments.report else None
    if arguments.output:
        _write_simulated(arguments)
    if report is not None:
        report.report_simulation(
            arguments.n,
            arguments.seed,
            arguments.survey or "sdss",
            arguments.report,
            noise_sources=arguments.noise_sources,
            progress=arguments.progress,
        )
        say(arguments, f"report: {Path(arguments.report) / 'report.md'}")
    return 0


def _write_simulated(arguments: argparse.Namespace) -> None:
    from gaia_redshift.simulate.generate import KINDS, simulate_blocks
    from gaia_redshift.writers import SpectraWriter

    blocks = simulate_blocks(
        arguments.n,
        seed=arguments.seed,
        kind=arguments.kind,
        survey=arguments.survey or "sdss",
        correlations=not arguments.no_correlations,
        progress=arguments.progress,
    )
    with SpectraWriter(arguments.output, overwrite=arguments.overwrite) as writer:
        for block in blocks:
            writer.write(block)
    what = KINDS[arguments.kind].plural
    say(arguments, f"{arguments.n:,} simulated {what} (not observed ones): {arguments.output}")


SIMULATE = Command(
    "simulate",
    "simulate XP spectra of galaxies",
    _declare_simulate,
    _run_simulate,
    """examples:
  gaia-redshift simulate -n 1000 --seed 1 -o galaxies.fits
  gaia-redshift simulate -n 100000 --seed 2 --survey flat --no-correlations -o flat.parquet
  gaia-redshift simulate -n 500 --seed 3 --kind star -o stars.fits
  python -m gaia_redshift simulate -n 20000 --seed 1 --report report/

The galaxies are simulated, not observed. The columns are those of the archive, with the true
redshift in redshift_true; the same number, seed and survey give the same galaxies.""",
)
