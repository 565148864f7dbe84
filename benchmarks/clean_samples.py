"""How complete, accurate and pure clean samples are, as tables for the documentation.

    python benchmarks/clean_samples.py [--galaxies 20000] [--others 5000] [--seed 71]
        [--real FILE ...] [--model NAME] [-o docs/explanation/clean_numbers.md]

Galaxies, stars and quasars are simulated (of a seed that no training used); ``--real`` are files of
real sources of which none is a galaxy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from astropy.table import Table

from gaia_redshift import predict_table, simulate_spectra
from gaia_redshift.evaluate.clean_samples import measure_levels, measure_passing
from gaia_redshift.simulate import simulate_contaminants

NUMBERS = Path(__file__).parents[1] / "docs" / "explanation" / "clean_numbers.md"


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
            simulate_contaminants(arguments.others, seed=arguments.seed, kind=kind), **options
        )
        for kind in ("star", "quasar")
    }
    for path in arguments.real:
        table = predict_table(path, **options)
        others[f"{len(table):,} real DR3 sources"] = table
    meta = found.meta
    text = f"""\
<!-- Made by: python benchmarks/clean_samples.py --real FILES_OF_REAL_SOURCES -->

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
