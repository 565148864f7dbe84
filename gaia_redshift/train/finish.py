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
from gaia_redshift.model.scaler import Inputs
from gaia_redshift.train.calibrate import calibrate_bins
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet
from gaia_redshift.train.novelty import fit_novelty
from gaia_redshift.train.objectives import DistributionObjective, Objective

__all__ = ["TrainingResult", "finish_training", "run_network"]

_BATCH = 1024
_LEVELS = {"coverage_68": (0.16, 0.84), "coverage_95": (0.025, 0.975)}


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a trained network says about the test part, and what goes with it into the folder.

    Parameters
    ----------
    predicted : ndarray, shape (n,)
        Redshifts of the test part. Medians, under the training part's redshift distribution, of
        networks that return distributions.
    metrics : dict
        Of these.
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
    network: Any, dataset: TrainingSet, config: TrainingConfig, objective: Objective
) -> TrainingResult:
    """Calibrate a network on the validation part, and predict the test part.

    Parameters
    ----------
    network : keras.Model
    dataset : TrainingSet
    config : TrainingConfig
    objective : Objective
    """
    call = compile_network(network)
    true = dataset.get_redshifts("test")
    output = run_network(call, dataset.get_inputs("test"))
    if not isinstance(objective, DistributionObjective):
        predicted = objective.predict(output)
        return TrainingResult(predicted, dict(compute_metrics(predicted, true)))
    validation = dataset.rows["validation"]
    bins = calibrate_bins(
        dataset.get_redshifts("train"),
        objective.edges,
        (
            run_network(call, dataset.get_inputs("validation")),
            run_network(call, dataset.get_inputs("validation", errors=False)),
        ),
        objective.find_bins(dataset.get_redshifts("validation")),
        simulated=dataset.vectors.description["simulated"],
    )
    errors = dataset.vectors.flux_error
    novelty = fit_novelty(
        dataset.vectors.flux[dataset.rows["train"]],
        dataset.vectors.flux[validation],
        None if errors is None else errors[validation],
        seed=config.seed,
    )
    known = np.zeros(len(true), dtype=bool)
    if errors is not None:
        known |= np.isfinite(errors[dataset.rows["test"]]).all(axis=1)
    probability = bins.compute_probability(output, known, bins.density)
    predicted = compute_quantiles(probability, bins.edges, 0.5)[0]
    metrics = dict(compute_metrics(predicted, true))
    for name, levels in _LEVELS.items():
        low, high = compute_quantiles(probability, bins.edges, levels)
        metrics[name] = float(((true >= low) & (true <= high)).mean())
    return TrainingResult(predicted, metrics, bins, novelty)
