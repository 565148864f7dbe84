"""Baselines, bundled models and the limit, on the same training and test galaxies."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import open_bar
from gaia_redshift.errors import InputError
from gaia_redshift.evaluate.comparison import Comparison, compare_predictions
from gaia_redshift.evaluate.evaluation import take_column, to_plain
from gaia_redshift.flags import FATAL
from gaia_redshift.model import registry
from gaia_redshift.predict import load_for_prediction, predict_table
from gaia_redshift.readers import iter_spectra
from gaia_redshift.sampling import sample_spectra
from gaia_redshift.simulate import simulate_blocks, simulate_spectra
from gaia_redshift.simulate.observation import are_simulated, find_seeds
from gaia_redshift.spectra import FluxVectors, XPSpectra
from research.benchmark.baselines import (
    BASELINES,
    Baseline,
    check_learning_library,
    fit_baseline,
)
from research.benchmark.limit import LOW_SAMPLE_SIZE, Posterior, estimate_limit

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["TEST_SEED", "Benchmark", "run_benchmark"]

logger = logging.getLogger(__name__)

Float = NDArray[np.float64]

TEST_SEED = 1000
"""Added to the seed for the test galaxies, and twice for the limit's templates."""
_BLOCK_SIZE = 5000
_RELIABLE = 0.05
"""The limit is called reliable if no larger part of the galaxies has a low sample size ..."""
_FEWEST = 20
"""Galaxies with enough effective templates that a comparison of their own needs."""
_CONVERGED = 0.02
"""... and half the templates gave the same mean absolute error to this part."""
_SLOWEST = 0.9
"""Differences that shrink less from one doubling of the templates to the next tell no end."""


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Methods side by side.

    Parameters
    ----------
    table : Table
        A row for each test galaxy: ``source_id``, ``redshift_true``, ``rp_flux`` where known, and
        a column for each method; the limit's ``sample_size_limit`` too.
    comparison : Comparison
        All methods but the limit, on all test galaxies; ratios are to the first model.
    limit_comparison : Comparison or None
        All methods and the limit, on the galaxies for which it was worked out.
    trusted_comparison : Comparison or None
        The same on those of them with enough effective templates: chosen by their spectra, not by
        their redshifts, so that ratios to the limit are fair ones.
    limit : dict or None
        How far the limit can be trusted: ``n_templates``, ``sample_size_percentiles`` (5, 25, 50,
        75, 95), ``low_fraction``, ``mae_by_templates``, ``reliable``.
    recipes : dict
        Method to what it does.
    description : dict
        The galaxies: where they are from, how many.
    """

    table: Table
    comparison: Comparison
    limit_comparison: Comparison | None
    trusted_comparison: Comparison | None
    limit: dict[str, Any] | None
    recipes: dict[str, str]
    description: dict[str, Any]
    posterior: Posterior | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers as plain Python objects that JSON can hold; None where NaN."""

        def plain(found: Comparison | None) -> Any:
            return None if found is None else found.to_dict()

        return {
            "description": to_plain(self.description),
            "recipes": self.recipes,
            "comparison": self.comparison.to_dict(),
            "limit": to_plain(self.limit),
            "limit_comparison": plain(self.limit_comparison),
            "trusted_comparison": plain(self.trusted_comparison),
        }


def run_benchmark(
    train: Any = 20_000,
    test: Any = 2_000,
    *,
    seed: int = 1,
    survey: str = "sdss",
    truth: str = "redshift_true",
    models: Sequence[Any] | None = None,
    baselines: Sequence[str] | None = None,
    n_templates: int = 300_000,
    n_limit: int = 500,
    progress: bool = False,
) -> Benchmark:
    """Compare baselines, models and the limit on the same galaxies.

    Parameters
    ----------
    train, test : int, or what `gaia_redshift.read_spectra` takes
        So many simulated galaxies, or spectra with true redshifts. The baselines learn from the
        first; models come as they were trained.
    seed : int
        Of the training galaxies and the baselines; test galaxies have ``seed + TEST_SEED``.
    survey : {"sdss", "flat"}
        Redshift distribution of simulated galaxies.
    truth : str
        Column of true redshifts.
    models : sequence, optional
        Names, folders or loaded models; by default all that are bundled.
    baselines : sequence of str, optional
        Of `research.benchmark.baselines.BASELINES`; by default all.
    n_templates : int
        Simulated galaxies behind the limit; 0 leaves it out.
    n_limit : int
        Test galaxies, the first ones, for which it is worked out.
    progress : bool
        Show progress bars.

    Returns
    -------
    Benchmark

    Raises
    ------
    InputError
        If the spectra cannot be used, training and test galaxies overlap, or scikit-learn is not
        installed.
    ModelError
        If a model cannot be loaded.
    """
    names = list(BASELINES if baselines is None else baselines)
    if set(names) - {"median"}:
        check_learning_library()
    loaded = _load_models(models)
    if len(names) + len(loaded) < 2:
        raise InputError("a benchmark compares two methods or more")
    for label, value in (("train", train), ("test", test)):
        if isinstance(value, int) and value < 50:
            raise InputError(f"{label}: 50 galaxies or more are needed, not {value}")
    test_seed = seed + TEST_SEED
    if isinstance(test, int):
        _refuse_training_seed([test_seed], loaded)

    ids, flux, redshift = _collect_training(train, seed, survey, truth, progress)
    fitted: list[Baseline] = []
    for name in open_bar(names, desc="fitting", disable=not progress):
        fitted.append(fit_baseline(name, flux, redshift, seed=seed))
    wants_errors = any(model.uses_errors for model in loaded.values())
    blocks = _iter_galaxies(test, test_seed, survey, errors=wants_errors, progress=progress)
    table = _predict_all(blocks, truth, fitted, loaded)
    _refuse_shared(ids, np.asarray(table["source_id"]))
    _refuse_training_seed(find_seeds(np.asarray(table["source_id"])), loaded)

    labels = {f"redshift_{baseline.name}": baseline.name for baseline in fitted}
    labels |= {f"redshift_{name}": name for name in loaded}
    columns = [f"redshift_{name}" for name in [*loaded, *(b.name for b in fitted)]]
    comparison = compare_predictions(table, columns, truth, labels=labels, seed=seed)
    posterior = limit = limit_comparison = trusted = None
    wanted = _take_limit_spectra(test, test_seed, survey, table, n_limit if n_templates else 0)
    if wanted is not None:
        posterior = estimate_limit(
            wanted,
            n_templates=n_templates,
            seed=seed + 2 * TEST_SEED,
            survey=survey,
            progress=progress,
        )
        limit = _add_limit(table, posterior, truth)
        labels |= {"redshift_limit": "limit (mean)", "redshift_limit_median": "limit (median)"}
        every = ["redshift_limit", *columns, "redshift_limit_median"]
        part = table[: len(wanted)]
        limit_comparison = compare_predictions(part, every, truth, labels=labels, seed=seed)
        if (~posterior.low).sum() >= _FEWEST:
            trusted = compare_predictions(
                part[~posterior.low], every, truth, labels=labels, seed=seed
            )
    recipes = {baseline.name: baseline.recipe for baseline in fitted}
    recipes |= {name: _describe_model(model) for name, model in loaded.items()}
    if posterior is not None:
        recipes["limit"] = (
            "posterior under the simulator itself: mean (best in squared error) and median (best"
            f" in absolute error) of {posterior.n_templates:,} noise-free simulated galaxies"
            " weighted by each test spectrum's likelihood"
        )
    return Benchmark(
        table=table,
        comparison=comparison,
        limit_comparison=limit_comparison,
        trusted_comparison=trusted,
        limit=limit,
        recipes=recipes,
        description={
            "train": _describe_galaxies(train, seed, survey, len(redshift)),
            "test": _describe_galaxies(test, test_seed, survey, len(table)),
        },
        posterior=posterior,
    )


def _refuse_training_seed(seeds: list[int], models: dict[str, Any]) -> None:
    for name, model in models.items():
        data = model.manifest.get("training", {}).get("data", {})
        if data.get("kind") == "simulated" and data.get("seed") is not None:
            used = int(data["seed"]) % 10_000
            if used in [seed % 10_000 for seed in seeds]:
                raise InputError(
                    f"the model {name} was trained on the simulated galaxies of seed"
                    f" {data['seed']}, which are among the test galaxies: choose another seed"
                )


def _refuse_shared(train: NDArray[np.int64], test: NDArray[np.int64]) -> None:
    shared = np.intersect1d(train, test)
    if len(shared):
        raise InputError(
            f"training and test galaxies share {len(shared)} sources (source_id {shared[0]}, ...):"
            " results would be too good to be true"
        )


def _load_models(models: Sequence[Any] | None) -> dict[str, Any]:
    chosen = registry.available_models() if models is None else models
    loaded = [load_for_prediction(model) for model in chosen]
    return {model.name: model for model in loaded}


def _iter_galaxies(
    source: Any, seed: int, survey: str, *, errors: bool, progress: bool
) -> Iterator[XPSpectra]:
    if isinstance(source, int):
        yield from simulate_blocks(
            source,
            seed=seed,
            survey=survey,
            block_size=_BLOCK_SIZE,
            correlations=errors,
            progress=progress,
        )
        return
    yield from iter_spectra(
        source,
        block_size=_BLOCK_SIZE,
        correlations=errors,
        errors=errors,
        keep="all",
        progress=progress,
    )


def _collect_training(
    train: Any, seed: int, survey: str, truth: str, progress: bool
) -> tuple[NDArray[np.int64], Float, Float]:
    ids, fluxes, redshifts = [], [], []
    for block in _iter_galaxies(train, seed, survey, errors=False, progress=progress):
        vectors, redshift = _sample(block, truth)
        usable = ((vectors.quality & int(FATAL)) == 0) & np.isfinite(redshift)
        ids.append(vectors.source_id[usable])
        fluxes.append(vectors.flux[usable].astype(np.float32))
        redshifts.append(redshift[usable])
    return np.concatenate(ids), np.concatenate(fluxes), np.concatenate(redshifts)


def _sample(block: XPSpectra, truth: str) -> tuple[FluxVectors, Float]:
    if block.columns is None:
        raise InputError(f"the spectra have no column '{truth}' of true redshifts")
    redshift = take_column(block.columns, truth)
    return sample_spectra(block, errors=False), redshift


def _predict_all(
    blocks: Iterator[XPSpectra], truth: str, fitted: list[Baseline], models: dict[str, Any]
) -> Table:
    from astropy.table import Table, vstack

    parts = []
    for block in blocks:
        vectors, redshift = _sample(block, truth)
        usable = (vectors.quality & int(FATAL)) == 0
        part = Table({"source_id": vectors.source_id, truth: redshift})
        columns = block.columns
        if columns is not None and "rp_flux" in columns.colnames:
            part["rp_flux"] = np.asarray(columns["rp_flux"], dtype=float)
        for name, model in models.items():
            predicted = predict_table(block, model=model)
            for suffix in ("", "_lower", "_upper"):
                if f"redshift_cnn{suffix}" in predicted.colnames:
                    values = np.ma.filled(predicted[f"redshift_cnn{suffix}"].astype(float), np.nan)
                    part[f"redshift_{name}{suffix}"] = np.asarray(values)
        for baseline in fitted:
            assert baseline.predict is not None
            values = np.full(len(block), np.nan)
            if usable.any():
                values[usable] = baseline.predict(vectors.flux[usable])
            part[f"redshift_{baseline.name}"] = values
        parts.append(part)
    return vstack(parts, metadata_conflicts="silent")


def _take_limit_spectra(
    test: Any, seed: int, survey: str, table: Table, n_limit: int
) -> XPSpectra | None:
    """Return the first test galaxies with their correlations, if they are simulated ones."""
    if n_limit < 1:
        return None
    if isinstance(test, int):
        return simulate_spectra(min(n_limit, test), seed=seed, survey=survey)
    if not are_simulated(table["source_id"][:n_limit]):
        logger.warning("no limit: the posterior under the simulator is for simulated galaxies")
        return None
    first = next(iter(iter_spectra(test, block_size=n_limit)))
    if first.bp.correlations is None or first.rp.correlations is None:
        logger.warning("no limit: it needs spectra with errors and correlations")
        return None
    return first


def _add_limit(table: Table, posterior: Posterior, truth: str) -> dict[str, Any]:
    """Add the limit's columns, and say how far it can be trusted."""
    n = len(posterior.mean)
    for name, values in (
        ("redshift_limit", posterior.mean),
        ("redshift_limit_median", posterior.median),
        ("sample_size_limit", posterior.sample_size),
    ):
        table[name] = np.full(len(table), np.nan)
        table[name][:n] = values
    true = take_column(table, truth)[:n]
    mae = {k: float(np.nanmean(np.abs(m - true))) for k, m in posterior.part_means.items()}
    steps = list(mae.values())
    low = float(posterior.low.mean())
    converged = len(steps) < 2 or abs(steps[-2] / steps[-1] - 1) <= _CONVERGED
    return {
        "n": n,
        "n_templates": posterior.n_templates,
        "low_sample_size": LOW_SAMPLE_SIZE,
        "low_fraction": low,
        "sample_size_percentiles": {
            str(q): float(np.percentile(posterior.sample_size, q)) for q in (5, 25, 50, 75, 95)
        },
        "mae_by_templates": mae,
        "mae_extrapolated": extrapolate_limit(steps),
        "reliable": bool(low <= _RELIABLE and converged),
    }


def extrapolate_limit(steps: list[float]) -> float | None:
    """Where a series of errors goes whose numbers of templates double from one to the next.

    Aitken's (1926) formula on the last three: right if what is missing shrinks by the same factor
    each time. None where it does not shrink so.
    """
    if len(steps) < 3:
        return None
    first, second, third = steps[-3:]
    before, last = second - first, third - second
    if not (before < 0 and last < 0 and last / before < _SLOWEST):
        return None
    return float(third + last * (last / before) / (1 - last / before))


def _describe_galaxies(source: Any, seed: int, survey: str, n: int) -> dict[str, Any]:
    if isinstance(source, int):
        return {"kind": "simulated", "survey": survey, "seed": seed, "n": n}
    name = source if isinstance(source, str) else type(source).__name__
    return {"kind": "given", "source": name, "n": n}


def _describe_model(model: Any) -> str:
    trained = model.manifest.get("trained_on", "not stated")
    number = model.manifest.get("training", {}).get("n_galaxies", {}).get("train")
    count = f" ({number:,} of them)" if isinstance(number, int) else ""
    return f"model {model.name} {model.version}, trained on {trained}{count}"
