"""From whatever holds spectra with true redshifts to vectors, kept in the run's folder."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import write_text
from gaia_redshift.datasets.checks import check_dataset
from gaia_redshift.datasets.file import GalaxyDataset, is_dataset, read_dataset
from gaia_redshift.errors import InputError
from gaia_redshift.flags import FATAL, QualityFlag
from gaia_redshift.grid import N_FLUX, SamplingGrid, draw_grid
from gaia_redshift.simulate.generate import SimulatedGalaxies
from gaia_redshift.spectra import FluxVectors, XPSpectra

__all__ = [
    "LabelledVectors",
    "collect_vectors",
    "describe_source",
    "mix_vectors",
    "open_source",
]

logger = logging.getLogger(__name__)

_BLOCK_SIZE = 10_000
_ARRAYS = ("source_id", "flux", "redshift")
_NEXT_SKY = 3000
"""Between the seeds of a population's parts."""
_GRIDS_PER_BLOCK = 40
"""Moved grids for each block of galaxies: a design matrix takes as long as 1,000 galaxies."""


@dataclass(frozen=True, eq=False)
class LabelledVectors:
    """Vectors with true redshifts.

    Parameters
    ----------
    source_id : ndarray, shape (n,), int64
    flux : ndarray, shape (n, 186), float32, e-/s per sample
    redshift : ndarray, shape (n,), float64
    description : dict
        Where they came from: ``kind``, number of rows, sha256 of the arrays, ...
    flux_moved : ndarray, shape (n, 186), float32, e-/s per sample, or None
        The same spectra sampled on moved grids.
    flux_error : ndarray, shape (n, 186), float32, e-/s per sample, or None
        Standard errors of ``flux``; NaN in rows without.
    split : ndarray, shape (n,), str, or None
        "train", "validation" or "test", where the source is split already.
    is_galaxy : ndarray, shape (n,), bool, or None
        False for stars and quasars, whose redshift is 0 here; None where all are galaxies.
    """

    source_id: NDArray[np.int64]
    flux: NDArray[np.float32]
    redshift: NDArray[np.float64]
    description: dict[str, Any]
    flux_moved: NDArray[np.float32] | None = None
    flux_error: NDArray[np.float32] | None = None
    split: NDArray[np.str_] | None = None
    is_galaxy: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.flux)

    @property
    def n_given(self) -> int:
        """Number of rows before those that were mixed in."""
        mixed = self.description.get("mixed_with")
        return len(self) - (mixed["n_given"] - mixed["n_unusable"] if mixed else 0)


def describe_source(source: Any, *, truth: str, grid: SamplingGrid) -> dict[str, Any]:
    """Say in JSON what ``source`` is, so that a resumed run can tell whether it is the same."""
    if isinstance(source, SimulatedGalaxies):
        return {
            "kind": "simulated",
            "n": source.n,
            "survey": source.survey,
            "seed": source.seed,
            "sky": source.sky,
            "contaminants": source.contaminants,
            "grid": grid.to_dict(),
        }
    if _is_vectors(source):
        vectors, redshift = source
        digest = _hash_arrays(vectors.source_id, vectors.flux, np.asarray(redshift))
        return {"kind": "vectors", "sha256": digest, "grid": vectors.grid.to_dict()}
    if isinstance(source, GalaxyDataset):
        return describe_dataset(source)
    from gaia_redshift.readers.identity import identify
    from gaia_redshift.readers.sources import iter_sources

    parts = [identify(part) for part in iter_sources(source)]
    return {"kind": "spectra", "parts": parts, "truth": truth, "grid": grid.to_dict()}


def open_source(source: Any, redshift_range: tuple[float, float]) -> Any:
    """Read ``source`` if it is a training set's file; check it if it is a training set.

    Raises `InputError` if it should not be trained on (`gaia_redshift.datasets.check_dataset`).
    """
    if is_dataset(source):
        return read_dataset(source, redshift_range=redshift_range)
    if isinstance(source, GalaxyDataset):
        return check_dataset(source, redshift_range=redshift_range)
    return source


def describe_dataset(dataset: GalaxyDataset) -> dict[str, Any]:
    """Say in JSON what a training set is."""
    vectors = dataset.vectors
    arrays = [vectors.source_id, vectors.flux, dataset.redshift]
    arrays += [] if vectors.flux_error is None else [vectors.flux_error]
    return {
        "kind": "dataset",
        "parts": [{"file": Path(dataset.label).name, "rows": len(dataset)}],
        "release": str(dataset.manifest.get("release") or "DR3"),
        "sha256": _hash_arrays(*arrays, np.asarray(dataset.split, dtype="S10")),
        "grid": vectors.grid.to_dict(),
    }


def collect_vectors(
    source: Any,
    folder: Path,
    *,
    truth: str,
    grid: SamplingGrid,
    jitter_seed: int | None = None,
    errors: bool = False,
    progress: bool = False,
) -> LabelledVectors:
    """Sample a source's spectra, or take the vectors that an earlier run left in ``folder``.

    Rows whose spectrum cannot be sampled are left out and counted in the description. With a
    ``jitter_seed``, the spectra are sampled on moved grids as well, with ``errors`` the errors too.

    Raises `InputError` if the source cannot be read, has no column of true redshifts, or is not the
    one that ``folder`` was made from.
    """
    if isinstance(source, Iterator):  # gone through twice
        source = list(source)
    request = describe_source(source, truth=truth, grid=grid)
    if jitter_seed is not None:
        if _is_vectors(source) or isinstance(source, GalaxyDataset):
            raise InputError(
                "grid_jitter needs spectra: vectors cannot be sampled again; set it to 0"
            )
        request["jitter_seed"] = jitter_seed
    if errors:
        request["errors"] = True
    marker = folder / "vectors.json"
    if marker.exists():
        return _read_vectors(folder, marker, request)

    blocks = list(_iter_blocks(source, truth, grid, jitter_seed, errors=errors, progress=progress))
    source_id, flux, redshift, usable = (
        np.concatenate([block[i] for block in blocks]) for i in range(4)
    )
    moved = [block[4] for block in blocks if block[4] is not None]
    flux_error = [block[5] for block in blocks if block[5] is not None]
    is_galaxy = np.concatenate([block[6] for block in blocks])
    redshift = np.where(is_galaxy, redshift, 0.0)
    from gaia_redshift.simulate.identity import are_simulated

    simulated = are_simulated(source_id)
    split = None
    if isinstance(source, GalaxyDataset):
        split = np.asarray(source.split)[usable]
        simulated |= source.simulated
    description = {
        **{key: value for key, value in request.items() if key != "grid"},
        "simulated": simulated,
        "n_given": len(usable),
        "n_unusable": int((~usable).sum()),
        "sha256": _hash_arrays(source_id, flux, redshift),
    }
    vectors = LabelledVectors(
        source_id[usable],
        flux[usable],
        redshift[usable],
        description,
        np.concatenate(moved)[usable] if moved else None,
        np.concatenate(flux_error)[usable] if flux_error else None,
        split,
        None if is_galaxy.all() else is_galaxy[usable],
    )
    for name in _name_arrays(request):
        np.save(folder / f"{name}.npy", getattr(vectors, name), allow_pickle=False)
    # Written last and at once: its presence says that the arrays are complete.
    write_text(marker, json.dumps({"request": request, "description": description}, indent=1))
    return vectors


def mix_vectors(given: LabelledVectors, simulated: LabelledVectors) -> LabelledVectors:
    """Put simulated galaxies behind the given ones, whose split must be known.

    They belong to the training part alone: what is validated and tested stays what was given.
    Raises `InputError` if the two share sources.
    """
    assert given.split is not None
    shared = np.intersect1d(given.source_id, simulated.source_id)
    if len(shared):
        raise InputError(
            f"{len(shared)} of the given galaxies (source_id {shared[0]}, ...) are among those"
            " that are simulated to be mixed in; choose another seed"
        )

    def join(a: Any, b: Any) -> Any:
        if a is None and b is None:
            return None
        empty = np.full(given.flux.shape, np.nan, np.float32)
        return np.concatenate([empty if a is None else a, b])

    return LabelledVectors(
        join(given.source_id, simulated.source_id),
        join(given.flux, simulated.flux),
        join(given.redshift, simulated.redshift),
        given.description | {"mixed_with": simulated.description},
        None,
        join(given.flux_error, simulated.flux_error),
        join(given.split, np.full(len(simulated), "train", dtype=given.split.dtype)),
    )


def _name_arrays(request: dict[str, Any]) -> tuple[str, ...]:
    optional = {"jitter_seed": "flux_moved", "errors": "flux_error"}
    kept = ["split"] if request["kind"] == "dataset" else []
    kept += ["is_galaxy"] if request.get("contaminants") else []
    return (*_ARRAYS, *kept, *(name for key, name in optional.items() if key in request))


def _read_vectors(folder: Path, marker: Path, request: dict[str, Any]) -> LabelledVectors:
    try:
        stored = json.loads(marker.read_text())
        same, description = stored["request"] == request, stored["description"]
        arrays = {}
        for name in _name_arrays(request) if same else ():
            with (folder / f"{name}.npy").open("rb") as stream:
                arrays[name] = np.load(stream, allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        raise InputError(f"{folder}: the run's vectors are damaged; delete the folder") from None
    if not same:
        raise InputError(
            f"{folder}: this run was begun with other data than those given now;"
            " choose another run folder"
        )
    logger.info("took %d vectors from %s", len(arrays["flux"]), folder)
    return LabelledVectors(**arrays, description=description)


def _is_vectors(source: Any) -> bool:
    return isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], FluxVectors)


_Block = tuple[
    NDArray[np.int64],
    NDArray[np.float32],
    NDArray[np.float64],
    NDArray[np.bool_],
    NDArray[np.float32] | None,
    NDArray[np.float32] | None,
    NDArray[np.bool_],
]


def _iter_blocks(
    source: Any,
    truth: str,
    grid: SamplingGrid,
    jitter_seed: int | None,
    *,
    errors: bool,
    progress: bool,
) -> Iterator[_Block]:
    if _is_vectors(source):
        vectors, redshift = source
        yield _make_block(vectors, _as_redshifts(redshift, "redshift"), None, errors)
        return
    if isinstance(source, GalaxyDataset):
        yield _make_block(source.vectors, source.redshift, None, errors)
        return
    from gaia_redshift.sampling import sample_spectra

    rng = None if jitter_seed is None else np.random.default_rng([jitter_seed, 1])
    for spectra in _iter_spectra(source, truth, errors, progress):
        if spectra.columns is None or truth not in spectra.columns.colnames:
            raise InputError(f"the spectra have no column {truth!r} of true redshifts")
        vectors = sample_spectra(spectra, grid=grid, errors=errors)
        moved = None if rng is None else _sample_moved(spectra, rng)
        galaxy = ~_are_contaminants(source, spectra)
        redshift = _as_redshifts(spectra.columns[truth], truth)
        yield _make_block(vectors, redshift, moved, errors, galaxy)


def _sample_moved(spectra: XPSpectra, rng: np.random.Generator) -> NDArray[np.float32]:
    """Sample each spectrum on one of a few grids drawn for this block, shape (n, 186)."""
    from gaia_redshift.sampling import sample_block

    flux = np.empty((len(spectra), N_FLUX), dtype=np.float32)
    which = rng.integers(_GRIDS_PER_BLOCK, size=len(spectra))
    for number in range(_GRIDS_PER_BLOCK):
        grid = draw_grid(rng)
        rows = np.flatnonzero(which == number)
        if rows.size:
            flux[rows] = sample_block(spectra[rows], grid=grid, errors=False)[0].flux
    return flux


def _iter_spectra(source: Any, truth: str, errors: bool, progress: bool) -> Iterator[XPSpectra]:
    if isinstance(source, SimulatedGalaxies):
        yield from _simulate(source, errors, progress)
        return
    from gaia_redshift.readers import iter_spectra

    yield from iter_spectra(
        source,
        block_size=_BLOCK_SIZE,
        correlations=errors,
        errors=errors,
        keep=[truth],
        progress=progress,
    )


def _simulate(source: SimulatedGalaxies, correlations: bool, progress: bool) -> Iterator[XPSpectra]:
    """Galaxies, then equal numbers of each kind of what is none."""
    from gaia_redshift.simulate import simulate_blocks
    from gaia_redshift.simulate.contaminants import CONTAMINANTS
    from gaia_redshift.simulate.survey import SKIES, load_parameters

    if source.sky not in SKIES:
        raise InputError(f"no sky named {source.sky!r}; known: {', '.join(SKIES)}")
    options: dict[str, Any] = {
        "block_size": _BLOCK_SIZE,
        "correlations": correlations,
        "progress": progress,
    }
    skies = SKIES[source.sky]
    for i, change in enumerate(skies):
        options["parameters"] = change(load_parameters())
        options["seed"] = source.seed + i * _NEXT_SKY
        n = source.n * (i + 1) // len(skies) - source.n * i // len(skies)
        yield from simulate_blocks(n, survey=source.survey, **options)
        each = round(n * source.contaminants / len(CONTAMINANTS))
        for kind in CONTAMINANTS if each else ():
            yield from simulate_blocks(each, kind=kind, **options)


def _make_block(
    vectors: FluxVectors,
    redshift: NDArray[np.float64],
    moved: NDArray[np.float32] | None,
    errors: bool,
    galaxy: NDArray[np.bool_] | None = None,
) -> _Block:
    if len(redshift) != len(vectors):
        raise InputError(f"{len(redshift)} true redshifts for {len(vectors)} vectors")
    usable = ((vectors.quality & int(FATAL)) == 0) & np.isfinite(vectors.flux).all(axis=1)
    if moved is not None:
        usable &= np.isfinite(moved).all(axis=1)
    flux_error = None
    if errors:
        given = vectors.flux_error
        flux_error = np.full(vectors.flux.shape, np.nan, np.float32)
        if given is not None:
            # Errors that leave the correlations out are 28 to 61 % off: none are better.
            flux_error[:] = given
            flux_error[(vectors.quality & int(QualityFlag.DIAGONAL_FLUX_ERROR)) != 0] = np.nan
    flux = vectors.flux.astype(np.float32)
    galaxy = np.ones(len(flux), dtype=bool) if galaxy is None else galaxy
    return vectors.source_id, flux, redshift, usable, moved, flux_error, galaxy


def _are_contaminants(source: Any, spectra: XPSpectra) -> NDArray[np.bool_]:
    """Which rows, shape (n,), were simulated for a training as something else than galaxies."""
    if not (isinstance(source, SimulatedGalaxies) and source.contaminants):
        return np.zeros(len(spectra), dtype=bool)
    from gaia_redshift.simulate.contaminants import CONTAMINANTS

    assert spectra.columns is not None
    return np.isin(np.asarray(spectra.columns["type"]), CONTAMINANTS)


def _as_redshifts(values: Any, name: str) -> NDArray[np.float64]:
    try:
        array = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    except (TypeError, ValueError):
        raise InputError(f"the true redshifts ({name}) are not numbers") from None
    if array.ndim != 1:
        raise InputError(f"the true redshifts ({name}) must be one number a row")
    return np.asarray(array)


def _hash_arrays(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
