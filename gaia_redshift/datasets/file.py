"""Training sets on disk: one Parquet file, its manifest inside it and beside it.

Columns: ``source_id``, ``ra``, ``dec`` (deg), ``redshift``, ``redshift_error``, ``split``,
``region``, ``quality`` (`QualityFlag` bits), ``flux`` and ``flux_error`` (186 numbers, e-/s
per sample), coefficients where they were asked for, and what the table of sources had.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import one_line, write_text
from gaia_redshift.datasets.checks import (
    MINIMUM_GALAXIES,
    check_content,
    describe_rows,
    stated_range,
)
from gaia_redshift.datasets.splits import PARTS
from gaia_redshift.errors import InputError, MissingColumnError
from gaia_redshift.grid import DEFAULT_GRID, N_FLUX, SamplingGrid
from gaia_redshift.spectra import FluxVectors, Rows, take_rows

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "GalaxyDataset",
    "describe_manifest",
    "hash_file",
    "is_dataset",
    "manifest_path",
    "read_columns",
    "read_dataset",
    "read_manifest",
    "write_json",
]

MANIFEST_KEY = b"gaia_redshift_training_set"
NEEDED = ("source_id", "redshift", "split", "flux")
_COLUMNS = ("redshift", "split", "region", "redshift_error", "ra", "dec")
_READ_ROWS = 8192


@dataclass(frozen=True, eq=False)
class GalaxyDataset:
    """Galaxies with vectors and known redshifts, split into parts.

    Parameters
    ----------
    vectors : FluxVectors, n rows
        ``flux`` and ``flux_error`` are float32, e-/s per sample.
    redshift : ndarray, shape (n,), float64
        The labels.
    split : ndarray, shape (n,), str
        "train", "validation" or "test".
    region : ndarray, shape (n,), int64, or None
        Galaxies of one region are in one part.
    redshift_error : ndarray, shape (n,), float64
        NaN where unknown.
    ra, dec : ndarray, shape (n,), float64, deg
        NaN where unknown.
    manifest : dict
        Where all this came from.
    label : str
        Name for messages.
    """

    vectors: FluxVectors
    redshift: NDArray[np.float64]
    split: NDArray[np.str_]
    region: NDArray[np.int64] | None = None
    redshift_error: NDArray[np.float64] = None  # type: ignore[assignment]
    ra: NDArray[np.float64] = None  # type: ignore[assignment]
    dec: NDArray[np.float64] = None  # type: ignore[assignment]
    manifest: dict[str, Any] = field(default_factory=dict)
    label: str = "the training set"

    def __post_init__(self) -> None:
        n = len(self.vectors)
        for name in ("redshift_error", "ra", "dec"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(n, np.nan))
        for name in _COLUMNS:
            value = getattr(self, name)
            if value is not None and np.shape(value) != (n,):
                raise InputError(f"{name} has shape {np.shape(value)}, there are {n} vectors")

    def __len__(self) -> int:
        return len(self.redshift)

    def __getitem__(self, rows: Rows) -> GalaxyDataset:
        return take_rows(self, rows, ("vectors", *_COLUMNS))

    def __repr__(self) -> str:
        counts = ", ".join(f"{(self.split == part).sum():,} {part}" for part in PARTS)
        return f"<GalaxyDataset: {len(self):,} galaxies ({counts})>"

    @property
    def rows(self) -> dict[str, NDArray[np.intp]]:
        """Row numbers of each part."""
        return {part: np.flatnonzero(self.split == part) for part in PARTS}

    @property
    def simulated(self) -> bool:
        """Whether the manifest says that all galaxies are simulated."""
        return bool(self.manifest.get("simulated", False))

    def part(self, name: str) -> GalaxyDataset:
        """Return the galaxies of one part: "train", "validation" or "test"."""
        if name not in PARTS:
            raise InputError(f"there is no part '{name}'; there are: {', '.join(PARTS)}")
        return self[self.rows[name]]


def read_dataset(
    path: str | os.PathLike[str],
    *,
    part: str | None = None,
    errors: bool = True,
    keep: Sequence[str] = (),
    redshift_range: tuple[float, float] | None = None,
    minimum: int = MINIMUM_GALAXIES,
    check: bool = True,
) -> GalaxyDataset:
    """Read a training set that `build_training_set` wrote, and check it.

    Parameters
    ----------
    path : path
    part : {"train", "validation", "test"}, optional
        Read the vectors of this part alone; the check is of all of them.
    errors : bool
        Read the errors of the fluxes.
    keep : sequence of str
        Further columns, into ``vectors.columns``.
    redshift_range, minimum
        As for `check_dataset`.
    check : bool
        Refuse what `check_dataset` refuses.

    Returns
    -------
    GalaxyDataset

    Raises
    ------
    InputError
        If it cannot be read, lacks columns, or should not be trained on.
    """
    if part is not None and part not in PARTS:
        raise InputError(f"there is no part '{part}'; there are: {', '.join(PARTS)}")
    with _open(path) as file:
        names = file.schema_arrow.names
        _require(path, names, (*NEEDED, *keep))
        manifest = _parse_manifest(file.schema_arrow.metadata, path)
        plain = [n for n in ("source_id", *_COLUMNS, "quality") if n in names]
        content = _read_plain(file, plain, path)
        n = len(content["source_id"])
        for name in ("redshift_error", "ra", "dec"):
            content.setdefault(name, np.full(n, np.nan))
        if check:
            chosen_range = redshift_range or stated_range(manifest)
            check_content(str(path), content, chosen_range, minimum)
        chosen = np.ones(n, dtype=bool) if part is None else content["split"] == part
        content = {name: values[chosen] for name, values in content.items()}
        flux = _read_matrix(file, "flux", chosen, path)
        flux_error = None
        if errors and "flux_error" in names:
            flux_error = _read_matrix(file, "flux_error", chosen, path)
            if np.isnan(flux_error).all():
                flux_error = None
        columns = _read_kept(file, keep, chosen) if keep else None
    if check:
        bad = np.asarray(~np.isfinite(flux).all(axis=1))
        if bad.any():
            raise InputError(f"{path}: {describe_rows(bad)} fluxes that are not finite")
    vectors = FluxVectors(
        source_id=content["source_id"],
        flux=flux,  # type: ignore[arg-type]
        flux_error=flux_error,
        quality=content.get("quality", np.zeros(len(flux), dtype=np.int32)).astype(np.int32),
        grid=_read_grid(manifest),
        columns=columns,
        meta={"inputs": [Path(path).name], "release": manifest.get("release")},
    )
    columns_of = {name: content.get(name) for name in _COLUMNS}
    return GalaxyDataset(vectors, **columns_of, manifest=manifest, label=str(path))  # type: ignore[arg-type]


def is_dataset(path: Any) -> bool:
    """Tell whether this is the path of a training set (and not of a file of spectra)."""
    if not isinstance(path, str | os.PathLike) or not Path(path).is_file():
        return False
    with Path(path).open("rb") as stream:
        if stream.read(4) != b"PAR1":
            return False
    try:
        with _open(path) as file:
            metadata, names = file.schema_arrow.metadata or {}, file.schema_arrow.names
    except InputError:
        return False
    return MANIFEST_KEY in metadata or {"flux", "redshift", "split"} <= set(names)


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the manifest inside a training set; empty if it has none."""
    with _open(path) as file:
        return _parse_manifest(file.schema_arrow.metadata, path)


def read_columns(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return scalar columns of a training set, floats with NaN where they are null."""
    with _open(path) as file:
        _require(path, file.schema_arrow.names, names)
        return _read_plain(file, list(names), path)


def _open(path: str | os.PathLike[str]) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = one_line(error, 150)
        raise InputError(f"{path}: is no Parquet file that can be read: {reason}") from None


def _require(path: Any, names: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in names:
            raise MissingColumnError(
                f"{path}: has no column '{name}' (there are: {', '.join(names[:15])}); a training"
                " set is made by build_training_set or `gaia-redshift dataset`",
                name,
            )


def _parse_manifest(metadata: Mapping[bytes, bytes] | None, path: Any) -> dict[str, Any]:
    text = (metadata or {}).get(MANIFEST_KEY)
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except ValueError:
        raise InputError(f"{path}: its manifest is damaged; build the training set again") from None
    return content if isinstance(content, dict) else {}


def _read_grid(manifest: dict[str, Any]) -> SamplingGrid:
    grid = manifest.get("grid")
    return SamplingGrid(bp=tuple(grid["bp"]), rp=tuple(grid["rp"])) if grid else DEFAULT_GRID


def _read_plain(file: Any, names: list[str], path: Any) -> dict[str, NDArray[Any]]:
    import pyarrow as pa

    table = file.read(columns=names)
    out = {}
    for name in names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        whole = name in ("source_id", "region", "quality")
        if whole and not pa.types.is_integer(column.type):
            raise InputError(f"{path}: the column '{name}' holds {column.type}, not integers")
        if name == "split":
            out[name] = np.array(column.cast(pa.string()).fill_null("").to_pylist(), dtype="U10")
        elif whole:
            if column.null_count:
                raise InputError(f"{path}: the column '{name}' has empty cells")
            out[name] = column.to_numpy().astype(np.int64)
        else:
            try:
                out[name] = column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
            except pa.ArrowException:
                raise InputError(f"{path}: the column '{name}' does not hold numbers") from None
    return out


def _read_matrix(file: Any, name: str, chosen: NDArray[np.bool_], path: Any) -> NDArray[np.float32]:
    """Read rows of 186 numbers, a few thousand at a time; an empty cell gives a row of NaN."""
    import pyarrow as pa

    matrix = np.full((int(chosen.sum()), N_FLUX), np.nan, dtype=np.float32)
    start = done = 0
    for batch in file.iter_batches(batch_size=_READ_ROWS, columns=[name]):
        cells = batch.column(0)
        listed = pa.types.is_list(cells.type) or pa.types.is_fixed_size_list(cells.type)
        if not (listed or pa.types.is_large_list(cells.type)):
            raise InputError(f"{path}: the column '{name}' must hold {N_FLUX} numbers a row")
        wanted = chosen[start : start + len(cells)]
        start += len(cells)
        present = cells.is_valid().to_numpy(zero_copy_only=False)
        values = cells.filter(pa.array(present)).flatten().cast(pa.float32())
        numbers = values.fill_null(float("nan")).to_numpy(zero_copy_only=False)
        if numbers.size != present.sum() * N_FLUX:
            raise InputError(f"{path}: the column '{name}' must hold {N_FLUX} numbers a row")
        rows = np.full((len(cells), N_FLUX), np.nan, dtype=np.float32)
        rows[present] = numbers.reshape(-1, N_FLUX)
        taken = rows[wanted]
        matrix[done : done + len(taken)] = taken
        done += len(taken)
    return matrix


def _read_kept(file: Any, names: Sequence[str], chosen: NDArray[np.bool_]) -> Table:
    from astropy.table import Table

    from gaia_redshift.readers.values import from_arrow

    content = file.read(columns=list(names))
    return Table({name: from_arrow(content.column(name)) for name in names})[chosen]


def manifest_path(output: str | os.PathLike[str]) -> Path:
    """Return where the manifest of a training set lies: beside it, with ``.json`` at the end."""
    path = Path(output)
    return path.with_name(f"{path.name}.json")


def describe_manifest(manifest: dict[str, Any]) -> str:
    """Return the counts of a manifest in lines: what each cut left, and the parts.

    Parameters
    ----------
    manifest : dict
        As `build_training_set` returns it.

    Returns
    -------
    str
    """
    lines = []
    for line in manifest.get("counts", []):
        removed = f"-{line['removed']:,}" if line["removed"] else ""
        lines.append(f"{line['left']:>12,} {removed:>10}  {line['meaning']}")
    parts = manifest.get("split", {}).get("parts", {})
    lines.append(
        ", ".join(
            f"{name} {count['galaxies']:,} galaxies in {count['regions']:,} regions"
            for name, count in parts.items()
        )
    )
    if manifest.get("simulated"):
        lines.append("all galaxies are simulated")
    return "\n".join(lines)


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON; the file appears under its name only when it is complete."""
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")
