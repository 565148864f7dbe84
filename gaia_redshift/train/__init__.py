"""Train models on spectra with known redshifts, simulated or real.

sources (spectra -> vectors and redshifts) -> dataset (checks, split, scaling) -> networks or
fine_tuning, fit (epochs, checkpoints) -> finish (calibrate, measure) -> export (a folder
that `gaia_redshift.load_model` loads).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaia_redshift.train.command import run_training
    from gaia_redshift.train.config import TrainingConfig
    from gaia_redshift.train.fine_tuning import make_fine_tuning_config
    from gaia_redshift.train.fit import train_model
    from gaia_redshift.train.search import search_networks
    from gaia_redshift.train.sources import SimulatedGalaxies

_HOMES = {
    "SimulatedGalaxies": "sources",
    "TrainingConfig": "config",
    "make_fine_tuning_config": "fine_tuning",
    "run_training": "command",
    "search_networks": "search",
    "train_model": "fit",
}

__all__ = [
    "SimulatedGalaxies",
    "TrainingConfig",
    "make_fine_tuning_config",
    "run_training",
    "search_networks",
    "train_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gaia_redshift.train' has no attribute '{name}'")
    return getattr(importlib.import_module(f"gaia_redshift.train.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
