"""A block of spectra, or of vectors, to rows of redshifts: what every prediction is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._threads import as_slice
from gaia_redshift.flags import FATAL, QualityFlag
from gaia_redshift.peaks import find_peaks
from gaia_redshift.readers.bands import flag_duplicates
from gaia_redshift.sampling import sample_block, warn_of_unknown_sets
from gaia_redshift.spectra import FluxVectors, XPSpectra
from gaia_redshift.tables import (
    PredictedRows,
    describe_provenance,
    select_columns,
    stack_rows,
)
from gaia_redshift.vectors import flag_unit, warn_of_unit

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.predict.settings import Settings

__all__ = ["Findings", "flag_repeated", "join_rows", "predict_block", "predict_vectors"]


@dataclass
class Findings:
    """What is to be told of some blocks, once for all of them.

    ``unknown`` are their sets of bases that nobody knows; ``factors`` says of blocks that are not
    in e-/s per sample by how much they are off.
    """

    unknown: list[str] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)

    def warn(self, stacklevel: int = 4) -> None:
        """Warn of them."""
        warn_of_unknown_sets(self.unknown, stacklevel + 1)
        warn_of_unit(self.factors, stacklevel + 1)


def predict_block(spectra: XPSpectra, settings: Settings, findings: Findings) -> PredictedRows:
    """Sample and predict spectra: a row for each, in order, with its provenance.

    Sources that occur more than once are not flagged, which needs all blocks: `join_rows`.
    """
    settings.check_release(spectra.release)
    kept = replace(spectra, columns=_keep_columns(spectra.columns, settings))
    vectors, unknown = sample_block(kept, grid=settings.grid, errors=settings.errors)
    findings.unknown += unknown
    return predict_vectors(vectors, settings, findings, columns=spectra.columns)


def predict_vectors(
    vectors: FluxVectors, settings: Settings, findings: Findings, *, columns: Table | None
) -> PredictedRows:
    """Predict the rows that have fluxes; return all rows.

    ``columns`` are those of the input, which may hold photometry to compare the fluxes with.
    """
    settings.check_bases(vectors.meta.get("bases", {}))
    doubts, factor = flag_unit(vectors, columns)
    if factor is not None:
        findings.factors.append(factor)
    n = len(vectors)
    flags = vectors.quality.astype(np.int32) | doubts
    rows = as_slice(np.flatnonzero((flags & FATAL) == 0))
    # Without usable rows the model is asked all the same: it says what columns there are.
    asked = dict(settings.asked)
    wants_peaks, wants_pdf = asked.pop("peaks", False), asked.get("pdf", False)
    if wants_peaks:
        asked["pdf"] = True
    model = settings.model
    errors = _take_errors(vectors, rows) if model.uses_errors else None
    prediction = model.predict(vectors.flux[rows], errors, **asked)
    if prediction.flags is not None:
        flags[rows] |= np.asarray(prediction.flags, dtype=np.int32)

    def spread(name: str) -> Any:
        """Values of the rows predicted, (k, ...), as float32 of all rows, (n, ...)."""
        values = getattr(prediction, name, None)
        if values is None:
            return None
        everywhere = np.full((n, *np.shape(values)[1:]), np.nan, dtype=np.float32)
        everywhere[rows] = values
        return everywhere

    pdf, peaks = spread("pdf"), None
    edges = getattr(prediction, "edges", None)
    if pdf is not None and wants_peaks:
        found = np.stack(find_peaks(pdf, edges), axis=2)
        peaks = found.reshape(n, -1).astype(np.float32)
    return PredictedRows(
        source_id=vectors.source_id,
        redshift=spread("redshift"),
        flags=flags,
        lower=spread("lower"),
        upper=spread("upper"),
        std=spread("std"),
        shape=spread("shape"),
        probability_galaxy=spread("probability_galaxy"),
        pdf=pdf if wants_pdf else None,
        peaks=peaks,
        redshift_grid=edges,
        columns=vectors.columns,
        meta=_describe(vectors.meta, settings, getattr(prediction, "prior", None)),
    )


def join_rows(blocks: Sequence[PredictedRows]) -> PredictedRows:
    """Join blocks, and flag the sources that occur more than once."""
    rows = stack_rows(blocks)
    return replace(rows, flags=rows.flags | flag_repeated(rows.source_id))


def flag_repeated(source_id: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the flag of sources that occur more than once, or 0, shape (n,)."""
    flag = np.int32(QualityFlag.DUPLICATE_SOURCE_ID)
    return np.where(flag_duplicates(source_id), flag, np.int32(0))


def _keep_columns(columns: Table | None, settings: Settings) -> Table | None:
    """Return the columns to carry along: those asked for, and the optional ones that are there."""
    if settings.keep == "all":
        return select_columns(columns, "all")
    have = [] if columns is None else columns.colnames
    there = [name for name in settings.optional if name in have]
    return select_columns(columns, list(dict.fromkeys([*(settings.keep or ()), *there])))


def _take_errors(
    vectors: FluxVectors, rows: slice | NDArray[np.intp]
) -> NDArray[np.floating] | None:
    """Return flux errors for a model; none that leave the correlations out."""
    if vectors.flux_error is None:
        return None
    errors = vectors.flux_error[rows]
    diagonal = (vectors.quality[rows] & int(QualityFlag.DIAGONAL_FLUX_ERROR)) != 0
    if diagonal.any():
        errors = np.where(diagonal[:, None], np.nan, errors)
    return errors


def _describe(meta: Mapping[str, Any], settings: Settings, prior: str | None) -> dict[str, Any]:
    """Say where rows come from; ``meta`` is that of the vectors."""
    model = settings.model
    return describe_provenance(
        model_name=model.name,
        model_version=str(model.version),
        model_sha256=model.sha256,
        trained_on=str(model.manifest.get("trained_on", "not stated")),
        grid=settings.grid,
        release=str(meta["release"]) if meta.get("release") else None,
        inputs=list(dict.fromkeys(map(str, meta.get("inputs", [])))),
        prior=prior,
    )
