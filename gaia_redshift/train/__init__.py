"""Train models on spectra with known redshifts, simulated or real.

sources (spectra -> vectors and redshifts) -> dataset (checks, split, scaling) -> networks or
fine_tuning, fit (epochs, checkpoints) -> finish (calibrate, measure) -> export (a folder
that `gaia_redshift.load_model` loads).
"""

from __future__ import annotations

from gaia_redshift.simulate.generate import SimulatedGalaxies
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.fine_tuning import make_fine_tuning_config
from gaia_redshift.train.fit import train_model
from gaia_redshift.train.search import search_networks

__all__ = [
    "SimulatedGalaxies",
    "TrainingConfig",
    "make_fine_tuning_config",
    "search_networks",
    "train_model",
]
