"""Start a training from a model: its network, scaler and bins, and which layers may change.

The scaler and the bins of redshift stay the parent's: what the network learnt holds for inputs so
prepared. Density, temperatures and the measure of what is unlike the training set are fitted anew.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaia_redshift.errors import InputError
from gaia_redshift.model.keras_engine import import_keras
from gaia_redshift.model.manifest import read_files
from gaia_redshift.model.registry import RedshiftModel, load_model
from gaia_redshift.train.config import FINE_TUNING, TrainingConfig, get_recipe
from gaia_redshift.train.networks import get_network

_LEVEL_JITTER = 0.3

__all__ = ["ParentModel", "freeze_layers", "make_fine_tuning_config", "read_parent"]


@dataclass(frozen=True, eq=False)
class ParentModel:
    """A model that a training starts from; ``weights`` is its Keras file."""

    model: RedshiftModel
    weights: bytes = field(repr=False)

    def describe(self) -> dict[str, str]:
        """Return name, version and sha256 of the weights, for the manifest of its child."""
        sha256 = self.model.manifest["files"]["weights"]["sha256"]
        return {"name": self.model.name, "version": self.model.version, "sha256": sha256}

    def build(self) -> Any:
        """Return its network in Keras, all layers free to change."""
        keras = import_keras()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.keras"
            path.write_bytes(self.weights)
            network = keras.saving.load_model(path, compile=False, safe_mode=True)
        for layer in network.layers:
            layer.trainable = True
        return network

    def check(self, config: TrainingConfig) -> None:
        """Refuse a configuration that asks for another network than the parent's (`InputError`)."""
        for key, value in _inherit(self.model.manifest).items():
            given = getattr(config, key)
            if (list(given) if isinstance(given, tuple) else given) != value:
                raise InputError(
                    f"a training from {self.model.name} keeps its {key}, {value!r}, and"
                    f" cannot have {given!r}"
                )


def read_parent(model: str | os.PathLike[str]) -> ParentModel:
    """Read a model to start from, by name or folder; `ModelError` if that cannot be done."""
    loaded = load_model(model)
    get_network(loaded.manifest["network"])
    return ParentModel(loaded, read_files(loaded.folder, loaded.manifest)["weights"])


def make_fine_tuning_config(model: str | os.PathLike[str], **options: Any) -> TrainingConfig:
    """Return the configuration with which a model is usually trained further.

    Parameters
    ----------
    model : str or path
        Name or folder.
    **options
        Fields of `TrainingConfig` that are to be otherwise.

    Raises
    ------
    InputError
        If an option is unknown or cannot be used.
    """
    loaded = load_model(model)
    manifest = loaded.manifest
    recipe = get_recipe(manifest["network"]) | FINE_TUNING | _inherit(manifest)
    if loaded.bins is not None and loaded.bins.blind_to_flux:
        recipe["level_jitter"] = _LEVEL_JITTER
    if not get_network(manifest["network"]).distribution:
        recipe["weight_average"] = 0.0
    name = {"name": f"{manifest['name']}-tuned"}
    return TrainingConfig.from_dict(recipe | name | options)


def _inherit(manifest: dict[str, Any]) -> dict[str, Any]:
    """Options that a child shares with its parent."""
    config = manifest["training"]["config"]
    return {
        "network": manifest["network"],
        "network_options": dict(config.get("network_options", {})),
        "bins": int(config.get("bins", TrainingConfig().bins)),
        "redshift_range": [float(v) for v in manifest["redshift_range"]],
    }


def freeze_layers(network: Any, names: Sequence[str]) -> list[str]:
    """Keep layers, by names or their beginnings, as they are in a training; return their names.

    Raises `InputError` if one fits no layer, or if nothing would be left to train.
    """
    layers = [layer for layer in network.layers if layer.weights]
    known = ", ".join(layer.name for layer in layers)
    frozen = []
    for name in names:
        found = [layer for layer in layers if layer.name.startswith(name)]
        if not found:
            raise InputError(f"no layer's name begins with {name!r}; layers: {known}")
        for layer in found:
            layer.trainable = False
            frozen.append(layer.name)
    if not network.trainable_variables:
        raise InputError(f"all layers are frozen, nothing is left to train; layers: {known}")
    return frozen
