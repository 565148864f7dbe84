"""The grid of samples behind the vector of 186 fluxes: how many, where, and which are kept.

The Unresolved Galaxy Classifier's vectors (Gaia DR3 documentation 11.3.13; Kiraleos 2023) have
120 samples a band, "approximately equidistant in pixel (pseudo-wavelength) space, covering the
non-zero transmission", wavelength rising with the index in both bands, of which BP loses the first
34 and last 6 and RP the first 4 and last 10. ESA's wavelength table could not be fetched here, so
the end points below are ours: those with which simulated mean spectra fit the real ones best
(``python -m research.simulator.calibration``: mean spectra, their level and colour beside
photometry), near where the response falls to a thousandth of its maximum (BP 327.5-682.5, RP
615.5-1069.5 nm). Towards the red end of BP 18 nm are one sample. They stand only here, are recorded
with every model, and a user may pass another table (`SamplingGrid`). A shorter grid, BP 325-680
and RP 616-1050 nm, would keep 366 to 996 nm, which these vectors are said to span.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from gaia_redshift.errors import InputError

__all__ = [
    "DEFAULT_GRID",
    "END_POINTS_NM",
    "N_BP",
    "N_FLUX",
    "N_RP",
    "N_SAMPLES",
    "PLAUSIBLE_END_POINTS_NM",
    "TRIM",
    "SamplingGrid",
    "draw_grid",
    "read_grid",
]

N_SAMPLES = 120
"""Samples per band before trimming."""
TRIM = {"bp": (34, 6), "rp": (4, 10)}
"""Samples dropped at the short and at the long wavelength end of each band."""
N_BP = N_SAMPLES - sum(TRIM["bp"])
N_RP = N_SAMPLES - sum(TRIM["rp"])
N_FLUX = N_BP + N_RP
END_POINTS_NM = {"bp": (318.5, 660.0), "rp": (612.0, 1069.0)}
"""First and last wavelength of each band's 120 samples, in nm."""
PLAUSIBLE_END_POINTS_NM = {
    "bp": ((318.0, 327.0), (660.0, 685.0)),
    "rp": ((612.0, 618.0), (1048.0, 1072.0)),
}
"""Where the end points of others' vectors may lie, from and to, in nm."""


@dataclass(frozen=True)
class SamplingGrid:
    """Where the 120 + 120 samples lie.

    Parameters
    ----------
    bp, rp : tuple of float, nm
        Either the two end points, between which the 120 samples lie uniformly in
        pseudo-wavelength, or the 120 rising wavelengths themselves (ESA's published table).

    Raises
    ------
    InputError
        If a band has neither 2 nor 120 wavelengths, or if they do not rise.
    """

    bp: tuple[float, ...] = END_POINTS_NM["bp"]
    rp: tuple[float, ...] = END_POINTS_NM["rp"]

    def __post_init__(self) -> None:
        for band in ("bp", "rp"):
            values = np.asarray(getattr(self, band), dtype=float)
            if values.ndim != 1 or values.size not in (2, N_SAMPLES):
                raise InputError(
                    f"the {band.upper()} grid needs 2 end points or {N_SAMPLES} wavelengths in nm,"
                    f" not an array of shape {values.shape}"
                )
            if not np.all(np.isfinite(values)) or not np.all(np.diff(values) > 0):
                raise InputError(f"the {band.upper()} grid's wavelengths (nm) must rise")
            if values[0] < 300 or values[-1] > 1200:
                raise InputError(
                    f"the {band.upper()} grid runs from {values[0]:g} to {values[-1]:g};"
                    " wavelengths are in nm and lie between 300 and 1200"
                )
            object.__setattr__(self, band, tuple(float(v) for v in values))

    def to_dict(self) -> dict[str, list[float]]:
        """Return the grid as plain lists (nm), for manifests and metadata."""
        return {"bp": list(self.bp), "rp": list(self.rp)}


def draw_grid(rng: np.random.Generator) -> SamplingGrid:
    """Draw end points evenly from `PLAUSIBLE_END_POINTS_NM`, to train networks on moved grids."""
    ends = {
        band: tuple(float(rng.uniform(*limits)) for limits in PLAUSIBLE_END_POINTS_NM[band])
        for band in ("bp", "rp")
    }
    return SamplingGrid(bp=ends["bp"], rp=ends["rp"])


DEFAULT_GRID = SamplingGrid()
"""The grid on which the bundled models were trained."""


def read_grid(path: str | os.PathLike[str]) -> SamplingGrid:
    """Read a wavelength table, for instance the one that ESA publishes for SMSgen.

    Parameters
    ----------
    path : path
        Any table that astropy reads, with columns ``bp`` and ``rp`` (or ``bp_wavelength`` and
        ``rp_wavelength``) of 120 rising wavelengths each, in nm or with a unit of length.

    Returns
    -------
    SamplingGrid

    Raises
    ------
    InputError
        If the file cannot be read or lacks the columns.
    """
    from astropy.table import QTable

    try:
        table = QTable.read(os.fspath(path))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"cannot read the wavelength table {os.fspath(path)}: {reason}") from error
    columns = {}
    for band in ("bp", "rp"):
        for name in (band, f"{band}_wavelength"):
            if name in table.colnames:
                column = table[name]
                unit = getattr(column, "unit", None)
                columns[band] = column.to_value("nm") if unit else np.asarray(column, dtype=float)
                break
        else:
            raise InputError(
                f"{os.fspath(path)} has no column '{band}' or '{band}_wavelength'"
                f" (found: {', '.join(table.colnames)})"
            )
    return SamplingGrid(bp=tuple(columns["bp"]), rp=tuple(columns["rp"]))
