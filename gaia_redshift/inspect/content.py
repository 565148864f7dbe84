"""What an inspection shows of each object: spectrum, prediction, distribution, neighbours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.clean import CleanLevel, find_clean
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.metrics.points import to_floats
from gaia_redshift.peaks import find_peaks
from gaia_redshift.spectra import FluxVectors, XPSpectra

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.model.distribution import Prior

__all__ = [
    "LARGEST",
    "LINES",
    "Inspection",
    "Nearest",
    "find_nearest",
    "gather_objects",
    "take_ids",
]

Float = NDArray[np.float64]

LARGEST = 5000
"""Objects on one page: a browser still draws it at once (about 7 kB each)."""
LINES = {
    "[O II]": (372.8, "emission"),
    "Ca K, H": (395.2, "absorption"),
    "Hδ": (410.3, "absorption"),
    "G": (430.6, "absorption"),
    "Hβ": (486.3, "emission"),
    "[O III]": (500.8, "emission"),
    "Mg b": (517.6, "absorption"),
    "Na D": (589.3, "absorption"),
    "Hα": (656.5, "emission"),
    "[S II]": (672.5, "emission"),
}
"""Rest wavelengths (nm, in vacuum but for some tenths) of what is prominent in galaxies, and how it
is usually seen. XP spectra resolve 30 to 100 of their wavelength: blends have one name."""
_BLOCK = 4096
_NEAREST_SEED = 20261
_SHARE = 0.01
"""Relative error that is added: no simulated galaxy describes an observed one to the last digit."""
_ROWS = 256


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each of n spectra the nearest of the simulated galaxies.

    ``flux`` is without noise, in e-/s per sample, scaled to the observed one (NaN where that has no
    fluxes); ``deviation`` the mean square of (observed - simulated) / error.
    """

    flux: Float  # (n, 186)
    redshift: Float  # (n,)
    deviation: Float  # (n,)


@dataclass(frozen=True, eq=False)
class Inspection:
    """The n objects of a page.

    ``table`` holds predictions and the columns to show, ``shown`` their names; ``flat_pdf``
    distributions with a flat prior in the place of the model's, ``prior`` the density of that;
    ``peaks`` redshift and odds of each object's peaks.
    """

    table: Table
    vectors: FluxVectors
    flat_pdf: Float | None  # (n, m)
    prior: Float | None  # (m,) or (n, m)
    peaks: list[list[tuple[float, float]]]
    nearest: Nearest | None
    shown: list[str]

    def __len__(self) -> int:
        return len(self.vectors)


def gather_objects(
    sources: Any,
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
    progress: bool = False,
) -> Inspection:
    """Read or fetch spectra, choose among them, and predict; arguments as for `inspect_spectra`."""
    from gaia_redshift.predict import load_for_prediction, predict_table
    from gaia_redshift.readers import parse_keep
    from gaia_redshift.sampling import sample_spectra

    loaded = load_for_prediction(model)
    chosen, described = (None, None) if ids is None else take_ids(ids)
    keep = parse_keep(columns)
    spectra = _read(
        sources,
        chosen,
        keep=keep,
        described=described,
        most=(LARGEST + 1 if limit is None else limit) if clean is None else None,
        archive=archive or {},
        progress=progress,
    )
    if described is not None:
        spectra = _add_columns(spectra, described, keep)
    if clean is None and limit is None:
        _check_number(len(spectra))
    has_pdf = getattr(loaded, "bins", None) is not None
    options: dict[str, Any] = {"model": loaded, "any_release": any_release}
    kept = "all" if spectra.columns is not None else None
    table = predict_table(spectra, keep=kept, flux_errors=True, prior=prior, pdf=has_pdf, **options)
    if clean is not None:
        rows = np.flatnonzero(find_clean(table, clean))
        if not len(rows):
            level = clean if isinstance(clean, str) else clean.name
            raise InputError(f"none of {len(table):,} objects is {level}: nothing to show")
        spectra, table = spectra[rows], table[rows]
    if limit is not None:
        spectra, table = spectra[:limit], table[:limit]
    _check_number(len(table))
    vectors = sample_spectra(spectra, grid=loaded.grid)
    flat: Float | None = None
    density: Float | None = None
    peaks: list[list[tuple[float, float]]] = [[] for _ in range(len(table))]
    if has_pdf:
        even = predict_table(spectra, flux_errors=True, prior="flat", pdf=True, **options)
        flat = to_floats(even["redshift_cnn_pdf"])
        density = _find_prior(table, flat)
        redshift, odds = find_peaks(table, n=4)
        peaks = [
            [(z, p) for z, p in zip(*pair, strict=True) if p >= 0.01]
            for pair in zip(redshift.tolist(), odds.tolist(), strict=True)
        ]
    return Inspection(
        table=table,
        vectors=vectors,
        flat_pdf=flat,
        prior=density,
        peaks=peaks,
        nearest=find_nearest(vectors, n_simulated) if n_simulated else None,
        shown=[name for name in table.colnames if name != "source_id" and table[name].ndim == 1],
    )


def _find_prior(table: Table, flat: Float) -> Float | None:
    """Work out the prior from distributions with it and with a flat one, by Bayes' theorem.

    It may be one for all objects or, where it knows their brightness, one for each.
    """
    pdf = to_floats(table["redshift_cnn_pdf"])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(flat > 1e-30, pdf / flat, np.nan)
        ratio /= np.nanmax(ratio, axis=1, keepdims=True, initial=0.0)
    held = np.isfinite(ratio)
    if not held.any():
        return None
    whole = held.all(axis=1)
    if whole.any() and np.allclose(ratio[whole], ratio[whole][:1], rtol=1e-2, atol=1e-4):
        return np.asarray(ratio[whole][0])
    return np.asarray(np.where(held, ratio, 0.0))


def take_ids(ids: Any) -> tuple[NDArray[np.int64], Table | None]:
    """Return the ids of a file, a table or an array, and the table that they are from."""
    from gaia_redshift.readers.columns import find_name
    from gaia_redshift.readers.files import read_ids
    from gaia_redshift.readers.values import to_source_ids

    table = read_ids(ids) if isinstance(ids, str | os.PathLike) else ids
    if not hasattr(table, "colnames"):
        return to_source_ids(np.atleast_1d(np.asarray(table)), "the ids"), None
    name = find_name(table.colnames, ("source_id",))
    if name is None:
        raise InputError(f"the table of ids has no column source_id: {', '.join(table.colnames)}")
    return to_source_ids(np.ma.asarray(table[name]), "the ids"), table


def _read(
    sources: Any,
    ids: NDArray[np.int64] | None,
    *,
    keep: Any,
    described: Table | None,
    most: int | None,
    archive: Mapping[str, Any],
    progress: bool,
) -> XPSpectra:
    """Return the spectra, in the order of the ids where such are given.

    Reading stops when there are ``most``; without ids and all that are clean, that is the limit.
    """
    from gaia_redshift.readers import iter_spectra
    from gaia_redshift.readers.sources import is_for_archive

    if sources is None:
        if ids is None:
            raise InputError("give spectra, or ids to fetch")
        sources = ids
    if is_for_archive(sources):
        from gaia_redshift.archive.fetch import fetch_spectra

        found = fetch_spectra(sources, keep=keep, progress=progress, **archive)
        return found if ids is None else _order(found, ids)
    optional = ("redshift_true",) if keep != "all" else ()
    in_table = () if described is None or keep in (None, "all") else described.colnames
    kept = keep if keep in (None, "all") else tuple(n for n in keep if n not in in_table)
    parts, n = [], 0
    for block in iter_spectra(
        sources, block_size=_BLOCK, keep=kept or None, optional=optional, progress=progress
    ):
        rows = slice(None) if ids is None else np.flatnonzero(np.isin(block.source_id, ids))
        part = block[rows]
        n += len(part)
        if len(part):
            parts.append(part)
        if ids is None and most is not None and n >= most:
            break
    if not parts:
        raise InputError(
            "the input holds no spectra" + ("" if ids is None else " of these source ids")
        )
    spectra = XPSpectra.concatenate(parts)
    return spectra if ids is None else _order(spectra, ids)


def _order(spectra: XPSpectra, ids: NDArray[np.int64]) -> XPSpectra:
    """Put spectra in the order of the ids; what is there twice stays together."""
    rank = _place(ids)
    missing = np.setdiff1d(ids, spectra.source_id)
    if len(missing):
        warnings.warn(
            f"{len(missing):,} of {len(rank):,} source ids are not in the input, such as"
            f" {missing[0]}",
            GaiaRedshiftWarning,
            stacklevel=5,
        )
    order = np.argsort([rank.get(int(one), len(rank)) for one in spectra.source_id], kind="stable")
    return spectra[order]


def _place(ids: NDArray[np.int64]) -> dict[int, int]:
    """Say where each id stands first."""
    return {int(one): place for place, one in reversed(list(enumerate(ids)))}


def _check_number(n: int) -> None:
    if n > LARGEST:
        raise InputError(
            f"more than {LARGEST:,} objects are too many for a page: choose some with ids=, clean="
            " or limit= (--ids, --clean, --limit)"
        )


def _add_columns(spectra: XPSpectra, table: Table, keep: Any) -> XPSpectra:
    """Put the columns asked for of the table of ids beside the spectra."""
    from astropy.table import Table

    own = {"source_id", "redshift_cnn_pdf", "flags_cnn"}
    names = [
        name
        for name in table.colnames
        if name.lower() not in own
        and not name.startswith("redshift_cnn")
        and (keep == "all" or name in (keep or ()))
        and table[name].ndim == 1
    ]
    if not names:
        return spectra
    first = _place(take_ids(table)[0])
    rows = [first[int(one)] for one in spectra.source_id]
    columns = Table() if spectra.columns is None else spectra.columns.copy()
    for name in names:
        columns[name] = table[name][rows]
    return replace(spectra, columns=columns)


def find_nearest(vectors: FluxVectors, n_simulated: int) -> Nearest:
    """Find the nearest of so many simulated galaxies, evenly spread over redshift.

    Nearest is the smallest sum of squares in units of the flux errors (each taken as independent,
    a hundredth of the flux added), after scaling; without errors, in units of the mean flux.
    """
    from gaia_redshift.sampling import sample_spectra
    from gaia_redshift.simulate import simulate_spectra

    galaxies = simulate_spectra(
        n_simulated, seed=_NEAREST_SEED, survey="flat", noise=False, correlations=False
    )
    truth = np.asarray(galaxies.columns["redshift_true"], dtype=np.float64)  # type: ignore[index]
    templates = np.asarray(
        sample_spectra(galaxies, grid=vectors.grid, errors=False).flux, dtype=np.float64
    )
    n = len(vectors)
    found = Nearest(np.full(vectors.flux.shape, np.nan), np.full(n, np.nan), np.full(n, np.nan))
    usable = np.flatnonzero(np.isfinite(vectors.flux).all(axis=1))
    for start in range(0, len(usable), _ROWS):
        rows = usable[start : start + _ROWS]
        flux = np.asarray(vectors.flux[rows], dtype=np.float64)
        weight = 1.0 / _measure_variance(vectors, rows, flux)
        squared = np.maximum(weight @ (templates**2).T, np.finfo(float).tiny)
        product = (weight * flux) @ templates.T
        gain = np.where(product > 0, product**2 / squared, 0.0)
        best = gain.argmax(axis=1)
        each = np.arange(len(rows))
        scale = product[each, best] / squared[each, best]
        found.flux[rows] = scale[:, None] * templates[best]
        found.redshift[rows] = truth[best]
        found.deviation[rows] = np.mean(weight * (flux - found.flux[rows]) ** 2, axis=1)
    return found


def _measure_variance(vectors: FluxVectors, rows: NDArray[np.intp], flux: Float) -> Float:
    mean = np.maximum(np.abs(flux).mean(axis=1, keepdims=True), np.finfo(float).tiny)
    variance = np.full(flux.shape, 1.0) * (0.05 * mean) ** 2
    if vectors.flux_error is not None:
        errors = np.asarray(vectors.flux_error[rows], dtype=np.float64)
        known = (np.isfinite(errors) & (errors > 0)).all(axis=1)
        variance[known] = errors[known] ** 2 + (_SHARE * mean[known]) ** 2
    return variance
