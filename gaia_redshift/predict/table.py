"""The whole flow, glued: read -> sample -> predict -> table; alone in knowing all the stages."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift._quiet import preserve_settings
from gaia_redshift._threads import as_slice
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import FATAL, QualityFlag
from gaia_redshift.grid import SamplingGrid
from gaia_redshift.peaks import find_peaks
from gaia_redshift.spectra import FluxVectors, XPSpectra
from gaia_redshift.tables import (
    PredictedRows,
    describe_provenance,
    join_meta,
    select_columns,
    stack_rows,
)
from gaia_redshift.tables.stacks import settle_types, stack_tables
from gaia_redshift.vectors import PHOTOMETRY, check_vectors, flag_unit, make_vectors, warn_of_unit

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.model.device import Device
    from gaia_redshift.model.distribution import Prior

__all__ = [
    "join_predictions",
    "load_for_prediction",
    "predict_redshift",
    "predict_rows",
    "predict_table",
]

logger = logging.getLogger(__name__)

BLOCK_SIZE = 8192
"""Sources read, sampled and predicted at a time."""


class Model(Protocol):
    """What the pipeline needs of a model (`gaia_redshift.load_model` returns such)."""

    name: str
    version: str
    sha256: str
    manifest: dict[str, Any]
    grid: SamplingGrid
    uses_errors: bool

    def predict(
        self, flux: NDArray[np.float64], flux_error: NDArray[np.floating] | None = None
    ) -> Any:
        """Return ``redshift`` (n,), ``flags`` (n,), ``lower`` and ``upper`` (n,) or None.

        Options ``prior``, ``std``, ``pdf`` and ``progress`` are passed where they are asked for.
        """


@preserve_settings()
def predict_table(
    sources: Any,
    *,
    model: str | os.PathLike[str] | Model = "default",
    grid: SamplingGrid | str | os.PathLike[str] | None = None,
    keep: str | Sequence[str] | None = None,
    flux_errors: bool | None = None,
    prior: Prior | None = None,
    std: bool = False,
    pdf: bool = False,
    peaks: bool = False,
    shape: bool = False,
    block_size: int = BLOCK_SIZE,
    progress: bool = False,
    archive: Mapping[str, Any] | None = None,
    any_release: bool = False,
    device: Device = "auto",
) -> Table:
    """Predict the redshifts of galaxies from their BP/RP spectra, in any form.

    Parameters
    ----------
    sources : path, list of paths, DataFrame, Table, dict of arrays, XPSpectra, ...
        Anything that `gaia_redshift.read_spectra` takes. Files are read in blocks. What has no
        spectra is fetched from the Gaia archive: source ids, an ADQL query, a table in memory with
        ``source_id`` or with ``ra`` and ``dec``, a SkyCoord (see `gaia_redshift.fetch_spectra`).
    model : str, path or model
        A name of `gaia_redshift.available_models`, a model's folder, or a loaded model.
    grid : SamplingGrid or path, optional
        Where to sample instead of on the model's own grid; a path is read by
        `gaia_redshift.read_grid`.
    keep : str, list of str, or "all", optional
        Columns of the input to carry along.
    flux_errors : bool, optional
        Read coefficient errors and correlations, and set the flags about them, whether or not the
        model uses them. By default only where it does: reading correlations takes most of the time.
    prior : str, array-like of shape (m,), callable or MagnitudePrior, optional
        What is known beside the spectrum's shape, for models that give distributions: ``"sdss"``
        (the default model's choice: the redshifts of SDSS's galaxies at the source's brightness),
        ``"flat"``, ``"training"``, densities for the model's m bins of redshift, a function of
        redshift, or a `gaia_redshift.MagnitudePrior` of another survey.
    std : bool
        Add the distributions' standard deviations, ``redshift_cnn_std``.
    pdf : bool
        Add the distributions, ``redshift_cnn_pdf``: m densities a row, for the bins of redshift
        whose m + 1 edges are the column's ``meta["redshift_grid"]``.
    peaks : bool
        Add the two most probable peaks of the distributions, ``redshift_cnn_peak`` and
        ``redshift_cnn_peak2``, each with its probability, ``..._odds`` (see
        `gaia_redshift.peaks.find_peaks`).
    shape : bool
        Add ``redshift_cnn_shape``, the median under a flat prior: what the spectrum alone says.
    block_size : int
        Sources in memory at a time.
    progress : bool
        Show a progress bar.
    archive : mapping, optional
        Arguments of `gaia_redshift.fetch_spectra`, where spectra are fetched: ``release``,
        ``cache``, ``offline``, ``radius``, ``settings``, ``login``.
    any_release : bool
        Predict spectra of another data release than that of the model's training.
    device : {"auto", "cpu", "gpu"}
        Where the network runs, as for `gaia_redshift.load_model`; a loaded model has its own.

    Returns
    -------
    Table
        One row per input row, in order: ``source_id``, ``redshift_cnn`` (masked where there is
        none; the median, from models that give distributions), ``redshift_cnn_lower`` and
        ``redshift_cnn_upper`` (16th and 84th percentile, from such models),
        ``probability_galaxy`` (from models that tell galaxies from other sources), ``flags_cnn``
        (`gaia_redshift.decode_flags` turns it into words), the columns kept; provenance in
        ``meta``.

    Raises
    ------
    InputError
        If an input cannot be read or holds no spectra, they are of another data release than the
        model is for, the prior is not usable, or the model gives no distributions.
    ModelError
        If the model cannot be loaded.
    ArchiveError
        If spectra are to be fetched and the archive does not answer, or refuses.

    Warns
    -----
    GaiaRedshiftWarning
        If the grid is not the model's, or rows are on an unknown set of bases.

    Examples
    --------
    >>> from gaia_redshift import predict_table
    >>> table = predict_table("XP_CONTINUOUS_RAW.csv")  # doctest: +SKIP
    >>> table["source_id", "redshift_cnn", "flags_cnn"]  # doctest: +SKIP
    >>> predict_table([5937083312263887616])  # doctest: +SKIP
    """
    rows = predict_rows(
        sources,
        model=model,
        grid=grid,
        keep=keep,
        flux_errors=flux_errors,
        prior=prior,
        std=std,
        pdf=pdf,
        peaks=peaks,
        shape=shape,
        block_size=block_size,
        progress=progress,
        archive=archive,
        any_release=any_release,
        device=device,
    )
    if rows.columns is not None:
        settle_types(rows.columns)
    return rows.to_table()


def predict_rows(
    sources: Any,
    *,
    model: str | os.PathLike[str] | Model = "default",
    grid: SamplingGrid | str | os.PathLike[str] | None = None,
    keep: str | Sequence[str] | None = None,
    flux_errors: bool | None = None,
    prior: Prior | None = None,
    std: bool = False,
    pdf: bool = False,
    peaks: bool = False,
    shape: bool = False,
    block_size: int = BLOCK_SIZE,
    progress: bool = False,
    archive: Mapping[str, Any] | None = None,
    any_release: bool = False,
    device: Device = "auto",
) -> PredictedRows:
    """Do the work of `predict_table`, whose arguments these are, and return plain arrays.

    Importing astropy's tables takes longer than everything else that a first prediction needs:
    who only prints redshifts need not wait for it.
    """
    from gaia_redshift.readers import iter_spectra, parse_keep
    from gaia_redshift.readers.sources import is_for_archive
    from gaia_redshift.sampling import sample_block, warn_of_unknown_sets

    if block_size < 1:
        raise InputError(f"block_size must be positive, not {block_size}")
    loaded = load_for_prediction(model, device)
    chosen = _choose_grid(grid, loaded)
    errors = loaded.uses_errors if flux_errors is None else flux_errors
    wanted_options = _choose_options(prior, std=std, pdf=pdf, peaks=peaks, shape=shape)
    predicted: list[PredictedRows] = []
    metas: list[Mapping[str, Any]] = []
    prior_name = None
    factors: list[float] = []
    unknown: list[str] = []
    keep = parse_keep(keep)
    account = None
    blocks: Iterable[XPSpectra]
    if is_for_archive(sources):
        from gaia_redshift.archive.fetch import open_stream

        options = dict(archive or {})
        _check_release(options.get("release", "DR3"), loaded, any_release)
        stream = open_stream(sources, keep=keep, progress=progress, **options)
        account = stream.account
        blocks = stream.blocks(block_size)
    else:
        blocks = iter_spectra(
            sources,
            block_size=block_size,
            correlations=errors,
            errors=errors,
            keep=keep,
            optional=PHOTOMETRY,
            progress=progress,
            settle=False,
        )
    for block in blocks:
        _check_release(block.release, loaded, any_release)
        wanted = replace(block, columns=select_columns(block.columns, keep))
        vectors, unknown_here = sample_block(wanted, grid=chosen, errors=errors)
        unknown += unknown_here
        _check_bases(vectors, loaded, any_release)
        vectors = _check_unit(vectors, factors, block.columns)
        rows, prior_name = _predict(vectors, loaded, wanted_options)
        predicted.append(rows)
        metas.append(vectors.meta)
    if not sum(map(len, predicted)):
        raise InputError("the input holds no spectra")
    warn_of_unknown_sets(unknown, stacklevel=5)
    warn_of_unit(factors, stacklevel=5)
    rows = _assemble(predicted, metas, prior_name, loaded, chosen)
    if account is not None:
        rows.meta["archive_account"] = account.summary()
    return rows


@preserve_settings()
def predict_redshift(
    vectors: FluxVectors | ArrayLike,
    *,
    model: str | os.PathLike[str] | Model = "default",
    flux_error: ArrayLike | None = None,
    source_id: ArrayLike | None = None,
    keep: str | Sequence[str] | None = None,
    prior: Prior | None = None,
    std: bool = False,
    pdf: bool = False,
    peaks: bool = False,
    shape: bool = False,
    any_release: bool = False,
    progress: bool = False,
    device: Device = "auto",
) -> Table:
    """Predict redshifts from vectors of 186 fluxes.

    Parameters
    ----------
    vectors : FluxVectors, or array-like of shape (n, 186) or (186,), e-/s per sample
        As `gaia_redshift.sample_spectra` returns them, or fluxes sampled elsewhere: 80 BP then 106
        RP samples on the model's grid, wavelength rising in each band.
    model : str, path or model
        As for `predict_table`.
    flux_error : array-like of the same shape and unit, optional
        Standard errors that go with an array of fluxes.
    source_id : array-like of int, shape (n,), optional
        Identifiers that go with an array of fluxes; by default 0 to n - 1.
    keep : str, list of str, or "all", optional
        Columns of ``vectors.columns`` to carry along.
    prior, std, pdf, peaks, shape, any_release
        As for `predict_table`.
    progress : bool
        Show a progress bar.
    device : {"auto", "cpu", "gpu"}
        As for `predict_table`.

    Returns
    -------
    Table
        As `predict_table` returns.

    Raises
    ------
    InputError
        If a shape or type is wrong, or as `predict_table`.
    ModelError
        If the model cannot be loaded.
    """
    from gaia_redshift.readers import parse_keep

    loaded = load_for_prediction(model, device)
    if isinstance(vectors, FluxVectors):
        if flux_error is not None or source_id is not None:
            raise InputError("flux_error and source_id go with arrays: FluxVectors hold their own")
        _check_release(vectors.meta.get("release"), loaded, any_release)
        _check_bases(vectors, loaded, any_release)
        _choose_grid(vectors.grid, loaded)
        checked = vectors
    else:
        checked = make_vectors(vectors, flux_error, source_id, loaded.grid)
    checked = replace(
        checked,
        quality=check_vectors(checked, loaded.uses_errors),
        columns=select_columns(checked.columns, parse_keep(keep)),
    )
    factors: list[float] = []
    checked = _check_unit(checked, factors, checked.columns)
    warn_of_unit(factors, stacklevel=4)
    options = _choose_options(prior, std=std, pdf=pdf, peaks=peaks, shape=shape)
    if progress:
        options["progress"] = True
    rows, prior_name = _predict(checked, loaded, options)
    return _assemble([rows], [checked.meta], prior_name, loaded, checked.grid).to_table()


def join_predictions(tables: Sequence[Table]) -> Table:
    """Join tables of `predict_table`, in order, and flag sources that several of them hold.

    Parameters
    ----------
    tables : sequence of Table
        Made with the same model.

    Returns
    -------
    Table
    """
    if len(tables) == 1:
        return settle_types(tables[0])
    joined = settle_types(stack_tables(tables))
    joined.meta.clear()
    joined.meta.update(join_meta([table.meta for table in tables]))
    joined["flags_cnn"] |= _duplicate_bits(np.asarray(joined["source_id"]))
    return joined


def load_for_prediction(model: Any, device: Device = "auto") -> Model:
    """Return the model itself, or load the one of this name or path.

    Raises
    ------
    InputError
        If it is neither a name, a path nor a model.
    ModelError
        If it cannot be loaded.
    """
    if isinstance(model, (str, os.PathLike)):
        from gaia_redshift.model.registry import load_model

        return load_model(model, device=device)
    if not hasattr(model, "predict") or not hasattr(model, "grid"):
        raise InputError(
            f"model must be a name, a path or a loaded model, not {type(model).__name__}"
        )
    return model  # type: ignore[no-any-return]


def _check_bases(vectors: FluxVectors, model: Model, any_release: bool) -> None:
    """Refuse spectra of no known release on bases that are not those of the model's."""
    trained = str(model.manifest.get("data_release", "DR3"))
    for name, release in vectors.meta.get("bases", {}).items():
        # Bases of nobody's are not DR3's, whose are known; a later release's they may be.
        other = trained == "DR3" if release is None else release != trained
        if other and not any_release:
            raise InputError(
                f"the model {model.name} is for spectra of {trained}, these are on the bases {name}"
                f" ({f'of {release}' if release else 'of no known release'}), which may be"
                " calibrated differently; any_release=True (--any-release) predicts them all the"
                " same"
            )


def _check_release(release: Any, model: Model, any_release: bool) -> None:
    """Refuse spectra of another release than the model's: its bases and calibration differ."""
    if release is None or any_release:
        return
    trained = str(model.manifest.get("data_release", "DR3"))
    name = re.sub(r"^GAIA\W*", "", str(getattr(release, "name", release)).upper())
    if name != trained:
        raise InputError(
            f"the model {model.name} is for spectra of {trained}, these are of {name}, calibrated"
            " differently; any_release=True (--any-release) predicts them all the same"
        )


def _choose_grid(grid: Any, model: Model) -> SamplingGrid:
    if grid is None:
        return model.grid
    if isinstance(grid, (str, os.PathLike)):
        from gaia_redshift.grid import read_grid

        grid = read_grid(grid)
    if not isinstance(grid, SamplingGrid):
        raise InputError(f"grid must be a SamplingGrid or a path, not {type(grid).__name__}")
    if grid != model.grid:
        warnings.warn(
            f"the model {model.name} was trained on another grid of wavelengths than this one:"
            " expect shifted redshifts",
            GaiaRedshiftWarning,
            stacklevel=4,
        )
    return grid


def _choose_options(prior: Prior | None, **asked: bool) -> dict[str, Any]:
    """Return what a model is to be asked for beyond redshifts; ``peaks`` are found here."""
    options: dict[str, Any] = {} if prior is None else {"prior": prior}
    return options | {name: True for name, wanted in asked.items() if wanted}


def _check_unit(vectors: FluxVectors, factors: list[float], columns: Table | None) -> FluxVectors:
    """Flag vectors that are not in e-/s per sample; note by how much a block is off."""
    found, factor = flag_unit(vectors, columns)
    if factor is not None:
        factors.append(factor)
    return replace(vectors, quality=vectors.quality | found)


def _predict(
    vectors: FluxVectors, model: Model, options: Mapping[str, Any]
) -> tuple[PredictedRows, str | None]:
    """Predict the rows that have fluxes; return all rows, and the name of the prior."""
    n = len(vectors)
    flags = vectors.quality.astype(np.int32)
    rows = as_slice(np.flatnonzero((flags & FATAL) == 0))
    # Without usable rows the model is asked all the same: it says what columns there are.
    wanted = {**options, "pdf": True} if options.get("peaks") else dict(options)
    wants_peaks = wanted.pop("peaks", False)
    prediction = model.predict(vectors.flux[rows], _take_errors(vectors, rows, model), **wanted)
    if prediction.flags is not None:
        flags[rows] |= np.asarray(prediction.flags, dtype=np.int32)

    def spread(name: str) -> NDArray[np.float32] | None:
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
    redshift = spread("redshift")
    assert redshift is not None
    optional: dict[str, Any] = {
        name: spread(name) for name in ("lower", "upper", "std", "shape", "probability_galaxy")
    }
    predicted = PredictedRows(
        source_id=vectors.source_id,
        redshift=redshift,
        flags=flags,
        **optional,
        pdf=pdf if options.get("pdf") else None,
        peaks=peaks,
        redshift_grid=edges,
        columns=vectors.columns,
    )
    return predicted, getattr(prediction, "prior", None)


def _take_errors(
    vectors: FluxVectors, rows: slice | NDArray[np.intp], model: Model
) -> NDArray[np.floating] | None:
    """Flux errors for a model that uses them; none that leave the correlations out."""
    if not model.uses_errors or vectors.flux_error is None:
        return None
    errors = vectors.flux_error[rows]
    diagonal = (vectors.quality[rows] & int(QualityFlag.DIAGONAL_FLUX_ERROR)) != 0
    if diagonal.any():
        errors = np.where(diagonal[:, None], np.nan, errors)
    return errors


def _assemble(
    blocks: Sequence[PredictedRows],
    metas: Sequence[Mapping[str, Any]],
    prior: str | None,
    model: Model,
    grid: SamplingGrid,
) -> PredictedRows:
    """Join blocks, flag duplicates, and say where it all came from; ``metas`` are the inputs'."""
    rows = stack_rows([block for block in blocks if len(block)] or blocks[:1])
    releases = {str(meta["release"]) for meta in metas if meta.get("release")}
    inputs = dict.fromkeys(str(name) for meta in metas for name in meta.get("inputs", []))
    return replace(
        rows,
        flags=rows.flags | _duplicate_bits(rows.source_id),
        meta=describe_provenance(
            model_name=model.name,
            model_version=str(model.version),
            model_sha256=model.sha256,
            trained_on=str(model.manifest.get("trained_on", "not stated")),
            grid=grid,
            release=", ".join(sorted(releases)) or None,
            inputs=list(inputs),
            prior=prior,
        ),
    )


def _duplicate_bits(source_id: NDArray[np.int64]) -> NDArray[np.int32]:
    from gaia_redshift.readers import flag_duplicates

    return np.where(
        flag_duplicates(source_id), np.int32(QualityFlag.DUPLICATE_SOURCE_ID), np.int32(0)
    )
