"""What is left to do when a network is trained: calibrate it, and measure it on its test part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.evaluate.metrics import compute_metrics
from gaia_redshift.model.distribution import RedshiftBins, compute_quantiles
from gaia_redshift.model.engine import compile_network
from gaia_redshift.model.novelty import Novelty
from gaia_redshift.model.scaler import Inputs, measure_level
from gaia_redshift.train.calibrate import calibrate_bins
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet
from gaia_redshift.train.fine_tuning import ParentModel
from gaia_redshift.train.novelty import fit_novelty
from gaia_redshift.train.objectives import DistributionObjective, Objective
from gaia_redshift.train.performance import draw_rows, measure_bins, measure_distributions

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
        part that were drawn so that they follow it. ``test_all`` holds for all galaxies of the test
        part, ``test_all_parent`` for the predictions that the parent has for them.
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
) -> TrainingResult:
    """Calibrate a network on the validation part, and predict the test part.

    Parameters
    ----------
    network : keras.Model
    dataset : TrainingSet
    config : TrainingConfig
    objective : Objective
    parent : ParentModel, optional
        The model that the training started from. It is measured on the same galaxies; its measure
        of novelty is kept where there are too few galaxies to fit another.
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
    validation = dataset.rows["validation"]
    train = dataset.rows["train"]
    shown = dataset.repeat_rows(config.repeat)
    redshift = dataset.vectors.redshift
    bins = calibrate_bins(
        redshift[shown],
        objective.edges,
        (
            run_network(call, dataset.get_inputs("validation")),
            run_network(call, dataset.get_inputs("validation", errors=False)),
        ),
        objective.find_bins(dataset.get_redshifts("validation")),
        measure_level(dataset.vectors.flux[validation]),
        given=redshift[train[train < dataset.vectors.n_given]] if config.mix else None,
        simulated=dataset.vectors.description["simulated"],
    )
    errors = dataset.vectors.flux_error
    novelty = None if parent is None else parent.novelty
    if novelty is None or (len(train) >= _NOVELTY_TRAIN and len(validation) >= _NOVELTY_HELD_OUT):
        novelty = fit_novelty(
            dataset.vectors.flux[train],
            dataset.vectors.flux[validation],
            None if errors is None else errors[validation],
            seed=config.seed,
        )
    known = np.zeros(len(true), dtype=bool)
    if errors is not None:
        known |= np.isfinite(errors[dataset.rows["test"]]).all(axis=1)
    level = measure_level(dataset.vectors.flux[dataset.rows["test"]])
    probability = bins.compute_probability(output, known, level, bins.density)
    predicted = compute_quantiles(probability, bins.edges, 0.5)[0]
    name, prior = bins.resolve_prior()
    # Galaxies simulated for a training have other redshifts than the sky's: some are left out here.
    rows = draw_rows(true, bins, prior, np.random.default_rng([config.seed, 4]))
    if not rows.any():  # of a very small test part
        rows[:] = True
    probability = bins.compute_probability(output[rows], known[rows], level[rows], prior)
    redshift = compute_quantiles(probability, bins.edges, 0.5)[0]
    metrics = {
        "prior": name,
        "test": dict(compute_metrics(redshift, true[rows]))
        | measure_distributions(probability, bins, true[rows], level[rows]),
        "test_bins": measure_bins(redshift, true[rows], limits),
        "test_all": _measure_all(output, bins, known, level, true),
    }
    if parent is not None and parent.bins is not None:
        before = run_network(compile_network(parent.build()), dataset.get_inputs("test"))
        metrics["test_all_parent"] = _measure_all(before, parent.bins, known, level, true)
    return TrainingResult(predicted, metrics, bins, novelty)


def _measure_all(
    output: NDArray[np.float32],
    bins: RedshiftBins,
    known: NDArray[np.bool_],
    level: NDArray[np.float64],
    true: NDArray[np.float64],
) -> dict[str, Any]:
    """Return metrics of what the model predicts by default for every galaxy of the test part."""
    probability = bins.compute_probability(output, known, level, bins.resolve_prior()[1])
    return dict(compute_metrics(compute_quantiles(probability, bins.edges, 0.5)[0], true))
