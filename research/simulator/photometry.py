"""What photometry says of real galaxies: ``python -m research.simulator.photometry FILE``.

Reduces a table of galaxies with spectroscopic redshifts and Gaia photometry to the few numbers per
redshift bin that the simulator is held against, ``research/data/real_photometry.json``. FILE is
any table with columns ``z``, ``phot_bp_mean_flux``, ``phot_rp_mean_flux`` and their errors (e-/s);
rows whose column ``kind`` is not ``galaxy`` are left out.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "PERCENTILES", "load_photometry", "summarise_photometry"]

Float = NDArray[np.float64]

BINS = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
"""Edges of the redshift bins."""
PERCENTILES = (5, 16, 50, 84, 95)


def summarise_photometry(
    z: Float, bp: Float, rp: Float, bp_error: Float, rp_error: Float
) -> dict[str, Any]:
    """Reduce galaxies to percentiles per redshift bin.

    Parameters
    ----------
    z : ndarray, shape (n,)
    bp, rp, bp_error, rp_error : ndarray, shape (n,), e-/s
        Mean fluxes of the whole bands and their errors.

    Returns
    -------
    dict
        ``bins``: a list with ``z_low``, ``z_high``, ``n``; ``log_rp``, ``log_bp_rp`` (log10 of the
        flux in e-/s and of the ratio, at `PERCENTILES`); ``mean_rp`` (e-/s); ``bp_error`` and
        ``rp_error`` (relative, at `PERCENTILES`); ``colour_slope``, change of log RP per change of
        log(BP/RP) among galaxies of the bin.
    """
    good = (bp > 0) & (rp > 0) & np.isfinite(bp + rp + bp_error + rp_error + z)
    z, bp, rp, bp_error, rp_error = (v[good] for v in (z, bp, rp, bp_error, rp_error))
    bins = []
    for low, high in itertools.pairwise(BINS.tolist()):
        here = (z >= low) & (z < high)
        level, colour = np.log10(rp[here]), np.log10(bp[here] / rp[here])

        def percentiles(values: Float) -> list[float]:
            return np.round(np.percentile(values, PERCENTILES), 4).tolist()

        residuals = [v - np.polyval(np.polyfit(z[here], v, 1), z[here]) for v in (level, colour)]
        bins.append(
            {
                "z_low": float(low),
                "z_high": float(high),
                "n": int(here.sum()),
                "log_rp": percentiles(level),
                "log_bp_rp": percentiles(colour),
                "mean_rp": round(float(rp[here].mean()), 1),
                "bp_error": percentiles(bp_error[here] / bp[here]),
                "rp_error": percentiles(rp_error[here] / rp[here]),
                "colour_slope": round(float(np.polyfit(residuals[1], residuals[0], 1)[0]), 2),
            }
        )
    return {"bins": bins}


@functools.lru_cache(maxsize=1)
def load_photometry() -> list[dict[str, Any]]:
    """Return the bins of real galaxies that ship with the package (see `summarise_photometry`)."""
    path = files("research") / "data" / "real_photometry.json"
    content: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["bins"]
    return content


def half_width(percentiles: Sequence[float] | Float) -> float:
    """Half the range from the 16th to the 84th percentile."""
    return float(0.5 * (percentiles[3] - percentiles[1]))


def read_galaxies(path: str | os.PathLike[str]) -> dict[str, Float]:
    """Read the columns that `summarise_photometry` takes."""
    from astropy.table import Table

    table = Table.read(os.fspath(path))
    if "kind" in table.colnames:
        table = table[table["kind"] == "galaxy"]
    names = {
        "z": "z",
        "bp": "phot_bp_mean_flux",
        "rp": "phot_rp_mean_flux",
        "bp_error": "phot_bp_mean_flux_error",
        "rp_error": "phot_rp_mean_flux_error",
    }
    return {
        key: np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan)
        for key, name in names.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the reduction."""
    parser = argparse.ArgumentParser(
        prog="python -m research.simulator.photometry", description=(__doc__ or "").strip()
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(argv)
    about = {
        "about": "Gaia DR3 photometry of galaxies with SDSS DR16 redshifts (zWarning 0, matched"
        " within 1.5 arcsec, no colour cut); a random slice of the sky. Gaia: ESA/Gaia/DPAC.",
        "command": f"python -m research.simulator.photometry {options.file.rsplit('/')[-1]}",
        "percentiles": list(PERCENTILES),
    }
    content = about | summarise_photometry(**read_galaxies(options.file))
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
