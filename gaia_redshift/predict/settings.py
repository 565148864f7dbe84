"""How to predict: a model, and what is asked of it and of the input, for all blocks alike.

`describe_plan` says it in plain numbers and strings, by which a later run knows the same work.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaia_redshift import __version__
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.grid import SamplingGrid, read_grid
from gaia_redshift.model.prior import MagnitudePrior
from gaia_redshift.readers.columns import parse_keep
from gaia_redshift.readers.sources import identify, identify_path, is_for_archive

if TYPE_CHECKING:
    from gaia_redshift.model.distribution import Prior
    from gaia_redshift.model.keras_engine import Device

__all__ = ["Model", "Settings", "describe_plan", "load_for_prediction", "make_settings"]

BLOCK_SIZE = 8192
"""Sources read, sampled and predicted at a time."""


class Model(Protocol):
    """What a prediction needs of a model (`gaia_redshift.load_model` returns such)."""

    name: str
    version: str
    sha256: str
    manifest: dict[str, Any]
    grid: SamplingGrid
    uses_errors: bool

    def predict(
        self, flux: NDArray[np.float64], flux_error: NDArray[np.floating] | None = None
    ) -> Any:
        """Return ``redshift`` (n,), ``flags`` (n,), ``lower`` and ``upper`` (n,) or None.

        Options ``prior``, ``std``, ``pdf`` and ``progress`` are passed where they are asked for.
        """


@dataclass(frozen=True)
class Settings:
    """How to predict, by the arguments of `gaia_redshift.predict_table`.

    ``asked`` holds what the model is asked for beyond redshifts, and ``peaks``; ``errors`` says
    whether flux errors are read; columns in ``optional`` are carried along where there are any.
    """

    model: Model
    grid: SamplingGrid
    errors: bool
    asked: Mapping[str, Any] = field(default_factory=dict)
    keep: str | tuple[str, ...] | None = None
    optional: tuple[str, ...] = ()
    any_release: bool = False
    block_size: int = BLOCK_SIZE
    archive: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained_on(self) -> str:
        """The data release whose spectra the model is for."""
        return str(self.model.manifest.get("data_release", "DR3"))

    def check_release(self, release: Any) -> None:
        """Refuse spectra of another release: its bases and calibration differ."""
        if release is None or self.any_release:
            return
        name = re.sub(r"^GAIA\W*", "", str(getattr(release, "name", release)).upper())
        if name != self.trained_on:
            raise InputError(
                f"the model {self.model.name} is for spectra of {self.trained_on}, these are of"
                f" {name}, calibrated differently; any_release=True (--any-release) predicts them"
                " all the same"
            )

    def check_bases(self, bases: Mapping[str, str | None]) -> None:
        """Refuse spectra of no known release on bases that are not those of the model's."""
        trained = self.trained_on
        for name, release in bases.items():
            # Bases of nobody's are not DR3's, whose are known; a later release's they may be.
            other = trained == "DR3" if release is None else release != trained
            if other and not self.any_release:
                raise InputError(
                    f"the model {self.model.name} is for spectra of {trained}, these are on the"
                    f" bases {name} ({f'of {release}' if release else 'of no known release'}),"
                    " which may be calibrated differently; any_release=True (--any-release)"
                    " predicts them all the same"
                )


def make_settings(
    model: str | os.PathLike[str] | Model,
    *,
    grid: SamplingGrid | str | os.PathLike[str] | None = None,
    keep: str | Sequence[str] | None = None,
    optional: Sequence[str] = (),
    flux_errors: bool | None = None,
    prior: Prior | None = None,
    block_size: int = BLOCK_SIZE,
    archive: Mapping[str, Any] | None = None,
    any_release: bool = False,
    device: Device = "auto",
    std: bool = False,
    pdf: bool = False,
    peaks: bool = False,
    shape: bool = False,
) -> Settings:
    """Load the model and settle what is read; arguments as for `gaia_redshift.predict_table`."""
    if block_size < 1:
        raise InputError(f"block_size must be positive, not {block_size}")
    loaded = load_for_prediction(model, device)
    extras = {"std": std, "pdf": pdf, "peaks": peaks, "shape": shape}
    asked: dict[str, Any] = {} if prior is None else {"prior": prior}
    return Settings(
        model=loaded,
        grid=_choose_grid(grid, loaded),
        errors=loaded.uses_errors if flux_errors is None else flux_errors,
        asked=asked | {name: True for name, wanted in extras.items() if wanted},
        keep=parse_keep(keep),
        optional=tuple(optional),
        any_release=any_release,
        block_size=block_size,
        archive=dict(archive or {}),
    )


def load_for_prediction(model: Any, device: Device = "auto") -> Model:
    """Return the model itself, or load the one of this name or path.

    Raises
    ------
    InputError
        If it is neither a name, a path nor a model.
    ModelError
        If it cannot be loaded.
    """
    if isinstance(model, (str, os.PathLike)):
        from gaia_redshift.model.registry import load_model

        return load_model(model, device=device)
    if not hasattr(model, "predict") or not hasattr(model, "grid"):
        raise InputError(
            f"model must be a name, a path or a loaded model, not {type(model).__name__}"
        )
    return model  # type: ignore[no-any-return]


def _choose_grid(grid: Any, model: Model) -> SamplingGrid:
    if grid is None:
        return model.grid
    if isinstance(grid, (str, os.PathLike)):
        grid = read_grid(grid)
    if not isinstance(grid, SamplingGrid):
        raise InputError(f"grid must be a SamplingGrid or a path, not {type(grid).__name__}")
    if grid != model.grid:
        warnings.warn(
            f"the model {model.name} was trained on another grid of wavelengths than this one:"
            " expect shifted redshifts",
            GaiaRedshiftWarning,
            stacklevel=5,
        )
    return grid


def describe_plan(sources: Sequence[Any], settings: Settings) -> dict[str, Any]:
    """Return what tells this run from another one, as plain numbers and strings."""
    model = settings.model
    options = {
        **settings.asked,
        "grid": settings.grid,
        "any_release": settings.any_release,
        "keep": settings.keep,
        "optional": settings.optional,
        "flux_errors": settings.errors,
        "block_size": settings.block_size,
        # How long to wait for the archive changes nothing.
        "archive": {key: settings.archive.get(key) for key in ("release", "radius")},
    }
    return {
        "version": __version__,
        "model": f"{model.name} {model.version} {model.sha256}",
        "options": {key: _describe_value(value) for key, value in sorted(options.items())},
        "inputs": [_describe_input(source) for source in sources],
    }


def _describe_input(source: Any) -> dict[str, Any]:
    if isinstance(source, Path):
        return {**identify_path(source), "what": os.path.abspath(source)}
    what = type(source).__name__
    if isinstance(source, str):
        return {"what": source}
    if is_for_archive(source):
        return {**identify(source), "what": what}
    return {"what": what, "in_memory": True}


def _describe_value(value: Any) -> Any:
    """Return a value as JSON holds it: long ones as a digest of their content."""
    if isinstance(value, MagnitudePrior):  # its text leaves most of the numbers out
        value = [value.log_flux, value.edges, value.probability]
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {_digest(np.ascontiguousarray(value).tobytes())}"
    if isinstance(value, Mapping):
        return {str(key): _describe_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe_value(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if callable(value):  # a prior: known by its values
        return _describe_value(np.asarray(value(np.linspace(0, 1, 101)), dtype=float))
    text = repr(value)
    if " at 0x" in text:  # says nothing of the content, and differs each time
        text = type(value).__name__
    return text if len(text) <= 200 else _digest(text.encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
