"""Catalogues of spectroscopic redshifts at hand: tables, files, Parquet folders, HATS catalogues.

Whatever the size, only the rows near the sources asked about are kept: FITS and Parquet are read
in pieces, and pieces of Parquet whose statistics say that they are elsewhere on the sky not at all
(a HATS catalogue, whose files are cells of the sky, is read where the sources are).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.crossmatch.catalogue_files import (
    ColumnFinder,
    Columns,
    Neighbourhood,
    iter_fits,
    iter_parquet,
)
from gaia_redshift.crossmatch.matching import SkyObjects
from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import find_name

__all__ = ["COLUMNS", "read_objects"]

logger = logging.getLogger(__name__)

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
    columns: Mapping[str, str] | None = None,
    cuts: Mapping[str, bool] | None = None,
) -> SkyObjects:
    """Read the objects of a catalogue within a radius (arcsec) of the sources (n,), in degrees.

    ``columns`` has other names than the survey's; ``cuts`` tells for ``zwarning`` and ``class``
    whether they will be cut in, so that they are needed.
    """
    find_columns = _column_finder(survey, columns, cuts or {})
    near = Neighbourhood(ra, dec, radius)
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
    return join_objects(kept)


def to_objects(columns: Columns, label: str) -> SkyObjects:
    """Make objects of columns that have the names of `COLUMNS`; masked where there is nothing."""
    n = len(columns["ra"])

    def numbers(name: str) -> NDArray[np.float64]:
        if name not in columns:
            return np.full(n, np.nan)
        try:
            return np.ma.filled(np.ma.asarray(columns[name]).astype(np.float64), np.nan)
        except (TypeError, ValueError) as error:
            raise InputError(f"{label}: the column for {name} does not hold numbers") from error

    def words(name: str) -> NDArray[np.str_]:
        if name not in columns:
            return np.full(n, "", dtype=np.str_)
        values = np.ma.asarray(columns[name])
        hidden = np.ma.getmaskarray(values)
        plain = np.char.decode(values.data, "utf-8") if values.dtype.kind == "S" else values.data
        text = np.char.strip(np.asarray(plain).astype(np.str_))
        return np.where(hidden | np.isin(text, ["None", "--", "nan"]), "", text)

    warned = numbers("zwarning")
    primary = numbers("primary")
    if "primary" not in columns:
        primary = np.ones(n)
    objects = SkyObjects(
        ra=numbers("ra"),
        dec=numbers("dec"),
        redshift=numbers("redshift"),
        redshift_error=numbers("redshift_error"),
        zwarning=np.where(np.isfinite(warned), warned, -1).astype(np.int64),
        kind=np.char.upper(words("class")),
        identifier=words("id"),
        primary=primary == 1,
    )
    # A second detection without a spectrum is no object of its own.
    return objects[np.isfinite(objects.redshift) | objects.primary]


def join_objects(parts: list[SkyObjects]) -> SkyObjects:
    """Return all objects in one; those of no parts are none."""
    from dataclasses import fields

    empty = to_objects({name: np.zeros(0) for name in NEEDED}, "")
    parts = [empty, *parts]
    return SkyObjects(
        **{
            one.name: np.concatenate([getattr(part, one.name) for part in parts])
            for one in fields(SkyObjects)
        }
    )


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
    survey: str, columns: Mapping[str, str] | None, cuts: Mapping[str, bool]
) -> ColumnFinder:
    wrong = sorted(set(columns or {}) - {*NEEDED, *_OPTIONAL})
    if wrong:
        raise InputError(f"columns: '{wrong[0]}' is none of {', '.join((*NEEDED, *_OPTIONAL))}")
    if survey not in COLUMNS and not set(NEEDED) <= set(columns or {}):
        raise InputError(
            f"the columns of '{survey}' are not known (only those of {', '.join(COLUMNS)}): give"
            f" columns={{...}} for {', '.join(NEEDED)}"
        )
    given = {what: (name,) for what, name in (columns or {}).items()}
    known = {**COLUMNS.get(survey, {}), **given}

    def find(names: list[str], label: str) -> dict[str, str]:
        for what, (name,) in given.items():
            if name.lower() not in [one.lower() for one in names]:
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
    from gaia_redshift.readers.angles import to_degrees
    from gaia_redshift.readers.columns import from_arrow
    from gaia_redshift.readers.tables import is_table, open_table

    if not is_table(table):
        raise InputError(f"{label} is no table of redshifts: give a table or a path")
    opened, infos = open_table(table)
    names = find_columns(list(opened), label)
    columns = {what: from_arrow(opened[name]) for what, name in names.items()}
    for what in ("ra", "dec"):
        info = infos.get(names[what])
        columns[what] = to_degrees(columns[what], info.unit if info else None, names[what], label)
    yield columns


def _iter_file(path: Path, find_columns: ColumnFinder, near: Neighbourhood) -> Iterator[Columns]:
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    name = path.name.lower()
    if path.is_dir() or name.endswith((".parquet", ".pq")):
        yield from iter_parquet(path, find_columns, near)
    elif name.removesuffix(".gz").endswith((".fits", ".fit")):
        yield from iter_fits(path, find_columns)
    else:
        from gaia_redshift.readers.results import read_table

        yield from _iter_table(read_table(path), find_columns, str(path))
