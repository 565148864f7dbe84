"""The spectra of a training set, piece by piece: each is made once, in the end they are joined.

A piece is a Parquet file of vectors with a JSON of counts, written last; a build that was
interrupted makes the missing ones. Memory holds one block of spectra at a time.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import open_bar
from gaia_redshift._files import one_line, written_whole
from gaia_redshift.datasets.cuts import CutCounts
from gaia_redshift.datasets.file import (
    MANIFEST_KEY,
    hash_file,
    manifest_path,
    read_columns,
    write_json,
)
from gaia_redshift.datasets.labels import Labelled, Labels
from gaia_redshift.datasets.splits import PARTS
from gaia_redshift.errors import ArchiveError, InputError
from gaia_redshift.flags import FATAL, NOT_FETCHED, QualityFlag
from gaia_redshift.grid import N_FLUX, SamplingGrid
from gaia_redshift.spectra import FluxVectors, XPSpectra
from gaia_redshift.tables.arrow import choose_encoding, to_arrow
from gaia_redshift.tables.columns import Arrays

__all__ = [
    "Piece",
    "PieceWriter",
    "count_parts",
    "gather_places",
    "iter_archive",
    "iter_files",
    "make_pieces",
    "write_dataset",
]

logger = logging.getLogger(__name__)

BLOCK_ROWS = 4096
"""Spectra in memory at a time; their correlations alone take 12 kB each as 32-bit numbers."""
_BULK_NAME = re.compile(r"XpContinuousMeanSpectrum_(\d+)-(\d+)\.", re.IGNORECASE)
_BULK_SHIFT = 43
"""The numbers in the names of Gaia's bulk files are HEALPix cells of order 8: source_id >> 43."""


@dataclass
class Piece:
    """What is made and kept at once: a name that does not change, and how to get its spectra."""

    name: str
    open: Callable[[], Iterator[XPSpectra]]


@dataclass
class PieceWriter:
    """Makes pieces, kept in ``folder``; ``label`` gives a block's labels."""

    folder: Path
    label: Callable[[XPSpectra], Labelled]
    grid: SamplingGrid
    coefficients: bool = False
    n_failed: int = 0
    unknown: list[str] = field(default_factory=list)

    def read(self, piece: Piece) -> dict[str, Any] | None:
        """Return what is known of a piece that was made before."""
        path = self.folder / f"{piece.name}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        except (OSError, ValueError):
            return None

    def make(self, piece: Piece) -> dict[str, Any] | None:
        """Make a piece; None if spectra failed to come, so that it must be made again."""
        from pyarrow import parquet

        path = self.folder / f"{piece.name}.parquet"
        counts = CutCounts()
        releases: set[str] = set()
        inputs: dict[str, None] = {}
        n = n_failed = 0
        with written_whole(path) as part, ExitStack() as stack:
            writer = None
            for block in piece.open():
                n_failed += int(((block.flags & int(QualityFlag.FETCH_FAILED)) != 0).sum())
                if block.release:
                    releases.add(block.release)
                inputs.update(dict.fromkeys(map(_shorten, block.meta.get("inputs", []))))
                table = self._convert(block, counts)
                if table is None:
                    continue
                if writer is None:
                    encoding = choose_encoding(table.schema)
                    writer = parquet.ParquetWriter(part, table.schema, **encoding)
                    stack.enter_context(writer)
                writer.write_table(table)
                n += len(table)
            if n_failed or not n:
                part.unlink()
        if n_failed:
            self.n_failed += n_failed
            return None
        about = {
            "rows": n,
            "given": counts.n_given,
            "removed": counts.removed,
            "releases": sorted(releases),
            "inputs": list(inputs),
        }
        write_json(about, self.folder / f"{piece.name}.json")
        return about

    def _convert(self, block: XPSpectra, counts: CutCounts) -> Any:
        """Sample a block's labelled rows; return them as an arrow table, or None."""
        from gaia_redshift.sampling import sample_block

        rows, columns, cut = self.label(block)
        counts.merge(cut)
        if not len(rows):
            return None
        spectra = block if len(rows) == len(block) else block[rows]
        vectors, unknown = sample_block(spectra, grid=self.grid, errors=True)
        self.unknown += unknown
        quality = vectors.quality
        have = (quality & int(NOT_FETCHED)) == 0
        counts.add("spectrum", have)
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(vectors.flux.astype(np.float32)).all(axis=1)
        usable = ((quality & int(FATAL)) == 0) & finite
        counts.add("usable_spectrum", usable[have])
        chosen = np.flatnonzero(have & usable)
        if not len(chosen):
            return None
        taken = {name: values[chosen] for name, values in columns.items()}
        return _to_arrow(vectors[chosen], taken, spectra[chosen] if self.coefficients else None)


def make_pieces(
    pieces: Sequence[Piece], writer: PieceWriter, *, progress: bool
) -> list[dict[str, Any]]:
    """Make what is not there yet, in order; return what is known of each.

    An ArchiveError tells that spectra failed to come; the others are kept.
    """
    done = []
    for piece in open_bar(pieces, desc="training set", unit="piece", disable=not progress):
        about = writer.read(piece)
        if about is not None:
            logger.info("%s was made before", piece.name)
        elif (about := writer.make(piece)) is None:
            continue
        done.append(about)
    if writer.n_failed:
        raise ArchiveError(
            f"{writer.n_failed} of the spectra could not be fetched; the same call asks for these"
            f" alone (what there is lies in {writer.folder})"
        )
    return done


def iter_archive(labels: Labels, size: int, options: dict[str, Any]) -> Iterator[Piece]:
    """Cut the labelled sources into pieces whose spectra are fetched."""
    if options.get("from_dr3"):
        raise InputError(
            "ids are brought over from DR3 by fetch (--from-dr3 --keep all): build the set from its"
            " file"
        )

    def fetch(ids: NDArray[np.int64]) -> Iterator[XPSpectra]:
        from gaia_redshift.archive.fetch import open_stream

        return open_stream(ids, **options).blocks(BLOCK_ROWS)

    for number, start in enumerate(range(0, len(labels), size)):
        ids = labels.source_id[start : start + size]
        yield Piece(f"piece-{number:05d}", partial(fetch, ids))


def iter_files(
    spectra: Any, keep: str | Sequence[str] | None, labels: Labels | None
) -> Iterator[Piece]:
    """Take files and tables one by one; bulk files of other parts of the sky are left out."""
    from gaia_redshift.readers import iter_spectra
    from gaia_redshift.readers.sources import iter_sources

    n_skipped = 0
    for number, source in enumerate(iter_sources(spectra)):
        bulk = _BULK_NAME.search(source.name) if isinstance(source, Path) else None
        if bulk and labels is not None:
            low, high = int(bulk[1]) << _BULK_SHIFT, int(bulk[2]) + 1 << _BULK_SHIFT
            if not labels.has_between(low, high):
                n_skipped += 1
                continue
        read = partial(iter_spectra, source, block_size=BLOCK_ROWS, keep=keep)
        yield Piece(f"piece-{number:05d}", read)
    if n_skipped:
        logger.info("left out %d bulk files that hold none of the sources", n_skipped)


def _shorten(name: Any) -> str:
    """Leave the folder out of a path: it means nothing on another machine."""
    text = str(name)
    return os.path.basename(text) if os.path.isabs(text) or os.path.exists(text) else text


def _to_arrow(
    vectors: FluxVectors, columns: dict[str, NDArray[Any]], spectra: XPSpectra | None
) -> Any:
    import pyarrow as pa

    arrays: dict[str, Any] = {"source_id": pa.array(vectors.source_id)}
    for name, values in columns.items():
        floats = values.dtype.kind == "f"
        arrays[name] = pa.array(values, mask=np.isnan(values) if floats else None)
    arrays["quality"] = pa.array(vectors.quality.astype(np.int32))
    arrays["flux"] = _to_lists(vectors.flux)
    arrays["flux_error"] = _to_lists(
        np.full_like(vectors.flux, np.nan) if vectors.flux_error is None else vectors.flux_error
    )
    if spectra is not None:
        for band, part in (("bp", spectra.bp), ("rp", spectra.rp)):
            lengths = part.n_coefficients.astype(np.int64)
            arrays[f"{band}_coefficients"] = to_arrow(Arrays(part.coefficients, lengths))
            arrays[f"{band}_n_parameters"] = pa.array(lengths.astype(np.int16))
            arrays[f"{band}_basis_function_id"] = pa.array(part.basis_id.astype(np.int16))
    return pa.table(arrays)


def _to_lists(matrix: NDArray[np.floating]) -> Any:
    """Return (n, 186) numbers as an arrow column of 32-bit lists; rows of NaN are null."""
    import pyarrow as pa

    values = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
    empty = np.isnan(matrix).all(axis=1)
    mask = pa.array(empty) if empty.any() else None
    return pa.FixedSizeListArray.from_arrays(values, N_FLUX, mask=mask)


def check_releases(abouts: Sequence[dict[str, Any]], wanted: str) -> None:
    """Refuse spectra of several releases, or of another one than was asked for."""
    found = sorted({name for about in abouts for name in about["releases"]})
    if len(found) > 1:
        raise InputError(
            f"the spectra are of several data releases ({', '.join(found)}), which are calibrated"
            " differently: build a training set of each"
        )
    if found and found[0] != wanted:
        raise InputError(
            f"the spectra are of {found[0]}, not of {wanted}: give release={found[0]!r}"
            f" (--release {found[0]})"
        )


def gather_places(paths: list[Path]) -> dict[str, NDArray[Any]]:
    """Return ids and positions of all pieces."""
    parts = [read_columns(path, ["source_id", "ra", "dec"]) for path in paths]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def count_parts(part: NDArray[np.str_], region: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Count galaxies and regions of each part."""
    return {
        name: {
            "galaxies": int((part == name).sum()),
            "regions": len(np.unique(region[part == name])),
        }
        for name in PARTS
    }


def write_dataset(
    target: Path,
    paths: list[Path],
    part: NDArray[np.str_],
    region: NDArray[np.int64],
    manifest: dict[str, Any],
) -> None:
    """Join the pieces, a block at a time, with their split; file and manifest appear complete."""
    import pyarrow as pa
    from pyarrow import parquet

    def iter_tables() -> Iterator[pa.Table]:
        start = 0
        for path in paths:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                    rows = slice(start, start + len(batch))
                    start += len(batch)
                    table = pa.Table.from_batches([batch])
                    at = table.schema.get_field_index("quality")
                    table = table.add_column(at, "region", pa.array(region[rows]))
                    yield table.add_column(at, "split", pa.array(part[rows].astype(object)))

    first = next(tables := iter_tables())
    text = json.dumps(manifest, default=str).encode()
    schema = first.schema.with_metadata({MANIFEST_KEY: text})
    try:
        with written_whole(target) as file:
            with parquet.ParquetWriter(file, schema, **choose_encoding(schema)) as writer:
                for table in chain([first], tables):
                    writer.write_table(table.replace_schema_metadata(schema.metadata))
            manifest["sha256"] = hash_file(file)
        write_json(manifest, manifest_path(target))
    except OSError as error:
        raise InputError(f"cannot write {target}: {one_line(error)}") from error
