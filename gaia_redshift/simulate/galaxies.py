"""Rest-frame spectra of model galaxies: the library that ships with the package.

The library (built by `research.simulator.library`, which says with what physics) holds some
thousand galaxies and AGN hosts as f_lambda in equal rest-frame wavelength bins, normalised to a
mean of 1 between 5900 and 6100 A, with the parameters that made each one. It is stored as
principal components; reading and using it needs NumPy only.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError

__all__ = [
    "FORMAT_VERSION",
    "NORMALISATION_A",
    "GalaxyLibrary",
    "load_library",
    "make_library",
    "read_library",
    "redshift_spectra",
]

FORMAT_VERSION = 1
"""Version of the library file's layout."""
NORMALISATION_A = (5900.0, 6100.0)
"""Rest wavelengths (A) between which every spectrum's mean f_lambda is 1."""

GIVEN = "sed"
"""Type of spectra that a user gives, which are of no type."""
_RANGE_A, _STEP_A = (1900.0, 11100.0), 5.0
"""Of the bins of spectra that a user gives."""

# Rows of the cumulative spectra (15 kB each) that one pass of `redshift_spectra` gathers from:
# the pass then stays within a processor's cache.
_ROWS_PER_PASS = 64


@dataclass(frozen=True, eq=False)
class GalaxyLibrary:
    """Model galaxies: rest-frame spectra and the parameters behind them.

    Parameters
    ----------
    edges : ndarray, shape (m + 1,), A
        Edges of the rest-frame wavelength bins, equally spaced.
    types : ndarray of str, shape (n,)
        Kind of each galaxy: ``passive``, ``green_valley``, ``star_forming``, ``dusty``,
        ``post_burst``, ``starburst``, ``agn_narrow`` or ``agn_broad``.
    parameters : dict of str to ndarray, shape (n,)
        What made and what describes each galaxy; `research.simulator.populations.PARAMETERS`
        lists names, units and meanings.
    provenance : dict
        How the file was made: command, seed, versions, accuracy of the compression.
    mean, components, coefficients : ndarray, shapes (m,), (k, m) and (n, k)
        Spectra are ``mean + coefficients @ components``.
    """

    edges: NDArray[np.float64]
    types: NDArray[np.str_]
    parameters: dict[str, NDArray[np.float64]]
    provenance: dict[str, Any]
    mean: NDArray[np.float32] = field(repr=False)
    components: NDArray[np.float32] = field(repr=False)
    coefficients: NDArray[np.float32] = field(repr=False)

    @property
    def n(self) -> int:
        """Number of galaxies."""
        return len(self.types)

    @property
    def step(self) -> float:
        """Width of the wavelength bins, A."""
        return float(self.edges[-1] - self.edges[0]) / (len(self.edges) - 1)

    @property
    def wavelengths(self) -> NDArray[np.float64]:
        """Centres of the wavelength bins, shape (m,), A."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def spectra(self, index: ArrayLike | slice = slice(None)) -> NDArray[np.float32]:
        """Return rest-frame spectra.

        Parameters
        ----------
        index : int array, boolean array or slice, optional
            Which galaxies, in any order, repeats allowed; all of them if left out.

        Returns
        -------
        ndarray, shape (len(index), m)
            Mean f_lambda of each bin, never negative; mean 1 over `NORMALISATION_A`.
        """
        rows = np.atleast_2d(self.coefficients[self._select(index)])
        spectra = rows @ self.components
        spectra += self.mean
        return np.maximum(spectra, 0.0, out=spectra)

    def cumulative(self, index: ArrayLike | slice = slice(None)) -> NDArray[np.float64]:
        """Return the integrals of the spectra from the first edge to each edge.

        Parameters
        ----------
        index : int array, boolean array or slice, optional
            Which galaxies; all of them if left out.

        Returns
        -------
        ndarray, shape (len(index), m + 1), A
            Rising, 0 at the first edge. In double precision, since what one wants of it are small
            differences.
        """
        return np.atleast_2d(self._all_cumulative[self._select(index)])

    @functools.cached_property
    def _all_cumulative(self) -> NDArray[np.float64]:
        """Cumulative spectra of the whole library (about 90 MB, made once in half a second)."""
        cumulative = np.zeros((self.n, len(self.edges)))
        np.cumsum(self.spectra(), axis=1, dtype=np.float64, out=cumulative[:, 1:])
        cumulative *= self.step
        cumulative.setflags(write=False)
        return cumulative

    def _select(self, index: ArrayLike | slice) -> Any:
        if isinstance(index, slice):
            return index
        chosen = np.asarray(index)
        if chosen.dtype == bool:
            if chosen.shape != (self.n,):
                raise InputError(
                    f"a boolean index needs one entry for each of the library's {self.n} galaxies,"
                    f" not shape {chosen.shape}"
                )
            return np.flatnonzero(chosen)
        if chosen.size == 0:
            return np.zeros(0, dtype=np.intp)
        if chosen.dtype.kind not in "iu":
            raise InputError(f"galaxies are chosen by whole numbers, not {chosen.dtype}")
        if chosen.min() < 0 or chosen.max() >= self.n:
            raise InputError(
                f"galaxy indices run from 0 to {self.n - 1};"
                f" {chosen.min()} to {chosen.max()} were asked for"
            )
        return chosen


def redshift_spectra(
    library: GalaxyLibrary, index: ArrayLike, redshift: ArrayLike, edges_nm: ArrayLike
) -> NDArray[np.float32]:
    """Move galaxies to their redshifts and bin them in observed wavelength.

    Flux is conserved: each value is the exact integral of the (binned) rest-frame spectrum over
    the observed bin, divided by the bin's width. Its level is that of the rest frame (1 near
    6000 A rest); factors such as 1/(1 + z) and the galaxy's brightness are left to the caller.

    Parameters
    ----------
    library : GalaxyLibrary
    index : int array, shape (n,)
        Which galaxy of the library each row shows.
    redshift : float array, shape (n,) or ()
        Redshift of each row.
    edges_nm : float array, shape (b + 1,), nm
        Rising edges of the observed wavelength bins, need not be uniform.

    Returns
    -------
    ndarray, shape (n, b)
        Mean f_lambda over each observed bin, arbitrary units.

    Raises
    ------
    InputError
        If a galaxy would be needed outside the library's rest wavelengths, or shapes disagree.
    """
    rows = np.atleast_1d(library._select(index))
    edges = np.asarray(edges_nm, dtype=float) * 10.0
    scale = 1.0 + np.broadcast_to(np.asarray(redshift, dtype=float), rows.shape)
    if edges.ndim != 1 or edges.size < 2 or not np.all(np.diff(edges) > 0):
        raise InputError("edges_nm must be a rising one-dimensional array of 2 or more wavelengths")
    _check_coverage(library, scale, edges)

    table = library._all_cumulative
    stride = table.shape[1]
    flat = table.reshape(-1)
    start = library.edges[0] / library.step
    inverse_width = 1.0 / np.diff(edges)
    result = np.empty((len(rows), len(edges) - 1), dtype=np.float32)
    for first in range(0, len(rows), _ROWS_PER_PASS):
        part = slice(first, first + _ROWS_PER_PASS)
        # Position of each observed edge in units of rest-frame bins: equal bins make the look-up
        # arithmetic instead of a search.
        position = np.multiply.outer(1.0 / scale[part], edges / library.step)
        position -= start
        cell = position.astype(np.int32)
        np.minimum(cell, stride - 2, out=cell)
        position -= cell
        at = cell + rows[part, None] * stride
        below = flat.take(at)
        at += 1
        above = flat.take(at)
        above -= below
        above *= position
        above += below
        # d(lambda rest) = d(lambda observed) / (1 + z)
        result[part] = np.diff(above, axis=1) * (inverse_width * scale[part, None])
    return result


def _check_coverage(
    library: GalaxyLibrary, scale: NDArray[np.float64], edges: NDArray[np.float64]
) -> None:
    if scale.size == 0:
        return
    if not np.all(np.isfinite(scale)) or scale.min() <= 0:
        raise InputError("redshifts must be finite numbers above -1")
    tolerance = 1e-9 * library.step
    low, high = library.edges[0] - tolerance, library.edges[-1] + tolerance
    if edges[0] / scale.max() < low or edges[-1] / scale.min() > high:
        raise InputError(
            f"the galaxy library covers {library.edges[0]:.0f} to {library.edges[-1]:.0f} A in the"
            f" rest frame; {edges[0] / 10:.1f} to {edges[-1] / 10:.1f} nm at redshifts"
            f" {scale.min() - 1:.3f} to {scale.max() - 1:.3f} needs"
            f" {edges[0] / scale.max():.0f} to {edges[-1] / scale.min():.0f} A"
        )


def read_library(path: str | os.PathLike[str]) -> GalaxyLibrary:
    """Read what ``research.simulator.library`` wrote; `InputError` if it cannot be used."""
    name = os.fspath(path)
    try:
        # allow_pickle stays False: a library file holds plain arrays and can run no code.
        with open(name, "rb") as file, np.load(file, allow_pickle=False) as stored:
            content = {key: stored[key] for key in stored.files}
    except Exception as error:
        raise InputError(f"cannot read the galaxy library {name}: {error}") from error
    version = int(content.get("format_version", -1))
    if version != FORMAT_VERSION:
        raise InputError(
            f"{name} is not a galaxy library of layout {FORMAT_VERSION}"
            f" (found: {version if version >= 0 else 'none'});"
            " rebuild it with python -m research.simulator.library"
        )
    try:
        return _unpack(content)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"the galaxy library {name} is incomplete: {error}") from error


def _unpack(content: dict[str, NDArray[Any]]) -> GalaxyLibrary:
    first, last, n_bins = content["edges"]
    edges = np.linspace(first, last, int(n_bins) + 1)
    coefficients = content["coefficients"].astype(np.float32) * content["coefficient_step"]
    prefix = "parameter_"
    return GalaxyLibrary(
        edges=edges,
        types=content["type_names"][content["type_code"]],
        parameters={
            key[len(prefix) :]: value.astype(float)
            for key, value in content.items()
            if key.startswith(prefix)
        },
        provenance=json.loads(str(content["provenance"])),
        mean=content["mean"],
        components=content["components"],
        coefficients=coefficients,
    )


@functools.cache
def load_library() -> GalaxyLibrary:
    """Return the library that ships with the package (read once and kept).

    Returns
    -------
    GalaxyLibrary
    """
    return read_library(str(files("gaia_redshift") / "data" / "simulate" / "galaxy_library.npz"))


def make_library(wavelength: ArrayLike, flux: ArrayLike) -> GalaxyLibrary:
    """Make a library of spectra (k, m), f_lambda in any unit, at rest wavelengths (m,), A.

    Raises `InputError` if they cannot be used.
    """
    w = np.asarray(wavelength, dtype=float)
    f = np.atleast_2d(np.asarray(flux, dtype=float))
    if w.ndim != 1 or f.ndim != 2 or f.shape[1] != w.size or w.size < 2:
        raise InputError(
            f"flux_lambda must have shape (k, {w.size}) for wavelengths of shape {w.shape},"
            f" not {f.shape}"
        )
    if not np.all(np.diff(w) > 0):
        raise InputError("the wavelengths (A) must rise")
    # Whole bins within what was given: nothing is made up beyond its ends.
    low = _STEP_A * np.ceil(max(w[0], _RANGE_A[0]) / _STEP_A)
    high = _STEP_A * np.floor(min(w[-1], _RANGE_A[1]) / _STEP_A)
    if low > NORMALISATION_A[0] or high < NORMALISATION_A[1]:
        raise InputError(
            f"the spectra reach from {w[0]:.0f} to {w[-1]:.0f} A in the rest frame; they must hold"
            " 2,009 to 10,845 A for redshifts from 0 to 0.6"
        )
    if not np.all(np.isfinite(f)) or f.min() < 0:
        raise InputError("spectra must be finite and not negative")
    edges = np.arange(low, high + _STEP_A / 2, _STEP_A)
    steps = 0.5 * (f[:, 1:] + f[:, :-1]) * np.diff(w)
    cumulative = np.concatenate([np.zeros((len(f), 1)), np.cumsum(steps, axis=1)], axis=1)
    binned = np.diff([np.interp(edges, w, row) for row in cumulative], axis=1) / _STEP_A
    centre = 0.5 * (edges[1:] + edges[:-1])
    level = binned[:, (centre > NORMALISATION_A[0]) & (centre < NORMALISATION_A[1])].mean(axis=1)
    if not np.all(level > 0):
        raise InputError("a spectrum has no flux at 5,900 to 6,100 A")
    k = len(f)
    return GalaxyLibrary(
        edges=edges,
        types=np.full(k, GIVEN),
        parameters={"av": np.zeros(k), "age": np.zeros(k)},
        provenance={},
        mean=np.zeros(centre.size, dtype=np.float32),
        components=(binned / level[:, None]).astype(np.float32),
        coefficients=np.eye(k, dtype=np.float32),
    )
