"""How complete, accurate and pure clean samples are, as tables for the documentation.

    python -m research.clean_samples [--galaxies 20000] [--others 5000] [--seed 71]
        [--real FILE ...] [--model NAME] [-o docs/explanation/clean_numbers.md]

Galaxies, stars and quasars are simulated (of a seed that no training used); ``--real`` are files of
real sources of which none is a galaxy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gaia_redshift import predict_table, simulate_spectra
from gaia_redshift.clean import LEVELS, find_clean
from gaia_redshift.errors import InputError
from gaia_redshift.metrics.points import compute_metrics

__all__ = ["measure_levels", "measure_passing"]

NUMBERS = Path(__file__).parents[1] / "docs" / "explanation" / "clean_numbers.md"
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
    rows = [
        {
            "kind": kind,
            "n": len(table),
            **{level: float(find_clean(table, level).mean()) for level in LEVELS},
        }
        for kind, table in others.items()
    ]
    return Table(rows=rows)


def format_rows(heads: list[str], rows: list[list[str]]) -> str:
    """Make a table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_levels(table: Table) -> str:
    """Make the table of completeness and accuracy."""
    heads = ["level", "galaxies", "n", "kept", "Δz within 0.05", "MAE", "σ_NMAD", "bias"]
    rows = [
        [
            f"`{row['level']}`",
            str(row["bin"]),
            str(row["n"]),
            f"{row['completeness']:.3f}",
            *(
                [f"{row['accurate']:.3f}"]
                + [f"{row[key]:.4f}" for key in ("mae", "sigma_nmad", "bias")]
                if row["n_kept"] > 20
                else ["–"] * 4
            ),
        ]
        for row in table
    ]
    return format_rows(heads, rows)


def format_passing(table: Table) -> str:
    """Make the table of what passes though it is no galaxy."""
    levels = table.colnames[2:]
    rows = [
        [str(row["kind"]), str(row["n"]), *(f"{row[level]:.4f}" for level in levels)]
        for row in table
    ]
    return format_rows(["no galaxies", "n", *(f"`{level}`" for level in levels)], rows)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=20_000)
    parser.add_argument("--others", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=71)
    parser.add_argument("--real", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--model", default="default")
    parser.add_argument("-o", "--output", type=Path, default=NUMBERS)
    arguments = parser.parse_args()
    options = {"model": arguments.model, "flux_errors": True}
    galaxies = simulate_spectra(arguments.galaxies, seed=arguments.seed)
    found = predict_table(galaxies, keep="all", **options)
    brightness = next(n for n in ("phot_g_mean_mag", "rp_flux") if n in found.colnames)
    others = {
        f"simulated {kind}s": predict_table(
            simulate_spectra(arguments.others, seed=arguments.seed, kind=kind), **options
        )
        for kind in ("star", "quasar")
    }
    for path in arguments.real:
        table = predict_table(path, **options)
        others[f"{len(table):,} real DR3 sources"] = table
    meta = found.meta
    text = f"""\
<!-- Made by: python -m research.clean_samples --real FILES_OF_REAL_SOURCES -->

Model {meta["model_name"]} {meta["model_version"]}, prior `{meta.get("redshift_prior", "none")}`,
{len(galaxies):,} *simulated* galaxies with the redshifts of SDSS; thirds of brightness are by
`{brightness}`. "kept" is the completeness, the other numbers are of those kept.

{format_levels(measure_levels(found, brightness=brightness))}

The part that passes of sources that are no galaxies; what part of a sample they are depends on how
many of them the input holds:

{format_passing(measure_passing(others))}
"""
    arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
