"""From whatever holds spectra with true redshifts to vectors, kept in the run's folder."""

from __future__ import annotations

import dataclasses
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
from gaia_redshift.readers import iter_spectra
from gaia_redshift.readers.sources import identify, iter_sources
from gaia_redshift.sampling import sample_block, sample_spectra
from gaia_redshift.simulate.contaminants import CONTAMINANTS
from gaia_redshift.simulate.generate import SimulatedGalaxies, simulate_blocks
from gaia_redshift.simulate.observation import are_simulated
from gaia_redshift.simulate.survey import SKIES, load_parameters
from gaia_redshift.spectra import FluxVectors, XPSpectra

__all__ = ["LabelledVectors", "collect_vectors", "find_grid", "mix_vectors", "open_source"]

logger = logging.getLogger(__name__)

_BLOCK_SIZE = 10_000
_NEXT_SKY = 3000
"""Between the seeds of a population's parts."""
_GRIDS_PER_BLOCK = 40
"""Moved grids for each block of galaxies: a design matrix takes as long as 1,000 galaxies."""


@dataclass(frozen=True, eq=False)
class LabelledVectors:
    """Vectors, e-/s per sample, with true redshifts, and whatever else is known of them.

    ``description`` says where they came from; ``flux_moved`` are the same spectra sampled on moved
    grids; ``flux_error`` is NaN in rows without; ``split`` names the part of each where the source
    is split already; without ``is_galaxy`` all are galaxies, others have the redshift 0.
    """

    source_id: NDArray[np.int64]  # (n,)
    flux: NDArray[np.float32]  # (n, 186)
    redshift: NDArray[np.float64]  # (n,)
    description: dict[str, Any] = dataclasses.field(default_factory=dict)
    flux_moved: NDArray[np.float32] | None = None  # (n, 186)
    flux_error: NDArray[np.float32] | None = None  # (n, 186)
    split: NDArray[np.str_] | None = None  # (n,)
    is_galaxy: NDArray[np.bool_] | None = None  # (n,)

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows: Any) -> LabelledVectors:
        changes = {name: values[rows] for name, values in self.arrays.items()}
        return dataclasses.replace(self, **changes)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays that there are, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: each for name, each in values.items() if isinstance(each, np.ndarray)}

    @property
    def n_given(self) -> int:
        """Number of rows before those that were mixed in."""
        mixed = self.description.get("mixed_with")
        return len(self) - (mixed["n_given"] - mixed["n_unusable"] if mixed else 0)


def _describe_source(source: Any, *, truth: str, grid: SamplingGrid) -> dict[str, Any]:
    """Say in JSON what ``source`` is, so that a resumed run can tell whether it is the same."""
    if isinstance(source, SimulatedGalaxies):
        return {"kind": "simulated", **dataclasses.asdict(source), "grid": grid.to_dict()}
    if _is_vectors(source):
        vectors, redshift = source
        digest = _hash_arrays(vectors.source_id, vectors.flux, np.asarray(redshift))
        return {"kind": "vectors", "sha256": digest, "grid": vectors.grid.to_dict()}
    if isinstance(source, GalaxyDataset):
        vectors = source.vectors
        arrays = [vectors.source_id, vectors.flux, source.redshift]
        arrays += [] if vectors.flux_error is None else [vectors.flux_error]
        return {
            "kind": "dataset",
            "parts": [{"file": Path(source.label).name, "rows": len(source)}],
            "release": str(source.manifest.get("release") or "DR3"),
            "sha256": _hash_arrays(*arrays, np.asarray(source.split, dtype="S10")),
            "grid": vectors.grid.to_dict(),
        }
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


def find_grid(source: Any) -> SamplingGrid | None:
    """Return the grid of vectors, which cannot be sampled again; None for spectra."""
    if isinstance(source, GalaxyDataset):
        return source.vectors.grid
    return source[0].grid if _is_vectors(source) else None


def collect_vectors(
    source: Any,
    folder: Path,
    *,
    truth: str = "redshift_true",
    grid: SamplingGrid,
    jitter_seed: int | None = None,
    errors: bool = False,
    progress: bool = False,
) -> LabelledVectors:
    """Sample a source's spectra, or take the vectors that an earlier run left in ``folder``.

    Rows that cannot be sampled are left out and counted in the description; with a ``jitter_seed``
    there are vectors on moved grids as well, with ``errors`` errors. Raises `InputError` if the
    source cannot be read, has no true redshifts, or is not the one that ``folder`` was made from.
    """
    if isinstance(source, Iterator):  # gone through twice
        source = list(source)
    request = _describe_source(source, truth=truth, grid=grid)
    if jitter_seed is not None:
        if request["kind"] in ("vectors", "dataset"):
            raise InputError(
                "grid_jitter needs spectra: vectors cannot be sampled again; set it to 0"
            )
        request["jitter_seed"] = jitter_seed
    if errors:
        request["errors"] = True
    marker = folder / "vectors.json"
    if marker.exists():
        return _read_vectors(folder, marker, request)

    folder.mkdir(exist_ok=True)
    n_given, blocks = 0, []
    options = {"errors": errors, "progress": progress}
    for block, usable in _iter_blocks(source, truth, grid, jitter_seed, **options):
        n_given += len(block)
        blocks.append(block[usable])
    if not blocks:
        raise InputError("there are no spectra to train on")
    arrays = {
        name: np.concatenate([block.arrays[name] for block in blocks]) for name in blocks[0].arrays
    }
    simulated = isinstance(source, GalaxyDataset) and source.simulated
    description = {
        **{key: value for key, value in request.items() if key != "grid"},
        "simulated": simulated or are_simulated(arrays["source_id"]),
        "n_given": n_given,
        "n_unusable": n_given - len(arrays["flux"]),
        "sha256": _hash_arrays(*(arrays[name] for name in ("source_id", "flux", "redshift"))),
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    # Written last and at once: its presence says that the arrays are complete.
    write_text(marker, json.dumps({"request": request, "description": description}, indent=1))
    return LabelledVectors(**arrays, description=description)


def mix_vectors(
    given: LabelledVectors, parts: dict[str, NDArray[np.intp]], simulated: LabelledVectors
) -> LabelledVectors:
    """Put simulated galaxies behind the given ones, of which each part has these rows.

    They belong to the training part alone: what is validated and tested stays what was given.
    Raises `InputError` if the two share sources.
    """
    shared = np.intersect1d(given.source_id, simulated.source_id)
    if len(shared):
        raise InputError(
            f"{len(shared)} of the given galaxies (source_id {shared[0]}, ...) are among those"
            " that are simulated to be mixed in; choose another seed"
        )
    more = simulated.arrays | {"split": np.full(len(simulated), "train")}
    known = given.arrays | {"split": np.empty(len(given), dtype="U10")}
    for part, rows in parts.items():
        known["split"][rows] = part
    if "flux_error" in more:
        known.setdefault("flux_error", np.full(given.flux.shape, np.nan, np.float32))
    return LabelledVectors(
        **{name: np.concatenate([known[name], more[name]]) for name in more},
        description=given.description | {"mixed_with": simulated.description},
    )


def _read_vectors(folder: Path, marker: Path, request: dict[str, Any]) -> LabelledVectors:
    names = ["source_id", "flux", "redshift"]
    names += ["split"] if request["kind"] == "dataset" else []
    names += ["is_galaxy"] if request.get("contaminants") else []
    names += ["flux_moved"] if "jitter_seed" in request else []
    names += ["flux_error"] if "errors" in request else []
    try:
        stored = json.loads(marker.read_text())
        same, description = stored["request"] == request, stored["description"]
        arrays = {}
        for name in names if same else ():
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


def _iter_blocks(
    source: Any,
    truth: str,
    grid: SamplingGrid,
    jitter_seed: int | None,
    *,
    errors: bool,
    progress: bool,
) -> Iterator[tuple[LabelledVectors, NDArray[np.bool_]]]:
    """Yield a source's vectors, and which of them can be used, shape (n,)."""
    if _is_vectors(source):
        yield _label(source[0], source[1], "redshift", errors)
        return
    if isinstance(source, GalaxyDataset):
        split = np.asarray(source.split)
        yield _label(source.vectors, source.redshift, "redshift", errors, split=split)
        return
    rng = None if jitter_seed is None else np.random.default_rng([jitter_seed, 1])
    for spectra in _iter_spectra(source, truth, errors, progress):
        columns = spectra.columns
        if columns is None or truth not in columns.colnames:
            raise InputError(f"the spectra have no column {truth!r} of true redshifts")
        vectors = sample_spectra(spectra, grid=grid, errors=errors)
        more: dict[str, Any] = {} if rng is None else {"flux_moved": _sample_moved(spectra, rng)}
        if isinstance(source, SimulatedGalaxies) and source.contaminants:
            more["is_galaxy"] = ~np.isin(np.asarray(columns["type"]), CONTAMINANTS)
        yield _label(vectors, columns[truth], truth, errors, **more)


def _sample_moved(spectra: XPSpectra, rng: np.random.Generator) -> NDArray[np.float32]:
    """Sample each spectrum on one of a few grids drawn for this block, shape (n, 186)."""
    flux = np.empty((len(spectra), N_FLUX), dtype=np.float32)
    which = rng.integers(_GRIDS_PER_BLOCK, size=len(spectra))
    for number in range(_GRIDS_PER_BLOCK):
        grid = draw_grid(rng)
        rows = np.flatnonzero(which == number)
        if rows.size:
            flux[rows] = sample_block(spectra[rows], grid=grid, errors=False)[0].flux
    return flux


def _iter_spectra(source: Any, truth: str, errors: bool, progress: bool) -> Iterator[XPSpectra]:
    """Of what is simulated yield galaxies, then equal numbers of each kind of what is none."""
    options: dict[str, Any] = {
        "block_size": _BLOCK_SIZE,
        "correlations": errors,
        "progress": progress,
    }
    if not isinstance(source, SimulatedGalaxies):
        yield from iter_spectra(source, errors=errors, keep=[truth], **options)
        return
    if source.sky not in SKIES:
        raise InputError(f"no sky named {source.sky!r}; known: {', '.join(SKIES)}")
    skies = SKIES[source.sky]
    for i, change in enumerate(skies):
        options["parameters"] = change(load_parameters())
        options["seed"] = source.seed + i * _NEXT_SKY
        n = source.n * (i + 1) // len(skies) - source.n * i // len(skies)
        yield from simulate_blocks(n, survey=source.survey, **options)
        each = round(n * source.contaminants / len(CONTAMINANTS))
        for kind in CONTAMINANTS if each else ():
            yield from simulate_blocks(each, kind=kind, **options)


def _label(
    vectors: FluxVectors, redshift: Any, name: str, errors: bool, **more: Any
) -> tuple[LabelledVectors, NDArray[np.bool_]]:
    """Put true redshifts, a column of this name, to vectors; and say which can be used, (n,)."""
    try:
        true = np.ma.filled(np.ma.asarray(redshift).astype(np.float64), np.nan)
    except (TypeError, ValueError):
        raise InputError(f"the true redshifts ({name}) are not numbers") from None
    if true.ndim != 1:
        raise InputError(f"the true redshifts ({name}) must be one number a row")
    if len(true) != len(vectors):
        raise InputError(f"{len(true)} true redshifts for {len(vectors)} vectors")
    if "is_galaxy" in more:
        true = np.where(more["is_galaxy"], true, 0.0)
    if errors:
        more["flux_error"] = np.full(vectors.flux.shape, np.nan, np.float32)
        if vectors.flux_error is not None:
            # Errors that leave the correlations out are 28 to 61 % off: none are better.
            poor = (vectors.quality & int(QualityFlag.DIAGONAL_FLUX_ERROR)) != 0
            more["flux_error"][~poor] = vectors.flux_error[~poor]
    usable = ((vectors.quality & int(FATAL)) == 0) & np.isfinite(vectors.flux).all(axis=1)
    if "flux_moved" in more:
        usable &= np.isfinite(more["flux_moved"]).all(axis=1)
    flux = vectors.flux.astype(np.float32)
    return LabelledVectors(vectors.source_id, flux, true, **more), usable


def _hash_arrays(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
