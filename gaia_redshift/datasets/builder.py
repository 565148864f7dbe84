"""`build_training_set`: redshifts, Gaia ids and XP spectra into one file to train on."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from gaia_redshift import __version__
from gaia_redshift._extras import find_version
from gaia_redshift._files import check_apart, check_target, expand_path
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.datasets.cuts import CutCounts, TrainingCuts
from gaia_redshift.datasets.labels import LabelOptions, Labels, label_block, load_labels
from gaia_redshift.datasets.pieces import (
    BLOCK_ROWS,
    Piece,
    PieceWriter,
    check_releases,
    count_parts,
    gather_places,
    iter_archive,
    iter_files,
    make_pieces,
    write_dataset,
)
from gaia_redshift.datasets.splits import SkySplit, find_regions, split_regions
from gaia_redshift.errors import InputError
from gaia_redshift.grid import SamplingGrid
from gaia_redshift.readers import check_columns
from gaia_redshift.readers.sources import (
    as_json,
    find_changes,
    identify,
    read_request,
    write_request,
)

__all__ = ["build_training_set"]

logger = logging.getLogger(__name__)

FORMAT = "gaia_redshift training set 1"
"""Says in every manifest what it is; the number rises when the layout changes."""
_PACKAGES = ("numpy", "astropy", "pyarrow", "gaiaxpy", "astroquery", "astropy-healpix", "scipy")
PIECE_ROWS = 20_000
"""Sources in a piece that is fetched: what an interruption can cost at most, less the cache."""


@preserve_settings()
def build_training_set(
    output: str | os.PathLike[str],
    *,
    spectra: Any = "archive",
    sources: Any = None,
    truth: str | None = None,
    catalogue: Any = None,
    survey: str = "sdss",
    service: str = "xmatch",
    columns: Mapping[str, str] | None = None,
    radius: float = 1.0,
    cuts: TrainingCuts | None = None,
    split: SkySplit | None = None,
    grid: SamplingGrid | str | os.PathLike[str] | None = None,
    model: Any = "default",
    release: str = "DR3",
    coefficients: bool = False,
    archive: Mapping[str, Any] | None = None,
    piece_rows: int = PIECE_ROWS,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Build a training set: redshifts x Gaia sources x XP spectra, cut and split.

    Parameters
    ----------
    output : path
        The Parquet file; its manifest appears beside it, with ``.json`` at the end.
    spectra : "archive", path, Table, XPSpectra, `SimulatedGalaxies`, ...
        Where spectra come from: the Gaia archive, by the sources' ids; anything that
        `gaia_redshift.read_spectra` reads, such as a folder of Gaia's bulk files, of which only
        those of the sources' parts of the sky are opened; or galaxies to be simulated.
    sources : ADQL, path, Table, DataFrame or mapping, optional
        Gaia sources: ``source_id`` and, for cross-matches and splits, ``ra`` and ``dec``.
        Photometry (``phot_g_mean_mag``, ...) is cut on and kept where it is there. Without
        sources, the spectra's own columns are used, and all spectra are wanted.
    truth : str, optional
        Column of the sources, or without these of the spectra, that holds redshifts. Without it
        the sources are cross-matched; simulated galaxies have ``redshift_true``.
    catalogue, survey, service, columns, radius
        The cross-match: a catalogue at hand as for `gaia_redshift.crossmatch_catalogue`, else
        SDSS by a service as for `gaia_redshift.crossmatch_sdss`.
    cuts : TrainingCuts, optional
        Which galaxies are taken; by default those of Kiraleos (2023).
    split : SkySplit, optional
        How they are split.
    grid : SamplingGrid or path, optional
        Where spectra are sampled; by default on the grid of ``model``, so that this may be
        fine-tuned on them.
    model : str, path or model
        Named or loaded, as for `gaia_redshift.predict_table`.
    release : str
        Data release of ids and spectra.
    coefficients : bool
        Keep the coefficients too (half as many bytes again), so that `gaia_redshift.read_spectra`
        reads the file and training can sample them on moved grids.
    archive : mapping, optional
        ``settings``, ``login``, ``cache``, ``offline`` of `gaia_redshift.fetch_spectra`.
    piece_rows : int
        Sources fetched at a time between two points from which a restart goes on.
    overwrite : bool
        Replace an existing file.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        The manifest: queries and files, a count for each cut, split, release, grid, versions,
        sha256 of the file.

    Raises
    ------
    InputError
        If something cannot be read, a column is missing, an unfinished build in the same place
        was of other data or options, or no galaxy is left.
    ArchiveError
        If the archive does not deliver. What there is stays: the same call goes on from it.

    Notes
    -----
    Until the end, pieces lie in a folder named like the output with ``.parts`` at the end. Labels
    are about 100 bytes a source in memory; spectra are never all in memory.
    """
    target = _check_target(output, overwrite, (spectra, sources, catalogue))
    cuts, split = cuts or TrainingCuts(), split or SkySplit()
    chosen = _read_grid(grid, model)
    truth = _check_labels(spectra, sources, truth)
    options = LabelOptions(truth, catalogue, survey, service, columns, radius)
    remote = dict(archive or {})
    request = {
        "format": FORMAT,
        "spectra": _describe_spectra(spectra),
        "labels": options.to_dict(),
        "cuts": cuts.to_dict(),
        "grid": chosen.to_dict(),
        "release": release,
        "coefficients": coefficients,
        "piece_rows": piece_rows,
        "sources": None if sources is None else identify(sources),
    }
    folder = _open_folder(target, request)
    labels = None
    if sources is not None:
        labels = load_labels(folder, sources, options, cuts, remote=remote, progress=progress)
        if not len(labels):
            raise InputError(f"no galaxy is left after the cuts: {labels.counts}")
    label = partial(label_block, options=options, cuts=cuts) if labels is None else labels.label
    writer = PieceWriter(folder, label, chosen, coefficients)
    if labels is not None and _is_from_archive(spectra):
        pieces = list(iter_archive(labels, piece_rows, {"release": release, **remote}))
    elif _is_simulated(spectra):
        from gaia_redshift.simulate import simulate_blocks

        about = {"seed": spectra.seed, "survey": spectra.survey, "block_size": BLOCK_ROWS}
        make = partial(simulate_blocks, spectra.n, progress=progress, **about)
        pieces = [Piece("piece-00000", make)]
    else:
        pieces = list(iter_files(spectra, "all" if labels is None else None, labels))
    abouts = make_pieces(pieces, writer, progress=progress)
    check_releases(abouts, release)
    if writer.unknown:
        from gaia_redshift.sampling import warn_of_unknown_sets

        warn_of_unknown_sets(writer.unknown, stacklevel=4)
    counts = _sum_counts(labels, abouts)
    made = [folder / f"{p.name}.parquet" for p, a in zip(pieces, abouts, strict=True) if a["rows"]]
    if not made:
        raise InputError(f"no galaxy is left after the cuts: {counts}")
    places = gather_places(made)
    region = find_regions(**places, healpix_order=split.healpix_order, together=split.together)
    from gaia_redshift.simulate.observation import are_simulated

    part = split_regions(region, split.fractions, split.seed)
    origin = options.to_dict() if labels is None else labels.about
    manifest = {
        **{key: request[key] for key in ("format", "release", "cuts", "grid", "coefficients")},
        "created_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "simulated": are_simulated(places["source_id"]),
        "sources": origin.pop("sources", None),
        "labels": origin,
        "spectra": {
            **request["spectra"],  # type: ignore[dict-item]
            "inputs": list(dict.fromkeys(name for a in abouts for name in a["inputs"])),
        },
        "counts": counts.to_list(),
        "split": {**split.to_dict(), "parts": count_parts(part, region)},
        "galaxies": len(part),
        "versions": _describe_versions(),
    }
    write_dataset(target, made, part, region, manifest)
    shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _check_target(output: str | os.PathLike[str], overwrite: bool, inputs: Sequence[Any]) -> Path:
    target = expand_path(output)
    if target.suffix.lower() not in (".parquet", ".pq"):
        raise InputError(f"{target}: a training set is a Parquet file; end its name in .parquet")
    check_target(target, overwrite)
    check_apart(target, inputs)
    return target


def _check_labels(spectra: Any, sources: Any, truth: str | None) -> str | None:
    """Return the column of the true redshifts; find out before the work whether there is any."""
    if sources is not None:
        return truth
    if _is_simulated(spectra):
        return truth or "redshift_true"
    if truth is None:
        raise InputError(
            "where do redshifts come from? Give sources (to be cross-matched), or truth, the"
            " name of the column that holds them"
        )
    if _is_from_archive(spectra):
        raise InputError("spectra from the archive need sources: a table of ids, or a query")
    check_columns(spectra, [truth])
    return truth


def _is_from_archive(spectra: Any) -> bool:
    """Whether spectra are to be fetched."""
    return isinstance(spectra, str) and spectra == "archive"


def _is_simulated(spectra: Any) -> bool:
    """Whether spectra are to be simulated."""
    from gaia_redshift.simulate.generate import SimulatedGalaxies

    return isinstance(spectra, SimulatedGalaxies)


def _describe_spectra(spectra: Any) -> dict[str, Any]:
    """Say in JSON where spectra come from, so that a later call can tell whether it is the same."""
    if _is_from_archive(spectra):
        return {"from": "archive"}
    if _is_simulated(spectra):
        about = {"n": spectra.n, "survey": str(spectra.survey), "seed": spectra.seed}
        return {"from": "simulation", **about}
    from gaia_redshift.readers.sources import iter_sources

    if isinstance(spectra, Iterator):
        raise InputError("spectra must be something that can be gone through twice: give a list")
    return {"from": "files", "parts": [identify(part) for part in iter_sources(spectra)]}


def _open_folder(target: Path, request: dict[str, Any]) -> Path:
    """Return the folder of pieces: a new one, or that of the same build begun before."""
    folder = target.with_name(f"{target.name}.parts")
    marker = folder / "request.json"
    before = read_request(marker)
    if before is None:
        folder.mkdir(exist_ok=True)
        write_request(marker, request)
    elif changed := find_changes(before, as_json(request)):
        raise InputError(
            f"{folder}: an unfinished build with other {', '.join(changed)} lies there; give the"
            " same again to go on with it, or remove the folder"
        )
    else:
        logger.info("going on with the build in %s", folder)
    return folder


def _describe_versions() -> dict[str, str]:
    """Return the versions of this package and of those that the numbers depend on."""
    versions = {"gaia_redshift": __version__, **{name: find_version(name) for name in _PACKAGES}}
    return {name: version for name, version in versions.items() if version}


def _read_grid(grid: Any, model: Any) -> SamplingGrid:
    if isinstance(grid, SamplingGrid):
        return grid
    if grid is None:
        from gaia_redshift.predict import load_for_prediction

        return load_for_prediction(model).grid
    from gaia_redshift.grid import read_grid

    return read_grid(grid)


def _sum_counts(labels: Labels | None, abouts: list[dict[str, Any]]) -> CutCounts:
    counts = CutCounts()
    for about in abouts:
        counts.merge(CutCounts(about["removed"], about["given"]))
    if labels is None:
        return counts
    # Sources that no file has: what neither a later cut removed nor was written.
    written = sum(about["rows"] for about in abouts)
    lost = sum(counts.removed.values())
    counts.merge(labels.counts)
    unseen = max(len(labels) - written - lost, 0)
    counts.removed["spectrum"] += unseen
    return counts
