"""Build the library of rest-frame galaxy spectra with bagpipes (extra ``sim``).

``python -m research.simulator.library --seed 1 --n 6000 -o galaxy_library.npz`` draws the
parameters of all galaxies, computes their spectra in worker processes and stores them as principal
components. The same seed and number give the same galaxies whatever the number of processes.

Stars and nebulae come from bagpipes (Carnall et al. 2018, MNRAS 480, 4379): BC03 stellar
populations in their 2016 version with MILES spectra (Bruzual & Charlot 2003, MNRAS 344, 1000),
Cloudy nebular lines and continuum, Calzetti attenuation with a free slope and 2175 A bump (Salim
et al. 2018, ApJ 859, 11), dustier by a factor eta for stars younger than 10 Myr. Active nuclei are
added by `research.simulator.nuclei`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import logging
import multiprocessing
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import silent_output
from gaia_redshift.errors import GaiaRedshiftError, InputError
from gaia_redshift.simulate.galaxies import FORMAT_VERSION, NORMALISATION_A
from research.simulator.nuclei import add_agn
from research.simulator.populations import PARAMETERS, draw_parameters

__all__ = [
    "build_library",
    "compress_spectra",
    "compute_galaxies",
    "main",
    "measure_spectrum",
]

_log = logging.getLogger(__name__)

Float = NDArray[np.float64]

EDGES_A = np.linspace(1900.0, 11100.0, 1841)
"""Edges of the rest-frame bins (A): 5 A wide, so that a line keeps its flux and its place."""

_CHUNK = 50
_REDSHIFT = 1e-3  # bagpipes' age of the Universe there is 13.7 Gyr; light travels a short way


# One model object per set of components and process: bagpipes' own `update` then is quick.
_models: dict[bool, Any] = {}


def _make_model(components: dict[str, Any]) -> Any:
    from bagpipes.models.model_galaxy import model_galaxy

    class RestFrameGalaxy(model_galaxy):  # type: ignore[misc]
        """A bagpipes galaxy without the resampling and photometry that nobody needs here."""

        def _calculate_spectrum(self, model_comp: dict[str, Any]) -> None:
            pass

        def _calculate_uvj_mags(self) -> None:
            pass

    # The wavelengths asked for set where bagpipes samples finely (2 to 5 A).
    return RestFrameGalaxy(components, spec_wavs=np.arange(3200.0, 11300.0, 8.0))


def _bagpipes_components(p: dict[str, float]) -> dict[str, Any]:
    burst = p["burst_fraction"]
    mass, metallicity = 10.5, p["metallicity"]
    components: dict[str, Any] = {
        "redshift": _REDSHIFT,
        "t_bc": 0.01,
        "delayed": {
            "age": p["age"], "tau": p["tau"], "massformed": mass, "metallicity": metallicity,
        },
        "dust": {
            "type": "Salim", "Av": p["av"], "eta": p["eta"],
            "delta": p["dust_slope"], "B": p["dust_bump"],
        },
        "nebular": {"logU": p["log_u"], "velshift": 0.0},
    }  # fmt: skip
    if burst > 0:
        components["constant"] = {
            "age_min": p["burst_end"],
            "age_max": p["burst_start"],
            "massformed": mass + float(np.log10(burst / (1.0 - burst))),
            "metallicity": metallicity,
        }
    return components


def _compute_chunk(
    rows: list[dict[str, float]],
) -> tuple[NDArray[np.float32], list[dict[str, float]]]:
    """Compute the spectra and measured parameters of some galaxies (in a worker process)."""
    spectra = np.empty((len(rows), len(EDGES_A) - 1), dtype=np.float32)
    measured = []
    for i, p in enumerate(rows):
        components = _bagpipes_components(p)
        has_burst = "constant" in components
        if has_burst not in _models:
            _models[has_burst] = _make_model(components)
        else:
            _models[has_burst].update(components)
        model = _models[has_burst]
        if model.sfh.unphysical:
            raise InputError(f"bagpipes made no spectrum: stars of {p['age']:.2f} Gyr are too old")
        spectrum = _integrate_bins(model.wavelengths, model.spectrum_full)
        ha_flux = model.line_fluxes["H  1  6562.80A"] / (1.0 + _REDSHIFT)
        if p["agn_fraction"] > 0:
            spectrum, added = add_agn(EDGES_A, spectrum, p)
            ha_flux += added
        ssfr = model.sfh.ssfr
        values = measure_spectrum(spectrum)
        values["ha_ew"] = ha_flux / values.pop("ha_continuum")
        values["log_ssfr"] = max(float(ssfr), -14.0) if np.isfinite(ssfr) else -14.0
        values["mass_weighted_age"] = float(model.sfh.mass_weighted_age)
        spectra[i] = spectrum / values.pop("level")
        measured.append(values)
    return spectra, measured


def _integrate_bins(wavelengths: Float, flux: Float) -> Float:
    steps = 0.5 * (flux[1:] + flux[:-1]) * np.diff(wavelengths)
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return np.diff(np.interp(EDGES_A, wavelengths, cumulative)) / np.diff(EDGES_A)


def measure_spectrum(spectrum: Float) -> dict[str, Any]:
    """Measure level, D4000, colour and the continuum near H alpha of a binned spectrum."""
    centre = 0.5 * (EDGES_A[1:] + EDGES_A[:-1])

    def mean(low: float, high: float, power: float = 0.0) -> float:
        inside = (centre > low) & (centre < high)
        return float((spectrum[inside] * centre[inside] ** power).mean())

    # f_nu goes as f_lambda lambda^2; an AB magnitude averages f_lambda lambda over 1 / lambda.
    g, r = (
        mean(low, high, 1.0) / float(np.mean(1.0 / centre[(centre > low) & (centre < high)]))
        for low, high in ((4000.0, 5400.0), (5620.0, 6890.0))
    )
    return {
        "level": mean(*NORMALISATION_A),
        "d4000": mean(4000.0, 4100.0, 2.0) / mean(3850.0, 3950.0, 2.0),
        "g_r": -2.5 * float(np.log10(g / r)),
        "ha_continuum": 0.5 * (mean(6400.0, 6480.0) + mean(6640.0, 6700.0)),
    }


def compute_galaxies(
    n: int, seed: int, *, processes: int = 2, progress: bool = False
) -> tuple[NDArray[np.str_], dict[str, Float], NDArray[np.float32]]:
    """Draw and compute all galaxies, in worker processes.

    Parameters
    ----------
    n, seed : int
        Number of galaxies and seed of the draws.
    processes : int, optional
        Worker processes; the result does not depend on it.
    progress : bool, optional
        Show a progress bar.

    Returns
    -------
    types : ndarray of str, shape (n,)
    parameters : dict of str to ndarray, shape (n,)
    spectra : ndarray, shape (n, m)
        Normalised f_lambda in the bins of `EDGES_A`.

    Raises
    ------
    InputError
        If bagpipes is not installed, or too few galaxies are asked for.
    """
    from gaia_redshift._display import open_bar

    types, drawn = draw_parameters(n, seed)
    _import_bagpipes()
    rows = [{key: float(drawn[key][i]) for key in drawn} for i in range(n)]
    chunks = [rows[i : i + _CHUNK] for i in range(0, n, _CHUNK)]
    context = multiprocessing.get_context("spawn")
    spectra, measured = [], []
    with (
        context.Pool(min(processes, len(chunks)), initializer=_import_bagpipes) as pool,
        open_bar(total=n, unit="galaxy", disable=not progress) as bar,
    ):
        for part, values in pool.imap(_compute_chunk, chunks):
            spectra.append(part)
            measured.extend(values)
            bar.update(len(part))
    for key in measured[0]:
        drawn[key] = np.array([values[key] for values in measured])
    return types, {key: drawn[key] for key in PARAMETERS}, np.concatenate(spectra)


def _import_bagpipes() -> None:
    # Workers share the cores already; and bagpipes imports matplotlib, which needs no screen.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        with warnings.catch_warnings(), silent_output:
            warnings.simplefilter("ignore")
            importlib.import_module("bagpipes")
    except ImportError as error:
        raise InputError(
            "building the galaxy library needs bagpipes:"
            f" pip install 'gaia-redshift[sim]' ({error})"
        ) from error


def compress_spectra(
    spectra: NDArray[np.float32], n_components: int
) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Turn spectra into principal components with 16-bit coefficients.

    Each bin is divided by its median over the library first, so that the faint ultraviolet counts
    like the rest. Lines need no separate treatment: with a hundred components they are kept.

    Parameters
    ----------
    spectra : ndarray, shape (n, m)
    n_components : int

    Returns
    -------
    arrays : dict
        ``mean``, ``components``, ``coefficients`` (int16) and ``coefficient_step``.
    accuracy : dict of str to float
        Relative errors of the spectra made from them: rms over 3400-10000 A, its median, 99th
        percentile and maximum over the galaxies, and the largest error of any bin there. The
        largest absolute error anywhere (spectra have mean 1 over `NORMALISATION_A`).
    """
    weight = np.median(spectra, axis=0).astype(float)
    scaled = spectra / weight
    centre = scaled.mean(axis=0)
    scaled -= centre
    _, vectors = np.linalg.eigh(scaled.T @ scaled)
    basis = vectors[:, : -n_components - 1 : -1].T
    basis *= np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(axis=1)])[:, None]
    coefficients = scaled @ basis.T
    step = (np.abs(coefficients).max(axis=0) / 32767).astype(np.float32)
    arrays: dict[str, NDArray[Any]] = {
        "mean": (centre * weight).astype(np.float32),
        "components": (basis * weight).astype(np.float32),
        "coefficients": np.round(coefficients / np.maximum(step, 1e-30)).astype(np.int16),
        "coefficient_step": step,
    }
    rebuilt = arrays["mean"] + (arrays["coefficients"] * step) @ arrays["components"]
    difference = np.abs(np.maximum(rebuilt, 0) - spectra)
    middle = 0.5 * (EDGES_A[1:] + EDGES_A[:-1])
    optical = (difference / spectra)[:, (middle > 3400) & (middle < 10000)]
    rms = np.sqrt((optical**2).mean(axis=1))
    accuracy = {
        "rms_median": np.median(rms),
        "rms_99_percent": np.quantile(rms, 0.99),
        "rms_largest": rms.max(),
        "bin_largest": optical.max(),
        "absolute_largest": difference.max(),
    }
    return arrays, {key: float(f"{value:.3g}") for key, value in accuracy.items()}


def build_library(
    path: str | os.PathLike[str],
    *,
    n: int = 6000,
    seed: int = 1,
    n_components: int = 128,
    processes: int = 2,
    progress: bool = False,
) -> dict[str, Any]:
    """Compute a library and write it to a file that `galaxies.read_library` reads.

    Parameters
    ----------
    path : path
        The ``.npz`` file to write.
    n, seed, n_components, processes : int, optional
        Number of galaxies, seed, principal components kept, worker processes.
    progress : bool, optional
        Show a progress bar.

    Returns
    -------
    dict
        The provenance written with it, with the ``accuracy`` of the compression.

    Raises
    ------
    InputError
        If bagpipes is missing, the numbers make no library, or the file cannot be written.
    """
    if not 0 < n_components <= min(n, len(EDGES_A) - 1):
        raise InputError(f"{n_components} components cannot be had from {n} galaxies")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise InputError(f"cannot write {os.fspath(path)}: its folder does not exist")
    types, parameters, spectra = compute_galaxies(n, seed, processes=processes, progress=progress)
    arrays, accuracy = compress_spectra(spectra, n_components)
    names, code = np.unique(types, return_inverse=True)
    provenance = {
        "command": "python -m research.simulator.library"
        f" --seed {seed} --n {n} --components {n_components}",
        "versions": {name: importlib.metadata.version(name) for name in ("bagpipes", "numpy")},
        "accuracy": accuracy,
    }
    content: dict[str, Any] = {
        "format_version": np.array(FORMAT_VERSION),
        "edges": np.array([EDGES_A[0], EDGES_A[-1], len(EDGES_A) - 1]),
        "type_names": names,
        "type_code": code.astype(np.uint8),
        **arrays,
        **{f"parameter_{key}": value.astype(np.float32) for key, value in parameters.items()},
        "provenance": np.array(json.dumps(provenance)),
    }
    try:
        with open(path, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)
    except OSError as error:
        raise InputError(f"cannot write {os.fspath(path)}: {error}") from error
    return provenance


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m research.simulator.library",
        description="Build the library of rest-frame galaxy spectra with bagpipes.",
    )
    parser.add_argument("--n", type=int, default=6000, help="number of galaxies (default 6000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draws (default 1)")
    parser.add_argument("--components", type=int, default=128, help="components kept (default 128)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("-o", "--output", required=True, help="the .npz file to write")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        provenance = build_library(
            options.output,
            n=options.n,
            seed=options.seed,
            n_components=options.components,
            processes=options.processes,
            progress=True,
        )
    except GaiaRedshiftError as error:
        _log.error("error: %s", error)
        return 1
    size = os.path.getsize(options.output) / 1e6
    _log.info("%s: %d galaxies, %.1f MB", options.output, options.n, size)
    _log.info("relative errors of the stored spectra: %s", provenance["accuracy"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
