"""The two value types of the package: `XPSpectra` (coefficients) and `FluxVectors` (186 fluxes)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import format_facts, name_some
from gaia_redshift.errors import InputError
from gaia_redshift.flags import count_flags, tell_flags
from gaia_redshift.grid import DEFAULT_GRID, N_FLUX, SamplingGrid

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from astropy.table import Table

__all__ = ["BandSpectra", "FluxVectors", "XPSpectra"]


Rows = int | np.integer[Any] | slice | NDArray[Any] | Sequence[int]
"""What picks rows; a single number gives one row, not none."""
_Holder = TypeVar("_Holder", bound="DataclassInstance")


def take_rows(holder: _Holder, rows: Rows, names: Sequence[str]) -> _Holder:
    """Return a dataclass with these rows of the fields named, where they are not None."""
    if not isinstance(rows, slice):
        picked = np.atleast_1d(np.asarray(rows))
        rows = picked if picked.size else picked.astype(np.intp)
    held = {name: getattr(holder, name) for name in names}
    taken = {name: one[rows] for name, one in held.items() if one is not None}
    if hasattr(holder, "meta"):
        taken["meta"] = dict(holder.meta)
    return replace(holder, **taken)


def _as_source_ids(values: Any) -> NDArray[np.int64]:
    ids = np.atleast_1d(np.asarray(values))
    if ids.dtype.kind not in "iu" and ids.size:
        raise InputError(f"source_id must be integers (int64), not {ids.dtype}: floats lose digits")
    return ids.astype(np.int64)


def n_correlations(n_coefficients: int) -> int:
    """Length of the column-ordered upper triangle for so many coefficients."""
    return n_coefficients * (n_coefficients - 1) // 2


@dataclass(frozen=True, eq=False)
class BandSpectra:
    """One band's (BP's or RP's) mean spectra of n sources, as the Gaia archive publishes them.

    Rows may be on different bases: a row with fewer coefficients than k is padded with NaN.

    Parameters
    ----------
    coefficients : ndarray, shape (n, k), float64
        Basis function coefficients; NaN beyond a row's own number.
    errors : ndarray, shape (n, k), or None
        Their standard errors; None if no row has any, NaN in rows without.
    correlations : ndarray, shape (n, k (k - 1) / 2), or None
        Column-ordered upper triangle of the correlation matrix (the archive's order), so that a
        row with fewer coefficients fills a prefix; NaN in rows without.
    n_coefficients : ndarray, shape (n,), int
        Number of coefficients of each row, 0 where the band is missing.
    basis_id : ndarray, shape (n,), int
        The archive's ``bp_basis_function_id`` / ``rp_basis_function_id``; -1 where not given.
    """

    coefficients: NDArray[np.float64]
    errors: NDArray[np.floating] | None = None
    correlations: NDArray[np.floating] | None = None
    n_coefficients: NDArray[np.int16] = None  # type: ignore[assignment]
    basis_id: NDArray[np.int16] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        coefficients = np.atleast_2d(np.asarray(self.coefficients, dtype=np.float64))
        n, k = coefficients.shape
        object.__setattr__(self, "coefficients", coefficients)
        if self.n_coefficients is None:
            object.__setattr__(self, "n_coefficients", np.full(n, k, dtype=np.int16))
        if self.basis_id is None:
            object.__setattr__(self, "basis_id", np.full(n, -1, dtype=np.int16))
        for name, shape in (
            ("errors", (n, k)),
            ("correlations", (n, n_correlations(k))),
            ("n_coefficients", (n,)),
            ("basis_id", (n,)),
        ):
            if getattr(self, name) is None:
                continue
            value = np.asarray(getattr(self, name))
            object.__setattr__(self, name, value)
            if value.shape != shape:
                raise InputError(f"{name} has shape {value.shape}, expected {shape}")

    def __len__(self) -> int:
        return len(self.coefficients)

    def __getitem__(self, rows: Rows) -> BandSpectra:
        return take_rows(self, rows, [one.name for one in fields(self)])

    @classmethod
    def missing(cls, n: int) -> BandSpectra:
        """Return a band that none of the n sources has."""
        return cls(np.empty((n, 0)))

    @classmethod
    def concatenate(cls, parts: Sequence[BandSpectra]) -> BandSpectra:
        """Join bands of several blocks, padding to the longest set of coefficients."""
        k = max(part.coefficients.shape[1] for part in parts)
        return cls(
            coefficients=_stack([p.coefficients for p in parts], k, parts),
            errors=_stack([p.errors for p in parts], k, parts),
            correlations=_stack([p.correlations for p in parts], n_correlations(k), parts),
            n_coefficients=np.concatenate([p.n_coefficients for p in parts]),
            basis_id=np.concatenate([p.basis_id for p in parts]),
        )


def _stack(arrays: Sequence[Any], width: int, parts: Sequence[BandSpectra]) -> Any:
    """Put the parts' arrays below each other, NaN where one is missing or narrower.

    None where all are missing.
    """
    present = [array for array in arrays if array is not None]
    if not present:
        return None
    out = np.empty((sum(map(len, parts)), width), dtype=np.result_type(*present))
    start = 0
    for array, part in zip(arrays, parts, strict=True):
        stop, filled = start + len(part), 0 if array is None else array.shape[1]
        if array is not None:
            out[start:stop, :filled] = array
        out[start:stop, filled:] = np.nan
        start = stop
    return out


@dataclass(frozen=True, eq=False)
class XPSpectra:
    """BP/RP mean spectra of n sources as coefficients, in the order in which they were given.

    Parameters
    ----------
    source_id : ndarray, shape (n,), int64
        Gaia's source identifier.
    bp, rp : BandSpectra
        The two bands, n rows each.
    flags : ndarray, shape (n,), int32
        `gaia_redshift.flags.QualityFlag` bits found while reading.
    columns : astropy.table.Table, n rows, or None
        The other columns of the input, for ``keep=``.
    release : str or None
        Data release ("DR3", "DR4") where the input says so.
    meta : dict
        Where the spectra came from.

    Raises
    ------
    InputError
        If the parts differ in their number of rows.
    """

    source_id: NDArray[np.int64]
    bp: BandSpectra
    rp: BandSpectra
    flags: NDArray[np.int32] = None  # type: ignore[assignment]
    columns: Table | None = None
    release: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        source_id = _as_source_ids(self.source_id)
        object.__setattr__(self, "source_id", source_id)
        n = len(source_id)
        if self.flags is None:
            object.__setattr__(self, "flags", np.zeros(n, dtype=np.int32))
        parts: dict[str, Any] = {"bp": self.bp, "rp": self.rp, "flags": self.flags}
        if self.columns is not None:
            parts["columns"] = self.columns
        for name, part in parts.items():
            if len(part) != n:
                raise InputError(f"{name} has {len(part)} rows, source_id has {n}")

    def __len__(self) -> int:
        return len(self.source_id)

    def __getitem__(self, rows: Rows) -> XPSpectra:
        return take_rows(self, rows, ("source_id", "bp", "rp", "flags", "columns"))

    def _name_sets(self) -> str:
        sets = sorted(
            {
                (int(b), int(r))
                for b, r in zip(self.bp.n_coefficients, self.rp.n_coefficients, strict=True)
            }
        )
        shown = ", ".join(f"{b}+{r}" for b, r in sets[:4]) + (", ..." if len(sets) > 4 else "")
        return shown or "none"

    def __repr__(self) -> str:
        return f"<XPSpectra: {len(self)} sources, BP+RP coefficients {self._name_sets()}>"

    def _repr_html_(self) -> str:
        have = [name for name in ("errors", "correlations") if getattr(self.bp, name) is not None]
        facts = [
            ("sources", f"{len(self):,}"),
            ("BP+RP coefficients", self._name_sets()),
            ("with", " and ".join(have) or "neither errors nor correlations"),
            ("flags", tell_flags(count_flags(self.flags))),
            ("data release", self.release),
            ("columns", None if self.columns is None else name_some(self.columns.colnames, 12)),
            ("source_id", name_some(self.source_id)),
            ("from", name_some(self.meta.get("inputs", []))),
        ]
        return format_facts("XPSpectra", facts)

    def blocks(self, size: int) -> Iterator[XPSpectra]:
        """Iterate over consecutive blocks of at most ``size`` sources."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    @classmethod
    def concatenate(cls, parts: Sequence[XPSpectra]) -> XPSpectra:
        """Join several sets of spectra, in order.

        Raises
        ------
        InputError
            If there is nothing to join.
        """
        if not parts:
            raise InputError("no spectra to join")
        if len(parts) == 1:
            return parts[0]
        columns = None
        if any(part.columns is not None and part.columns.colnames for part in parts):
            from astropy.table import Table

            from gaia_redshift.tables.columns import stack_tables

            held = [Table() if p.columns is None else p.columns for p in parts]
            tables = [table.copy(copy_data=False) for table in held]
            for table, part in zip(tables, parts, strict=True):  # some may have no other column
                table["_row"] = np.zeros(len(part), dtype=np.int8)
            columns = stack_tables(tables)
            columns.remove_column("_row")
        releases = {part.release for part in parts}
        inputs = (source for part in parts for source in part.meta.get("inputs", []))
        return cls(
            source_id=np.concatenate([part.source_id for part in parts]),
            bp=BandSpectra.concatenate([part.bp for part in parts]),
            rp=BandSpectra.concatenate([part.rp for part in parts]),
            flags=np.concatenate([part.flags for part in parts]),
            columns=columns,
            release=releases.pop() if len(releases) == 1 else None,
            meta={"inputs": list(dict.fromkeys(inputs))},
        )


@dataclass(frozen=True, eq=False)
class FluxVectors:
    """Vectors of 186 fluxes (80 BP then 106 RP samples, wavelength rising in each band).

    Parameters
    ----------
    source_id : ndarray, shape (n,), int64
    flux : ndarray, shape (n, 186), float64, e-/s per sample
        NaN throughout in rows that could not be sampled.
    flux_error : ndarray, shape (n, 186), e-/s per sample, or None
        Standard errors; None if no row has any, NaN in rows without.
    quality : ndarray, shape (n,), int32
        `gaia_redshift.flags.QualityFlag` bits.
    grid : SamplingGrid
        Where the samples lie.
    columns : astropy.table.Table or None
        The other columns of the input.
    meta : dict
        Where the spectra came from.

    Raises
    ------
    InputError
        If a shape is wrong.
    """

    source_id: NDArray[np.int64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.floating] | None = None
    quality: NDArray[np.int32] = None  # type: ignore[assignment]
    grid: SamplingGrid = DEFAULT_GRID
    columns: Table | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        flux = np.asarray(self.flux)
        if flux.ndim != 2 or flux.shape[1] != N_FLUX:
            raise InputError(
                f"fluxes must have shape (n, {N_FLUX}), not {flux.shape}; sample_spectra makes"
                " such vectors from BP/RP spectra"
            )
        n = len(flux)
        object.__setattr__(self, "flux", flux)
        object.__setattr__(self, "source_id", _as_source_ids(self.source_id))
        if self.quality is None:
            object.__setattr__(self, "quality", np.zeros(n, dtype=np.int32))
        if self.flux_error is not None and np.shape(self.flux_error) != flux.shape:
            raise InputError(
                f"flux errors have shape {np.shape(self.flux_error)}, fluxes {flux.shape}"
            )
        for name in ("source_id", "quality", "columns"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise InputError(f"{name} has {len(value)} rows, flux has {n}")

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows: Rows) -> FluxVectors:
        return take_rows(self, rows, ("source_id", "flux", "flux_error", "quality", "columns"))

    def __repr__(self) -> str:
        errors = "without" if self.flux_error is None else "with"
        return f"<FluxVectors: {len(self)} sources, {N_FLUX} fluxes {errors} errors>"

    def _repr_html_(self) -> str:
        wavelengths = ", ".join(
            f"{band.upper()} {values[0]:g} to {values[-1]:g} nm"
            for band, values in (("bp", self.grid.bp), ("rp", self.grid.rp))
        )
        facts = [
            ("sources", f"{len(self):,}"),
            ("fluxes", f"{N_FLUX} (80 of BP, 106 of RP)"),
            ("grid", wavelengths),
            ("errors", "no" if self.flux_error is None else "yes"),
            ("flags", tell_flags(count_flags(self.quality))),
            ("source_id", name_some(self.source_id)),
            ("from", name_some(self.meta.get("inputs", []))),
        ]
        return format_facts("FluxVectors", facts)
