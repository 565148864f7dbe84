"""Which galaxies a survey sees: their redshifts, and which of the library's at each redshift.

A galaxy's weight is the share of its type times, within the type, a Gaussian in the observed colour
log10(BP/RP): what real photometry tells. Galaxies older than the Universe at a redshift are out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.galaxies import GalaxyLibrary
from gaia_redshift.simulate.instrument import BANDS, load_instrument

if TYPE_CHECKING:
    from gaia_redshift.simulate.survey import SurveyParameters

__all__ = [
    "NODES",
    "QUIESCENT",
    "REDSHIFT_RANGE",
    "SURVEYS",
    "Selection",
    "Survey",
    "choose_galaxies",
    "load_selection",
    "make_quantile",
]

Float = NDArray[np.float64]

REDSHIFT_RANGE = (0.0, 0.6)

# Kiraleos (2023): percentiles of the 520,393 SDSS redshifts and shares of galaxies per bin of 0.05.
_PERCENTILES = {
    1: 0.0256, 5: 0.0446, 10: 0.0596, 25: 0.0843, 50: 0.1257,
    75: 0.1811, 90: 0.2586, 95: 0.3023, 99: 0.3694,
}  # fmt: skip
_BIN_PERCENT = (6.62, 27.77, 28.99, 16.61, 8.80, 6.00, 3.55, 1.15, 0.30, 0.11, 0.06, 0.04)


def _sdss_quantile() -> Callable[[Float], Float]:
    from scipy.interpolate import PchipInterpolator

    edges = np.arange(13) * 0.05
    shares = np.concatenate([[0.0], np.cumsum(_BIN_PERCENT)]) / sum(_BIN_PERCENT)
    points = dict(zip(edges.tolist(), shares.tolist(), strict=True))
    points |= {z: p / 100.0 for p, z in _PERCENTILES.items()}
    z = np.array(sorted(points))
    cumulative = np.maximum.accumulate([points[v] for v in z])
    grid = np.linspace(0.0, 0.6, 6001)
    fine = np.clip(PchipInterpolator(z, cumulative)(grid), 0.0, 1.0)
    keep = np.concatenate([[True], np.diff(fine) > 0])
    return lambda u: np.interp(u, fine[keep], grid[keep])


def make_quantile(sample: Float) -> Callable[[Float], Float]:
    """Return the quantile function of a sample, shape (m,): uniform numbers -> like values."""
    values = np.sort(sample)
    place = (np.arange(values.size) + 0.5) / values.size
    return lambda u: np.interp(u, place, values)


@dataclass(frozen=True)
class Survey:
    """A distribution of redshifts, and what depends on it.

    Parameters
    ----------
    name : str
    quantile : callable
        Maps uniform numbers in [0, 1), shape (n,), to redshifts, shape (n,), within 0 to 0.6.
    """

    name: str
    quantile: Callable[[Float], Float]

    @classmethod
    def resolve(cls, survey: Any) -> Survey:
        """Turn a name, a callable or a sample of redshifts into a Survey.

        Raises
        ------
        InputError
            If the name is unknown or a redshift lies outside 0 to 0.6.
        """
        if isinstance(survey, Survey):
            return survey
        if isinstance(survey, str):
            if survey not in SURVEYS:
                raise InputError(f"unknown survey '{survey}': choose from {', '.join(SURVEYS)}")
            return SURVEYS[survey]()
        if callable(survey):
            return cls(name="user", quantile=survey)
        sample = np.asarray(survey, dtype=float).ravel()
        low, high = REDSHIFT_RANGE
        if sample.size == 0 or not np.all((sample >= low) & (sample <= high)):
            raise InputError(f"a survey's redshifts must lie between {low} and {high}")
        return cls(name="user", quantile=make_quantile(sample))

    def restrict(self, low: float, high: float) -> tuple[Survey, float]:
        """Return the survey's part between two redshifts, and its share of the whole.

        Parameters
        ----------
        low, high : float
            Redshifts; those of the part lie at or above ``low`` and below ``high``.

        Raises
        ------
        InputError
            If the survey has no galaxies there.
        """

        def place(z: float) -> float:  # by halving: a quantile function rises
            bottom, top = 0.0, 1.0
            for _ in range(50):
                middle = 0.5 * (bottom + top)
                below = float(self.quantile(np.array([middle]))[0]) < z
                bottom, top = (middle, top) if below else (bottom, middle)
            return top

        first, last = place(low), place(high)
        if last - first < 1e-9:
            raise InputError(f"survey {self.name} has no galaxies at z = {low:g} to {high:g}")

        def quantile(u: Float) -> Float:
            z = self.quantile(first + (last - first) * np.asarray(u))
            return np.clip(z, low, np.nextafter(high, low))

        return Survey(f"{self.name}, z {low:g}-{high:g}", quantile), last - first


def _mix_quantiles(share: float) -> Callable[[Float], Float]:
    """Quantile function of a mixture: this share of the "sdss" survey, the rest flat."""
    u = np.linspace(0.0, 1.0, 20_001)
    grid = np.linspace(*REDSHIFT_RANGE, 6001)
    sdss = _sdss_quantile()(u)
    rising = np.concatenate([[True], np.diff(sdss) > 0])
    below = np.interp(grid, sdss[rising], u[rising], left=0.0, right=1.0)
    cumulative = share * below + (1 - share) * (grid - grid[0]) / (grid[-1] - grid[0])
    return lambda v: np.interp(v, cumulative, grid)


SURVEYS: dict[str, Callable[[], Survey]] = {
    "sdss": lambda: Survey("sdss", _sdss_quantile()),
    "flat": lambda: Survey("flat", lambda u: REDSHIFT_RANGE[1] * u),
    "mixed": lambda: Survey("mixed", _mix_quantiles(0.6)),
}
"""Named redshift distributions: the dissertation's SDSS galaxies; uniform from 0 to 0.6; six parts
of the first with four of the second, to train on."""

NODES = np.linspace(0.0, 0.6, 49)
"""Redshifts at which weights are worked out; a galaxy takes those of the nearest."""
QUIESCENT = ("passive", "green_valley", "post_burst")
"""Types of little star formation; the others are called active."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Cumulative weights of the library's galaxies at each of `NODES`, 1 at the end.

    Beside them each galaxy's log10(BP/RP) above the population's mean at the node.
    """

    cumulative: Float  # (len(NODES), n)
    excess: Float  # (n, len(NODES))


@functools.lru_cache(maxsize=1)
def universe_age() -> tuple[Float, Float]:
    """Age of the Universe (Gyr) at redshifts 0 to 0.6 (Planck 2018)."""
    from astropy.cosmology import Planck18

    z = np.linspace(0.0, 0.6, 61)
    return z, Planck18.age(z).value


@functools.lru_cache(maxsize=8)
def compute_colours(library: GalaxyLibrary) -> Float:
    """Return log10(BP/RP) of the library's galaxies at `NODES`, shape (n, len(NODES)).

    As point sources without Galactic extinction; an integral over the spectrum, so that one matrix
    product does for all galaxies.
    """
    spectra = library.spectra()
    rest = library.wavelengths
    colour = np.zeros((library.n, NODES.size))
    for band, sign in zip(BANDS, (1.0, -1.0), strict=True):
        part = getattr(load_instrument(), band)
        response = part.to_coefficients @ part.integral / np.diff(part.edges)
        curves = [
            np.interp(rest * (1 + z) / 10.0, part.wavelength, response, left=0.0, right=0.0)
            for z in NODES
        ]
        flux = spectra @ np.array(curves, dtype=np.float32).T
        colour += sign * np.log10(np.maximum(flux, 1e-12))
    return colour


def weigh_galaxies(p: SurveyParameters, library: GalaxyLibrary, nodes: Float = NODES) -> Float:
    """Return the weight of each galaxy at each redshift, shape (len(NODES), n), sum 1."""
    colour = compute_colours(library)
    too_old = library.parameters["age"][None, :] > np.interp(nodes, *universe_age())[:, None]
    weights = np.zeros((nodes.size, library.n))
    centre, sigma = (
        np.interp(nodes, p.colour_redshift_knots, v) for v in (p.colour_median, p.colour_scatter)
    )
    present = np.unique(library.types)
    shares = {name: p.at(nodes, v) for name, v in p.type_fractions.items() if name in present}
    total = sum(shares.values())
    for name, share in shares.items():
        rows = np.flatnonzero(library.types == name)
        quiescent = name in QUIESCENT
        away = (colour[rows].T - centre[:, None]) / sigma[:, None]
        if not quiescent:
            away = (away - p.colour_active_offset / sigma[:, None]) / p.colour_active_factor
        # Capped: where a type has no galaxy of the colour, its nearest ones are taken.
        exponent = -0.5 * np.minimum(away**2, 200.0)
        weight = np.exp(exponent) * ~too_old[:, rows] + 1e-200
        weights[:, rows] = weight * (share / total / weight.sum(axis=1))[:, None]
    return weights


def load_selection(p: SurveyParameters, library: GalaxyLibrary) -> Selection:
    """Return the weights under some parameters (a second; kept for those that decide on them)."""
    deciding = [
        p.redshift_knots,
        *p.type_fractions.values(),
        p.colour_redshift_knots,
        p.colour_median,
        p.colour_scatter,
        [p.colour_active_offset, p.colour_active_factor],
    ]
    key = (*p.type_fractions, *(np.asarray(v, dtype=float).tobytes() for v in deciding))
    if (key, library) not in _selections:
        while len(_selections) >= _KEPT:
            _selections.pop(next(iter(_selections)))
        _selections[key, library] = _make_selection(p, library)
    return _selections[key, library]


_KEPT = 8
_selections: dict[tuple[tuple[Any, ...], GalaxyLibrary], Selection] = {}


def _make_selection(p: SurveyParameters, library: GalaxyLibrary) -> Selection:
    weights = weigh_galaxies(p, library)
    colour = compute_colours(library)
    mean = np.einsum("jn,nj->j", weights, colour)
    cumulative = np.cumsum(weights, axis=1)
    return Selection(cumulative / cumulative[:, -1:], colour - mean)


def find_node(z: Float) -> NDArray[np.intp]:
    """Return the nearest of `NODES`, shape (n,)."""
    return np.rint(np.asarray(z) / (NODES[1] - NODES[0])).astype(np.intp)


def choose_galaxies(selection: Selection, z: Float, uniform: Float) -> NDArray[np.intp]:
    """Choose a galaxy for each redshift, from uniform numbers; shapes (n,)."""
    node = find_node(z)
    galaxy = np.empty(len(z), dtype=np.intp)
    for j in np.unique(node):
        rows = node == j
        galaxy[rows] = np.searchsorted(selection.cumulative[j], uniform[rows])
    return np.minimum(galaxy, selection.cumulative.shape[1] - 1)
