"""How complete, accurate and pure clean samples are: `measure_levels`, `measure_passing`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.clean import LEVELS, find_clean
from gaia_redshift.errors import InputError
from gaia_redshift.evaluate.metrics import compute_metrics

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["measure_levels", "measure_passing"]

REDSHIFT_EDGES = (0.0, 0.1, 0.2, 0.3, 0.6)


def measure_levels(
    galaxies: Table,
    truth: str = "redshift_true",
    *,
    brightness: str | None = None,
    redshift_edges: Iterable[float] = REDSHIFT_EDGES,
) -> Table:
    """Measure clean samples of galaxies whose redshifts are known.

    Parameters
    ----------
    galaxies : Table
        Predictions with the column of true redshifts; all of them are galaxies.
    truth : str
        That column.
    brightness : str, optional
        A column (a flux or a magnitude) by whose thirds the galaxies are divided, too.
    redshift_edges : iterable of float
        Edges of the bins of true redshift.

    Returns
    -------
    Table
        A row for each level of `gaia_redshift.clean.LEVELS` and each bin: ``level``, ``bin``,
        ``n`` (galaxies of the bin), ``n_kept``, ``completeness`` (the part kept), and of those kept
        ``accurate`` (the part with dz from -0.05 to 0.05), ``mae``, ``sigma_nmad``, ``bias``.

    Raises
    ------
    InputError
        If a column is missing.
    """
    from astropy.table import Table

    for name in (truth, *([brightness] if brightness else [])):
        if name not in galaxies.colnames:
            raise InputError(f"no column '{name}'; there are: {', '.join(galaxies.colnames)}")
    true: Any = np.asarray(np.ma.filled(np.ma.asarray(galaxies[truth], dtype=float), np.nan))
    known = np.isfinite(true)
    bins: dict[str, NDArray[np.bool_]] = {"all": known}
    edges = list(redshift_edges)
    for low, high in pairwise(edges):
        bins[f"z {low:g} to {high:g}"] = known & (true >= low) & (true < high)
    if brightness is not None:
        bins |= _cut_thirds(galaxies[brightness], known, brightness)
    rows = []
    for level in LEVELS:
        kept = find_clean(galaxies, level)
        for name, inside in bins.items():
            n, chosen = int(inside.sum()), inside & kept
            found = compute_metrics(galaxies["redshift_cnn"][chosen], true[chosen])
            rows.append(
                {
                    "level": level,
                    "bin": name,
                    "n": n,
                    "n_kept": int(chosen.sum()),
                    "completeness": chosen.sum() / n if n else np.nan,
                    "accurate": 1 - found["outliers_05"],
                    **{key: found[key] for key in ("mae", "sigma_nmad", "bias")},
                }
            )
    return Table(rows=rows)


def _cut_thirds(column: Any, known: NDArray[np.bool_], name: str) -> dict[str, NDArray[np.bool_]]:
    """Divide rows by brightness, faintest first; magnitudes rise as galaxies get fainter."""
    values: Any = np.asarray(np.ma.filled(np.ma.asarray(column, dtype=float), np.nan))
    if "mag" in name:
        values = -values
    low, high = np.nanquantile(values[known], [1 / 3, 2 / 3])
    return {
        "faintest third": known & (values < low),
        "middle third": known & (values >= low) & (values < high),
        "brightest third": known & (values >= high),
    }


def measure_passing(others: Mapping[str, Table]) -> Table:
    """Measure what part of sources that are no galaxies each level lets pass.

    Parameters
    ----------
    others : mapping of str to Table
        Predictions of sources of each kind.

    Returns
    -------
    Table
        ``kind``, ``n``, and for each level the part of them that it keeps.
    """
    from astropy.table import Table

    rows = [
        {
            "kind": kind,
            "n": len(table),
            **{level: float(find_clean(table, level).mean()) for level in LEVELS},
        }
        for kind, table in others.items()
    ]
    return Table(rows=rows)
