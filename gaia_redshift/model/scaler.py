"""How fluxes and errors become a network's inputs: scaled, in its shapes, and cut into batches.

Every scaler is fitted on the training part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import ModelError
from gaia_redshift.grid import N_BP, N_FLUX

__all__ = [
    "Inputs",
    "MinMaxScaler",
    "NoiseScaler",
    "Scaler",
    "check_shapes",
    "iterate_batches",
    "measure_mean_flux",
    "parse_scaler",
]

Float = NDArray[np.float64]
Inputs = Mapping[str, NDArray[np.float32]]
"""Inputs of a network by name, shape (n, ...) each."""

_LOWEST_LEVEL = 0.02
"""e-/s per sample; levels below it, of spectra that are all noise, count as this."""
_LARGEST = 10.0
"""Departures from the usual spectrum are cut here: beyond it they say nothing more."""
_SOFTENING = 3.0
"""Departures of up to about so many standard errors stay proportional, larger ones are damped."""


def measure_mean_flux(flux: NDArray[np.floating]) -> Float:
    """Mean flux of each vector, shape (n,), e-/s per sample, at least a small positive number."""
    return np.maximum(np.mean(flux, axis=1, dtype=np.float64), _LOWEST_LEVEL)


class _Arrays:
    """A dataclass of arrays."""

    kind: ClassVar[str]

    def to_json(self) -> bytes:
        """Write all arrays with every digit of their float64."""
        arrays = {each.name: getattr(self, each.name).tolist() for each in fields(self)}  # type: ignore[arg-type]
        return json.dumps({"kind": self.kind} | arrays, indent=1).encode()


@dataclass(frozen=True, eq=False)
class MinMaxScaler(_Arrays):
    """Scale each flux column to 0..1 between its extremes, e-/s per sample, in the training part.

    A column without spread is only shifted.
    """

    minimum: Float  # (186,)
    maximum: Float  # (186,)
    kind: ClassVar[str] = "minmax"

    @classmethod
    def fit(
        cls, flux: NDArray[np.floating], flux_error: NDArray[np.floating] | None = None
    ) -> MinMaxScaler:
        """Take the extremes of the columns of ``flux``, shape (n, 186), e-/s per sample."""
        return cls(np.min(flux, axis=0).astype(np.float64), np.max(flux, axis=0).astype(np.float64))

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """One input, ``flux``."""
        return {"flux": self.minimum.shape}

    def transform(
        self, flux: NDArray[np.floating], flux_error: NDArray[np.floating] | None = None
    ) -> Inputs:
        """Return ``flux`` (n, 186), scaled from fluxes, e-/s per sample, in float64."""
        spread = self.maximum - self.minimum
        scaled = (flux - self.minimum) / np.where(spread > 0, spread, 1.0)
        limit = float(np.finfo(np.float32).max)
        return {"flux": np.clip(scaled, -limit, limit).astype(np.float32)}

    def measure_excess(self, flux: NDArray[np.floating]) -> Float:
        """Largest excess of any column, shape (n,), in parts of the column's spread."""
        scaled = self.transform(flux)["flux"].astype(np.float64)
        return np.maximum(np.maximum(-scaled, scaled - 1.0).max(axis=1, initial=0.0), 0.0)


@dataclass(frozen=True, eq=False)
class NoiseScaler(_Arrays):
    """Separate a spectrum's shape, its noise and its brightness.

    The network gets, for each sample, the flux relative to the spectrum's mean, in units of the
    galaxies' spread, and the same in units of the band's mean error. Beside them go the mean flux,
    the mean error of each band, and whether there are errors at all. Rows without errors have
    zeros in their place, as some of the training spectra did.

    Errors enter as one number a band on purpose. Those of simulated spectra follow from their
    noise-free fluxes: given sample by sample, a network would learn to read these off them, which
    no real spectrum allows.

    ``center`` and ``width`` are median and half the 16th-to-84th-percentile range of flux / mean
    flux, those of the context mean and standard deviation of ln(mean flux) and of the means over BP
    and RP of ln(error / mean flux); ``level_range`` is the training part's ln(mean flux).
    """

    center: Float  # (186,)
    width: Float  # (186,)
    context_center: Float  # (3,)
    context_width: Float  # (3,)
    level_range: Float  # (2,)
    kind: ClassVar[str] = "noise"

    @classmethod
    def fit(
        cls, flux: NDArray[np.floating], flux_error: NDArray[np.floating] | None = None
    ) -> NoiseScaler:
        """Measure all of it on the training part, shape (n, 186) each.

        Raises `ValueError` if no row has errors.
        """
        level = measure_mean_flux(flux)
        known = np.zeros(len(flux), dtype=bool)
        if flux_error is not None:
            known |= np.isfinite(flux_error).all(axis=1)
        if flux_error is None or not known.any():
            raise ValueError("no row has flux errors")
        low, middle, high = np.percentile(flux / level[:, None], [15.87, 50.0, 84.13], axis=0)
        noise = np.log(flux_error[known] / level[known, None])
        context = np.column_stack([np.log(level[known]), _average_bands(noise)])
        log_level = np.log(level)
        return cls(
            center=middle,
            width=_avoid_zero(0.5 * (high - low)),
            context_center=context.mean(axis=0),
            context_width=_avoid_zero(context.std(axis=0)),
            level_range=np.array([log_level.min(), log_level.max()]),
        )

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Two inputs: ``flux`` with two channels, and ``context``."""
        return {"flux": (len(self.center), 2), "context": (4,)}

    def transform(
        self, flux: NDArray[np.floating], flux_error: NDArray[np.floating] | None = None
    ) -> Inputs:
        """Return ``flux``, shape (n, 186, 2), and ``context``, shape (n, 4).

        Errors that are not positive and finite count as missing, with the whole row's.
        """
        n = len(flux)
        level = measure_mean_flux(flux)[:, None]
        shape = np.asarray(flux / level, dtype=np.float32) - self.center.astype(np.float32)
        channels = np.zeros((n, len(self.center), 2), dtype=np.float32)
        context = np.zeros((n, 4), dtype=np.float32)
        np.clip(shape / self.width.astype(np.float32), -_LARGEST, _LARGEST, out=channels[..., 0])
        context[:, 0] = (np.log(level[:, 0]) - self.context_center[0]) / self.context_width[0]
        if flux_error is not None and n:
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                relative = np.asarray(flux_error / level, dtype=np.float32)
                known = (np.isfinite(relative) & (relative > 0)).all(axis=1)
            rows = slice(None) if known.all() else np.flatnonzero(known)
            bands = _average_bands(np.log(relative[rows]))
            scale = (_SOFTENING * np.exp(bands)).astype(np.float32)
            for i, band in enumerate((slice(None, N_BP), slice(N_BP, None))):
                channels[rows, band, 1] = np.arcsinh(shape[rows, band] / scale[:, i, None])
            context[rows, 1:3] = (bands - self.context_center[1:]) / self.context_width[1:]
            context[rows, 3] = 1.0
        return {"flux": channels, "context": np.clip(context, -_LARGEST, _LARGEST)}

    def measure_excess(self, flux: NDArray[np.floating]) -> Float:
        """How far ln(mean flux) lies outside that of the training part, shape (n,)."""
        low, high = self.level_range
        level = np.log(measure_mean_flux(flux))
        return np.maximum(np.maximum(low - level, level - high), 0.0) / (high - low)


Scaler = MinMaxScaler | NoiseScaler
_SIZES: dict[type[Scaler], dict[str, int]] = {
    MinMaxScaler: {"minimum": N_FLUX, "maximum": N_FLUX},
    NoiseScaler: {
        "center": N_FLUX,
        "width": N_FLUX,
        "context_center": 3,
        "context_width": 3,
        "level_range": 2,
    },
}


def _average_bands(values: NDArray[np.floating]) -> Float:
    """Means over the BP and the RP samples, shape (n, 2)."""
    return np.stack(
        [values[:, :N_BP].mean(axis=1), values[:, N_BP:].mean(axis=1)], axis=1, dtype=np.float64
    )


def _avoid_zero(width: Float) -> Float:
    return np.where(width > 0, width, 1.0)


def parse_scaler(data: bytes, name: str) -> Scaler:
    """Read what a scaler's ``to_json`` wrote; ``name`` is for the messages.

    Raises `ModelError` if the content is not a scaler for vectors.
    """
    try:
        content: Any = json.loads(data)
        kind = content["kind"]
        arrays = {
            key: np.asarray(values, dtype=np.float64)
            for key, values in content.items()
            if key != "kind"
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ModelError(f"{name}: not a scaler file (JSON with kind, minimum, maximum)") from None
    scaler_type = next((each for each in _SIZES if each.kind == kind), None)
    if scaler_type is None:
        raise ModelError(f"{name}: unknown kind of scaler {kind!r}; update gaia_redshift")
    sizes = _SIZES[scaler_type]
    for key, size in sizes.items():
        if key not in arrays or arrays[key].shape != (size,) or not np.isfinite(arrays[key]).all():
            what = "minima and maxima" if kind == "minmax" else f"values of {key}"
            raise ModelError(f"{name}: a scaler needs {size} finite {what}")
    if any(np.any(arrays[key] <= 0) for key in sizes if key.endswith("width")):
        raise ModelError(f"{name}: a width is not positive")
    scaler = scaler_type(**{key: arrays[key] for key in sizes})
    if isinstance(scaler, NoiseScaler):
        if not scaler.level_range[0] < scaler.level_range[1]:
            raise ModelError(f"{name}: level_range does not rise")
    elif not np.all(scaler.minimum <= scaler.maximum):
        raise ModelError(f"{name}: a minimum lies above its maximum")
    return scaler


def check_shapes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], name: str
) -> None:
    """Compare a network's inputs with those that it will get; `ModelError` if they differ.

    (186,) may go into (186, 1), and the name of a single input does not matter.
    """
    pairs = list(zip(found.values(), expected.values(), strict=False))
    same_names = len(found) == 1 or set(found) == set(expected)
    if len(found) > 1 and same_names:
        pairs = [(found[key], expected[key]) for key in expected]
    if (
        len(found) != len(expected)
        or not same_names
        or any(_strip(a) != _strip(b) for a, b in pairs)
    ):
        raise ModelError(
            f"{name}: a network here maps inputs {_describe(expected)} to (n, m), this one takes"
            f" {_describe(found)}"
        )


def _strip(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(
        f"{name} ({', '.join(['n', *map(str, shape)])})" for name, shape in shapes.items()
    )


def iterate_batches(
    inputs: Inputs | NDArray[np.float32], shapes: Mapping[str, tuple[int, ...]], size: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield inputs, or a network's only one, in pieces of up to ``size`` rows; one without rows."""
    if not isinstance(inputs, Mapping):
        inputs = dict.fromkeys(shapes, inputs) if len(shapes) == 1 else {"": inputs}
    elif len(shapes) == 1 and len(inputs) == 1:
        inputs = dict(zip(shapes, inputs.values(), strict=True))
    if set(inputs) != set(shapes):
        raise ValueError(f"the network takes {', '.join(shapes)}")
    arrays = {
        key: np.ascontiguousarray(inputs[key], np.float32).reshape(len(inputs[key]), *shape)
        for key, shape in shapes.items()
    }
    n = len(next(iter(arrays.values())))
    if any(len(array) != n for array in arrays.values()):
        raise ValueError("the inputs of a network must have the same number of rows")
    for start in range(0, max(n, 1), size):
        yield {key: array[start : start + size] for key, array in arrays.items()}
