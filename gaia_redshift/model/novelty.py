"""How unlike the training set's galaxies a spectrum is.

Two measures, each against its threshold at the spectrum's brightness: the density of galaxies at
its place among the first principal components (a mixture of Gaussians, brightness included), and
what the components leave over, in units of the flux errors. The score is the larger ratio; above 1
a spectrum is called unlike. The thresholds are percentiles of held-out galaxies.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._threads import multiply_rows
from gaia_redshift.errors import ModelError
from gaia_redshift.grid import N_FLUX
from gaia_redshift.model.scaler import measure_mean_flux

__all__ = ["Novelty", "parse_novelty"]

Float = NDArray[np.float64]

_FLOOR = 0.003
"""Relative error that is added to the flux errors: components never describe a spectrum exactly."""
_MAX_BYTES = 4_000_000
_ROWS = 1024
"""Spectra measured at once: they then fit in a processor's cache."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """Principal components of the training set's galaxies, and how they are spread.

    ``components`` are of (flux / mean flux - ``center``) / ``width``; Gaussians in the first d of
    them and ln(mean flux) have ``means``, ``roots`` (Cholesky factors of their precisions) and
    ``log_weights`` (with what normalises them). At rising ln(mean flux), ``level``, stand median
    and threshold of the negative log density and of the log residual.
    """

    center: Float  # (186,)
    width: Float  # (186,)
    components: Float  # (k, 186)
    means: Float  # (g, d + 1)
    roots: Float  # (g, d + 1, d + 1)
    log_weights: Float  # (g,)
    level: Float  # (b,)
    density_typical: Float  # (b,)
    density_threshold: Float  # (b,)
    residual_typical: Float  # (b,)
    residual_threshold: Float  # (b,)

    def compute_score(
        self, flux: NDArray[np.floating], flux_error: NDArray[np.floating] | None = None
    ) -> Float:
        """Score each spectrum, shape (n,): 0 is usual, above 1 is unlike.

        ``flux`` and ``flux_error`` (n, 186); rows without errors are scored by density alone.
        """
        density, residual, level = self.measure(flux, flux_error)
        score = _compare(density, level, self.level, self.density_typical, self.density_threshold)
        other = _compare(
            residual, level, self.level, self.residual_typical, self.residual_threshold
        )
        return np.fmax(score, other)

    def measure(
        self, flux: NDArray[np.floating], flux_error: NDArray[np.floating] | None = None
    ) -> tuple[Float, Float, Float]:
        """Negative log density, log residual (NaN without errors), ln(mean flux), shape (n,)."""
        n = len(flux)
        density, residual, log_level = (np.full(n, np.nan) for _ in range(3))
        for start in range(0, n, _ROWS):
            rows = slice(start, start + _ROWS)
            errors = None if flux_error is None else flux_error[rows]
            density[rows], residual[rows], log_level[rows] = self._measure_rows(flux[rows], errors)
        return density, residual, log_level

    def _measure_rows(
        self, flux: NDArray[np.floating], flux_error: NDArray[np.floating] | None
    ) -> tuple[Float, Float | float, Float]:
        level = measure_mean_flux(flux)[:, None]
        relative = np.asarray(flux / level, np.float64)
        turn, origin, back = self._scale_components
        place = multiply_rows(relative, turn) - origin
        log_level = np.log(level[:, 0])
        g, d = self.means.shape
        point = np.column_stack([place[:, : d - 1], log_level])
        # One product for all Gaussians: ln of each at each point, then ln of their sum.
        matrix, offset = self._stack_roots
        away = (multiply_rows(point, matrix) - offset).reshape(-1, g, d)
        terms = self.log_weights - 0.5 * np.einsum("ngd,ngd->ng", away, away)
        largest = terms.max(axis=1)
        density = -(largest + np.log(np.exp(terms - largest[:, None]).sum(axis=1)))
        if flux_error is None:
            return density, np.nan, log_level
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            left = relative - self.center - multiply_rows(place, back)
            variance = (flux_error / level) ** 2 + _FLOOR**2
            residual = np.log(np.mean(left**2 / variance, axis=1))
        residual[~np.isfinite(residual)] = np.nan
        return density, residual, log_level

    @cached_property
    def _scale_components(self) -> tuple[Float, Float, Float]:
        """From flux / mean flux to components, (186, k), the center's place, (k,), and back."""
        turn = (self.components / self.width).T
        return turn, self.center @ turn, self.components * self.width

    @cached_property
    def _stack_roots(self) -> tuple[Float, Float]:
        """All roots side by side, shape (d, g d), and the means multiplied by theirs, (g d,)."""
        matrix = np.concatenate(list(self.roots), axis=1)
        return matrix, np.einsum("gd,gde->ge", self.means, self.roots).ravel()

    def to_bytes(self) -> bytes:
        """Write all arrays as an npz file."""
        stream = io.BytesIO()
        np.savez_compressed(
            stream, **{field.name: getattr(self, field.name) for field in fields(self)}
        )
        return stream.getvalue()


def _compare(values: Float, level: Float, at: Float, typical: Float, threshold: Float) -> Float:
    middle = np.interp(level, at, typical)
    limit = np.interp(level, at, threshold)
    return np.maximum((values - middle) / (limit - middle), 0.0)


def parse_novelty(data: bytes, name: str) -> Novelty:
    """Read what `Novelty.to_bytes` wrote, without pickle; ``name`` is for the messages.

    Raises `ModelError` if it is not such a file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise ModelError(f"{name}: larger than a measure of novelty can be")
        with np.load(io.BytesIO(data), allow_pickle=False) as content:
            arrays = {
                field.name: np.asarray(content[field.name], dtype=np.float64)
                for field in fields(Novelty)
            }
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        raise ModelError(f"{name}: not a measure of novelty; the file is damaged") from None
    novelty = Novelty(**arrays)
    g, d = novelty.means.shape if novelty.means.ndim == 2 else (0, 0)
    b = novelty.level.size
    shapes = dict.fromkeys(arrays, (b,)) | {  # thresholds, but for these
        "center": (N_FLUX,),
        "width": (N_FLUX,),
        "components": (len(novelty.components), N_FLUX),
        "means": (g, d),
        "roots": (g, d, d),
        "log_weights": (g,),
    }
    if (
        any(arrays[key].shape != shape for key, shape in shapes.items())
        or not all(np.all(np.isfinite(array)) for array in arrays.values())
        or b < 1
        or not 1 < d <= len(novelty.components) + 1
        or np.any(np.diff(novelty.level) <= 0)
        or np.any(novelty.width <= 0)
        or np.any(novelty.density_threshold <= novelty.density_typical)
        or np.any(novelty.residual_threshold <= novelty.residual_typical)
    ):
        raise ModelError(f"{name}: unusable measure of novelty")
    return novelty
