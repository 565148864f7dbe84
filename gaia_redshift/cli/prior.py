"""The option ``--prior``: a name, or a file of galaxies with redshifts and brightness."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from gaia_redshift.model.prior import MagnitudePrior

__all__ = ["add_prior", "read_prior"]

_REDSHIFT = ("redshift", "redshift_true", "z", "zsp", "z_spec", "zspec")
_FLUX = ("phot_rp_mean_flux", "rp_flux")
_MAGNITUDE = "phot_rp_mean_mag"
_RP_ZERO_POINT = 24.7479
"""Of Gaia DR3's RP magnitudes (Riello et al. 2021)."""


def add_prior(parser: argparse.ArgumentParser) -> None:
    """Add ``--prior``."""
    parser.add_argument(
        "--prior",
        metavar="NAME|FILE",
        help="redshifts to assume for the sources: as SDSS's galaxies of their brightness (sdss,"
        " the default model's default), sdss_redshift, flat, training (as the model's training"
        " set), or as the galaxies of a file with columns redshift and phot_rp_mean_flux (or _mag)",
    )


def read_prior(text: str | None) -> str | MagnitudePrior | None:
    """Return a name as it is, or what the galaxies of a file say, p(z | RP flux).

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or holds too few galaxies.
    """
    from gaia_redshift.model.prior import MagnitudePrior
    from gaia_redshift.readers.columns import find_name, to_numbers
    from gaia_redshift.readers.whole import read_columns

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
