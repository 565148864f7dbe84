"""Spectra and distributions as objects of other packages: specutils, astropy's tables, qp.

`to_specutils`, `to_table` and `to_qp` make them; `register_formats` has astropy's readers do so.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift._extras import import_extra
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.grid import DEFAULT_GRID, N_BP, SamplingGrid
from gaia_redshift.peaks import PDF, take_distributions
from gaia_redshift.spectra import FluxVectors, XPSpectra

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["register_formats", "to_qp", "to_specutils", "to_table"]


@preserve_settings()
def to_specutils(
    spectra: Any,
    *,
    row: int | None = None,
    grid: SamplingGrid = DEFAULT_GRID,
    calibrated: bool = False,
) -> Any:
    """Turn BP/RP spectra into spectra of specutils: one for BP, one for RP, or a calibrated one.

    The bands stay apart: where they overlap (about 615 to 680 nm) each has its own response, so
    that their electrons per second and sample cannot be joined into one spectrum.

    Parameters
    ----------
    spectra : XPSpectra, FluxVectors, or what `gaia_redshift.read_spectra` takes
        Of n sources.
    row : int, optional
        One source alone, as spectra of one dimension; by default all.
    grid : SamplingGrid
        Where coefficients are sampled; vectors have their own.
    calibrated : bool
        In physical units instead, as `gaia_redshift.calibrate_spectra` gives them.

    Returns
    -------
    specutils.SpectrumList, or specutils.Spectrum
        If calibrated, one spectrum: ``flux`` in W / (m2 nm), shape (n, 343) or (343,). Else BP and
        RP, each a ``specutils.Spectrum``: ``flux`` in electron / s (per sample), shape (n, 80) and
        (n, 106), or (80,) and (106,) where ``row`` is given; ``spectral_axis`` in nm (vacuum,
        centres of the samples, the same for all sources); ``uncertainty`` standard deviations, or
        None where there are no errors at all; ``mask`` True where there is no flux. ``meta`` holds
        ``band``, ``source_id``, ``flags``, ``data_release`` and, in words, ``flux_unit``: ids and
        flags of all n sources, or of the one.

    Raises
    ------
    InputError
        If specutils is not installed (extra ``specutils``), the input holds no spectra, or there
        is no such row.

    Examples
    --------
    >>> from gaia_redshift import to_specutils
    >>> bp, rp = to_specutils("XP_CONTINUOUS_RAW.csv", row=0)  # doctest: +SKIP
    """
    specutils = import_extra("specutils", "specutils")
    from astropy import units

    from gaia_redshift.sampling import sample_wavelengths

    if calibrated:
        return _calibrate(specutils, spectra, row)
    vectors = _find_vectors(spectra, row, grid)
    wavelength = np.asarray(sample_wavelengths(vectors.grid), dtype=np.float64)
    flux = np.asarray(vectors.flux, dtype=np.float64)
    errors = None if vectors.flux_error is None else np.asarray(vectors.flux_error, np.float64)
    about: dict[str, Any] = {"source_id": vectors.source_id, "flags": vectors.quality}
    if row is not None:
        flux, errors = flux[0], None if errors is None else errors[0]
        about = {name: int(values[0]) for name, values in about.items()}
    about["data_release"] = vectors.meta.get("release") or "unknown"
    about["flux_unit"] = "electron / s per sample"
    bands = [
        _make_spectrum(
            specutils,
            flux[..., samples] * (units.electron / units.s),
            None if errors is None else errors[..., samples],
            wavelength[samples],
            {"band": name, **about},
        )
        for name, samples in (("BP", slice(0, N_BP)), ("RP", slice(N_BP, None)))
    ]
    return specutils.SpectrumList(bands)


def _calibrate(specutils: Any, spectra: Any, row: int | None) -> Any:
    from astropy import units

    from gaia_redshift.calibrated import calibrate_spectra

    chosen = _find_spectra(spectra, row)
    found = calibrate_spectra(chosen)
    one = slice(None) if row is None else 0
    flux = found.flux[one] * (units.W / units.m**2 / units.nm)
    source_id = found.source_id if row is None else int(found.source_id[0])
    about = {"source_id": source_id, "data_release": chosen.release or "unknown"}
    return _make_spectrum(specutils, flux, found.flux_error[one], found.wavelength, about)


def _make_spectrum(specutils: Any, flux: Any, errors: Any, wavelength: Any, meta: Any) -> Any:
    """Return spectra of a flux with its unit, errors in the same and wavelengths in nm."""
    from astropy import units
    from astropy.nddata import StdDevUncertainty

    return specutils.Spectrum(
        flux=flux,
        spectral_axis=wavelength * units.nm,
        spectral_axis_index=flux.ndim - 1,  # as many sources as samples would leave it open
        uncertainty=None if errors is None else StdDevUncertainty(errors, unit=flux.unit),
        mask=~np.isfinite(flux.value),
        meta=meta,
    )


def _find_spectra(spectra: Any, row: int | None) -> Any:
    """Return spectra or vectors, of one source where a row is given."""
    if not isinstance(spectra, XPSpectra | FluxVectors):
        from gaia_redshift.readers import read_spectra

        spectra = read_spectra(spectra)
    if not len(spectra):
        raise InputError("the input holds no spectra")
    if row is None:
        return spectra
    if not -len(spectra) <= row < len(spectra):
        raise InputError(f"there is no row {row}: there are {len(spectra)} sources")
    return spectra[row]


def _find_vectors(spectra: Any, row: int | None, grid: SamplingGrid) -> FluxVectors:
    chosen = _find_spectra(spectra, row)
    if isinstance(chosen, FluxVectors):
        return chosen
    from gaia_redshift.sampling import sample_spectra

    return sample_spectra(chosen, grid=grid)


TABLE_FORMAT = "gaia-xp"
SPECTRUM_FORMAT = "Gaia XP"
_ARRAYS = {
    "coefficients": "coefficients",
    "coefficient_errors": "errors",
    "coefficient_correlations": "correlations",
}


@preserve_settings()
def register_formats() -> list[str]:
    """Let astropy's tables, and specutils where it is installed, read XP spectra.

    Afterwards ``Table.read(path, format="gaia-xp")`` reads the coefficients as
    `gaia_redshift.bridges.to_table` has them, ``SpectrumList.read(path, format="Gaia XP")`` BP and
    RP as `gaia_redshift.to_specutils` gives them, and ``Spectrum.read(path, format="Gaia XP")`` the
    calibrated spectrum. ``path`` is whatever `gaia_redshift.read_spectra` reads.

    Returns
    -------
    list of str
        Whose readers these are now: ``["astropy", "specutils"]``.
    """
    from astropy.io import registry
    from astropy.table import Table

    registry.register_reader(TABLE_FORMAT, Table, _read_table, force=True)
    if find_spec("specutils") is None:
        return ["astropy"]
    from specutils import Spectrum, SpectrumList

    calibrate = partial(to_specutils, calibrated=True)
    registry.register_reader(SPECTRUM_FORMAT, SpectrumList, to_specutils, force=True)
    registry.register_reader(SPECTRUM_FORMAT, Spectrum, calibrate, force=True)
    return ["astropy", "specutils"]


def _read_table(path: Any, **options: Any) -> Table:
    from gaia_redshift.readers import read_spectra

    return to_table(read_spectra(path, **{"keep": "all", **options}))


def to_table(spectra: XPSpectra) -> Table:
    """Turn XP spectra into a table with the archive's columns.

    Parameters
    ----------
    spectra : XPSpectra

    Returns
    -------
    Table
        ``source_id``; for each band ``bp_basis_function_id``, ``bp_n_parameters``, and as arrays
        ``bp_coefficients``, ``bp_coefficient_errors`` and ``bp_coefficient_correlations``, where
        there are any, NaN beyond a row's own number; then the other columns.
    """
    from astropy.table import Table

    table = Table({"source_id": spectra.source_id}, meta=dict(spectra.meta))
    for name in ("bp", "rp"):
        band = getattr(spectra, name)
        table[f"{name}_basis_function_id"] = band.basis_id
        table[f"{name}_n_parameters"] = band.n_coefficients
        for what, attribute in _ARRAYS.items():
            values = getattr(band, attribute)
            if values is not None:
                table[f"{name}_{what}"] = values
    for name in [] if spectra.columns is None else spectra.columns.colnames:
        if name not in table.colnames:
            table[name] = spectra.columns[name]  # type: ignore[index]
    return table


ANCILLARY = (
    "source_id",
    "redshift_cnn",
    "redshift_cnn_lower",
    "redshift_cnn_upper",
    "redshift_cnn_std",
    "flags_cnn",
)
"""Columns of predictions that go along, where the table has them."""


@preserve_settings()
def to_qp(table: Table, *, grid: ArrayLike | None = None) -> Any:
    """Turn predicted redshift distributions into an ensemble of qp.

    Parameters
    ----------
    table : Table, n rows
        Predictions with the column ``redshift_cnn_pdf``: ``predict_table(..., pdf=True)``.
    grid : array-like, shape (m + 1,), optional
        Edges of the bins of redshift, where the table does not hold them.

    Returns
    -------
    qp.Ensemble
        Of histograms (``qp.hist``), one for each row that has a distribution. Rows without one,
        masked or NaN, are left out: qp cannot hold them. The ancillary table (``ensemble.ancil``)
        says which row of ``table`` each distribution is (``row``), and repeats ``source_id``, the
        numbers predicted, and ``flags_cnn``.

    Raises
    ------
    InputError
        If qp is not installed (extra ``qp``), it is no such table, its bins are not known or do
        not fit, or no row has a distribution.

    Examples
    --------
    >>> from gaia_redshift import predict_table, to_qp
    >>> table = predict_table("XP_CONTINUOUS_RAW.csv", pdf=True)  # doctest: +SKIP
    >>> to_qp(table).median()  # doctest: +SKIP
    """
    if not hasattr(table, "colnames"):
        raise InputError(f"to_qp takes a table of predictions, not {type(table).__name__}")
    density, edges = take_distributions(table, grid)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(density).all(axis=1) & (density >= 0).all(axis=1)
    usable &= np.where(np.reshape(usable, (-1, 1)), density, 0.0).sum(axis=1) > 0
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise InputError(f"no row of '{PDF}' holds a distribution: all are masked or NaN")
    ancillary: dict[str, NDArray[Any]] = {
        name: np.asarray(_fill(table[name])[rows]) for name in ANCILLARY if name in table.colnames
    }
    ancillary["row"] = rows.astype(np.int64)
    qp = import_extra("qp", "qp")
    # qp normalises: densities of 32 bits add to 1 within some 1e-6 only.
    return qp.Ensemble(qp.hist, data={"bins": edges, "pdfs": density[rows]}, ancil=ancillary)


def _fill(column: Any) -> NDArray[Any]:
    values = np.ma.asarray(column)
    return np.ma.filled(values, np.nan) if values.dtype.kind == "f" else np.ma.getdata(values)
