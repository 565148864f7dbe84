"""What a network is trained for: its loss, and redshifts and scores from its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.metrics.points import find_bins
from gaia_redshift.model.distribution import compute_quantiles
from gaia_redshift.model.keras_engine import import_keras
from gaia_redshift.train.config import TrainingConfig

__all__ = ["DistributionObjective", "Objective", "RedshiftObjective", "make_objective"]

Float = NDArray[np.float64]

_BLUR = 0.6
"""Width of the Gaussian that spreads a true redshift over bins, in bins."""


class Objective(Protocol):
    """Compares outputs of a network with true redshifts."""

    def make_loss(self) -> Callable[[Any, Any], Any]:
        """Return a TensorFlow function (true redshifts (n,), outputs) -> mean loss."""

    def predict(self, output: NDArray[np.float32]) -> Float:
        """Return redshifts, shape (n,), from outputs."""

    def measure_loss(self, output: NDArray[np.float32], truth: Float) -> float:
        """Return the mean loss of outputs, in NumPy."""


class RedshiftObjective:
    """A redshift and the Huber loss, as in Kiraleos (2023)."""

    def __init__(self, config: TrainingConfig) -> None:
        self._delta = config.huber_delta

    def make_loss(self) -> Callable[[Any, Any], Any]:
        """Return Keras's Huber loss."""
        measure = import_keras().losses.Huber(delta=self._delta)
        return lambda truth, output: measure(truth[:, None], output)

    def predict(self, output: NDArray[np.float32]) -> Float:
        """Return the one output."""
        return output[:, 0].astype(np.float64)

    def measure_loss(self, output: NDArray[np.float32], truth: Float) -> float:
        """Return the mean Huber loss."""
        size = np.abs(output[:, 0] - truth)
        delta = self._delta
        return float(np.where(size <= delta, 0.5 * size**2, delta * size - 0.5 * delta**2).mean())


class DistributionObjective:
    """A distribution over bins of redshift, and whether it is a galaxy at all.

    Both by their cross-entropy, a proper score. The last output is the logit of being a galaxy; it
    counts only in trainings that show something else as well.
    """

    def __init__(self, config: TrainingConfig, has_others: bool) -> None:
        self._galaxy_weight = 1.0 if has_others else 0.0
        self.edges = np.linspace(*config.redshift_range, config.bins + 1)
        self._centers = 0.5 * (self.edges[1:] + self.edges[:-1])
        self._blur = _BLUR * (self.edges[1] - self.edges[0])

    def make_loss(self) -> Callable[[Any, Any], Any]:
        """Return the cross-entropy with true redshifts spread over a bin or two."""
        import tensorflow as tf

        centers = tf.constant(self._centers[None], tf.float32)
        blur = float(self._blur)

        def measure(truth: Any, output: Any) -> Any:
            galaxy = tf.cast(truth >= 0.0, tf.float32)
            target = tf.nn.softmax(-0.5 * ((centers - truth[:, None]) / blur) ** 2, axis=-1)
            redshift = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=output[:, :-1])
            pass_loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=galaxy, logits=output[:, -1])
            return tf.reduce_mean(galaxy * redshift + self._galaxy_weight * pass_loss)

        return measure

    def predict(self, output: NDArray[np.float32]) -> Float:
        """Return medians under the training galaxies' redshift distribution."""
        logits = output[:, :-1]
        probability = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
        probability /= probability.sum(axis=1, keepdims=True)
        return compute_quantiles(probability, self.edges, 0.5)[0]

    def measure_loss(self, output: NDArray[np.float32], truth: Float) -> float:
        """Return the mean cross-entropy with the bins of the true redshifts."""
        return measure_cross_entropy(output[:, :-1], find_bins(truth, self.edges))


def measure_cross_entropy(logits: NDArray[np.floating], bins: NDArray[np.intp]) -> float:
    """Mean of -ln p of the given bins, from logits, shape (n, m)."""
    values = logits.astype(np.float64)
    largest = values.max(axis=1)
    total = largest + np.log(np.exp(values - largest[:, None]).sum(axis=1))
    return float((total - values[np.arange(len(values)), bins]).mean())


def make_objective(
    config: TrainingConfig, distribution: bool, has_others: bool = False
) -> Objective:
    """Return the objective of a network that returns a distribution, or a redshift.

    ``has_others`` tells whether the training shows what is no galaxy.
    """
    if distribution:
        return DistributionObjective(config, has_others)
    return RedshiftObjective(config)
