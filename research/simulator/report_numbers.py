"""What a report keeps of many simulated galaxies, and how they compare with real photometry."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.simulate.instrument import BANDS, load_instrument
from gaia_redshift.simulate.survey import load_parameters
from gaia_redshift.spectra import FluxVectors, XPSpectra
from gaia_redshift.vectors import filter_variance
from research.simulator.calibration import SHARES
from research.simulator.figures import ErrorHistogram
from research.simulator.photometry import PERCENTILES, half_width, load_photometry
from research.simulator.real_noise import BAND_SAMPLES, count_transits

__all__ = ["LEVELS", "TRANSITS", "WINDOWS", "Population", "scale_to_typical"]

Float = NDArray[np.float64]

WINDOWS = (9, 15)
"""Samples of the Savitzky-Golay filters that tell noise from features."""
TRANSITS = (6.0, 15.0, 24.0, 30.0, 38.0, 47.0, 150.0)
"""Edges of bins in the number of the band's transits."""
LEVELS = {"bp": (1.0, 2.0, 4.0), "rp": (2.0, 4.0, 8.0)}
"""Edges of bins in the mean flux of the band's samples, e-/s per sample."""
_FEWEST = 10


@dataclass
class Population:
    """Some numbers of each galaxy, and histograms of the errors, from blocks that stream by."""

    histograms: dict[str, ErrorHistogram] = field(
        default_factory=lambda: {band: ErrorHistogram() for band in BANDS}
    )
    _blocks: list[dict[str, NDArray[np.float32]]] = field(default_factory=list)

    def add(self, spectra: XPSpectra, vectors: FluxVectors) -> None:
        """Add a block of galaxies and their vectors on the default grid."""
        assert spectra.columns is not None
        assert vectors.flux_error is not None
        block = {"redshift": spectra.columns["redshift_true"]}
        for band, samples in BAND_SAMPLES.items():
            flux, transits = vectors.flux[:, samples], count_transits(spectra, band)
            whole = getattr(load_instrument(), band).integral
            block[f"level_{band}"] = flux.mean(axis=1)
            block[f"kept_{band}"] = flux.sum(axis=1)
            block[f"flux_{band}"] = getattr(spectra, band).coefficients @ whole
            block[f"transits_{band}"] = transits
            for window in WINDOWS:
                block[f"residual_{band}_{window}"] = np.sqrt(filter_variance(flux, window))
            scale = scale_to_typical(transits, band)
            self.histograms[band].add(flux, vectors.flux_error[:, samples] * scale[:, None])
        self._blocks.append({name: np.asarray(v, dtype=np.float32) for name, v in block.items()})

    def __getitem__(self, name: str) -> Float:
        return np.concatenate([block[name] for block in self._blocks]).astype(np.float64)

    def compare_photometry(self) -> dict[str, Any]:
        """Compare fluxes and colours with those of real galaxies, per bin of redshift.

        Returns
        -------
        dict
            ``bins``: a list with ``z_low``, ``z_high``, ``n``, ``n_real``; for ``log_rp`` (log10 of
            the photometric RP flux, e-/s) and ``log_bp_rp`` median and scatter (half the range from
            the 16th to the 84th percentile), simulated and ``_real``; ``kept_bp`` and ``kept_rp``,
            the part of all their flux that the kept samples hold. ``kept_real``: the ranges of
            real galaxies.
        """
        z, bp, rp = (self[name] for name in ("redshift", "flux_bp", "flux_rp"))
        bins = []
        for row in load_photometry():
            here = (z >= row["z_low"]) & (z < row["z_high"]) & (bp > 0) & (rp > 0)
            found = {"z_low": row["z_low"], "z_high": row["z_high"]}
            found |= {"n": int(here.sum()), "n_real": row["n"]}
            if here.sum() < _FEWEST:
                continue
            values = {"log_rp": np.log10(rp[here]), "log_bp_rp": np.log10(bp[here] / rp[here])}
            for name, value in values.items():
                for end, q in (("", np.percentile(value, PERCENTILES)), ("_real", row[name])):
                    found[f"{name}{end}"] = float(q[2])
                    found[f"{name}_scatter{end}"] = half_width(q)
            for band, flux in (("bp", bp), ("rp", rp)):
                found[f"kept_{band}"] = float(self[f"kept_{band}"][here].sum() / flux[here].sum())
            bins.append(found)
        return {"bins": bins, "kept_real": {band: list(SHARES[band]) for band in BANDS}}

    def measure_residuals(self) -> list[dict[str, Any]]:
        """Measure high-frequency noise at given level against the number of transits.

        Returns
        -------
        list of dict
            ``band``, ``window`` (samples of the filter), ``level`` (two edges, e-/s per sample),
            and in the bins of `TRANSITS` the number of galaxies ``n`` and the median of their rms
            residual ``rms`` (e-/s per sample; NaN of fewer than 10).
        """
        rows = []
        for band in BANDS:
            level, transits = self[f"level_{band}"], self[f"transits_{band}"]
            for window in WINDOWS:
                residual = self[f"residual_{band}_{window}"]
                for low, high in itertools.pairwise(LEVELS[band]):
                    numbers, medians = [], []
                    for few, many in itertools.pairwise(TRANSITS):
                        here = (level >= low) & (level < high)
                        here &= (transits >= few) & (transits < many)
                        numbers.append(int(here.sum()))
                        enough = here.sum() >= _FEWEST
                        medians.append(float(np.median(residual[here])) if enough else np.nan)
                    rows.append(
                        {"band": band, "window": window, "level": [low, high],
                         "n": numbers, "rms": medians}
                    )  # fmt: skip
        return rows


def scale_to_typical(transits: Float, band: str) -> Float:
    """Return the factors that bring errors to the survey's typical number of transits."""
    p = load_parameters()
    typical = p.transits_median * (p.transits_bp_to_rp if band == "bp" else 1.0)
    return np.sqrt(np.asarray(transits, dtype=float) / typical)
