"""Names to checked models: `available_models`, `load_model`, and the model itself."""

from __future__ import annotations

import difflib
import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.grid import N_FLUX, SamplingGrid
from gaia_redshift.model.engine import ENGINES, Engine
from gaia_redshift.model.manifest import MANIFEST_NAME, read_files, read_manifest
from gaia_redshift.model.postprocess import Prediction, flag_predictions
from gaia_redshift.model.scaler import parse_scaler

__all__ = ["DEFAULT_MODEL", "RedshiftModel", "available_models", "load_model"]

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "kiraleos2023"
"""The bundled model that ``"default"`` stands for."""

_ALIASES = {"default": DEFAULT_MODEL}
_BUNDLED = Path(__file__).parents[1] / "data" / "models"
_BLOCK = 8192
"""Rows scaled at once, so that memory does not grow with the table."""

_lock = threading.RLock()
_loaded: dict[Path, tuple[Any, RedshiftModel]] = {}


class RedshiftModel:
    """A trained model, checked against its manifest.

    Made by `load_model`. The network itself is built on the first prediction, so that reading a
    model's card does not import TensorFlow. Predictions may be made from several threads.

    Attributes
    ----------
    name, version : str
    folder : Path
        Where it was loaded from.
    manifest : dict
        What ``manifest.json`` says: training, metrics, files.
    card : str
        The model card (Markdown).
    grid : SamplingGrid
        The grid of the vectors that it was trained on.
    redshift_range : tuple of float
        Range of the training redshifts.
    uses_errors : bool
        Whether flux errors change its predictions.
    sha256 : str
        Of the file of weights.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], contents: dict[str, bytes]) -> None:
        if manifest["engine"] not in ENGINES:
            raise ModelError(
                f"{folder / MANIFEST_NAME}: unknown engine {manifest['engine']!r}; the model may"
                " come from a newer gaia_redshift: update the package"
            )
        weights = manifest["files"]["weights"]
        self.folder = folder
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.version: str = manifest["version"]
        self.card = contents["card"].decode(errors="replace")
        self.grid = SamplingGrid(**{band: tuple(nm) for band, nm in manifest["grid"].items()})
        low, high = manifest["redshift_range"]
        self.redshift_range = (float(low), float(high))
        self.uses_errors: bool = manifest["uses_errors"]
        self.sha256: str = weights["sha256"]
        self._scaler = parse_scaler(
            contents["scaler"], N_FLUX, str(folder / manifest["files"]["scaler"]["name"])
        )
        self._weights_path = str(folder / weights["name"])
        self._engine_type = ENGINES[manifest["engine"]]
        self._engine_type.check(contents["weights"], self._weights_path)
        self._weights: bytes | None = contents["weights"]
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RedshiftModel: {self.name} {self.version}, {self.manifest['trained_on']}>"

    @preserve_settings()
    def predict(
        self,
        flux: ArrayLike,
        flux_error: ArrayLike | None = None,
        *,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Prediction:
        """Predict redshifts from vectors on the model's grid.

        Parameters
        ----------
        flux : array-like, shape (n, 186), e-/s
            80 BP then 106 RP fluxes; a row with a value that is not finite gets NaN.
        flux_error : array-like, shape (n, 186), e-/s, optional
            Standard errors, for models with ``uses_errors``.
        batch_size : int, optional
            Spectra that go through the network together; a matter of speed and memory alone.
        progress : bool
            Show a progress bar.

        Returns
        -------
        Prediction

        Raises
        ------
        InputError
            If an array has another shape.
        ModelError
            If the network cannot be built.
        """
        fluxes = _as_vectors(flux, "flux")
        if flux_error is not None and _as_vectors(flux_error, "flux_error").shape != fluxes.shape:
            raise InputError("flux_error must have as many rows as flux")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be positive, not {batch_size}")
        redshift = np.full(len(fluxes), np.nan)
        flags = np.zeros(len(fluxes), dtype=np.int32)
        rows = np.flatnonzero(np.isfinite(fluxes).all(axis=1))
        if not len(rows):
            return Prediction(redshift, flags)
        from tqdm import tqdm

        engine = self._build_engine()
        with tqdm(total=len(rows), desc=self.name, unit="spectra", disable=not progress) as bar:
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                scaled = self._scaler.transform(fluxes[block])
                redshift[block] = engine.run(scaled, batch_size)[:, 0]
                flags[block] = flag_predictions(
                    scaled,
                    redshift[block],
                    redshift_range=self.redshift_range,
                    flux_tolerance=self.manifest["flux_tolerance"],
                )
                bar.update(len(block))
        redshift[~np.isfinite(redshift)] = np.nan
        return Prediction(redshift, flags)

    def _build_engine(self) -> Engine:
        with self._lock:
            if self._engine is None:
                assert self._weights is not None
                logger.debug("building the network of %s", self.name)
                self._engine = self._engine_type(self._weights, self._weights_path, N_FLUX)
                self._weights = None
            return self._engine


def available_models() -> list[str]:
    """Return the names of the models that come with the package.

    Returns
    -------
    list of str
        Each a name for `load_model`; ``"default"`` stands for `DEFAULT_MODEL`.
    """
    if not _BUNDLED.is_dir():
        return []
    return sorted(path.parent.name for path in _BUNDLED.glob(f"*/{MANIFEST_NAME}"))


@preserve_settings()
def load_model(
    name_or_path: str | os.PathLike[str] | RedshiftModel = "default",
) -> RedshiftModel:
    """Load a model, bundled or from a folder that `train_model` made.

    Every file is checked against the sha256 in the manifest. Loading executes nothing from the
    files: no pickle, no layers but Keras's own. A model loaded before is returned again unless
    one of its files has changed since.

    Parameters
    ----------
    name_or_path : str, path or RedshiftModel
        ``"default"``, one of `available_models`, or a model folder. A model is returned as it is.

    Returns
    -------
    RedshiftModel

    Raises
    ------
    ModelError
        If there is no such model, or if its folder is not a usable one.
    ModelIntegrityError
        If a file is not the one that the manifest records.

    Examples
    --------
    >>> load_model("no_such_model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gaia_redshift.errors.ModelError: no model named 'no_such_model'; available: ...
    """
    if isinstance(name_or_path, RedshiftModel):
        return name_or_path
    folder = _find_folder(name_or_path).resolve()
    with _lock:
        manifest, sha256 = read_manifest(folder)
        signature = (sha256, _stat_files(folder, manifest))
        if folder in _loaded and _loaded[folder][0] == signature:
            return _loaded[folder][1]
        model = RedshiftModel(folder, manifest, read_files(folder, manifest))
        _loaded[folder] = (signature, model)
    logger.debug("loaded model %s %s from %s", model.name, model.version, folder)
    return model


def _find_folder(name_or_path: str | os.PathLike[str]) -> Path:
    if not isinstance(name_or_path, str | os.PathLike):
        raise ModelError(f"a model is a name or a folder, not a {type(name_or_path).__name__}")
    known = available_models()
    name = _ALIASES.get(str(name_or_path), str(name_or_path))
    if name in known:
        return _BUNDLED / name
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if not isinstance(name_or_path, str) or path.name != name_or_path:
        raise ModelError(f"{name_or_path}: no such model folder")
    message = f"no model named {name!r}; available: {', '.join(known) or 'none'}"
    close = difflib.get_close_matches(name, [*known, *_ALIASES], n=1)
    if close:
        message += f"; did you mean {close[0]!r}?"
    raise ModelError(message)


def _stat_files(folder: Path, manifest: dict[str, Any]) -> tuple[Any, ...]:
    """Sizes and times of the files, by which a change since the last load is noticed."""
    marks = []
    for entry in manifest["files"].values():
        try:
            status = (folder / entry["name"]).stat()
            marks.append((entry["name"], status.st_size, status.st_mtime_ns))
        except OSError:
            marks.append((entry["name"], -1, -1))
    return tuple(marks)


def _as_vectors(values: ArrayLike, name: str) -> NDArray[np.floating]:
    try:
        array = np.asarray(np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan))
    except (TypeError, ValueError):
        raise InputError(f"{name} is not an array of numbers") from None
    if array.ndim != 2 or array.shape[1] != N_FLUX:
        raise InputError(f"{name} must have shape (n, {N_FLUX}), not {array.shape}")
    return array
