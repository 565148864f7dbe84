"""Galaxy redshifts from Gaia BP/RP (XP) spectra.

The flow: `read_spectra` -> `sample_spectra` -> `predict_redshift`; `predict_table` does all three.
Names are loaded on first use, so that importing the package costs neither TensorFlow, GaiaXPy nor
astroquery.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # "as" exports the names to type checkers
    from gaia_redshift.archive.fetch import fetch_spectra as fetch_spectra
    from gaia_redshift.bridges.messages import send_table as send_table
    from gaia_redshift.bridges.packages import register_formats as register_formats
    from gaia_redshift.bridges.packages import to_qp as to_qp
    from gaia_redshift.bridges.packages import to_specutils as to_specutils
    from gaia_redshift.calibrated import calibrate_spectra as calibrate_spectra
    from gaia_redshift.clean import select_clean as select_clean
    from gaia_redshift.crossmatch import crossmatch_catalogue as crossmatch_catalogue
    from gaia_redshift.crossmatch import crossmatch_sdss as crossmatch_sdss
    from gaia_redshift.datasets.builder import build_training_set as build_training_set
    from gaia_redshift.datasets.file import read_dataset as read_dataset
    from gaia_redshift.enrich.catalogue import enrich_catalogue as enrich_catalogue
    from gaia_redshift.flags import QualityFlag as QualityFlag
    from gaia_redshift.flags import decode_flags as decode_flags
    from gaia_redshift.grid import SamplingGrid as SamplingGrid
    from gaia_redshift.grid import read_grid as read_grid
    from gaia_redshift.inspect.page import inspect_spectra as inspect_spectra
    from gaia_redshift.model.prior import MagnitudePrior as MagnitudePrior
    from gaia_redshift.model.registry import available_models as available_models
    from gaia_redshift.model.registry import load_model as load_model
    from gaia_redshift.predict import predict_catalog as predict_catalog
    from gaia_redshift.predict import predict_dask as predict_dask
    from gaia_redshift.predict import predict_partition as predict_partition
    from gaia_redshift.predict import predict_redshift as predict_redshift
    from gaia_redshift.predict import predict_table as predict_table
    from gaia_redshift.predict import predict_to_file as predict_to_file
    from gaia_redshift.readers import read_spectra as read_spectra
    from gaia_redshift.readers.files import read_table as read_table
    from gaia_redshift.sampling import register_basis_set as register_basis_set
    from gaia_redshift.sampling import sample_spectra as sample_spectra
    from gaia_redshift.sampling import sample_wavelengths as sample_wavelengths
    from gaia_redshift.simulate import simulate_spectra as simulate_spectra
    from gaia_redshift.spectra import FluxVectors as FluxVectors
    from gaia_redshift.spectra import XPSpectra as XPSpectra
    from gaia_redshift.tables import write_table as write_table
    from gaia_redshift.writers import write_spectra as write_spectra

__version__ = "0.2.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

_NAMES = {
    "archive.fetch": "fetch_spectra",
    "bridges.messages": "send_table",
    "bridges.packages": "register_formats to_qp to_specutils",
    "calibrated": "calibrate_spectra",
    "clean": "select_clean",
    "crossmatch": "crossmatch_catalogue crossmatch_sdss",
    "datasets.builder": "build_training_set",
    "datasets.file": "read_dataset",
    "enrich.catalogue": "enrich_catalogue",
    "flags": "QualityFlag decode_flags",
    "grid": "SamplingGrid read_grid",
    "inspect.page": "inspect_spectra",
    "model.prior": "MagnitudePrior",
    "model.registry": "available_models load_model",
    "predict": "predict_catalog predict_dask predict_partition predict_redshift predict_table"
    " predict_to_file",
    "readers": "read_spectra",
    "readers.files": "read_table",
    "sampling": "register_basis_set sample_spectra sample_wavelengths",
    "simulate": "simulate_spectra",
    "spectra": "FluxVectors XPSpectra",
    "tables": "write_table",
    "writers": "write_spectra",
}
"""Public names, by the modules that hold them."""
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gaia_redshift' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"gaia_redshift.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
