"""`predict_table` and `predict_redshift`: from anything that holds spectra to a table in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.grid import SamplingGrid
from gaia_redshift.predict.blocks import (
    Findings,
    flag_repeated,
    join_rows,
    predict_block,
    predict_vectors,
)
from gaia_redshift.predict.settings import BLOCK_SIZE, Model, Settings, make_settings
from gaia_redshift.readers import iter_spectra
from gaia_redshift.readers.sources import is_for_archive
from gaia_redshift.spectra import FluxVectors, XPSpectra
from gaia_redshift.tables import PredictedRows, join_meta, select_columns
from gaia_redshift.tables.columns import settle_types, stack_tables
from gaia_redshift.vectors import PHOTOMETRY, check_vectors, make_vectors

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.model.distribution import Prior
    from gaia_redshift.model.keras_engine import Device

__all__ = ["join_predictions", "predict_redshift", "predict_rows", "predict_table", "read_blocks"]


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
    settings = make_settings(
        model,
        grid=grid,
        keep=keep,
        flux_errors=flux_errors,
        prior=prior,
        std=std,
        pdf=pdf,
        peaks=peaks,
        shape=shape,
        block_size=block_size,
        archive=archive,
        any_release=any_release,
        device=device,
    )
    findings = Findings()
    rows = predict_rows(sources, settings, findings, progress=progress)
    findings.warn()
    if rows.columns is not None:
        settle_types(rows.columns)
    return rows.to_table()


def predict_rows(
    sources: Any, settings: Settings, findings: Findings, *, progress: bool = False
) -> PredictedRows:
    """Read or fetch all sources, and predict them block by block.

    Importing astropy's tables takes longer than everything else that a first prediction needs:
    who only prints redshifts need not wait for it.
    """
    account = None
    blocks: Iterable[XPSpectra]
    if is_for_archive(sources):
        from gaia_redshift.archive.fetch import open_stream

        settings.check_release(settings.archive.get("release", "DR3"))
        stream = open_stream(sources, keep=settings.keep, progress=progress, **settings.archive)
        account = stream.account
        blocks = stream.blocks(settings.block_size)
    else:
        blocks = read_blocks(sources, settings, progress=progress)
    predicted = [predict_block(block, settings, findings) for block in blocks]
    if not sum(map(len, predicted)):
        raise InputError("the input holds no spectra")
    rows = join_rows(predicted)
    if account is not None:
        rows.meta["archive_account"] = account.summary()
    return rows


def read_blocks(sources: Any, settings: Settings, **options: Any) -> Iterable[XPSpectra]:
    """Read spectra as `gaia_redshift.readers.iter_spectra`, with what a prediction needs."""
    return iter_spectra(
        sources,
        block_size=settings.block_size,
        correlations=settings.errors,
        errors=settings.errors,
        keep=settings.keep,
        optional=(*settings.optional, *PHOTOMETRY),
        settle=False,
        **options,
    )


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
    settings = make_settings(
        model,
        grid=vectors.grid if isinstance(vectors, FluxVectors) else None,
        keep=keep,
        prior=prior,
        std=std,
        pdf=pdf,
        peaks=peaks,
        shape=shape,
        any_release=any_release,
        device=device,
    )
    if isinstance(vectors, FluxVectors):
        if flux_error is not None or source_id is not None:
            raise InputError("flux_error and source_id go with arrays: FluxVectors hold their own")
        settings.check_release(vectors.meta.get("release"))
        checked = vectors
    else:
        checked = make_vectors(vectors, flux_error, source_id, settings.grid)
    checked = replace(
        checked,
        quality=check_vectors(checked, settings.model.uses_errors),
        columns=select_columns(checked.columns, settings.keep),
    )
    if progress:
        settings = replace(settings, asked={**settings.asked, "progress": True})
    findings = Findings()
    rows = predict_vectors(checked, settings, findings, columns=checked.columns)
    findings.warn()
    return join_rows([rows]).to_table()


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
    joined["flags_cnn"] |= flag_repeated(np.asarray(joined["source_id"]))
    return joined
