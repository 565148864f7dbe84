"""An inspection as one HTML page: `inspect_spectra`."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._files import check_target, write_text
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.clean import CleanLevel, find_clean
from gaia_redshift.errors import InputError
from gaia_redshift.flags import decode_flags, describe_flags
from gaia_redshift.grid import N_BP
from gaia_redshift.inspect.content import LINES, Inspection, gather_objects
from gaia_redshift.metrics.points import to_floats

if TYPE_CHECKING:
    from gaia_redshift.model.distribution import Prior

__all__ = ["check_page", "format_inspection", "inspect_spectra"]

_SCRIPTS = ("chart.js", "review.js", "page.js", "list.js")
_EXACT = 2**53
"""Larger integers are not exact in a browser: they travel as text."""


@preserve_settings()
def inspect_spectra(
    sources: Any,
    output: str | os.PathLike[str],
    *,
    ids: Any = None,
    columns: str | Sequence[str] | None = None,
    clean: str | CleanLevel | None = None,
    limit: int | None = None,
    model: Any = "default",
    prior: Prior | None = None,
    n_simulated: int = 3000,
    any_release: bool = False,
    archive: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Make a page to look at spectra and their redshifts, one by one, in a browser.

    The page is one file that needs no other and no network. It shows each spectrum with its errors,
    lines at a redshift that a slider moves, the distribution of the redshift with the prior and
    without, the flags in words, and the simulated galaxy whose spectrum is nearest. What the person
    who looks enters (class, redshift, comment) stays in the browser and is exported as csv or ECSV
    with the columns ``redshift_vi``, ``class_vi`` and ``comment_vi``.

    Parameters
    ----------
    sources : path, list of paths, DataFrame, Table, XPSpectra, ids, ADQL, ...
        What `gaia_redshift.predict_table` takes; None fetches the ``ids``.
    output : path
        The page, ``.html``.
    ids : array-like of int, Table, or path, optional
        Only these sources, in this order; of a table (such as a clean sample of predictions) the
        column ``source_id``.
    columns : str, list of str, or "all", optional
        Columns to show, of the spectra's file or of the table of ids.
    clean : str, optional
        Only objects of this level of `gaia_redshift.select_clean`.
    limit : int, optional
        Only the first so many.
    model, prior, any_release, archive
        As for `gaia_redshift.predict_table`.
    n_simulated : int
        Simulated galaxies of which the nearest is shown; 0 leaves it out.
    overwrite : bool
        Replace an existing page.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If there is nothing to show or too much of it (more than 5,000 objects), the input cannot be
        read, or the page not be written.
    """
    target = check_page(output, overwrite=overwrite)
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, not {limit}")
    found = gather_objects(
        sources,
        ids=ids,
        columns=columns,
        clean=clean,
        limit=limit,
        model=model,
        prior=prior,
        n_simulated=n_simulated,
        any_release=any_release,
        archive=archive,
        progress=progress,
    )
    n = len(found)
    title = f"{n:,} object{'s' * (n != 1)}: {_name_input(found)}"
    page = format_inspection(found, title, file=target.stem)
    try:
        write_text(target, page)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    return target


def check_page(output: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Find out, before any work, whether a page can be written there; `InputError` if not."""
    target = Path(output).expanduser()
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"cannot write {target}: end the name of a page in .html")
    check_target(target, overwrite)
    return target


def _name_input(found: Inspection) -> str:
    names = [Path(str(name)).name for name in found.table.meta.get("inputs", [])]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return (", ".join(names[:2]) + more) or "spectra in memory"


def format_inspection(found: Inspection, title: str, *, file: str = "inspection") -> str:
    """Return the page as HTML; ``file`` names exported files, without ending."""
    folder = files("gaia_redshift") / "data" / "inspect"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    data = json.dumps(_describe(found, file), ensure_ascii=False, separators=(",", ":"))
    parts = {
        "TITLE": escape(title),
        "STYLE": read("style.css"),
        "SCRIPT": "\n".join(map(read, _SCRIPTS)),
        # Nothing in a cell may end the element that holds it.
        "DATA": data.replace("<", "\\u003c"),
    }
    return re.sub("@(TITLE|STYLE|SCRIPT|DATA)@", lambda found: parts[found[1]], read("page.html"))


def _describe(found: Inspection, file: str) -> dict[str, Any]:
    """All that the scripts are given."""
    from gaia_redshift.sampling import sample_wavelengths

    table, vectors = found.table, found.vectors
    meta = {
        key: value
        for key, value in table.meta.items()
        if key != "inputs" and isinstance(value, str | int | float)
    }
    ids = [str(int(one)) for one in np.asarray(table["source_id"])]
    edges = pdf = None
    if "redshift_cnn_pdf" in table.colnames:
        edges = table["redshift_cnn_pdf"].info.meta["redshift_grid"]
        pdf = to_floats(table["redshift_cnn_pdf"])
    top = 1.0 if edges is None else max(1.0, float(edges[-1]))
    near = found.nearest
    digest = hashlib.sha256(json.dumps([ids, meta.get("model_sha256")]).encode()).hexdigest()
    simulated = [name for name in table.meta.get("inputs", []) if "simulated" in str(name)]
    return {
        "key": digest[:16],
        "file": f"{file}_inspected",
        "meta": meta,
        "ids": ids,
        "n_bp": N_BP,
        "wavelength": _pack(sample_wavelengths(vectors.grid)),
        "flux": _pack(vectors.flux),
        "flux_label": "flux (e\u207b/s per sample)",
        "error": None if vectors.flux_error is None else _pack(vectors.flux_error),
        "edges": None if edges is None else _pack(edges),
        "pdf": None if pdf is None else _pack(pdf),
        "flat": None if found.flat_pdf is None else _pack(found.flat_pdf),
        "prior": None if found.prior is None else _pack(found.prior),
        "prior_name": meta.get("redshift_prior", ""),
        "near": None if near is None else _pack(near.flux),
        "near_redshift": [] if near is None else [_number(z, 4) for z in near.redshift],
        "near_chi2": [] if near is None else [_number(d, 3) for d in near.deviation],
        "peaks": [[(round(z, 4), round(p, 4)) for z, p in one] for one in found.peaks],
        "flags": decode_flags(np.asarray(table["flags_cnn"])),
        "flag_meanings": {name: meaning for _, name, meaning in describe_flags()},
        "usable": [bool(one) for one in find_clean(table, "usable")],
        "lines": [{"name": n, "nm": nm, "kind": kind} for n, (nm, kind) in LINES.items()],
        "z_range": [0.0, top],
        "columns": [_describe_column(table[name]) for name in found.shown],
        "footer": (
            f"gaia_redshift {meta.get('gaia_redshift_version')}, model {meta.get('model_name')}"
            f" {meta.get('model_version')} trained on {meta.get('model_trained_on')}, prior"
            f" {meta.get('redshift_prior', 'none')}, {meta.get('created_utc')}"
            + (". These are simulated galaxies, not observed ones." if simulated else "")
        ),
    }


def _describe_column(column: Any) -> dict[str, Any]:
    """Name, unit, type (of ECSV) and values, None where masked or NaN."""
    values = np.ma.asarray(column)
    kind = values.dtype.kind
    unit = getattr(column, "unit", None)
    about = {
        "name": str(column.info.name),
        "unit": "" if unit is None else str(unit),
        "description": (column.info.description or "").split(", 0 is clean")[0],
    }
    masked = np.ma.getmaskarray(values)
    if kind == "f":
        cells: list[Any] = [_number(one, 9) for one in to_floats(values)]
        return {**about, "type": "float64", "values": cells}
    data = np.ma.getdata(values).tolist()
    if kind in "iu":
        large = any(abs(one) >= _EXACT for one in data)
        data = [str(one) for one in data] if large else data
    elif kind != "b":
        data = [
            one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in data
        ]
    cells = [None if hidden else one for one, hidden in zip(data, masked.tolist(), strict=True)]
    names = {"i": "int64", "u": "int64", "b": "bool"}
    return {**about, "type": names.get(kind, "string"), "values": cells}


def _number(value: Any, digits: int) -> float | None:
    """Round to so many significant digits; None for what is not finite."""
    value = float(value)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _pack(values: Any) -> str:
    """Numbers of 32 bits as text."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
