"""Large catalogues in files: FITS, Parquet and HATS, read in pieces and where the sources are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import one_line
from gaia_redshift.crossmatch.matching import ARCSEC
from gaia_redshift.errors import InputError
from gaia_redshift.readers.angles import find_factor, find_placed, to_degrees, to_unit_vectors

__all__ = ["ColumnFinder", "Columns", "Neighbourhood", "iter_fits", "iter_parquet"]

PIECE = 200_000

Columns = dict[str, Any]
ColumnFinder = Callable[[list[str], str], dict[str, str]]
"""Takes the names that there are and a label; returns the name for each thing needed."""


class Neighbourhood:
    """Finds what is near the sources (n,), in degrees, NaN where unknown; ``radius`` in arcsec."""

    def __init__(self, ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float) -> None:
        from scipy.spatial import cKDTree

        usable = np.isfinite(ra) & np.isfinite(dec)
        self.ra, self.dec = ra[usable], dec[usable]
        self.reach = 1.01 * radius * ARCSEC + 1e-6  # the exact cut comes later
        self.tree = cKDTree(to_unit_vectors(self.ra, self.dec)) if self.ra.size else None

    def find(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the rows within reach of any source."""
        if self.tree is None:
            return np.zeros(0, dtype=np.intp)
        usable = np.flatnonzero(find_placed(ra, dec))
        chord = 2 * np.sin(np.radians(self.reach) / 2)
        distance, _ = self.tree.query(
            to_unit_vectors(ra[usable], dec[usable]), distance_upper_bound=chord
        )
        return usable[np.isfinite(distance)]

    def may_be_in(self, ra: tuple[float, float], dec: tuple[float, float]) -> bool:
        """Tell whether a source may be near a range of RA and Dec."""
        lowest, highest = dec[0] - self.reach, dec[1] + self.reach
        inside = (self.dec >= lowest) & (self.dec <= highest)
        steepest = max(abs(lowest), abs(highest))
        if steepest < 89:
            half = (ra[1] - ra[0]) / 2 + self.reach / np.cos(np.radians(steepest))
            off = (self.ra - (ra[0] + ra[1]) / 2 + 180) % 360 - 180
            inside &= np.abs(off) <= half
        return bool(inside.any())


def _find_hats_data(path: Path) -> Path:
    """Return the folder with the Parquet files of a HATS catalogue or collection."""
    for _ in range(3):
        if not path.is_dir():
            break
        collection = path / "collection.properties"
        if collection.is_file():
            settings = dict(
                line.split("=", 1)
                for line in collection.read_text(encoding="utf-8").splitlines()
                if "=" in line and not line.startswith("#")
            )
            inner = settings.get("hats_primary_table_url", "").strip()
            if not inner or not (path / inner).is_dir():
                raise InputError(f"{collection}: its primary catalogue '{inner}' is not there")
            path = path / inner
        elif (path / "dataset").is_dir():
            path = path / "dataset"
        else:
            break
    return path


def iter_parquet(path: Path, find_columns: ColumnFinder, near: Neighbourhood) -> Iterator[Columns]:
    """Read a Parquet file, a folder of such or a HATS catalogue, where sources are."""
    from pyarrow import dataset

    from gaia_redshift.readers.binary import read_parquet_infos
    from gaia_redshift.readers.columns import fold_masks, from_arrow, set_masks_apart

    label = str(path)
    path = _find_hats_data(path)
    try:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        files = [one for one in files if not one.name.startswith(("_", "."))]
        if not files:
            raise InputError(f"{label}: holds no Parquet files")
        options = dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        form = dataset.ParquetFileFormat(default_fragment_scan_options=options)
        opened = dataset.dataset([str(one) for one in files], format=form)
        known, masks = set_masks_apart(list(opened.schema.names))
        names = find_columns(known, label)
        masks = {name: mask for name, mask in masks.items() if name in names.values()}
        infos = read_parquet_infos(opened.schema)
        units = {what: infos[n].unit if n in infos else None for what, n in names.items()}
        for fragment in opened.get_fragments():
            for group in fragment.split_by_row_group():
                if not _may_matter(group, names, units, near):
                    continue
                wanted = dict.fromkeys([*names.values(), *masks.values()])
                table = group.to_table(columns=list(wanted))
                columns = fold_masks({name: table[name] for name in wanted}, masks)
                piece = {what: from_arrow(columns[name]) for what, name in names.items()}
                yield _place(piece, units, names, label)
    except InputError:
        raise
    except Exception as error:  # damaged bytes make pyarrow raise anything
        raise InputError(f"{label}: cannot be read as Parquet: {one_line(error)}") from error


def _place(
    piece: Columns, units: dict[str, str | None], names: dict[str, str], label: str
) -> Columns:
    """Give positions in degrees."""
    places = {
        what: to_degrees(piece[what], units[what], names[what], label) for what in ("ra", "dec")
    }
    return {**piece, **places}


def _may_matter(
    group: Any, names: dict[str, str], units: dict[str, str | None], near: Neighbourhood
) -> bool:
    import pyarrow as pa

    try:
        statistics = (group.row_groups[0].statistics if group.row_groups else None) or {}
    except pa.ArrowException:  # of columns of 16-bit floats
        return True
    ranges = [statistics.get(names[what]) or {} for what in ("ra", "dec")]
    if any(one.get("min") is None for one in ranges):
        return True
    factors = [find_factor(units[what], names[what], "") for what in ("ra", "dec")]
    ra, dec = (
        (factor * float(one["min"]), factor * float(one["max"]))
        for one, factor in zip(ranges, factors, strict=True)
    )
    return near.may_be_in(ra, dec)


def iter_fits(path: Path, find_columns: ColumnFinder) -> Iterator[Columns]:
    """Read the first table of a FITS file that has the columns, in pieces."""
    from gaia_redshift.readers.binary import find_null, open_fits
    from gaia_redshift.readers.content import open_path

    try:
        with open_fits(open_path(path)) as (tables, _):
            hdu, names = _choose_table(tables, find_columns, str(path))
            units = {what: hdu.columns[name].unit for what, name in names.items()}
            nulls = {name: find_null(hdu.columns[name]) for name in names.values()}
            for start in range(0, len(hdu.data), PIECE):
                piece = {}
                for what, name in names.items():
                    values = np.array(hdu.data[name][start : start + PIECE])
                    null = nulls[name]
                    hidden = False if null is None else values == null
                    piece[what] = np.ma.MaskedArray(values, mask=hidden)
                yield _place(piece, units, names, str(path))
    except InputError:
        raise
    except Exception as error:  # damaged bytes make astropy raise anything
        raise InputError(f"{path}: cannot be read as FITS: {one_line(error)}") from error


def _choose_table(
    tables: list[tuple[Any, list[str]]], find_columns: ColumnFinder, label: str
) -> tuple[Any, dict[str, str]]:
    """Return the first table that has the columns, and their names in it."""
    errors = []
    for table, names in tables:
        try:
            return table, find_columns(names, label)
        except InputError as error:
            errors.append(error)
    raise errors[0] if errors else InputError(f"{label}: holds no table")
