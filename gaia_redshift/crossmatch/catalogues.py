"""Catalogues of spectroscopic redshifts at hand: tables, files, Parquet folders, HATS catalogues.

Whatever the size, only the rows near the sources asked about are kept: FITS and Parquet are read
in pieces, and pieces of Parquet whose statistics say that they are elsewhere on the sky not at all
(a HATS catalogue, whose files are cells of the sky, is read where the sources are).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import one_line
from gaia_redshift.crossmatch.matching import ARCSEC, SkyObjects
from gaia_redshift.errors import InputError
from gaia_redshift.metrics.points import to_floats
from gaia_redshift.readers.columns import find_name, set_masks_apart
from gaia_redshift.readers.values import (
    find_factor,
    find_placed,
    fold_masks,
    from_arrow,
    to_degrees,
    to_unit_vectors,
)

__all__ = ["COLUMNS", "read_objects"]

logger = logging.getLogger(__name__)

PIECE = 200_000

Columns = dict[str, Any]
ColumnFinder = Callable[[list[str], str], dict[str, str]]
"""Takes the names that there are and a label; returns the name for each thing needed."""

NEEDED = ("ra", "dec", "redshift")
_OPTIONAL = ("redshift_error", "zwarning", "class", "id", "primary")

COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    # VizieR V/154/sdss16 (where "class" is photometric and spCl the spectrum's; XMatch calls the
    # position RAdeg, DEdeg in some tables), SkyServer's SpecObj, and the specObj FITS files.
    "sdss": {
        "ra": ("RA_ICRS", "RAdeg", "PLUG_RA", "RAJ2000", "ra"),
        "dec": ("DE_ICRS", "DEdeg", "PLUG_DEC", "DEJ2000", "dec"),
        "redshift": ("zsp", "z"),
        "redshift_error": ("e_zsp", "zErr", "Z_ERR"),
        "zwarning": ("f_zsp", "zWarning"),
        "class": ("spCl", "class"),
        "id": ("objID", "bestObjID", "specObjID"),
        "primary": ("mode", "sciencePrimary", "specPrimary"),
    },
    # DESI's zcatalog (zall-pix, zall-tilecumulative) and what databases and HATS make of it.
    "desi": {
        "ra": ("TARGET_RA", "MEAN_FIBER_RA", "RA"),
        "dec": ("TARGET_DEC", "MEAN_FIBER_DEC", "DEC"),
        "redshift": ("Z",),
        "redshift_error": ("ZERR",),
        "zwarning": ("ZWARN",),
        "class": ("SPECTYPE",),
        "id": ("TARGETID",),
        "primary": ("ZCAT_PRIMARY",),
    },
}
"""For each survey the names that its catalogues have for what is needed; case does not matter."""


def read_objects(
    catalogue: Any,
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    radius: float,
    *,
    survey: str,
    columns: Mapping[str, str] | None,
    cuts: Mapping[str, bool],
) -> SkyObjects:
    """Read the objects of a catalogue within a radius (arcsec) of the sources (n,), in degrees.

    ``columns`` has other names than the survey's; ``cuts`` tells for ``zwarning`` and ``class``
    whether they will be cut in, so that they are needed.
    """
    find_columns = _column_finder(survey, columns or {}, cuts)
    near = _Neighbourhood(ra, dec, radius)
    if isinstance(catalogue, str | os.PathLike):
        label = str(catalogue)
        pieces = _iter_file(Path(catalogue).expanduser(), find_columns, near)
    else:
        label = type(catalogue).__name__
        pieces = _iter_table(catalogue, find_columns, label)
    kept: list[SkyObjects] = []
    n_rows = 0
    for piece in pieces:
        objects = to_objects(piece, label)
        n_rows += len(objects)
        kept.append(objects[near.find(objects.ra, objects.dec)])
    logger.info("%s: %d of %d rows read are near the sources", label, sum(map(len, kept)), n_rows)
    return SkyObjects.join(kept)


def to_objects(columns: Columns, label: str) -> SkyObjects:
    """Make objects of columns that have the names of `COLUMNS`; masked where there is nothing."""
    n = len(columns["ra"])

    def numbers(name: str) -> NDArray[np.float64]:
        if name not in columns:
            return np.full(n, np.nan)
        return to_floats(columns[name], f"{label}: the column for {name} does not hold numbers")

    def words(name: str) -> NDArray[np.str_]:
        if name not in columns:
            return np.full(n, "", dtype=np.str_)
        values = np.ma.asarray(columns[name])
        hidden = np.ma.getmaskarray(values)
        plain = np.char.decode(values.data, "utf-8") if values.dtype.kind == "S" else values.data
        text = np.char.strip(np.asarray(plain).astype(np.str_))
        return np.where(hidden | np.isin(text, ["None", "--", "nan"]), "", text)

    warned = numbers("zwarning")
    objects = SkyObjects(
        ra=numbers("ra"),
        dec=numbers("dec"),
        redshift=numbers("redshift"),
        redshift_error=numbers("redshift_error"),
        zwarning=np.where(np.isfinite(warned), warned, -1).astype(np.int64),
        kind=np.char.upper(words("class")),
        identifier=words("id"),
        primary=numbers("primary") == 1 if "primary" in columns else np.ones(n, dtype=bool),
    )
    # A second detection without a spectrum is no object of its own.
    return objects[np.isfinite(objects.redshift) | objects.primary]


def find_names(
    names: list[str], known: Mapping[str, tuple[str, ...]], label: str
) -> dict[str, str]:
    """Return the catalogue's column for each thing known; what is needed must be there."""
    found = {}
    for what, candidates in known.items():
        name = find_name(names, candidates)
        if name is not None:
            found[what] = name
        elif what in NEEDED:
            raise InputError(
                f"{label}: found no column for {what} (looked for {', '.join(candidates)}; there"
                f" are {', '.join(names[:12])}): name it with columns={{'{what}': ...}}"
            )
    return found


def _column_finder(
    survey: str, columns: Mapping[str, str], cuts: Mapping[str, bool]
) -> ColumnFinder:
    wrong = sorted(set(columns) - {*NEEDED, *_OPTIONAL})
    if wrong:
        raise InputError(f"columns: '{wrong[0]}' is none of {', '.join((*NEEDED, *_OPTIONAL))}")
    if survey not in COLUMNS and not set(NEEDED) <= set(columns):
        raise InputError(
            f"the columns of '{survey}' are not known (only those of {', '.join(COLUMNS)}): give"
            f" columns={{...}} for {', '.join(NEEDED)}"
        )
    known = COLUMNS.get(survey, {}) | {what: (name,) for what, name in columns.items()}

    def find(names: list[str], label: str) -> dict[str, str]:
        for what, name in columns.items():
            if find_name(names, (name,)) is None:
                raise InputError(f"{label}: has no column '{name}' (for {what})")
        found = find_names(names, known, label)
        for what, option in (("zwarning", "zwarning"), ("class", "classes")):
            if cuts.get(what) and what not in found:
                raise InputError(
                    f"{label}: has no column for {what}, so that no cut can be made: name it with"
                    f" columns={{'{what}': ...}}, or give {option}=None"
                )
        return found

    return find


def _iter_table(table: Any, find_columns: ColumnFinder, label: str) -> Iterator[Columns]:
    from gaia_redshift.readers.tables import is_table, open_table
    from gaia_redshift.readers.values import from_arrow

    if not is_table(table):
        raise InputError(f"{label} is no table of redshifts: give a table or a path")
    opened, infos = open_table(table)
    names = find_columns(list(opened), label)
    units = {what: infos[name].unit if name in infos else None for what, name in names.items()}
    yield _place(
        {what: from_arrow(opened[name]) for what, name in names.items()}, units, names, label
    )


def _iter_file(path: Path, find_columns: ColumnFinder, near: _Neighbourhood) -> Iterator[Columns]:
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    name = path.name.lower()
    if path.is_dir() or name.endswith((".parquet", ".pq")):
        yield from _iter_parquet(path, find_columns, near)
    elif name.removesuffix(".gz").endswith((".fits", ".fit")):
        yield from _iter_fits(path, find_columns)
    else:
        from gaia_redshift.readers.files import read_table

        yield from _iter_table(read_table(path), find_columns, str(path))


class _Neighbourhood:
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


def _iter_parquet(
    path: Path, find_columns: ColumnFinder, near: _Neighbourhood
) -> Iterator[Columns]:
    """Read a Parquet file, a folder of such or a HATS catalogue, where sources are."""
    from pyarrow import dataset

    from gaia_redshift.readers.binary import read_parquet_infos

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
    group: Any, names: dict[str, str], units: dict[str, str | None], near: _Neighbourhood
) -> bool:
    import pyarrow as pa

    try:
        statistics = (group.row_groups[0].statistics if group.row_groups else None) or {}
    except pa.ArrowException:  # of columns of 16-bit floats
        return True
    ranges = []
    for what in ("ra", "dec"):
        found = statistics.get(names[what]) or {}
        if found.get("min") is None:
            return True
        factor = find_factor(units[what], names[what], "")
        ranges.append((factor * float(found["min"]), factor * float(found["max"])))
    return near.may_be_in(*ranges)


def _iter_fits(path: Path, find_columns: ColumnFinder) -> Iterator[Columns]:
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
                    values, null = np.array(hdu.data[name][start : start + PIECE]), nulls[name]
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
