"""Redshifts for Gaia sources: by cross-match, or from a column that the sources have."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.datasets.cuts import PHOTOMETRY, CutCounts, TrainingCuts, apply_cuts, to_floats
from gaia_redshift.datasets.file import write_json
from gaia_redshift.errors import InputError, MissingColumnError
from gaia_redshift.readers.sources import identify

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.archive.settings import ArchiveSettings
    from gaia_redshift.spectra import XPSpectra

__all__ = ["LabelOptions", "Labelled", "Labels", "label_block", "load_labels"]

logger = logging.getLogger(__name__)

Labelled = tuple[NDArray[np.intp], dict[str, NDArray[Any]], CutCounts]
"""The rows of a block that have labels, their columns, and what was cut."""


@dataclass(frozen=True)
class LabelOptions:
    """Where redshifts come from: the column ``truth`` of the sources or spectra, or a cross-match.

    ``catalogue`` None asks a service for SDSS's; the others are as for
    `gaia_redshift.crossmatch_catalogue` and `gaia_redshift.crossmatch_sdss`.
    """

    truth: str | None = None
    catalogue: Any = None
    survey: str = "sdss"
    service: str = "xmatch"
    columns: Mapping[str, str] | None = None
    radius: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Say in JSON where redshifts come from."""
        if self.truth is not None:
            return {"column": self.truth}
        where: dict[str, Any] = {"survey": self.survey, "radius_arcsec": float(self.radius)}
        if self.columns:
            where["columns"] = dict(self.columns)
        if self.catalogue is None:
            return {**where, "service": self.service}
        content = identify(self.catalogue)
        name = content.get("file") or content.get("folder") or content["table"]
        return {**where, "catalogue": name, "catalogue_content": content}


@dataclass
class Labels:
    """Sources (n,) that passed the cuts, with their redshifts; sorted by nothing, found by id.

    ``columns`` are ``ra``, ``dec``, ``redshift``, ``redshift_error`` (NaN where unknown),
    photometry, and what the catalogue of redshifts says about its object.
    """

    source_id: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    counts: CutCounts
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._order = np.argsort(self.source_id, kind="stable")
        self._sorted = self.source_id[self._order]

    def __len__(self) -> int:
        return len(self.source_id)

    def label(self, block: XPSpectra) -> Labelled:
        """Label spectra by their ids; what was cut has been counted."""
        place = np.minimum(np.searchsorted(self._sorted, block.source_id), len(self) - 1)
        rows = np.flatnonzero(self._sorted[place] == block.source_id)
        found = self._order[place[rows]]
        return rows, {name: values[found] for name, values in self.columns.items()}, CutCounts()

    def has_between(self, low: int, high: int) -> bool:
        """Tell whether any id lies from ``low`` to just below ``high``."""
        return bool(np.searchsorted(self._sorted, low) < np.searchsorted(self._sorted, high))


def open_sources(
    sources: Any, *, settings: ArchiveSettings | None = None, login: Any = None
) -> tuple[Table, dict[str, Any]]:
    """Return the table of sources, ``source_id`` as int64, and what it is in JSON."""
    from gaia_redshift.readers.columns import find_name
    from gaia_redshift.readers.files import read_ids
    from gaia_redshift.readers.sources import is_query
    from gaia_redshift.readers.tables import is_table, to_astropy
    from gaia_redshift.readers.values import to_source_ids
    from gaia_redshift.tables.types import simplify_column

    about: dict[str, Any]
    if is_query(sources):
        from gaia_redshift.archive.jobs import run_query

        table = run_query(sources, settings=settings, login=login)
        label, about = "the result of the query", {"query": " ".join(sources.split())}
    elif isinstance(sources, str | os.PathLike):
        table = read_ids(sources)
        label, about = str(sources), {"file": Path(sources).name}
    elif is_table(sources):
        table, label = to_astropy(sources), "the table of sources"
        about = {"table": type(sources).__name__}
        if "query" in table.meta:
            about["query"] = table.meta["query"]
    else:
        raise InputError(
            f"sources must be a table with source_id, a path or an ADQL query, not"
            f" {type(sources).__name__}"
        )
    for name in ("source_id", "ra", "dec", *PHOTOMETRY):
        there = find_name(table.colnames, (name,))
        if there is None and name == "source_id":
            raise MissingColumnError(
                f"{label}: has no column 'source_id'; there are: {', '.join(table.colnames[:12])}",
                "source_id",
            )
        if there is not None and name not in table.colnames:
            table.rename_column(there, name)
    ids = to_source_ids(simplify_column(table["source_id"], "source_id"), label)
    table["source_id"] = ids
    about["rows"] = len(table)
    about["sha256_of_ids"] = hashlib.sha256(np.ascontiguousarray(ids).data).hexdigest()
    return table, about


def find_labels(
    table: Table,
    options: LabelOptions,
    cuts: TrainingCuts,
    *,
    settings: ArchiveSettings | None = None,
    progress: bool = False,
) -> Labels:
    """Give sources, as from `open_sources`, their redshifts and make the cuts about them."""
    ids = np.asarray(table["source_id"])
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(ids, return_index=True)[1]] = True
    counts = CutCounts(n_given=len(table))
    counts.add("repeated", first)
    table = table[first]
    about = options.to_dict()
    survey = None
    if options.truth is None:
        survey = options.survey
        table = _crossmatch(table, options, cuts, settings, progress)
        about["origin"] = table.meta.get(f"{survey}_catalogue", "")
    labels = label_table(table, options, cuts, survey=survey)
    labels.counts.n_given = 0
    counts.merge(labels.counts)
    labels.counts = counts
    labels.about = about
    return labels


def label_table(
    table: Table, options: LabelOptions, cuts: TrainingCuts, *, survey: str | None = None
) -> Labels:
    """Cut a table that has redshifts, and take what a training set keeps of it.

    ``survey`` is the ending of the columns of a cross-match.
    """
    truth = f"redshift_{survey}" if survey else str(options.truth)
    if truth not in table.colnames:
        raise MissingColumnError(
            f"no column '{truth}' of redshifts; there are: {', '.join(table.colnames[:20])}", truth
        )
    error = next((n for n in (f"{truth}_error", "redshift_error") if n in table.colnames), None)
    work = table.copy(copy_data=False)
    missing = np.full(len(table), np.nan)
    values = {
        "redshift": to_floats(table[truth]),
        "redshift_error": missing if error is None else to_floats(table[error]),
        **{n: to_floats(table[n]) if n in table.colnames else missing for n in ("ra", "dec")},
    }
    kept = [name for name in PHOTOMETRY if name in table.colnames]
    for name in kept:
        values[name] = to_floats(table[name])
    for name, array in values.items():
        if name != "redshift_error" or error is not None:
            work[name] = array
    passed, counts = apply_cuts(work, cuts, survey=survey)
    columns = {name: array[passed] for name, array in values.items()}
    if survey:
        for name in ("zwarning", "class", "id", "separation", "match_flag"):
            column = np.ma.asarray(table[f"{name}_{survey}"])[passed]
            blank = "" if column.dtype.kind == "U" else np.nan if column.dtype.kind == "f" else -1
            columns[f"{name}_{survey}"] = np.ma.filled(column, blank)
    return Labels(np.asarray(table["source_id"])[passed], columns, counts, options.to_dict())


def label_block(block: XPSpectra, *, options: LabelOptions, cuts: TrainingCuts) -> Labelled:
    """Label spectra by a column that they have themselves, and cut them."""
    from astropy.table import Table

    numbered = Table() if block.columns is None else block.columns.copy(copy_data=False)
    numbered["source_id"] = np.arange(len(block))  # so that the rows that pass are known
    own = label_table(numbered, options, cuts)
    return own.source_id.astype(np.intp), own.columns, own.counts


def _crossmatch(
    table: Table,
    options: LabelOptions,
    cuts: TrainingCuts,
    settings: ArchiveSettings | None,
    progress: bool,
) -> Table:
    from gaia_redshift.crossmatch import crossmatch_catalogue, crossmatch_sdss
    from gaia_redshift.readers.columns import find_position_names

    if find_position_names(table.colnames) is None:
        raise MissingColumnError(
            "the sources have no columns ra and dec, by which redshifts are found for them; or name"
            " a column that holds redshifts (truth=, --truth COLUMN); there are:"
            f" {', '.join(table.colnames[:12])}",
            "ra",
        )
    common: dict[str, Any] = {"zwarning": cuts.zwarning, "classes": cuts.classes}
    if options.catalogue is not None:
        return crossmatch_catalogue(
            table,
            options.catalogue,
            options.radius,
            survey=options.survey,
            columns=options.columns,
            **common,
        )
    if options.survey != "sdss":
        raise InputError(
            f"no service has redshifts of '{options.survey}': give its catalogue (catalogue=...)"
        )
    return crossmatch_sdss(
        table,
        options.radius,
        service=options.service,
        settings=settings,
        progress=progress,
        **common,
    )


def load_labels(
    folder: Path,
    sources: Any,
    options: LabelOptions,
    cuts: TrainingCuts,
    *,
    remote: dict[str, Any],
    progress: bool,
) -> Labels:
    """Find labels, or take those of an earlier run: services need not be asked again."""
    path = folder / "labels.npz"
    marker = folder / "labels.json"
    if marker.exists() and path.exists():
        try:
            about = json.loads(marker.read_text(encoding="utf-8"))
            with np.load(path, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            ids = arrays.pop("source_id")
            counts = CutCounts(about["removed"], about["given"])
            return Labels(ids, arrays, counts, about["about"])
        except (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile):
            logger.warning("%s: is damaged; labels are looked for again", path)
    settings, login = remote.get("settings"), remote.get("login")
    table, origin = open_sources(sources, settings=settings, login=login)
    if not len(table):
        raise InputError("the table of sources has no rows")
    labels = find_labels(table, options, cuts, settings=settings, progress=progress)
    labels.about["sources"] = origin
    np.savez(path, source_id=labels.source_id, **labels.columns)  # type: ignore[arg-type]
    counted = {"removed": labels.counts.removed, "given": labels.counts.n_given}
    write_json({**counted, "about": labels.about}, marker)
    return labels
