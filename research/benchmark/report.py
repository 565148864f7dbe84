"""Write a benchmark to a folder, as `gaia_redshift.evaluate.write_report` does an evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astropy.table import Table

from gaia_redshift.evaluate.page import Section
from gaia_redshift.evaluate.report import (
    ReportFolder,
    report_comparison,
    report_evaluation,
    write_sections,
)
from research.benchmark.benchmark import Benchmark

__all__ = ["write_benchmark"]


def write_benchmark(
    benchmark: Benchmark, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write ``metrics.json``, tables, pictures and ``report.html``; return the page's path.

    Raises
    ------
    InputError
        If the folder cannot be written, or holds a report and ``overwrite`` is not set.
    """
    return write_sections(
        benchmark.to_dict(),
        lambda room: ("Redshift methods compared", _report_benchmark(benchmark, room)),
        folder,
        overwrite,
    )


def _report_benchmark(benchmark: Benchmark, room: ReportFolder) -> list[Section]:
    room.save_table("predictions", benchmark.table)
    recipes = Table(rows=[{"method": k, "recipe": v} for k, v in benchmark.recipes.items()])
    text = [
        f"{part.capitalize()}: {_describe_part(about)}"
        for part, about in benchmark.description.items()
    ]
    sections = [Section("Methods", text=text, tables=[("What each does", recipes)])]
    sections += report_comparison(benchmark.comparison, room, "", "All test galaxies")
    if benchmark.limit_comparison is not None and benchmark.limit is not None:
        found = report_comparison(
            benchmark.limit_comparison, room, "limit_", "How far from the limit"
        )[0]
        tables = list(found.tables)
        if benchmark.trusted_comparison is not None:
            trusted = benchmark.trusted_comparison.summary
            room.save_table("limit_trusted_summary", trusted)
            tables.append(("Those with enough effective templates", trusted))
        sections.append(
            Section(
                found.title,
                text=[*_describe_limit(benchmark.limit), *found.text],
                notes=[*found.notes, *_warn_of_limit(benchmark.limit)],
                tables=tables,
                figures=found.figures,
            )
        )
    for name, evaluation in benchmark.comparison.evaluations.items():
        label = benchmark.comparison.labels.get(name, name)
        sections += report_evaluation(evaluation, room, f"{label}_", label)
    return sections


def _describe_part(about: Mapping[str, Any]) -> str:
    if about["kind"] == "simulated":
        return f"{about['n']:,} simulated galaxies, survey {about['survey']}, seed {about['seed']}."
    return f"{about['n']:,} galaxies of {about['source']}."


def _describe_limit(limit: Mapping[str, Any]) -> list[str]:
    steps = ", ".join(f"{n:,}: {mae:.4f}" for n, mae in limit["mae_by_templates"].items())
    sizes = limit["sample_size_percentiles"]
    end = limit["mae_extrapolated"]
    return [
        "The limit is the posterior under the simulator itself: no method that sees these spectra"
        " alone can have a smaller mean squared error, on average, than its mean, nor a smaller"
        " mean absolute error than its median.",
        f"It was worked out for {limit['n']:,} galaxies from {limit['n_templates']:,} templates."
        f" Effective sample size: median {sizes['50']:.0f}, 5th percentile {sizes['5']:.1f}; below"
        f" {limit['low_sample_size']:.0f} for {100 * limit['low_fraction']:.0f} % of them."
        f" MAE of the mean by number of templates: {steps}"
        + (f"; where that series goes: {end:.4f}." if end is not None else "."),
    ]


def _warn_of_limit(limit: Mapping[str, Any]) -> list[str]:
    if limit["reliable"]:
        return []
    return [
        "Not reliable as a limit: too few effective templates for some galaxies, or more of them"
        " would still change it. The true limit is lower than stated; use more templates, or the"
        " table of galaxies with enough effective templates."
    ]
