"""Training sets: galaxies with spectra and trusted redshifts, cut, split by sky region, on disk.

``builder`` (the public function) takes labels from ``labels`` (cross-match or a column, cut by
``cuts``) and vectors from ``parts`` (archive, local files or simulated spectra, in restartable
pieces), splits them (``splits``) and writes a Parquet file with its ``manifest``; ``file`` reads it
back, ``checks`` refuses what should not be trained on.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaia_redshift.datasets.builder import build_training_set
    from gaia_redshift.datasets.checks import check_dataset, check_separate
    from gaia_redshift.datasets.cuts import TrainingCuts
    from gaia_redshift.datasets.file import GalaxyDataset, is_dataset, read_dataset
    from gaia_redshift.datasets.splits import SkySplit, find_regions, split_regions

_HOMES = {
    "GalaxyDataset": "file",
    "SkySplit": "splits",
    "TrainingCuts": "cuts",
    "build_training_set": "builder",
    "check_dataset": "checks",
    "check_separate": "checks",
    "find_regions": "splits",
    "is_dataset": "file",
    "read_dataset": "file",
    "split_regions": "splits",
}

__all__ = [
    "GalaxyDataset",
    "SkySplit",
    "TrainingCuts",
    "build_training_set",
    "check_dataset",
    "check_separate",
    "find_regions",
    "is_dataset",
    "read_dataset",
    "split_regions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gaia_redshift.datasets' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"gaia_redshift.datasets.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
