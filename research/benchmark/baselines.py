"""Simple methods to beat: the median, a UGC-like SVR, nearest neighbours, boosted trees.

Each learns from fluxes (n, 186) and redshifts alone, and states its recipe. scikit-learn (the
``eval`` extra) does the work.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError

__all__ = ["BASELINES", "Baseline", "check_learning_library", "fit_baseline"]

Float = NDArray[np.float64]
Predictor = Callable[[Float], Float]

SVR_SPECTRA = 6000
"""Training spectra of the SVR, about as many as UGC's support vector machine had."""
_COMPONENTS = 30
_SVR_GRID = tuple((c, gamma) for c in (0.1, 1.0, 10.0) for gamma in (0.3, 1.0, 3.0))
_TUNING_SPECTRA = 2000
_NEIGHBOURS = (10, 30, 100)


@dataclass(frozen=True)
class Baseline:
    """A method.

    Parameters
    ----------
    name : str
    recipe : str
        What it does, in a sentence; after fitting, also what was chosen.
    predict : callable, optional
        Fluxes (n, 186) in e-/s per sample to redshifts (n,); None before fitting.
    """

    name: str
    recipe: str
    predict: Predictor | None = None


def check_learning_library() -> None:
    """Find out whether scikit-learn is installed.

    Raises
    ------
    InputError
        If it is not, with what to install.
    """
    try:
        importlib.import_module("sklearn")
    except ImportError:
        raise InputError(
            "the baselines need scikit-learn: pip install 'gaia-redshift[eval]'"
        ) from None


def fit_baseline(name: str, flux: Float, redshift: Float, *, seed: int = 0) -> Baseline:
    """Fit one of `BASELINES`.

    Parameters
    ----------
    name : str
    flux : ndarray, shape (n, 186), e-/s per sample
        Finite, of positive sum.
    redshift : ndarray, shape (n,)
    seed : int
        Draws the SVR's spectra, the parts held out, and the trees' early stopping.

    Returns
    -------
    Baseline

    Raises
    ------
    InputError
        If there is no such baseline, scikit-learn is not installed, or the numbers are unusable.
    """
    if name not in BASELINES:
        raise InputError(f"no baseline '{name}'; there are: {', '.join(BASELINES)}")
    if len(flux) != len(redshift) or len(flux) < 50:
        raise InputError(f"a baseline needs 50 spectra with redshifts or more, not {len(flux)}")
    if not (np.isfinite(flux).all() and np.isfinite(redshift).all()):
        raise InputError("baselines need finite fluxes and redshifts")
    check_learning_library()
    return BASELINES[name](np.asarray(flux, dtype=float), np.asarray(redshift, dtype=float), seed)


def _fit_median(flux: Float, redshift: Float, seed: int) -> Baseline:
    value = float(np.median(redshift))
    return Baseline(
        "median",
        f"the median redshift of the training galaxies ({value:.4f}), whatever the spectrum",
        lambda new: np.full(len(new), value),
    )


def _fit_svr(flux: Float, redshift: Float, seed: int) -> Baseline:
    """Support vector regression as UGC's: fluxes scaled to 0..1 column by column, RBF kernel."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler
    from sklearn.svm import SVR

    rng = np.random.default_rng([seed, 1])
    rows = rng.permutation(len(flux))[:SVR_SPECTRA]

    def make(c: float, gamma: float) -> Any:
        machine = SVR(kernel="rbf", C=c, gamma=gamma, epsilon=0.01, cache_size=500)
        return make_pipeline(MinMaxScaler(), machine)

    few = rows[:_TUNING_SPECTRA]
    learn, judge = few[: 2 * len(few) // 3], few[2 * len(few) // 3 :]
    best = min(
        _SVR_GRID,
        key=lambda chosen: _measure(
            make(*chosen).fit(flux[learn], redshift[learn]).predict, flux[judge], redshift[judge]
        ),
    )
    machine = make(*best).fit(flux[rows], redshift[rows])
    return Baseline(
        "svr",
        f"UGC-like support vector regression: RBF kernel, {len(rows):,} training spectra, each of"
        f" the 186 fluxes scaled to 0..1, epsilon 0.01, C {best[0]:g} and gamma {best[1]:g} chosen"
        f" of {len(_SVR_GRID)} pairs on held-out training spectra",
        machine.predict,
    )


def _fit_neighbours(flux: Float, redshift: Float, seed: int) -> Baseline:
    from sklearn.neighbors import KNeighborsRegressor

    describe = _make_features(flux)
    features = describe(flux)
    order = np.random.default_rng([seed, 2]).permutation(len(flux))
    judge, learn = order[: min(1000, len(order) // 4)], order[min(1000, len(order) // 4) :]

    def fit(k: int, rows: NDArray[np.intp]) -> Any:
        machine = KNeighborsRegressor(n_neighbors=min(k, len(rows)), weights="distance")
        return machine.fit(features[rows], redshift[rows])

    best = min(
        _NEIGHBOURS,
        key=lambda k: _measure(fit(k, learn).predict, features[judge], redshift[judge]),
    )
    machine = fit(best, order)
    return Baseline(
        "neighbours",
        f"mean of the {best} nearest of {len(flux):,} training spectra, weighted by 1 / distance,"
        f" in {features.shape[1]} features (principal components of flux / total flux, logarithm of"
        " the total); their number chosen of 10, 30 and 100 on held-out training spectra",
        lambda new: machine.predict(describe(new)),
    )


def _fit_boosting(flux: Float, redshift: Float, seed: int) -> Baseline:
    from sklearn.ensemble import HistGradientBoostingRegressor

    describe = _make_features(flux)
    machine = HistGradientBoostingRegressor(
        max_iter=300, learning_rate=0.1, early_stopping=True, random_state=seed
    ).fit(describe(flux), redshift)
    return Baseline(
        "boosting",
        f"gradient boosting of {machine.n_iter_} trees (scikit-learn's"
        f" HistGradientBoostingRegressor, early stopping) on {len(flux):,} training spectra, with"
        " the features of the nearest neighbours",
        lambda new: machine.predict(describe(new)),
    )


BASELINES: dict[str, Callable[[Float, Float, int], Baseline]] = {
    "median": _fit_median,
    "svr": _fit_svr,
    "neighbours": _fit_neighbours,
    "boosting": _fit_boosting,
}
"""Name to the function that fits it."""


def _make_features(flux: Float) -> Callable[[Float], Float]:
    """Return what turns fluxes into features: shape of the spectrum, and its brightness."""
    from sklearn.decomposition import PCA

    def split(values: Float) -> tuple[Float, Float]:
        total = np.maximum(values.sum(axis=1, keepdims=True), 1e-6)
        return values / total, np.log10(total)

    shape, total = split(flux)
    components = PCA(min(_COMPONENTS, len(flux) - 1), svd_solver="covariance_eigh").fit(shape)
    scale = float(components.transform(shape)[:, 0].std())
    level, spread = float(total.mean()), float(total.std()) or 1.0

    def describe(values: Float) -> Float:
        parts, amount = split(np.asarray(values, dtype=float))
        return np.hstack([components.transform(parts) / scale, (amount - level) / spread])

    return describe


def _measure(predict: Predictor, features: Float, redshift: Float) -> float:
    return float(np.abs(predict(features) - redshift).mean())
