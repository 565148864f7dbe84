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

from gaia_redshift._display import format_facts, name_some, show_progress
from gaia_redshift._threads import as_slice
from gaia_redshift.errors import InputError, ModelError, ModelIntegrityError
from gaia_redshift.grid import N_FLUX, SamplingGrid
from gaia_redshift.model.distribution import Prior, parse_bins
from gaia_redshift.model.keras_engine import (
    FEWEST_FOR_GPU,
    Device,
    KerasEngine,
    choose_device,
)
from gaia_redshift.model.manifest import (
    MANIFEST_NAME,
    check_weights,
    read_files,
    read_manifest,
)
from gaia_redshift.model.novelty import parse_novelty
from gaia_redshift.model.onnx_engine import OnnxEngine
from gaia_redshift.model.postprocess import Answer, Prediction
from gaia_redshift.model.scaler import parse_scaler

__all__ = ["DEFAULT_MODEL", "RedshiftModel", "available_models", "load_model"]

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "residual2"
"""The bundled model that ``"default"`` stands for."""

_ALIASES = {"default": DEFAULT_MODEL}
_BUNDLED = Path(__file__).parents[1] / "data" / "models"
_BLOCK = 8192
"""Rows scaled at once, so that memory does not grow with the table."""
_PIECE = 512
"""Rows whose distributions are worked on at once: they then fit in a processor's cache."""

_lock = threading.RLock()
_KEPT = 4
"""Models that stay in memory, some 11 MB each: those loaded last."""
_loaded: dict[tuple[Path, str], tuple[Any, RedshiftModel]] = {}


class RedshiftModel:
    """A trained model, checked against its manifest.

    Made by `load_model`. The network itself is built on the first prediction, so that reading a
    model's card imports nothing heavy. Predictions may be made from several threads. Another
    process that is given a model loads it from its folder.

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
    bins : RedshiftBins or None
        Bins and priors of the redshift distributions, of models that give such.
    scaler, novelty : Scaler, Novelty or None
        What prepares the inputs, and the measure of what is unlike the training set.
    sha256 : str
        Of the file that predictions run: the graph, or Keras's weights on a GPU.
    device : str
        ``"cpu"``, ``"gpu"``, or ``"auto"`` (a GPU, for many spectra).
    """

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        contents: dict[str, bytes],
        device: str = "cpu",
    ) -> None:
        files = manifest["files"]
        paths = {role: str(folder / entry["name"]) for role, entry in files.items()}
        # Though only a GPU runs them: nothing unsafe stays in a folder that was loaded.
        check_weights(contents["weights"], paths["weights"])
        self.folder = folder
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.version: str = manifest["version"]
        self.card = contents["card"].decode(errors="replace")
        self.grid = SamplingGrid(**{band: tuple(nm) for band, nm in manifest["grid"].items()})
        low, high = manifest["redshift_range"]
        self.redshift_range = (float(low), float(high))
        self.uses_errors: bool = manifest["uses_errors"]
        self.device = device
        self.sha256: str = files["weights" if device == "gpu" else "graph"]["sha256"]
        self.scaler = parse_scaler(contents["scaler"], paths["scaler"])
        self.bins = parse_bins(contents["bins"], paths["bins"]) if "bins" in files else None
        self.novelty = (
            parse_novelty(contents["novelty"], paths["novelty"]) if "novelty" in files else None
        )
        self._paths = paths
        self._graph: bytes | None = contents["graph"]
        self._engine: OnnxEngine | None = None
        self._weights: bytes | None = None if device == "cpu" else contents["weights"]
        self._gpu_engine: KerasEngine | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RedshiftModel: {self.name} {self.version}, {self.manifest['trained_on']}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (self.folder, self.device, self.sha256)

    def _repr_html_(self) -> str:
        low, high = self.redshift_range
        facts = [
            ("trained on", self.manifest["trained_on"]),
            ("redshifts", f"{low:g} to {high:g}"),
            ("uses flux errors", "yes" if self.uses_errors else "no"),
            ("distributions", "no" if self.bins is None else f"{len(self.bins.density)} bins"),
            ("priors", None if self.bins is None else name_some(sorted(self.bins.priors), 9)),
            ("sha256", self.sha256[:16] + "..."),
            ("folder", self.folder),
        ]
        return format_facts(f"{self.name} {self.version}", facts)

    def predict(
        self,
        flux: ArrayLike,
        flux_error: ArrayLike | None = None,
        *,
        prior: Prior | None = None,
        std: bool = False,
        pdf: bool = False,
        shape: bool = False,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Prediction:
        """Predict redshifts from vectors on the model's grid.

        Parameters
        ----------
        flux : array-like, shape (n, 186), e-/s per sample
            80 BP then 106 RP fluxes; a row with a value that is not finite gets NaN.
        flux_error : array-like, shape (n, 186), e-/s per sample, optional
            Standard errors, for models with ``uses_errors``. Rows that have none (NaN) are
            predicted without.
        prior : str, array-like of shape (m,), callable or MagnitudePrior, optional
            Redshift distribution to take for the sky's, for models with ``bins``: a name
            (``"sdss"``, ``"flat"``, ``"training"``), densities for the model's bins, a function
            of redshift, or a `gaia_redshift.MagnitudePrior`. By default the model's own choice.
        std, pdf, shape : bool
            Return standard deviations, distributions, and the medians under a flat prior, too.
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
            If an array has another shape, the prior is not usable, or the model gives no
            distributions and they are asked for.
        ModelError
            If the network cannot be built, or what runs it is not installed.
        """
        fluxes = _as_vectors(flux, "flux")
        errors = None if flux_error is None else _as_vectors(flux_error, "flux_error")
        if errors is not None and errors.shape != fluxes.shape:
            raise InputError("flux_error must have as many rows as flux")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be positive, not {batch_size}")
        if self.bins is None and (prior is not None or std or pdf or shape):
            raise InputError(
                f"the model {self.name} gives redshifts without distributions: prior, std, pdf"
                " and shape need one that does (see available_models)"
            )
        if not self.uses_errors:
            errors = None
        answer = Answer(len(fluxes), self, prior, std=std, pdf=pdf, shape=shape)
        rows = np.flatnonzero(np.isfinite(fluxes).all(axis=1))
        if not len(rows):
            return answer.finish()
        engine = self._build_engine(len(rows))
        with show_progress(self.name, len(rows), unit="spectra", shown=progress) as advance:
            for start in range(0, len(rows), _BLOCK):
                numbers = rows[start : start + _BLOCK]
                block = as_slice(numbers)
                flux_here = fluxes[block]
                errors_here = None if errors is None else errors[block]
                inputs = self.scaler.transform(flux_here, errors_here)
                output = engine.run(inputs, batch_size)
                for first in range(0, len(output), _PIECE):
                    piece = slice(first, first + _PIECE)
                    errors_there = None if errors_here is None else errors_here[piece]
                    answer.add(
                        as_slice(numbers[piece]), output[piece], flux_here[piece], errors_there
                    )
                advance(len(flux_here))
        return answer.finish()

    def _build_engine(self, n_rows: int = 0) -> OnnxEngine | KerasEngine:
        """Return what runs so many spectra, built when it is first needed."""
        shapes, paths = self.scaler.shapes, self._paths
        with self._lock:
            if self.device == "gpu" or (self.device == "auto" and n_rows >= FEWEST_FOR_GPU):
                if self._gpu_engine is None:
                    assert self._weights is not None
                    logger.debug("building the network of %s on the GPU", self.name)
                    self._gpu_engine = KerasEngine(self._weights, paths["weights"], shapes)
                    self._weights = None
                return self._gpu_engine
            if self._engine is None:
                assert self._graph is not None
                logger.debug("building the network of %s", self.name)
                bounded = self.folder.parent != _BUNDLED.resolve()
                self._engine = OnnxEngine(self._graph, paths["graph"], shapes, bounded=bounded)
                self._graph = None
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


def load_model(
    name_or_path: str | os.PathLike[str] | RedshiftModel = "default",
    *,
    device: Device = "auto",
) -> RedshiftModel:
    """Load a model, bundled or from a folder that `train_model` made.

    Every file is checked against the sha256 in the manifest. Nothing in them is code: no pickle,
    no operations but ONNX's own. A model that does not come with the package runs in bounded memory
    and time. One of the last four loaded is returned again unless its files have changed since.

    Parameters
    ----------
    name_or_path : str, path or RedshiftModel
        ``"default"``, one of `available_models`, or a model folder. A model is returned as it is.
    device : {"auto", "cpu", "gpu"}
        Where the network runs. ``"cpu"``: ONNX Runtime on the processor. ``"gpu"``: Keras on the
        GPU that its backend (TensorFlow or JAX, as ``KERAS_BACKEND`` says) sees; redshifts differ
        by 1e-4 at most. ``"auto"``: the processor, but calls of thousands of spectra go to a GPU
        where the process has imported Keras already, and Keras sees one.

    Returns
    -------
    RedshiftModel

    Raises
    ------
    ModelError
        If there is no such model, if its folder is not a usable one, or if a GPU is asked for and
        there is none.
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
    device = choose_device(device)  # type: ignore[assignment]
    folder = _find_folder(name_or_path).resolve()
    key = (folder, str(device))
    with _lock:
        manifest, sha256 = read_manifest(folder)
        signature = (sha256, _stat_files(folder, manifest))
        found = _loaded.pop(key, None)
        if found is not None and found[0] == signature:
            _loaded[key] = found  # the last again
            return found[1]
        model = RedshiftModel(folder, manifest, read_files(folder, manifest), device)
        _loaded[key] = (signature, model)
        for oldest in list(_loaded)[:-_KEPT]:
            del _loaded[oldest]
    logger.debug("loaded model %s %s from %s", model.name, model.version, folder)
    return model


def _load_again(folder: Path, device: Device, sha256: str) -> RedshiftModel:
    """Load the model that another process has loaded."""
    model = load_model(folder, device=device)
    if model.sha256 != sha256:
        raise ModelIntegrityError(f"{folder}: another model is here since this one was loaded")
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
