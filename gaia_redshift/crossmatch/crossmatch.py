"""Spectroscopic redshifts beside Gaia sources: `crossmatch_sdss` and `crossmatch_catalogue`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import import_tables, preserve_settings
from gaia_redshift.crossmatch.matching import REACH, SkyObjects, add_matches, match_objects
from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import DEC_NAMES, RA_NAMES, find_id_name, find_name

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.archive.settings import ArchiveSettings

__all__ = ["crossmatch_catalogue", "crossmatch_sdss"]

Reader = Callable[[NDArray[np.float64], NDArray[np.float64], float], SkyObjects]

LARGEST_RADIUS = 60.0
"""Arcsec: beyond this a neighbour is no counterpart."""


def crossmatch_sdss(
    table: Any,
    radius: Any = 1.0,
    *,
    service: str = "xmatch",
    local: Any = None,
    columns: Mapping[str, str] | None = None,
    zwarning: int | None = 0,
    classes: Collection[str] | str | None = ("GALAXY",),
    ra: str | None = None,
    dec: str | None = None,
    settings: ArchiveSettings | None = None,
    progress: bool = False,
) -> Table:
    """Find the SDSS spectroscopic redshifts of the sources of a table.

    Parameters
    ----------
    table : Table, DataFrame, pyarrow Table, mapping, or path
        With positions in degrees (ICRS).
    radius : Quantity or float, arcsec
        How far an SDSS object may be from a source.
    service : {'xmatch', 'tapvizier', 'skyserver'}
        Where SDSS is: CDS XMatch and TAPVizieR (DR16, photometric objects with the redshifts of
        those that have spectra), or SkyServer (DR17, spectra alone; slow for many sources that
        are far apart).
    local : Table or path, optional
        An SDSS catalogue to use instead of a service, as `crossmatch_catalogue` takes it.
    columns : mapping, optional
        Names of the local catalogue's columns, as in `crossmatch_catalogue`.
    zwarning : int or None
        Bits of zWarning that are put up with: 0 asks for none, 16 lets MANY_OUTLIERS pass, None
        makes no cut.
    classes : collection of str, or None
        Classes of spectra wanted, of "GALAXY", "QSO" and "STAR"; None makes no cut.
    ra, dec : str, optional
        Names of the table's columns with positions, where they are not the usual ones.
    settings : ArchiveSettings, optional
        Addresses, time-outs and tries.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Table
        The rows of the input, in order, with these columns added, masked where there is no match:
        ``redshift_sdss``, ``redshift_sdss_error``, ``zwarning_sdss``, ``class_sdss``,
        ``id_sdss``, ``separation_sdss`` (arcsec), and ``match_flag_sdss``, whose bits are those
        of `MatchFlag`.

    Raises
    ------
    InputError
        If the table has no positions or an argument makes no sense.
    ArchiveError
        If the service does not deliver.

    Notes
    -----
    Source and object must be each other's nearest neighbour, so that no object is given to two
    sources. Rows of the same ``source_id`` are one source and get the same answer. Gaia's
    positions are of epoch 2016.0 and are taken as they are, because galaxies and quasars do not
    move. An object that belongs to a source which is not in the table can be given to another
    one beside it: give tables with all sources of a field where that matters.
    """
    choice: dict[str, Any] = {"zwarning": zwarning, "classes": classes, "ra": ra, "dec": dec}
    if local is not None:
        return crossmatch_catalogue(table, local, radius, columns=columns, **choice)
    if columns is not None:
        raise InputError("columns goes with local: the columns of the services are known")
    from gaia_redshift.crossmatch.sdss import SERVICES, fetch_sdss_objects

    if service not in SERVICES:
        raise InputError(f"there is no service '{service}'; there are: {', '.join(SERVICES)}")
    read = partial(fetch_sdss_objects, service=service, settings=settings, progress=progress)
    origin = SERVICES[service][2]
    return _crossmatch(table, radius, read, survey="sdss", origin=origin, **choice)


def crossmatch_catalogue(
    table: Any,
    catalogue: Any,
    radius: Any = 1.0,
    *,
    survey: str = "sdss",
    columns: Mapping[str, str] | None = None,
    zwarning: int | None = 0,
    classes: Collection[str] | str | None = ("GALAXY",),
    ra: str | None = None,
    dec: str | None = None,
) -> Table:
    """Find redshifts in a catalogue at hand: SDSS, DESI or any other.

    Parameters
    ----------
    table : Table, DataFrame, pyarrow Table, mapping, or path
        With positions in degrees (ICRS).
    catalogue : Table, DataFrame, pyarrow Table, mapping, or path
        A path is of a FITS, Parquet, ECSV, VOTable, csv or HDF5 file, of a folder of Parquet
        files, or of a HATS catalogue or collection. Only rows near the sources are kept in memory.
    radius : Quantity or float, arcsec
    survey : str
        The ending of the new columns. The columns of "sdss" (VizieR V/154, SpecObj) and "desi"
        (zcatalog) catalogues are known.
    columns : mapping, optional
        The catalogue's names for ``ra``, ``dec``, ``redshift``, and, where there are such,
        ``redshift_error``, ``zwarning``, ``class``, ``id``, and ``primary`` (1 or True for the
        preferred one of several spectra). What is not named is looked for under the known names.
    zwarning, classes, ra, dec
        As in `crossmatch_sdss`. A cut for which the catalogue has no column must be switched off
        with None.

    Returns
    -------
    Table
        As of `crossmatch_sdss`, with names that end in ``_{survey}``.

    Raises
    ------
    InputError
        If either cannot be read, a column is missing or an argument makes no sense.

    Examples
    --------
    >>> from gaia_redshift import crossmatch_catalogue
    >>> sources = {"source_id": [11, 12], "ra": [0.0001, 40.0], "dec": [60.0, 61.0]}
    >>> desi = {"TARGET_RA": [359.9999], "TARGET_DEC": [60.0], "Z": [0.12], "ZERR": [1e-5],
    ...         "ZWARN": [0], "SPECTYPE": ["GALAXY"], "TARGETID": [39627]}
    >>> matched = crossmatch_catalogue(sources, desi, survey="desi")
    >>> matched["redshift_desi"].tolist()
    [0.12, None]
    >>> matched["separation_desi"].round(2).tolist()
    [0.36, None]
    """
    from gaia_redshift.crossmatch.catalogues import read_objects

    if not re.fullmatch(r"[A-Za-z]\w*", survey):
        raise InputError(f"survey must be a word to end column names with, not '{survey}'")
    if catalogue is None:
        raise InputError("no catalogue given")
    cuts = {"zwarning": zwarning is not None, "class": classes is not None}
    where = isinstance(catalogue, str | os.PathLike)
    origin = os.path.basename(os.path.abspath(catalogue)) if where else "a table in memory"
    read = partial(read_objects, catalogue, survey=survey, columns=columns, cuts=cuts)
    choice: dict[str, Any] = {"zwarning": zwarning, "classes": classes, "ra": ra, "dec": dec}
    return _crossmatch(table, radius, read, survey=survey, origin=origin, **choice)


@preserve_settings()
def _crossmatch(
    table: Any,
    radius: Any,
    read: Reader,
    *,
    survey: str,
    origin: str,
    zwarning: int | None,
    classes: Collection[str] | str | None,
    ra: str | None,
    dec: str | None,
) -> Table:
    arcsec = _read_radius(radius)
    if zwarning is not None and (isinstance(zwarning, bool) or int(zwarning) < 0):
        raise InputError(f"zwarning must be bits to put up with, or None, not {zwarning!r}")
    if isinstance(classes, str):
        classes = [classes]
    import_tables()
    table = _to_table(table)
    longitude, latitude = _read_positions(table, ra, dec)
    source = _number_sources(table, longitude, latitude)
    objects = read(longitude, latitude, REACH * arcsec)
    matches = match_objects(
        longitude, latitude, objects, arcsec, source=source, zwarning=zwarning, classes=classes
    )
    add_matches(table, matches, objects, survey)
    table.meta[f"{survey}_catalogue"] = origin
    table.meta[f"{survey}_radius_arcsec"] = arcsec
    table.meta[f"{survey}_zwarning"] = "any" if zwarning is None else int(zwarning)
    table.meta[f"{survey}_classes"] = "any" if classes is None else ",".join(map(str, classes))
    return table


def _read_radius(radius: Any) -> float:
    try:
        arcsec = float(radius.to_value("arcsec") if hasattr(radius, "to_value") else radius)
    except (TypeError, ValueError) as error:
        raise InputError(f"radius must be an angle, or a number of arcsec, not {radius}") from error
    if not 0 < arcsec <= LARGEST_RADIUS:
        raise InputError(
            f"radius must be more than 0 and at most {LARGEST_RADIUS:g} arcsec, not {arcsec:g}"
        )
    return arcsec


def _to_table(source: Any) -> Table:
    """Take the input as an astropy table of its own."""
    from gaia_redshift.readers.tables import is_table, to_astropy

    if isinstance(source, str | os.PathLike):
        from gaia_redshift.readers.files import read_table

        return read_table(source)
    if not is_table(source):
        raise InputError(
            f"{type(source).__name__} is no table: give a table with ra and dec, or a path"
        )
    return to_astropy(source)


def _read_positions(
    table: Table, ra: str | None, dec: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from gaia_redshift.readers.tables import open_table
    from gaia_redshift.readers.values import to_degrees

    columns, infos = open_table(table)
    found = []
    for what, given, usual in (("ra", ra, RA_NAMES), ("dec", dec, DEC_NAMES)):
        name = find_name(table.colnames, (given,) if given else usual)
        if name is None:
            raise InputError(
                f"the table has no column {given or what}: name its columns with ra=..., dec=..."
                f" (there are {', '.join(table.colnames[:12]) or 'none'})"
            )
        found.append(to_degrees(columns[name], infos[name].unit, name, "the table"))
    longitude, latitude = found
    longitude = np.where(np.isfinite(longitude), longitude, np.nan)
    latitude = np.where(np.abs(latitude) <= 90, latitude, np.nan)
    return longitude % 360, latitude


def _number_sources(
    table: Table, ra: NDArray[np.float64], dec: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Give rows of the same source the same number: by ``source_id``, else by position."""
    _, number = np.unique(np.column_stack((ra, dec)), axis=0, return_inverse=True)
    number = np.ravel(number).astype(np.intp)
    name = find_id_name(table.colnames)
    if name is None or table[name].dtype.kind not in "iu":
        return number
    ids = np.ma.asarray(table[name])
    known = ~np.ma.getmaskarray(ids) & (np.ma.getdata(ids) > 0)
    if known.any():
        _, of_id = np.unique(np.ma.getdata(ids)[known], return_inverse=True)
        number[known] = np.ravel(of_id) + number.max() + 1
    return number
