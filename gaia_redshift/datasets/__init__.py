"""Training sets: galaxies with spectra and trusted redshifts, cut, split by sky region, on disk.

``builder`` (the public function) takes labels from ``labels`` (cross-match or a column, cut by
``cuts``) and vectors from ``pieces`` (archive, local files or simulated spectra, in restartable
pieces), splits them (``splits``) and writes a Parquet file with its manifest; ``file`` reads both,
``checks`` refuses what should not be trained on.
"""

from gaia_redshift.datasets.builder import build_training_set
from gaia_redshift.datasets.checks import check_dataset, check_separate
from gaia_redshift.datasets.cuts import TrainingCuts
from gaia_redshift.datasets.file import GalaxyDataset, describe_manifest, is_dataset, read_dataset
from gaia_redshift.datasets.splits import SkySplit, find_regions, split_regions

__all__ = [
    "GalaxyDataset",
    "SkySplit",
    "TrainingCuts",
    "build_training_set",
    "check_dataset",
    "check_separate",
    "describe_manifest",
    "find_regions",
    "is_dataset",
    "read_dataset",
    "split_regions",
]
