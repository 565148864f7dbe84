"""What is left to do when a network is trained: calibrate it, and measure it on its test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.metrics.points import compute_metrics
from gaia_redshift.model.distribution import RedshiftBins, compute_quantiles
from gaia_redshift.model.keras_engine import compile_network
from gaia_redshift.model.novelty import Novelty
from gaia_redshift.model.scaler import Inputs, measure_level
from gaia_redshift.train.calibrate import HeldOut, calibrate_bins
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet
from gaia_redshift.train.fine_tuning import ParentModel
from gaia_redshift.train.novelty import fit_novelty
from gaia_redshift.train.objectives import DistributionObjective, Objective
from gaia_redshift.train.performance import draw_rows, measure_bins, measure_distributions
from gaia_redshift.train.sources import LabelledVectors

__all__ = ["TrainingResult", "finish_training", "run_network"]

_BATCH = 1024
_NOVELTY_TRAIN, _NOVELTY_HELD_OUT = 2000, 300
"""Fewer galaxies do not tell what is usual better than the parent's many."""


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a trained network says about the test part, and what goes with it into the folder.

    Parameters
    ----------
    predicted : ndarray, shape (n,)
        Redshifts of the test part. Medians, under the training part's redshift distribution, of
        networks that return distributions.
    metrics : dict
        ``test``, of all, and ``test_bins``, by true redshift. Of networks that return
        distributions they hold for ``prior``, the default one, and for those galaxies of the test
        part that were drawn so that they follow it.
    bins : RedshiftBins or None
    novelty : Novelty or None
    """

    predicted: NDArray[np.float64]
    metrics: dict[str, Any]
    bins: RedshiftBins | None = None
    novelty: Novelty | None = None


def run_network(
    call: Callable[[Inputs], NDArray[np.float32]], inputs: Inputs
) -> NDArray[np.float32]:
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

    ``parent``, which the training started from, is measured on the same galaxies; its measure of
    novelty is kept where there are too few to fit another. ``sky`` are simulated galaxies as
    SDSS's, where those of the training are not: the first third helps to calibrate, on the others
    the metrics are measured.
    """
    call = compile_network(network)
    true = dataset.get_redshifts("test")
    output = run_network(call, dataset.get_inputs("test"))
    limits = config.redshift_range
    if not isinstance(objective, DistributionObjective):
        predicted = objective.predict(output)
        metrics = dict(compute_metrics(predicted, true))
        found = {"test": metrics, "test_bins": measure_bins(predicted, true, limits)}
        found["test_all"] = metrics
        if parent is not None:
            before = run_network(compile_network(parent.build()), dataset.get_inputs("test"))
            found["test_all_parent"] = dict(compute_metrics(objective.predict(before), true))
        return TrainingResult(predicted, found)

    def hold_out(flux: Any, error: Any, redshift: NDArray[np.float64]) -> HeldOut:
        known = run_network(call, dataset.scaler.transform(flux, error))
        without = run_network(call, dataset.scaler.transform(flux))
        return HeldOut(known[:, :-1], without[:, :-1], known[:, -1], redshift, flux)

    vectors, errors = dataset.vectors, dataset.vectors.flux_error
    validation, train = dataset.rows["validation"], dataset.rows["train"]
    shown = dataset.repeat_rows(config.repeat)
    error_there = None if errors is None else errors[validation]
    first = 0 if sky is None else len(sky) // 3
    # A child of a network that is blind to flux stays so (`TrainingConfig.level_jitter`): what its
    # own galaxies' brightness says is a prior again.
    child = parent is not None and parent.bins is not None and parent.bins.blind_to_flux
    given_rows = train[train < vectors.n_given]
    bins = calibrate_bins(
        vectors.redshift[shown],
        objective.edges,
        hold_out(vectors.flux[validation], error_there, vectors.redshift[validation]),
        sky=None
        if sky is None or sky.flux_error is None
        else hold_out(sky.flux[:first], sky.flux_error[:first], sky.redshift[:first]),
        given=vectors.redshift[given_rows] if config.mix or child else None,
        given_flux=vectors.flux[given_rows] if child else None,
        simulated=vectors.description["simulated"],
        blind=child or vectors.description.get("sky", "sdss") != "sdss",
        knows_others=bool(len(dataset.others["validation"])),
    )
    novelty = None if parent is None else parent.novelty
    if novelty is None or (len(train) >= _NOVELTY_TRAIN and len(validation) >= _NOVELTY_HELD_OUT):
        novelty = fit_novelty(
            vectors.flux[train], vectors.flux[validation], error_there, seed=config.seed
        )
    test = dataset.rows["test"]
    everything = vectors.flux[test], _take(errors, test), true
    # A sky that was made for training is no one's: no default prior holds for it.
    compared = {} if sky is not None else {"test_all": _measure_all(bins, output, *everything)}
    if parent is not None and parent.bins is not None:
        compared["test_all_parent"] = _measure_parent(parent, parent.bins, dataset, *everything)
    predicted = _predict(bins, output[:, :-1], vectors.flux[test], _take(errors, test), "training")
    if sky is not None:
        rest = slice(first, None)
        flux, error, true = sky.flux[rest], _take(sky.flux_error, rest), sky.redshift[rest]
        output = run_network(call, dataset.scaler.transform(flux, error))
    else:
        flux, error = vectors.flux[test], _take(errors, test)
        name, prior = bins.resolve_prior()
        if isinstance(prior, np.ndarray):
            # Galaxies simulated for a training have other redshifts than the sky's: some are left
            # out here.
            rows = draw_rows(true, bins, prior, np.random.default_rng([config.seed, 4]))
            if rows.any():  # not of a very small test part
                flux, error, true, output = flux[rows], _take(error, rows), true[rows], output[rows]
    name = bins.resolve_prior()[0]
    probability = _distribute(bins, output[:, :-1], flux, error, name)
    redshift = compute_quantiles(probability, bins.edges, 0.5)[0]
    metrics = {
        "prior": name,
        "test": dict(compute_metrics(redshift, true))
        | measure_distributions(probability, bins, true, measure_level(flux)),
        "test_bins": measure_bins(redshift, true, limits),
        **compared,
    }
    if bins.galaxy_threshold is not None:
        metrics["galaxies"] = _measure_kinds(call, dataset, output[:, -1], bins.galaxy_threshold)
    return TrainingResult(predicted, metrics, bins, novelty)


def _measure_all(
    bins: RedshiftBins,
    output: NDArray[np.float32],
    flux: Any,
    error: Any,
    true: NDArray[np.float64],
) -> dict[str, Any]:
    """Return metrics of what a model predicts by default for every galaxy of the test part."""
    name, _ = bins.resolve_prior()
    predicted = _predict(bins, output[:, : len(bins.density)], flux, error, name)
    return dict(compute_metrics(predicted, true))


def _measure_parent(
    parent: ParentModel, bins: RedshiftBins, dataset: TrainingSet, *everything: Any
) -> dict[str, Any]:
    """Return the same metrics of the model that the training started from."""
    before = run_network(compile_network(parent.build()), dataset.get_inputs("test"))
    return _measure_all(bins, before, *everything)


def _take(values: Any, rows: Any) -> Any:
    return None if values is None else values[rows]


def _distribute(
    bins: RedshiftBins, logits: NDArray[np.float32], flux: Any, error: Any, prior: str
) -> NDArray[np.floating]:
    """Probability of each bin of redshift, shape (n, m), under a prior of that name."""
    known = np.zeros(len(flux), dtype=bool)
    if error is not None:
        known |= np.isfinite(error).all(axis=1)
    resolved = bins.spread_prior(bins.resolve_prior(prior)[1], flux)
    return bins.compute_probability(logits, known, measure_level(flux), resolved)


def _predict(
    bins: RedshiftBins, logits: NDArray[np.float32], flux: Any, error: Any, prior: str
) -> NDArray[np.float64]:
    """Medians under a prior of that name, shape (n,)."""
    return compute_quantiles(_distribute(bins, logits, flux, error, prior), bins.edges, 0.5)[0]


def _measure_kinds(
    call: Callable[[Inputs], NDArray[np.float32]],
    dataset: TrainingSet,
    galaxies: NDArray[np.floating],
    threshold: float,
) -> dict[str, float]:
    """How many galaxies, and others of the test part, pass as galaxies."""
    others = run_network(call, dataset.get_inputs("test", others=True))[:, -1]
    logit = np.log(threshold / (1 - threshold))
    return {
        "n": len(galaxies),
        "n_others": len(others),
        "kept": float((galaxies >= logit).mean()),
        "others_kept": float((others >= logit).mean()),
    }
