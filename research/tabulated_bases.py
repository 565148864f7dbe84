"""Write the package's table of DR3's bases anew from the installed GaiaXPy.

python -m research.tabulated_bases
"""

from __future__ import annotations

import importlib.metadata
import json
from importlib.resources import files
from typing import Any

import numpy as np

from gaia_redshift.grid import DEFAULT_GRID
from gaia_redshift.sampling.bases import TABLE_UNIT, TABULATED, compute_design_matrices


def write_table(path: Any = None) -> None:
    """Work the table out with GaiaXPy and write it, by default to the package's own file."""
    target = files("gaia_redshift").joinpath("data", "bases", "dr3_hermite.npz")
    matrices: dict[str, Any] = compute_design_matrices(DEFAULT_GRID, TABULATED[0], tabulated=False)
    about = {
        "what": "DR3's Hermite bases (ids 56 and 57) at the kept samples of the default grid, times"
        " the samples' widths in pseudo-wavelength",
        "unit": TABLE_UNIT,
        "grid": DEFAULT_GRID.to_dict(),
        "gaiaxpy": importlib.metadata.version("gaiaxpy"),
        "command": "python -m research.tabulated_bases",
    }
    np.savez_compressed(str(path or target), about=np.array(json.dumps(about)), **matrices)


if __name__ == "__main__":
    write_table()
