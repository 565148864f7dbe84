"""What is left to do when a network is trained: calibrate it, and measure it on its test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.metrics.distributions import compute_coverage, compute_crps, compute_pit
from gaia_redshift.metrics.points import compute_metrics, find_bins
from gaia_redshift.model.distribution import RedshiftBins, compute_quantiles
from gaia_redshift.model.keras_engine import compile_network
from gaia_redshift.model.novelty import Novelty
from gaia_redshift.model.scaler import Inputs, measure_mean_flux
from gaia_redshift.train.calibrate import HeldOut, calibrate_bins, fit_novelty
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet
from gaia_redshift.train.networks import DistributionObjective, Objective
from gaia_redshift.train.sources import LabelledVectors

if TYPE_CHECKING:
    from gaia_redshift.train.training import ParentModel

__all__ = ["TrainingResult", "finish_training", "measure_bins", "run_network"]

Float = NDArray[np.float64]
Call = Callable[[Inputs], NDArray[np.float32]]

_BATCH = 1024
_NOVELTY_TRAIN, _NOVELTY_HELD_OUT = 2000, 300
"""Fewer galaxies do not tell what is usual better than the parent's many."""
_BIN_WIDTH = 0.05
_LEVELS = (0.025, 0.16, 0.5, 0.84, 0.975)
_PARTS = 6
"""Parts of brightness with the same number of galaxies."""
_LARGEST_RATIO = 3.0
"""Of a prior to the training part's density, which in bins with few galaxies is mostly noise."""
_FEWEST = 100
"""Bins with fewer galaxies say too little of a distribution."""


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a trained network says about the test part, and what goes with it into the folder.

    ``predicted`` are redshifts of the test part; of networks that return distributions medians
    under the training part's redshift distribution. Their ``metrics`` hold for the default prior
    and for those galaxies of the test part that were drawn so that they follow it.
    """

    predicted: Float  # (n,)
    metrics: dict[str, Any]
    bins: RedshiftBins | None = None
    novelty: Novelty | None = None


def run_network(call: Call, inputs: Inputs) -> NDArray[np.float32]:
    """Outputs, shape (n, m), of a compiled network for any number of inputs."""
    n = len(next(iter(inputs.values())))
    return np.concatenate(
        [
            call({name: values[i : i + _BATCH] for name, values in inputs.items()})
            for i in range(0, n, _BATCH)
        ]
    )


def finish_training(
    network: Any,
    dataset: TrainingSet,
    config: TrainingConfig,
    objective: Objective,
    parent: ParentModel | None = None,
    *,
    sky: LabelledVectors | None = None,
) -> TrainingResult:
    """Calibrate a network on the validation part, and predict the test part.

    ``parent``, which the training started from, is measured on the same galaxies. ``sky`` are
    simulated galaxies as SDSS's, where those of the training are not: the first third helps to
    calibrate, on the others the metrics are measured.
    """
    call = compile_network(network)
    test = dataset.take("test")
    output = run_network(call, dataset.scale(test))
    before = None
    if parent is not None:
        before = run_network(compile_network(parent.build()), dataset.scale(test))
    if not isinstance(objective, DistributionObjective):
        predicted = objective.predict(output)
        everything = dict(compute_metrics(predicted, test.redshift))
        metrics = {
            "test": everything,
            "test_bins": measure_bins(predicted, test.redshift, config.redshift_range),
            "test_all": everything,
        }
        if before is not None:
            metrics["test_all_parent"] = dict(
                compute_metrics(objective.predict(before), test.redshift)
            )
        return TrainingResult(predicted, metrics)

    def hold_out(vectors: LabelledVectors) -> HeldOut:
        known = run_network(call, dataset.scale(vectors))
        without = run_network(call, dataset.scaler.transform(vectors.flux))
        return HeldOut(known[:, :-1], without[:, :-1], known[:, -1], vectors.redshift, vectors.flux)

    vectors, train = dataset.vectors, dataset.rows["train"]
    validation = dataset.take("validation")
    first = 0 if sky is None else len(sky) // 3
    # A child of a network that is blind to flux stays so (`TrainingConfig.level_jitter`): what its
    # own galaxies' brightness says is a prior again.
    old = None if parent is None else parent.model.bins
    child = old is not None and old.blind_to_flux
    given = train[train < vectors.n_given]
    bins = calibrate_bins(
        vectors.redshift[dataset.repeat_rows(config.repeat)],
        objective.edges,
        hold_out(validation),
        sky=None if sky is None else hold_out(sky[:first]),
        given=vectors.redshift[given] if config.mix or child else None,
        given_flux=vectors.flux[given] if child else None,
        simulated=vectors.description["simulated"],
        blind=child or vectors.description.get("sky", "sdss") != "sdss",
        knows_others=bool(len(dataset.others["validation"])),
    )
    novelty = None if parent is None else parent.model.novelty
    if novelty is None or (len(train) >= _NOVELTY_TRAIN and len(validation) >= _NOVELTY_HELD_OUT):
        novelty = fit_novelty(
            vectors.flux[train], validation.flux, validation.flux_error, seed=config.seed
        )
    name, prior = bins.resolve_prior()
    measured, found = test, output
    if sky is not None:
        measured = sky[first:]
        found = run_network(call, dataset.scale(measured))
    elif isinstance(prior, np.ndarray):
        # Galaxies simulated for a training have other redshifts than the sky's: some are left out.
        rng = np.random.default_rng([config.seed, 4])
        rows = draw_rows(test.redshift, bins, prior, rng)
        if rows.any():  # not of a very small test part
            measured, found = test[rows], output[rows]
    probability = _distribute(bins, found, measured)
    medians = _find_medians(bins, probability)
    metrics = {
        "prior": name,
        "test": dict(compute_metrics(medians, measured.redshift))
        | measure_distributions(probability, bins, measured),
        "test_bins": measure_bins(medians, measured.redshift, config.redshift_range),
    }
    # A sky that was made for training is no one's: no default prior holds for it.
    if sky is None:
        metrics["test_all"] = _measure_all(bins, output, test)
    if old is not None and before is not None:
        metrics["test_all_parent"] = _measure_all(old, before, test)
    if bins.galaxy_threshold is not None:
        others = run_network(call, dataset.scale(dataset.take("test", others=True)))
        metrics["galaxies"] = _measure_passing(found[:, -1], others[:, -1], bins.galaxy_threshold)
    predicted = _find_medians(bins, _distribute(bins, output, test, "training"))
    return TrainingResult(predicted, metrics, bins, novelty)


def _distribute(
    bins: RedshiftBins,
    output: NDArray[np.float32],
    vectors: LabelledVectors,
    prior: str | None = None,
) -> NDArray[np.floating]:
    """Probability of each bin of redshift, shape (n, m), from a network's output, by a prior."""
    known = np.zeros(len(vectors), dtype=bool)
    if vectors.flux_error is not None:
        known |= np.isfinite(vectors.flux_error).all(axis=1)
    resolved = bins.spread_prior(bins.resolve_prior(prior)[1], vectors.flux)
    logits = output[:, : len(bins.density)]
    return bins.compute_probability(logits, known, measure_mean_flux(vectors.flux), resolved)


def _find_medians(bins: RedshiftBins, probability: NDArray[np.floating]) -> Float:
    return compute_quantiles(probability, bins.edges, 0.5)[0]


def _measure_all(
    bins: RedshiftBins, output: NDArray[np.float32], test: LabelledVectors
) -> dict[str, Any]:
    """Return metrics of what a model predicts by default for every galaxy of the test part."""
    medians = _find_medians(bins, _distribute(bins, output, test))
    return dict(compute_metrics(medians, test.redshift))


def _measure_passing(
    galaxies: NDArray[np.floating], others: NDArray[np.floating], threshold: float
) -> dict[str, float]:
    """How many galaxies and others, by their logits, pass as galaxies."""
    logit = np.log(threshold / (1 - threshold))
    return {
        "n": len(galaxies),
        "n_others": len(others),
        "kept": float((galaxies >= logit).mean()),
        "others_kept": float((others >= logit).mean()),
    }


def draw_rows(
    true: Float, bins: RedshiftBins, prior: Float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Choose galaxies of the training part's redshifts (n,) so that they follow a prior (m,)."""
    ratio = np.minimum(prior / bins.density, _LARGEST_RATIO)
    rows = rng.uniform(size=len(true)) * ratio.max() < ratio[find_bins(true, bins.edges)]
    return np.asarray(rows)


def measure_distributions(
    probability: NDArray[np.floating], bins: RedshiftBins, galaxies: LabelledVectors
) -> dict[str, Any]:
    """Measure how honest distributions (n, m) are: coverage, CRPS, PIT (tenths, 1 where flat).

    Coverage and errors by predicted redshift and by brightness, too.
    """
    true, mean_flux = galaxies.redshift, measure_mean_flux(galaxies.flux)
    q = compute_quantiles(probability, bins.edges, _LEVELS)
    density = probability / np.diff(bins.edges)
    pit = compute_pit(true, density, bins.edges)

    def cover(rows: Any) -> dict[str, float]:
        return {
            f"coverage_{100 * nominal:.0f}": compute_coverage(
                true[rows], q[i, rows], q[-1 - i, rows], nominal
            )["coverage"]
            for nominal, i in ((0.68, 1), (0.95, 0))
        }

    def describe(rows: NDArray[np.bool_]) -> dict[str, float]:
        error = q[2, rows] - true[rows]
        return {
            "mean_error": float(error.mean()),
            "mae": float(np.abs(error).mean()),
            **cover(rows),
        }

    parts = np.quantile(mean_flux, np.linspace(0, 1, _PARTS + 1))
    return {
        **cover(slice(None)),
        "crps": float(np.mean(compute_crps(true, density, bins.edges))),
        "pit": (np.histogram(pit, 10, (0.0, 1.0))[0] * 10 / len(true)).tolist(),
        "by_prediction": _tabulate(
            q[2], _divide(bins.edges[0], bins.edges[-1]), describe, fewest=_FEWEST
        ),
        "by_brightness": _tabulate(mean_flux, parts, describe, fewest=_FEWEST),
    }


def measure_bins(
    predicted: Float, true: Float, limits: tuple[float, float]
) -> list[dict[str, Any]]:
    """Mean and standard deviation of predicted - true, in bins of 0.05 of true redshift."""
    error = predicted - true

    def describe(rows: NDArray[np.bool_]) -> dict[str, float]:
        return {"mean_error": float(error[rows].mean()), "scatter": float(error[rows].std())}

    return _tabulate(true, _divide(*limits), describe)


def _tabulate(
    values: Float,
    edges: Float,
    describe: Callable[[NDArray[np.bool_]], dict[str, float]],
    *,
    fewest: int = 1,
) -> list[dict[str, Any]]:
    """Describe the rows in each bin of ``values`` (n,) that holds enough of them."""
    where = find_bins(values, edges)
    return [
        {
            "low": round(float(edges[i]), 6),
            "high": round(float(edges[i + 1]), 6),
            "n": int((where == i).sum()),
            **describe(where == i),
        }
        for i in range(len(edges) - 1)
        if (where == i).sum() >= fewest
    ]


def _divide(low: float, high: float) -> Float:
    return np.linspace(low, high, max(1, round((high - low) / _BIN_WIDTH)) + 1)
