"""Write evaluations to a folder: metrics.json, tables, pictures and one HTML page."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from gaia_redshift import __version__
from gaia_redshift.errors import InputError
from gaia_redshift.evaluate import figures
from gaia_redshift.evaluate.comparison import Comparison
from gaia_redshift.evaluate.evaluation import Evaluation
from gaia_redshift.evaluate.page import Figure, Section, format_page
from gaia_redshift.plot.canvas import off_screen

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "ReportFolder",
    "check_folder",
    "report_comparison",
    "report_evaluation",
    "write_report",
    "write_sections",
]

REPORT = "report.html"
METRICS_FILE = "metrics.json"

_DEFINITIONS = (
    "dz = (z_pred - z_true) / (1 + z_true). Bias is the mean of dz, sigma_NMAD 1.4826 times the"
    " median of |dz - median dz|, MAE the mean of |z_pred - z_true|, mean error that of"
    " z_pred - z_true. Errors are standard errors. Hollow points: fewer than 20 galaxies."
)
_SIMULATED = (
    "These are simulated galaxies, not observed ones: the numbers hold for the simulated survey."
)
_CAPTIONS = {
    "by_predicted": "Per bin of predicted redshift",
    "by_true": "Per bin of true redshift",
    "by_brightness": "Per bin of brightness",
    "by_flag": "Per flag of flags_cnn",
    "coverage": "How often the intervals hold the true redshift",
    "coverage_by_predicted": "Coverage per bin of predicted redshift",
    "coverage_by_brightness": "Coverage per bin of brightness",
}


class ReportFolder:
    """A report's folder: collects pictures and tables while they are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: dict[str, str] = {}

    def _name_file(self, name: str) -> str:
        """Return a name that stays in the folder, whatever columns are called; each its own."""
        plain = re.sub(r"[^\w.+-]", "_", name).lstrip(".")[:100]
        if name not in self._names:
            while plain in self._names.values():
                plain += "_"
            self._names[name] = plain
        return self._names[name]

    def save_figure(self, name: str, axes: Axes, caption: str) -> Figure:
        """Write a picture; return it for the page, too."""
        name = self._name_file(name)
        drawn: Any = axes.figure
        drawn.savefig(self.path / f"{name}.png", dpi=110, metadata={"Software": None})
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
        return Figure(f"{name}.png", buffer.getvalue(), caption)

    def save_table(self, name: str, table: Table) -> None:
        """Write a table."""
        from gaia_redshift.tables import write_table

        write_table(table, self.path / f"{self._name_file(name)}.ecsv", overwrite=True)


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Make the folder, and find out before any work whether a report can be written there.

    Raises `InputError` if it holds a report already, or cannot be made.
    """
    path = Path(folder)
    if (path / METRICS_FILE).exists() and not overwrite:
        raise InputError(f"{path} holds a report already: choose another name, or --overwrite")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise InputError(f"no permission to write in {path}")
    return path


def write_report(
    result: Evaluation | Comparison,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    title: str | None = None,
) -> Path:
    """Write what an evaluation found.

    Parameters
    ----------
    result : Evaluation or Comparison
    folder : path
        Made if it is not there. Gets ``metrics.json``, a table (.ecsv) and a picture (.png) for
        each of the page's, and the page, ``report.html``, which needs none of them.
    overwrite : bool
        Replace an earlier report.
    title : str, optional
        Of the page.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    return write_sections(
        result.to_dict(), lambda room: _report(result, room), folder, overwrite, title
    )


def write_sections(
    numbers: dict[str, Any],
    compose: Callable[[ReportFolder], tuple[str, list[Section]]],
    folder: str | os.PathLike[str],
    overwrite: bool = False,
    title: str | None = None,
) -> Path:
    """Write a report as `write_report` does: its numbers, and what ``compose`` makes of them.

    ``compose`` puts pictures and tables into the folder and returns heading and sections.
    """
    room = ReportFolder(check_folder(folder, overwrite=overwrite))
    try:
        with off_screen():
            heading, sections = compose(room)
        time = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        content = {"gaia_redshift_version": __version__, "created_utc": time, **numbers}
        text = json.dumps(content, indent=1, allow_nan=False)
        (room.path / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
        page = format_page(title or heading, sections, f"gaia_redshift {__version__}, {time}")
        target = room.path / REPORT
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report to {room.path}: {error}") from error
    return target


def _report(result: Evaluation | Comparison, room: ReportFolder) -> tuple[str, list[Section]]:
    if isinstance(result, Evaluation):
        return (
            f"Evaluation of {result.prediction}",
            report_evaluation(result, room, "", result.prediction),
        )
    sections = report_comparison(result, room, "")
    for name, evaluation in result.evaluations.items():
        label = result.labels.get(name, name)
        sections += report_evaluation(evaluation, room, f"{name}_", label)
    return "Redshifts side by side", sections


def report_evaluation(e: Evaluation, room: ReportFolder, prefix: str, label: str) -> list[Section]:
    """Draw and write one evaluation; names of files begin with ``prefix``."""
    for name, table in e.tables.items():
        room.save_table(f"{prefix}{name}", table)
    ugc = e.prediction == "redshift_ugc"
    drawn = [
        room.save_figure(
            f"{prefix}density",
            figures.plot_density(e, label=label),
            f"{label} against true redshift; red: median and 68 % per bin",
        )
    ]
    for against in ("predicted", "true", "brightness"):
        if f"by_{against}" in e.tables:
            axes = figures.plot_bias(e, against, mark_weak=ugc)
            words = f"Bias of {label} against {_name_bins(against)}"
            drawn.append(room.save_figure(f"{prefix}bias_{against}", axes, words))
    if e.pit is not None:
        axes = figures.plot_pit(e)
        drawn.append(room.save_figure(f"{prefix}pit", axes, f"PIT values of {label}"))
    for against in ("predicted", "brightness"):
        if f"coverage_by_{against}" in e.tables:
            axes = figures.plot_coverage(e, against)
            words = f"Coverage of {label}'s intervals against {_name_bins(against)}"
            drawn.append(room.save_figure(f"{prefix}coverage_{against}", axes, words))
    overall = Section(
        f"{label} against {e.truth}",
        text=[*_describe_rows(e), _DEFINITIONS],
        notes=[_SIMULATED] if e.simulated else [],
        tables=[("Overall", _make_overall(e))],
        figures=drawn,
    )
    tables = [(_CAPTIONS[name], t) for name, t in e.tables.items() if name in _CAPTIONS]
    text = []
    for name, words in (("by_predicted", "predicted"), ("by_true", "true")):
        outside = e.tables[name].meta["n_outside_compared"]
        if outside:
            text.append(f"{outside:,} galaxies lie outside the bins of {words} redshift.")
    return [overall, Section(f"{label}, in bins", text=text, tables=tables)]


def _describe_rows(e: Evaluation) -> list[str]:
    m = e.metrics
    words = f"{m['n_rows']:,} rows: {m['n']:,} compared, {m['n_masked']:,} without a prediction"
    lines = [f"{words}, {m['n_without_truth']:,} without a true redshift."]
    if "model_name" in e.meta:
        lines.append(
            f"Model {e.meta['model_name']} {e.meta.get('model_version', '')}, trained on"
            f" {e.meta.get('model_trained_on', 'not stated')}; spectra of"
            f" {e.meta.get('data_release', 'unknown')}."
        )
    inputs = [Path(str(name)).name for name in e.meta.get("inputs", [])]
    if inputs:
        more = f" and {len(inputs) - 5:,} more" if len(inputs) > 5 else ""
        lines.append(f"Input: {', '.join(inputs[:5])}{more}.")
    if e.crps is not None and e.pit is not None:
        lines.append(
            f"CRPS {e.crps['crps']:.4f} \N{PLUS-MINUS SIGN} {e.crps['crps_error']:.4f}"
            f" ({e.crps['n']:,} distributions, {e.crps['n_masked']:,} missing); PIT deviates from"
            f" uniform by {e.pit['largest_deviation']:.3f} at most (p = {e.pit['p_value']:.2g})."
        )
    return lines


def _make_overall(e: Evaluation) -> Table:
    skip = ("n_rows", "n_without_truth")
    return Table(rows=[{k: v for k, v in e.metrics.items() if k not in skip}])


def report_comparison(
    comparison: Comparison, room: ReportFolder, prefix: str, title: str = "Side by side"
) -> list[Section]:
    """Draw and write methods side by side; names of files begin with ``prefix``."""
    room.save_table(f"{prefix}summary", comparison.summary)
    named = {comparison.labels.get(k, k): e for k, e in comparison.evaluations.items()}
    # A constant prediction would set the scale of every figure.
    shown = {k: e for k, e in named.items() if np.nanmax(e.z_pred) > np.nanmin(e.z_pred)} or named
    ugc = "redshift_ugc" in comparison.evaluations
    first = next(iter(comparison.evaluations.values()))
    drawn = []
    for what, plot in (("bias", figures.plot_bias), ("scatter", figures.plot_scatter)):
        for against in ("predicted", "true", "brightness"):
            if f"by_{against}" not in first.tables:
                continue
            axes = plot(shown, against, mark_weak=ugc and against == "predicted")
            words = f"{what.capitalize()} against {_name_bins(against)}"
            if ugc and against == "predicted":
                words += "; shaded: redshift_ugc reported weak"
            drawn.append(room.save_figure(f"{prefix}{what}_{against}", axes, words))
    tables: list[tuple[str, Any]] = [("On common rows", comparison.summary)]
    if comparison.weak_ranges is not None:
        room.save_table(f"{prefix}weak_ranges", comparison.weak_ranges)
        tables.append(
            ("On common rows, where UGC is reported weak, and elsewhere", comparison.weak_ranges)
        )
    return [
        Section(
            title,
            text=[
                f"{comparison.n_common:,} of {comparison.n_rows:,} rows have a true redshift and"
                f" all of {', '.join(named)}. Ratios are to the first, {next(iter(named))}.",
                _DEFINITIONS,
            ],
            notes=[_SIMULATED] if first.simulated else [],
            tables=tables,
            figures=drawn,
        )
    ]


def _name_bins(against: str) -> str:
    return {"predicted": "predicted redshift", "true": "true redshift"}.get(against, against)
