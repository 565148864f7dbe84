"""Arguments of the command ``gaia-redshift``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NoReturn

from gaia_redshift._version import __version__
from gaia_redshift.cli.archive import (
    CACHE_EPILOG,
    FETCH_EPILOG,
    add_cache,
    add_fetch,
)
from gaia_redshift.cli.crossmatch import CROSSMATCH_EPILOG, add_crossmatch
from gaia_redshift.cli.dataset import DATASET_EPILOG, add_dataset
from gaia_redshift.cli.doctor import DOCTOR_EPILOG, add_doctor
from gaia_redshift.cli.enrich import ENRICH_EPILOG, add_enrich
from gaia_redshift.cli.evaluate import EVALUATE_EPILOG, add_evaluate
from gaia_redshift.cli.inspect import INSPECT_EPILOG, SHOW_EPILOG, add_inspect, add_show
from gaia_redshift.cli.options import add_overwrite
from gaia_redshift.cli.predict import PREDICT_EPILOG, add_predict
from gaia_redshift.cli.send import COMPLETION_EPILOG, SEND_EPILOG, add_completion, add_send
from gaia_redshift.cli.train import TRAIN_EPILOG, add_train

__all__ = ["PROGRAM", "build_parser"]

PROGRAM = "gaia-redshift"

_EPILOG = """examples:
  gaia-redshift predict XP_CONTINUOUS_RAW.csv
  gaia-redshift predict *.fits --keep ra,dec -o redshifts.ecsv
  gaia-redshift predict --ids ids.csv -o redshifts.ecsv
  gaia-redshift inspect galaxies.parquet -o vi.html
  gaia-redshift fetch --ids ids.csv -o spectra.parquet
  gaia-redshift simulate -n 1000 --seed 1 -o galaxies.csv.gz
  gaia-redshift predict galaxies.csv.gz --plot predicted.png
  gaia-redshift models kiraleos2023
  gaia-redshift flags 132

Each command explains itself: gaia-redshift predict --help"""

_SIMULATE_EPILOG = """examples:
  gaia-redshift simulate -n 1000 --seed 1 -o galaxies.fits
  gaia-redshift simulate -n 100000 --seed 2 --survey flat --no-correlations -o flat.parquet
  gaia-redshift simulate -n 500 --seed 3 --kind star -o stars.fits
  python -m gaia_redshift simulate -n 20000 --seed 1 --report report/

The galaxies are simulated, not observed. The columns are those of the archive, with the true
redshift in redshift_true; the same number, seed and survey give the same galaxies."""


def build_parser(
    commands_run: dict[str, Callable[[argparse.Namespace], int]],
) -> argparse.ArgumentParser:
    """Return the parser; ``commands_run`` gives for each subcommand the function that runs it."""
    common = argparse.ArgumentParser(add_help=False)
    _add_loudness(common, argparse.SUPPRESS)  # what stands before the command holds
    parser = _Parser(
        prog=PROGRAM,
        description="Redshifts of galaxies from Gaia BP/RP (XP) low-resolution spectra.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_loudness(parser, 0)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(
        dest="command",
        title="commands",
        metavar="COMMAND",
        parser_class=argparse.ArgumentParser,
    )

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

    add_predict(add("predict", "predict redshifts from XP spectra", PREDICT_EPILOG))
    add_fetch(add("fetch", "fetch XP spectra from the Gaia archive", FETCH_EPILOG))
    add_inspect(add("inspect", "make a page to look at spectra and redshifts", INSPECT_EPILOG))
    add_show(add("show", "draw objects: spectrum, distribution, flags", SHOW_EPILOG))
    add_send(add("send", "send a table to TOPCAT or other programs (SAMP)", SEND_EPILOG))
    add_cache(add("cache", "show, name or clear what has been fetched", CACHE_EPILOG))
    add_crossmatch(
        add("crossmatch", "find SDSS or other spectroscopic redshifts", CROSSMATCH_EPILOG)
    )
    add_enrich(add("enrich", "add redshifts to a catalogue of your own", ENRICH_EPILOG))
    _add_simulate(add("simulate", "simulate XP spectra of galaxies", _SIMULATE_EPILOG))
    add_dataset(add("dataset", "build a training set, or check one", DATASET_EPILOG))
    add_train(add("train", "train a model", TRAIN_EPILOG))
    add_evaluate(add("evaluate", "compare redshifts with true ones", EVALUATE_EPILOG))
    models = add("models", "list the models, or describe one")
    models.add_argument("name", nargs="?", help="a model to describe")
    flags = add("flags", "explain the flags, or decode values of flags_cnn")
    flags.add_argument(
        "values", nargs="*", metavar="VALUE", help="values to decode, or names of flags"
    )
    add_doctor(add("doctor", "try all that a prediction from the archive needs", DOCTOR_EPILOG))
    add_completion(add("completion", "make a shell complete commands", COMPLETION_EPILOG))
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that knows what was meant."""

    def error(self, message: str) -> NoReturn:
        """Complain of an option, with the one that is nearest to it."""
        words = message.partition("unrecognized arguments: ")[2].split()
        known = {option for one in self._list_parsers() for option in one._option_string_actions}
        for word in words:
            meant = get_close_matches(word.partition("=")[0], known, 1) if word[:1] == "-" else []
            if meant:
                message += f" (did you mean {meant[0]}?)"
                break
        super().error(message)

    def _list_parsers(self) -> list[argparse.ArgumentParser]:
        actions = self._subparsers._group_actions if self._subparsers else []
        own: list[argparse.ArgumentParser] = [self]
        return [*own, *(one for a in actions for one in (a.choices or {}).values())]  # type: ignore[attr-defined]


def _add_loudness(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default,
        help="say more on stderr (-vv: still more)",
    )
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        default=default if default else False,
        help="no progress bars, warnings and summaries",
    )


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, required=True, metavar="N", help="number of sources")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="random seed")
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
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
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
    add_overwrite(parser)
    parser.add_argument(
        "--no-correlations", action="store_true", help="leave the correlations out: smaller files"
    )
