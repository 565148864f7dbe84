"""DR3's bases at the default grid's samples, tabulated, so that common work imports no GaiaXPy.

    python -m gaia_redshift.tabulated_bases

writes the table anew from the installed GaiaXPy, whose import takes longer than everything else
that the first prediction needs. A test holds the table against GaiaXPy.
"""

from __future__ import annotations

import importlib.metadata
import json
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid

__all__ = ["read_table", "write_table"]

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


def write_table(path: Any = None) -> None:
    """Work the table out with GaiaXPy and write it.

    Parameters
    ----------
    path : path, optional
        By default the package's own file.
    """
    from gaia_redshift.bases import compute_design_matrices

    target = files("gaia_redshift").joinpath(*_FILE) if path is None else path
    matrices = compute_design_matrices(DEFAULT_GRID, SET_NAME, tabulated=False)
    about = {
        "what": "DR3's Hermite bases (ids 56 and 57) at the kept samples of the default grid, times"
        " the samples' widths in pseudo-wavelength",
        "unit": UNIT,
        "grid": DEFAULT_GRID.to_dict(),
        "gaiaxpy": importlib.metadata.version("gaiaxpy"),
        "command": "python -m gaia_redshift.tabulated_bases",
    }
    np.savez_compressed(str(target), about=np.array(json.dumps(about)), **matrices)  # type: ignore[arg-type]


if __name__ == "__main__":
    write_table()
