"""What a training is told: `TrainingConfig`, written with every run and every model."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaia_redshift.errors import InputError

__all__ = ["TrainingConfig", "read_config"]

OPTIMIZERS = ("adamax", "adamw")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a training; the defaults are the recipe of Kiraleos (2023).

    ``gaia_redshift.train.networks.get_recipe`` gives those of each network.

    Parameters
    ----------
    name, version : str
        Of the model.
    network : str
        A name in `gaia_redshift.train.networks.NETWORKS`.
    network_options : dict
        Layout of the network where it differs from the usual one, see
        `gaia_redshift.train.networks.build_residual`.
    epochs : int
        Passes through the training part; the weights after the last one are kept.
    batch_size : int
        Spectra per step.
    optimizer : {"adamax", "adamw"}
    learning_rate : float
        Of the optimiser, at its highest.
    schedule : {"constant", "cosine"}
        Of the learning rate; "cosine" rises over the first steps and falls to nearly 0.
    weight_decay : float
        Of "adamw".
    weight_average : float
        The model's weights are averages over the training's steps that forget with this factor
        (a smaller one where they would reach over more than a tenth of the steps); 0 takes the
        last step's.
    huber_delta : float
        Where the Huber loss turns from quadratic to linear, in redshift; of networks that return a
        redshift.
    bins : int
        Bins of redshift, of networks that return a distribution.
    error_dropout : float
        Share of training spectra whose errors are hidden, of networks that take errors: so that
        these serve without as well.
    error_jitter : float
        Relative scatter by which the errors of training spectra are changed, one factor for each
        band: published errors are no better known, and those of simulated spectra too good.
    level_jitter : float
        Scatter, dex, by which the levels of training spectra are changed, flux and errors alike: a
        network that starts from one that is blind to flux stays so.
    split : tuple of float
        Fractions of the galaxies for training, validation and test.
    redshift_range : tuple of float
        True redshifts must lie within; recorded as the model's range.
    flux_tolerance : float
        How far outside the training part's extremes a flux may lie, as a part of their distance,
        before a prediction is flagged FLUX_OUT_OF_RANGE.
    grid_jitter : float
        Share of the training part's galaxies whose spectra are sampled on moved grids
        (``gaia_redshift.grid.draw_grid``), so that vectors sampled by others work too. Validation
        and test part stay on the model's grid.
    patience : int
        Stop after so many epochs without a smaller validation loss, and keep the weights of the
        best one; 0 runs all epochs and keeps the last weights.
    freeze : tuple of str
        Layers of a model that a training starts from that stay as they are: names, or beginnings of
        names.
    mix : int
        Simulated galaxies that are put into the training part beside the given ones.
    repeat : int
        How often each given galaxy of the training part is shown in an epoch, beside simulated ones
        that are mixed in.
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
    network_options: dict[str, float] = dataclasses.field(default_factory=dict)
    epochs: int = 20
    batch_size: int = 16
    optimizer: str = "adamax"
    learning_rate: float = 0.001
    schedule: str = "constant"
    weight_decay: float = 0.0
    weight_average: float = 0.0
    huber_delta: float = 1.0
    bins: int = 150
    error_dropout: float = 0.15
    error_jitter: float = 0.15
    level_jitter: float = 0.0
    split: tuple[float, float, float] = (0.63, 0.27, 0.10)
    redshift_range: tuple[float, float] = (0.0, 0.6)
    flux_tolerance: float = 0.1
    grid_jitter: float = 0.0
    patience: int = 0
    freeze: tuple[str, ...] = ()
    mix: int = 0
    repeat: int = 1
    seed: int = 1
    description: str = ""

    def __post_init__(self) -> None:
        for name in ("split", "redshift_range"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        object.__setattr__(self, "network_options", dict(self.network_options))
        object.__setattr__(self, "grid_jitter", float(self.grid_jitter))
        freeze = (self.freeze,) if isinstance(self.freeze, str) else self.freeze
        object.__setattr__(self, "freeze", tuple(str(name) for name in freeze))
        self._check_numbers()
        for field, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, field) not in known:
                raise InputError(
                    f"{field} must be one of {', '.join(known)}, not {getattr(self, field)!r}"
                )
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

    def _check_numbers(self) -> None:
        lowest = {"epochs": 1, "batch_size": 1, "bins": 2, "seed": 0, "patience": 0, "mix": 0}
        for field, low in (lowest | {"repeat": 1}).items():
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InputError(f"{field} must be a whole number from {low}, not {value!r}")
        for field in ("learning_rate", "huber_delta"):
            if not 0 < getattr(self, field) < math.inf:
                raise InputError(f"{field} must be positive, not {getattr(self, field)!r}")
        for field in ("flux_tolerance", "weight_decay", "error_jitter", "level_jitter"):
            if not 0 <= getattr(self, field) < math.inf:
                raise InputError(f"{field} must not be negative, not {getattr(self, field)!r}")
        for field in ("grid_jitter", "error_dropout", "weight_average"):
            if not 0 <= getattr(self, field) <= 1:
                raise InputError(f"{field} must lie between 0 and 1: {getattr(self, field)!r}")
        if self.weight_average == 1:
            raise InputError("weight_average must be below 1: the first weights would stay")

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
        _check_names(content)
        try:
            return cls(**content)
        except (TypeError, ValueError) as error:
            raise InputError(f"unusable training configuration: {error}") from None


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read training options, a flat table of `TrainingConfig`'s fields, from a TOML or JSON file.

    A model's ``manifest.json`` gives those of its own training. Raises `InputError` if it cannot be
    read or has an unknown option.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
        if source.suffix == ".json":
            content = json.loads(text)
            content = content.get("training", {}).get("config", content)
        else:
            content = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    except (ValueError, AttributeError) as error:
        raise InputError(f"{source}: not a TOML or JSON table of options: {error}") from None
    _check_names(content, f"{source}: ")
    return dict(content)


def _check_names(content: dict[str, Any], where: str = "") -> None:
    known = [field.name for field in dataclasses.fields(TrainingConfig)]
    for key in content:
        if key not in known:
            raise InputError(f"{where}unknown training option {key!r}; known: {', '.join(known)}")
