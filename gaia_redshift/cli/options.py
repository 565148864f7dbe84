"""What a subcommand is, the options that several have, and what their values mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.clean import LEVELS
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from gaia_redshift.model.prior import MagnitudePrior

__all__ = [
    "Command",
    "UsageError",
    "add",
    "add_option",
    "parse_bits",
    "parse_columns",
    "parse_keep",
    "parse_names",
    "read_prior",
    "split_words",
    "take",
]

STREAMED = {"ecsv": "ecsv", "csv": "csv", "votable": "vot"}
"""What can be written to standard output, and the ending of such a file."""

_SHARED: dict[str, dict[str, Any]] = {
    "--output": {"metavar": "FILE"},
    "--overwrite": {"action": "store_true", "help": "replace an existing FILE"},
    "--format": {
        "choices": [*STREAMED],
        "help": "with -o -: what to write to standard output (ecsv)",
    },
    "--resume": {"action": "store_true", "help": "go on after an interruption"},
    "--json": {"action": "store_true"},
    "--model": {"default": "default", "help": "name or folder (see `models`)"},
    "--prior": {
        "metavar": "NAME|FILE",
        "help": "redshifts to assume for the sources: as SDSS's galaxies of their brightness (sdss,"
        " the default model's default), sdss_redshift, flat, training (as the model's training"
        " set), or as the galaxies of a file with columns redshift and phot_rp_mean_flux (or _mag)",
    },
    "--std": {"action": "store_true", "help": "add the standard deviation of each distribution"},
    "--any-release": {
        "action": "store_true",
        "help": "take spectra of another data release than that of the model's training, too",
    },
    "--keep": {
        "action": "append",
        "metavar": "COLUMNS",
        "help": "columns of the input to carry along, separated by commas, or `all`",
    },
    "--clean": {
        "nargs": "?",
        "const": "clean",
        "choices": list(LEVELS),
        "metavar": "LEVEL",
        "help": f"only the clean sample; LEVEL is {', '.join(LEVELS)} (clean where none is given)",
    },
    "--truth": {"metavar": "COLUMN", "help": "column of true redshifts (redshift_true)"},
    "--grid": {
        "metavar": "FILE",
        "help": "table of 120 wavelengths a band (nm), columns bp and rp",
    },
    "--seed": {"type": int, "metavar": "S", "help": "random seed"},
    "--catalogue": {"metavar": "PATH"},
    "--columns": {
        "metavar": "WHAT=NAME,...",
        "help": "the catalogue's columns: ra, dec, redshift, redshift_error, zwarning, class, id,"
        " primary",
    },
    "--service": {
        "choices": ["xmatch", "tapvizier", "skyserver"],
        "help": "where to look for SDSS: CDS XMatch (the default), TAPVizieR or SkyServer",
    },
    "--classes": {
        "default": "GALAXY",
        "metavar": "NAMES",
        "help": "spectral classes to accept (GALAXY), or `any`",
    },
    "--zwarning": {
        "default": "0",
        "metavar": "BITS",
        "help": "bits of zWarning to accept (0: none), or `any`",
    },
    "--radius": {"type": float, "default": 1.0, "metavar": "ARCSEC"},
    "--release": {"default": "DR3", "help": "data release of the ids (DR3)"},
    "--cache-dir": {"metavar": "DIR", "help": "keep it in this folder"},
    "--login": {
        "metavar": "USER|FILE",
        "help": "log in: a user name (password from the keyring, or asked for), or a file with user"
        " name and password in two lines",
    },
    "--ids": {
        "action": "append",
        "metavar": "FILE",
        "help": "source ids: one a line, or a table with a column source_id (or with ra and dec)",
    },
}
"""How options are declared that several commands have, but for what each says otherwise."""


class UsageError(InputError):
    """A command line that says too little: the exit code is 2."""


@dataclass(frozen=True)
class Command:
    """A subcommand: ``declare`` gives a parser its arguments, ``run`` returns the exit code.

    ``run`` is given the parsed arguments, and beside them ``progress``: whether to show bars.
    """

    name: str
    summary: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    epilog: str = ""


def add(parser: Any, *names: str, **changes: Any) -> None:
    """Give a parser, or a group of it, options that several commands have, with these changes."""
    for name in names:
        words = ("-o", name) if name == "--output" else (name,)
        parser.add_argument(*words, **{**_SHARED[name], **changes})


def add_option(parser: Any, words: str, help: str, **more: Any) -> None:
    """Give a parser an option as its help shows it, ``--magnitude BRIGHT,FAINT``, or a switch."""
    name, _, metavar = words.partition(" ")
    if metavar:
        more["metavar"] = metavar
    elif not more:
        more["action"] = "store_true"
    parser.add_argument(name, help=help, **more)


def take(arguments: argparse.Namespace, names: str) -> dict[str, Any]:
    """Return arguments by name, for a function whose parameters are called as the options are."""
    return {name: getattr(arguments, name) for name in names.split()}


def split_words(text: str) -> list[str]:
    """Return words between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_keep(values: Sequence[str] | None) -> list[str] | str | None:
    """Return what the values of ``--keep`` name: columns, "all", or nothing."""
    names = [name for value in values or [] for name in split_words(value)]
    return "all" if "all" in names else names or None


def parse_names(text: str) -> list[str] | None:
    """Return the names of ``--classes``, None for `any`."""
    return None if text == "any" else split_words(text)


def parse_bits(text: str) -> int | None:
    """Return the bits of ``--zwarning``, None for `any`."""
    if text == "any":
        return None
    if not text.isdigit():
        raise InputError(f"--zwarning must be a number of bits or `any`, not '{text}'")
    return int(text)


def parse_columns(text: str | None) -> dict[str, str] | None:
    """Return what ``--columns WHAT=NAME,...`` names."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in split_words(text)]
    for what, sign, name in pairs:
        if not sign or not name.strip():
            raise InputError(f"--columns takes WHAT=NAME,..., not '{what}'")
    return {what.strip(): name.strip() for what, _, name in pairs}


_REDSHIFT = ("redshift", "redshift_true", "z", "zsp", "z_spec", "zspec")
_FLUX = ("phot_rp_mean_flux", "rp_flux")
_MAGNITUDE = "phot_rp_mean_mag"
_RP_ZERO_POINT = 24.7479
"""Of Gaia DR3's RP magnitudes (Riello et al. 2021)."""


def read_prior(text: str | None) -> str | MagnitudePrior | None:
    """Return the name of a prior as it is, or p(z | RP flux) as the galaxies of a file have it."""
    from gaia_redshift.model.prior import MagnitudePrior
    from gaia_redshift.readers.columns import find_name
    from gaia_redshift.readers.files import read_columns
    from gaia_redshift.readers.values import to_numbers

    if text is None or not Path(text).suffix:
        return text
    table = read_columns(Path(text))
    redshift = find_name(table.colnames, _REDSHIFT)
    flux = find_name(table.colnames, _FLUX)
    magnitude = find_name(table.colnames, [_MAGNITUDE])
    if redshift is None or (flux is None and magnitude is None):
        raise InputError(
            f"{text}: a magnitude prior needs columns of redshift ({', '.join(_REDSHIFT)}) and of"
            f" brightness ({', '.join((*_FLUX, _MAGNITUDE))}); there are"
            f" {', '.join(table.colnames)}"
        )
    if flux is not None:
        brightness = to_numbers(table[flux])
    else:
        with np.errstate(over="ignore"):
            brightness = 10 ** (0.4 * (_RP_ZERO_POINT - to_numbers(table[magnitude])))
    try:
        return MagnitudePrior.from_sample(to_numbers(table[redshift]), brightness)
    except InputError as error:
        raise InputError(f"{text}: {error}") from None
