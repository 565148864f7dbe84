"""Trained models: the store (`registry`), what a folder holds (`manifest`), and how it predicts.

`registry` finds and checks a folder, `scaler` prepares the fluxes, `onnx_engine` runs the network
(`keras_engine` on a GPU), `postprocess` flags what comes out. Predicting on the processor imports
neither TensorFlow nor Keras.
"""

from __future__ import annotations

from gaia_redshift.model.postprocess import Prediction
from gaia_redshift.model.registry import (
    DEFAULT_MODEL,
    RedshiftModel,
    available_models,
    load_model,
)

__all__ = ["DEFAULT_MODEL", "Prediction", "RedshiftModel", "available_models", "load_model"]
