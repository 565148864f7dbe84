"""DR3's bases at the default grid's samples, tabulated, so that common work imports no GaiaXPy.

Its import takes longer than everything else that the first prediction needs. The table is made by
``python -m research.tabulated_bases``; a test holds it against GaiaXPy.
"""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid

__all__ = ["SET_NAME", "UNIT", "read_table"]

SET_NAME = "dr3-hermite"
UNIT = "e-/s per sample"
_FILE = ("data", "bases", "dr3_hermite.npz")


def read_table(
    grid: SamplingGrid, name: str, source: object
) -> dict[str, NDArray[np.float64]] | None:
    """Return design matrices from the table, or None if it does not hold these.

    Parameters
    ----------
    grid : SamplingGrid
    name : str
        Of the set of bases.
    source : object
        Where the set's bases come from: another one of the same name is not in the table.

    Returns
    -------
    dict or None
        ``{"bp": array (55, 80), "rp": array (55, 106)}``.
    """
    if grid != DEFAULT_GRID or name != SET_NAME or source != "gaiaxpy:hermite_bases_file":
        return None
    path = files("gaia_redshift").joinpath(*_FILE)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            about = json.loads(str(content["about"]))
            # Else it is of another version of this package.
            if about["grid"] != grid.to_dict() or about.get("unit") != UNIT:
                return None
            return {band: content[band] for band in ("bp", "rp")}
    except FileNotFoundError:
        return None
