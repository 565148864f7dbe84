"""Sets of basis functions behind XP coefficients, evaluated where the flux samples lie.

The bases are GaiaXPy's own (De Angeli et al. 2023, A&A 674, A2; Carrasco et al. 2021). A set is
looked up by the basis ids of the row where it has any, else by its numbers of coefficients. Known
here are DR3's Hermite set and a cycle-4 B-spline set; a newer GaiaXPy that ships more is used as
it is, and `register_basis_set` adds a file or a function of the user's own. DR3's at the default
grid's samples are tabulated (by ``python -m research.tabulated_bases``; a test holds the table
against GaiaXPy): GaiaXPy, whose import takes longer than all else that the first prediction needs,
is then not imported at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import quiet_gaiaxpy
from gaia_redshift.errors import InputError
from gaia_redshift.grid import DEFAULT_GRID, N_SAMPLES, TRIM, SamplingGrid

__all__ = [
    "BasisSet",
    "adopt_basis_sets",
    "basis_sets",
    "compute_design_matrices",
    "find_basis_set",
    "register_basis_set",
    "sample_pseudo_wavelengths",
    "sample_wavelengths",
    "sample_widths",
]

TABULATED = ("dr3-hermite", "gaiaxpy:hermite_bases_file")
"""Name and source of the set in the table."""
TABLE_UNIT = "e-/s per sample"
BasisFunction = Callable[[str, NDArray[np.float64]], Any]
"""``(band, pseudo-wavelengths (m,)) -> (k, m)``, with band "bp" or "rp"."""


@dataclass(frozen=True)
class BasisSet:
    """A pair of BP and RP bases.

    Parameters
    ----------
    name : str
    n_bp, n_rp : int
        Number of basis functions, and so of coefficients, in each band.
    source : str or callable
        Path of a file in GaiaXPy's format, ``gaiaxpy:ATTRIBUTE`` for one of those that GaiaXPy
        ships (an attribute of ``gaiaxpy.config.paths``), or a function
        ``(band, pseudo_wavelength (m,)) -> (k, m)``.
    bp_basis_id, rp_basis_id : int or None
        The archive's ``bp_basis_function_id`` and ``rp_basis_function_id``; None if unknown.
    release : str or None
        Data release that uses it.
    """

    name: str
    n_bp: int
    n_rp: int
    source: str | BasisFunction
    bp_basis_id: int | None = None
    rp_basis_id: int | None = None
    release: str | None = None


_SETS: dict[str, BasisSet] = {
    "dr3-hermite": BasisSet(
        "dr3-hermite", 55, 55, "gaiaxpy:hermite_bases_file", 56, 57, release="DR3"
    ),
    "cycle4-bspline": BasisSet("cycle4-bspline", 48, 44, "gaiaxpy:spline_bases_file"),
}


def basis_sets() -> list[BasisSet]:
    """Return the sets known now, in the order in which they were registered."""
    return list(_SETS.values())


def adopt_basis_sets(sets: Iterable[BasisSet]) -> None:
    """Know the sets that another process knows, and no others."""
    known = {one.name: one for one in sets}
    _SETS.clear()
    _SETS.update(known)


def register_basis_set(
    name: str,
    source: str | os.PathLike[str] | BasisFunction,
    *,
    bp_basis_id: int | None = None,
    rp_basis_id: int | None = None,
    release: str | None = None,
) -> BasisSet:
    """Make a set of bases known for the rest of the session, before those known already.

    Parameters
    ----------
    name : str
        A name of your choice; a set of the same name is replaced.
    source : path or callable
        A file in the XML format of GaiaXPy's bases, or a function
        ``(band, pseudo_wavelength (m,)) -> array (k, m)`` with band "bp" or "rp".
    bp_basis_id, rp_basis_id : int, optional
        Basis ids of the rows that it serves; by default those that the file states. Without ids,
        rows are recognised by their numbers of coefficients.
    release : str, optional
        Data release, for the record.

    Returns
    -------
    BasisSet

    Raises
    ------
    InputError
        If the file cannot be read or the function's answer has the wrong shape.
    """
    checked = source if callable(source) else os.path.abspath(os.fspath(source))
    if isinstance(checked, str):
        ids = _read_ids(checked)
        bp_basis_id = ids[0] if bp_basis_id is None else bp_basis_id
        rp_basis_id = ids[1] if rp_basis_id is None else rp_basis_id
    probe = np.array([20.0, 30.0])
    n_bp, n_rp = (len(_evaluate(checked, {b: probe})[b]) for b in ("bp", "rp"))
    _SETS.pop(name, None)
    _SETS[name] = BasisSet(name, n_bp, n_rp, checked, bp_basis_id, rp_basis_id, release)
    return _SETS[name]


def find_basis_set(n_bp: int, n_rp: int, bp_id: int = -1, rp_id: int = -1) -> BasisSet | None:
    """Return the set for such rows, the latest registered first; None if nobody knows it.

    Basis ids are zero or negative where a row has none. With an id the numbers of coefficients are
    not compared: a row that has too few of them is damaged, not on another basis.
    """
    found = _match(basis_sets(), n_bp, n_rp, bp_id, rp_id)
    if found is None:
        _register_shipped_sets()
        found = _match(basis_sets(), n_bp, n_rp, bp_id, rp_id)
    return found


def _match(sets: list[BasisSet], n_bp: int, n_rp: int, bp_id: int, rp_id: int) -> BasisSet | None:
    if bp_id > 0 or rp_id > 0:
        candidates = [
            s
            for s in sets
            if (bp_id <= 0 or s.bp_basis_id == bp_id) and (rp_id <= 0 or s.rp_basis_id == rp_id)
        ]
        exact = [s for s in candidates if (s.n_bp, s.n_rp) == (n_bp, n_rp)]
        candidates = exact or candidates
    else:
        candidates = [s for s in sets if (s.n_bp, s.n_rp) == (n_bp, n_rp)]
    return candidates[-1] if candidates else None


@lru_cache(maxsize=1)
def _register_shipped_sets() -> None:
    """Add sets that a newer GaiaXPy ships beyond the two known here, behind all others."""
    with quiet_gaiaxpy():
        from gaiaxpy.config import paths
    known = {s.source for s in _SETS.values()}
    for attribute in sorted(vars(paths)):
        source = f"gaiaxpy:{attribute}"
        if attribute.endswith("_bases_file") and source not in known:
            try:
                n_bp, n_rp = (
                    len(_evaluate(source, {b: np.array([30.0])})[b]) for b in ("bp", "rp")
                )
                bp_id, rp_id = _read_ids(source)
            except InputError:  # not a file of this kind
                continue
            new = BasisSet(attribute.removesuffix("_bases_file"), n_bp, n_rp, source, bp_id, rp_id)
            others = dict(_SETS)
            _SETS.clear()
            _SETS.update({new.name: new, **others})


def sample_pseudo_wavelengths(grid: SamplingGrid = DEFAULT_GRID) -> dict[str, NDArray[np.float64]]:
    """Return where the kept samples lie in GaiaXPy's pseudo-wavelength: bp (80,), rp (106,).

    Wavelength rises with the index, so BP's pseudo-wavelength falls.
    """
    return {band: _trim(band, values) for band, values in _all_pseudo_wavelengths(grid).items()}


def sample_widths(grid: SamplingGrid = DEFAULT_GRID) -> dict[str, NDArray[np.float64]]:
    """Return how wide the kept samples of each band are, in pseudo-wavelength: bp (80,), rp (106,).

    A flux per sample is the spectrum's value there, which is per unit pseudo-wavelength, times this
    width: the local spacing of all 120 samples, positive, the same for all of them where the grid
    is given by its end points.
    """
    return {
        band: _trim(band, np.abs(np.gradient(values)))
        for band, values in _all_pseudo_wavelengths(grid).items()
    }


def _all_pseudo_wavelengths(grid: SamplingGrid) -> dict[str, NDArray[np.float64]]:
    """Return where all 120 samples of each band lie."""
    with quiet_gaiaxpy():
        from gaiaxpy.core.dispersion_function import wl_to_pwl

        places = {}
        for band in ("bp", "rp"):
            values = np.asarray(wl_to_pwl(band, np.array(getattr(grid, band))), dtype=float)
            if values.size == 2:
                values = np.linspace(values[0], values[1], N_SAMPLES)
            places[band] = values
    return places


def _trim(band: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = TRIM[band]
    return values[low : N_SAMPLES - high]


def sample_wavelengths(grid: SamplingGrid = DEFAULT_GRID) -> NDArray[np.float64]:
    """Return the wavelengths of the 186 samples: 80 in BP, then 106 in RP.

    Parameters
    ----------
    grid : SamplingGrid

    Returns
    -------
    ndarray, shape (186,), nm
        From DR3's tabulated dispersion function, as GaiaXPy ships it.
    """
    kept = sample_pseudo_wavelengths(grid)
    with quiet_gaiaxpy():
        from gaiaxpy.core.dispersion_function import pwl_to_wl

        return np.concatenate([pwl_to_wl(band, kept[band]) for band in ("bp", "rp")])


def compute_design_matrices(
    grid: SamplingGrid = DEFAULT_GRID,
    basis_set: BasisSet | str = "dr3-hermite",
    *,
    tabulated: bool = True,
) -> dict[str, NDArray[np.float64]]:
    """Return what turns coefficients into fluxes: ``coefficients @ matrix`` are e-/s per sample.

    The bases at the kept samples, which are per unit pseudo-wavelength as in GaiaXPy's converter,
    times the samples' widths: bp (n_bp, 80), rp (n_rp, 106), read-only and cached. Without
    ``tabulated`` GaiaXPy is asked in any case.
    """
    return _cached_design_matrices(grid, get_basis_set(basis_set), tabulated)


def get_basis_set(name: BasisSet | str) -> BasisSet:
    """Return a set by its name (a set is returned as it is); `InputError` if none has it."""
    if isinstance(name, BasisSet):
        return name
    if name not in _SETS:
        _register_shipped_sets()
    if name not in _SETS:
        raise InputError(
            f"no basis set '{name}'; known are {', '.join(_SETS)}; register_basis_set adds others"
        )
    return _SETS[name]


def evaluate_bases(
    basis_set: BasisSet | str, positions: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return a set's functions, shape (k, m), at pseudo-wavelengths, shape (m,), for each band."""
    return _evaluate(get_basis_set(basis_set).source, positions)


@lru_cache(maxsize=16)
def _cached_design_matrices(
    grid: SamplingGrid, basis_set: BasisSet, tabulated: bool
) -> dict[str, NDArray[np.float64]]:
    matrices = read_tabulated(grid, basis_set) if tabulated else None
    if matrices is None:
        matrices = _evaluate(basis_set.source, sample_pseudo_wavelengths(grid))
        for band, width in sample_widths(grid).items():
            matrices[band] *= width
    for matrix in matrices.values():
        matrix.flags.writeable = False
    return matrices


def read_tabulated(
    grid: SamplingGrid, basis_set: BasisSet
) -> dict[str, NDArray[np.float64]] | None:
    """Return design matrices from the table, or None if it does not hold these."""
    if grid != DEFAULT_GRID or (basis_set.name, basis_set.source) != TABULATED:
        return None
    path = files("gaia_redshift").joinpath("data", "bases", "dr3_hermite.npz")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            about = json.loads(str(content["about"]))
            # Else it is of another version of this package.
            if about["grid"] != grid.to_dict() or about.get("unit") != TABLE_UNIT:
                return None
            return {band: content[band] for band in ("bp", "rp")}
    except FileNotFoundError:
        return None


def _evaluate(
    source: str | BasisFunction, positions: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    matrices = {}
    for band, where in positions.items():
        if callable(source):
            matrix = np.array(source(band, where), dtype=np.float64)
        else:
            with quiet_gaiaxpy():
                from gaiaxpy.converter.converter import get_design_matrices

                try:
                    both = get_design_matrices(where, _read_config(source))
                except Exception as error:
                    raise InputError(f"cannot read the bases in {source}: {error}") from error
            matrix = np.array(both[band].design_matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != len(where) or not np.all(np.isfinite(matrix)):
            raise InputError(
                f"the {band.upper()} bases of {source} gave shape {matrix.shape} (or NaN) for"
                f" {len(where)} pseudo-wavelengths; (k, {len(where)}) is needed"
            )
        matrices[band] = matrix
    _check_shipped(source, matrices)
    return matrices


def _check_shipped(source: str | BasisFunction, matrices: dict[str, NDArray[np.float64]]) -> None:
    """Refuse a file of GaiaXPy's that holds other bases than when this version was made.

    A later GaiaXPy may put another release's under the same name, with as many RP coefficients.
    """
    for known in _SETS.values():
        if not isinstance(source, str) or known.source != source or known.bp_basis_id is None:
            continue
        expected = (known.bp_basis_id, known.rp_basis_id, known.n_bp, known.n_rp)
        lengths = [
            len(matrices[band]) if band in matrices else n
            for band, n in (("bp", known.n_bp), ("rp", known.n_rp))
        ]
        found = (*_read_ids(source), *lengths)
        if found != expected:
            from importlib.metadata import version

            raise InputError(
                f"GaiaXPy {version('gaiaxpy')} holds other bases than {known.name} in its"
                f" {source.removeprefix('gaiaxpy:')}: ids {found[0]} and {found[1]} with"
                f" {found[2]} + {found[3]} functions, not {expected[0]} and {expected[1]} with"
                f" {expected[2]} + {expected[3]}; install gaiaxpy 2.1.5, or update this package"
            )


def _read_ids(source: str) -> tuple[int | None, int | None]:
    with quiet_gaiaxpy():
        from gaiaxpy.converter.config import get_bands_config

        try:
            bands = get_bands_config(_read_config(source))
            ids = [int(getattr(c, "uniqueId", 0)) for c in (bands.bpConfig, bands.rpConfig)]
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"cannot read the bases in {source}: {error}") from error
    return ids[0] or None, ids[1] or None


@lru_cache(maxsize=16)
def _read_config(source: str) -> Any:
    with quiet_gaiaxpy():
        from gaiaxpy.config import paths
        from gaiaxpy.converter.config import parse_config

        shipped = source.startswith("gaiaxpy:")
        path = getattr(paths, source.removeprefix("gaiaxpy:")) if shipped else source
        try:
            return parse_config(path)
        except Exception as error:
            raise InputError(
                f"cannot read {path} as a file of bases in GaiaXPy's XML format: {error}"
            ) from error
