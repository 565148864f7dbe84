"""Train models on spectra with known redshifts, simulated or real.

`training` runs it all: sources (spectra -> vectors and redshifts) -> dataset (checks, split,
scaling) -> networks, fit (epochs, checkpoints) -> finish (calibrate, measure) -> export (a folder
that `gaia_redshift.load_model` loads).
"""

from __future__ import annotations

from gaia_redshift.simulate.generate import SimulatedGalaxies
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.search import search_networks
from gaia_redshift.train.training import make_fine_tuning_config, train_model

__all__ = [
    "SimulatedGalaxies",
    "TrainingConfig",
    "make_fine_tuning_config",
    "search_networks",
    "train_model",
]
