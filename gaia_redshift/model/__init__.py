"""Trained models: the store (`registry`), what a folder holds (`manifest`), and how it predicts.

`registry` finds and checks a folder, `scaler` prepares the fluxes, `engine` runs the network
(`onnx_engine`, whose files `onnx_format` reads and `onnx_check` judges, or `keras_engine`),
`postprocess` flags what comes out. Predicting imports neither TensorFlow nor Keras, but for models
that have no graph.
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
