"""Which of the library's galaxies a survey sees at each redshift.

A galaxy's weight is the share of its type times, within the type, a Gaussian in the observed colour
log10(BP/RP): what real photometry tells. Galaxies older than the Universe at a redshift are out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.simulate.galaxies import GalaxyLibrary
from gaia_redshift.simulate.instrument import BANDS, load_instrument

if TYPE_CHECKING:
    from gaia_redshift.simulate.survey import SurveyParameters

__all__ = ["NODES", "QUIESCENT", "Selection", "choose_galaxies", "load_selection"]

Float = NDArray[np.float64]

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
        np.array([p.colour_active_offset, p.colour_active_factor]),
    ]
    key: tuple[Any, ...] = tuple(np.asarray(v, dtype=float).tobytes() for v in deciding)
    key = (*p.type_fractions, *key)
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
