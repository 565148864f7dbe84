"""What a training is told: `TrainingConfig`, written with every run and every model."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from gaia_redshift.errors import InputError

__all__ = ["TrainingConfig"]


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a training; the defaults are the recipe of Kiraleos (2023).

    Parameters
    ----------
    name, version : str
        Of the model.
    network : str
        A name in `gaia_redshift.train.networks.NETWORKS`.
    epochs : int
        Passes through the training part; the weights after the last one are kept.
    batch_size : int
        Spectra per step.
    learning_rate : float
        Of the Adamax optimiser.
    huber_delta : float
        Where the Huber loss turns from quadratic to linear, in redshift.
    split : tuple of float
        Fractions of the galaxies for training, validation and test.
    redshift_range : tuple of float
        True redshifts must lie within; recorded as the model's range.
    flux_tolerance : float
        How far outside the training part's extremes a flux may lie, as a part of their distance,
        before a prediction is flagged FLUX_OUT_OF_RANGE.
    grid_jitter : bool
        Train on vectors sampled on moved grids (``gaia_redshift.grid.draw_grid``), another for each
        few galaxies, so that vectors sampled by others work too. Validation and test part stay on
        the model's grid.
    seed : int
        Of split, moved grids, initial weights and order of the spectra.
    description : str
        Free text on the data, for the model card.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    name: str = "kiraleos2023"
    version: str = "1.0"
    network: str = "kiraleos2023"
    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 0.001
    huber_delta: float = 1.0
    split: tuple[float, float, float] = (0.63, 0.27, 0.10)
    redshift_range: tuple[float, float] = (0.0, 0.6)
    flux_tolerance: float = 0.1
    grid_jitter: bool = False
    seed: int = 1
    description: str = ""

    def __post_init__(self) -> None:
        for field in ("split", "redshift_range"):
            object.__setattr__(self, field, tuple(float(v) for v in getattr(self, field)))
        for field, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InputError(f"{field} must be a whole number from {low}, not {value!r}")
        if not isinstance(self.grid_jitter, bool):
            raise InputError(f"grid_jitter must be true or false, not {self.grid_jitter!r}")
        for field in ("learning_rate", "huber_delta"):
            if not 0 < getattr(self, field) < math.inf:
                raise InputError(f"{field} must be positive, not {getattr(self, field)!r}")
        if not 0 <= self.flux_tolerance < math.inf:
            raise InputError(f"flux_tolerance must not be negative, not {self.flux_tolerance!r}")
        if (
            len(self.split) != 3
            or not all(0 < v < 1 for v in self.split)
            or not math.isclose(sum(self.split), 1, abs_tol=1e-9)
        ):
            raise InputError(f"split must be three positive fractions that add to 1: {self.split}")
        if len(self.redshift_range) != 2 or not self.redshift_range[0] < self.redshift_range[1]:
            raise InputError(f"redshift_range must be two rising numbers: {self.redshift_range}")
        if not self.name or not self.version:
            raise InputError("a model needs a name and a version")

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON knows them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> TrainingConfig:
        """Make a configuration of what `to_dict` gave; fields left out have their defaults.

        Raises
        ------
        InputError
            If a field is unknown or a value cannot be used.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in content:
            if key not in known:
                raise InputError(f"unknown training option {key!r}; known: {', '.join(known)}")
        try:
            return cls(**content)
        except (TypeError, ValueError) as error:
            raise InputError(f"unusable training configuration: {error}") from None
