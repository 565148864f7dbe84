"""Output tables to files and back, with provenance, masks, units and UCDs.

ECSV keeps all of it. FITS drops dimensionless units and all but 8-letter upper-case keywords,
astropy's VOTable writer drops ``table.meta``, its Parquet writer turns masks into extra columns:
there the table's own description goes along as JSON (FITS card ``GRZMETA``, VOTable INFO
``gaia_redshift_meta``, Parquet key ``gaia_redshift_meta``), beside what other programs can read
(FITS cards, TUCD, TCOMM; VOTable INFO, ucd, DESCRIPTION; Parquet nulls and astropy's own YAML).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import escape_controls
from gaia_redshift.errors import InputError
from gaia_redshift.tables.columns import add_column, replace_column, split_places
from gaia_redshift.tables.parquet import choose_encoding
from gaia_redshift.tables.types import Note, choose_storage, note_column, simplify_column

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "FORMATS",
    "NOT_GZIPPED",
    "WRITERS",
    "format_text",
    "make_arrow_table",
    "make_fits_hdu",
    "store_columns",
    "take_plain_columns",
]

FITS_CARDS = {
    "gaia_redshift_version": "GRZVER",
    "model_name": "GRZMODEL",
    "model_version": "GRZMVER",
    "model_sha256": "GRZMSHA",
    "model_trained_on": "GRZTRAIN",
    "data_release": "GRZREL",
    "grid_bp_nm": "GRZBP",
    "grid_rp_nm": "GRZRP",
    "created_utc": "GRZDATE",
    "redshift_prior": "GRZPRIOR",
}
"""Provenance as cards that people read in a FITS header; GRZMETA holds all of it as JSON."""
GRID_KEY = "redshift_grid"
"""In a column's meta: the edges of the bins that its densities are for."""
META_KEY = "gaia_redshift_meta"
FITS_NAME = 68
"""Letters that a card of a FITS header has room for."""
HDF5_PATH = "gaia_redshift"


def take_plain_columns(table: Table) -> Table:
    """Return a copy whose columns are booleans, numbers and text, without needless masks."""
    from astropy.table import Table

    plain = Table(meta=table.meta)
    table = split_places(table)
    for name in table.colnames:
        column = table[name]
        values = simplify_column(column, name)
        if isinstance(values, np.ma.MaskedArray) and not values.mask.any():
            values = values.data
        add_column(plain, name, values, column)
    return plain


def store_columns(table: Table, kind: str, notes: Mapping[str, Note] | None = None) -> Table:
    """Return a plain table with the types in which FITS or VOTable ("fits", "votable") stores it.

    ``notes`` tell what the whole of each column holds, where this is a part of it.
    """
    stored = type(table)(meta=table.meta)
    for name in table.colnames:
        values, mask = np.ma.asarray(table[name]), np.ma.getmaskarray(np.ma.asarray(table[name]))
        note = notes[name] if notes else note_column(table[name])
        dtype, null = choose_storage(note, kind)
        data = np.ma.getdata(values)
        if data.dtype.kind == "U" or dtype.kind == "U":
            data = np.where(mask, "", data.astype(str))
            if kind == "votable":
                data = escape_texts(data)
        elif null is not None:
            data = np.where(mask, null, data.astype(dtype))
        elif data.dtype.kind == "f":
            data = np.where(mask, np.nan, data).astype(dtype)
        else:
            data = data.astype(dtype)
        masked = np.ma.MaskedArray(data, mask=mask) if note["masked"] else data
        add_column(stored, name, masked, table[name], null=null)
    return stored


def escape_texts(values: NDArray[Any]) -> NDArray[Any]:
    """Return text without control characters, which XML cannot hold and terminals obey."""
    texts = values.ravel().tolist()
    if all(text.isprintable() for text in texts):
        return values
    return np.array([escape_controls(text) for text in texts]).reshape(values.shape)


def _describe(table: Table) -> str:
    """Return the table's meta and its columns' units, descriptions and UCDs as JSON (ASCII)."""
    columns: dict[str, dict[str, Any]] = {}
    for name in table.colnames:
        columns[name] = {**_describe_column(table[name])}
        if GRID_KEY in (table[name].info.meta or {}):
            columns[name][GRID_KEY] = table[name].info.meta[GRID_KEY]
        if table[name].dtype.kind in "iuf":
            columns[name]["dtype"] = table[name].dtype.str[1:]  # not every format has it
        if table[name].dtype.kind in "Ub" and _is_masked(table[name]):
            columns[name]["masked"] = table[name].dtype.kind  # not every format can say so
    return json.dumps({"meta": dict(table.meta), "columns": columns}, default=_to_plain)


def _is_masked(column: Any) -> bool:
    return bool(np.ma.getmaskarray(np.ma.asarray(column)).any())


def _describe_column(column: Any) -> dict[str, str]:
    unit = getattr(column, "unit", None)
    about = {
        "unit": None if unit is None else str(unit),
        "description": column.info.description,
        "ucd": (column.info.meta or {}).get("ucd"),
    }
    return {key: value for key, value in about.items() if value is not None}


def _to_plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def format_text(table: Table, kind: str) -> bytes:
    """Return a table of plain columns as ECSV or csv, which holds no arrays."""
    arrays = [name for name in table.colnames if table[name].ndim > 1]
    if arrays and kind == "csv":
        raise InputError(
            f"column '{arrays[0]}' holds arrays; use ECSV, FITS, VOTable or Parquet for it"
        )
    plain = table.copy(copy_data=False)
    for name in plain.colnames:
        values = np.ma.asarray(plain[name])
        if values.dtype.kind == "U":
            shown = escape_texts(np.ma.getdata(values))
            if shown is not np.ma.getdata(values):
                replace_column(plain, name, np.ma.MaskedArray(shown, mask=np.ma.getmask(values)))
    text = io.StringIO()
    plain.write(text, format=f"ascii.{kind}")
    return text.getvalue().encode()


def _write_ecsv(table: Table, path: Path) -> None:
    path.write_bytes(format_text(table, "ecsv"))


def _write_csv(table: Table, path: Path) -> None:
    path.write_bytes(format_text(table, "csv"))


def _write_fits(table: Table, path: Path) -> None:
    make_fits_hdu(table).writeto(path, overwrite=True, checksum=True)


def make_fits_hdu(table: Table, notes: Mapping[str, Note] | None = None) -> Any:
    """Return a table of plain columns as a FITS extension, with its description in the header.

    ``notes`` say what the whole of each column holds, where this is a part of it.
    """
    from astropy.io import fits

    long = [name for name in table.colnames if len(name.encode("ascii", "replace")) > FITS_NAME]
    if long:
        raise InputError(
            f"column '{long[0][:40]}...' has a name of {len(long[0])} letters; FITS holds"
            f" {FITS_NAME}: rename it, or write another format"
        )
    bare = store_columns(table, "fits", notes)
    bare.meta.clear()
    for name in bare.colnames:  # FITS holds ASCII; UTF-8 bytes are what most programs expect
        if bare[name].dtype.kind == "U":
            texts = np.ma.filled(np.ma.asarray(bare[name]), "")
            replace_column(bare, name, np.char.encode(texts, "utf-8", "surrogatepass"))
    hdu = fits.table_to_hdu(bare)
    hdu.name = "REDSHIFTS"
    for key, card in FITS_CARDS.items():
        if key in table.meta:
            value = table.meta[key]
            text = ", ".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)
            hdu.header[card] = text.encode("ascii", "replace").decode()
    hdu.header["GRZMETA"] = _describe(table)
    for number, name in enumerate(table.colnames, start=1):
        info = table[name].info
        if info.description:
            text = info.description.encode("ascii", "replace").decode()
            hdu.header[f"TCOMM{number}"] = text
        if (info.meta or {}).get("ucd"):
            hdu.header[f"TUCD{number}"] = info.meta["ucd"]
    return hdu


def _write_votable(table: Table, path: Path) -> None:
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    document = from_table(store_columns(table, "votable"))
    resource = document.resources[0]
    for key, value in table.meta.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        resource.infos.append(Info(name=key, value=text))
    resource.infos.append(Info(name=META_KEY, value=_describe(table)))
    resource.tables[0].description = "Redshifts from Gaia BP/RP spectra, made with gaia_redshift"
    document.to_xml(os.fspath(path))


def _write_parquet(table: Table, path: Path) -> None:
    from pyarrow import parquet

    content = make_arrow_table(table)
    parquet.write_table(content, path, **choose_encoding(content.schema))


def make_arrow_table(table: Table, *, for_astropy: bool = True) -> Any:
    """Return a table of plain columns as a pyarrow Table, with its description in the schema.

    ``for_astropy`` adds what astropy's own reader wants, some milliseconds' work.
    """
    import pyarrow as pa

    arrays, fields = [], []
    for name in table.colnames:
        masked = np.ma.asarray(table[name])
        mask, values = np.ma.getmaskarray(masked), np.ma.getdata(masked)
        if values.dtype.byteorder == ">":  # as FITS files deliver them
            values = values.astype(values.dtype.newbyteorder("="))
        if values.ndim == 1:
            array = pa.array(values, mask=mask if mask.any() else None)
        elif values.ndim == 2 and values.shape[1] and values.dtype.kind in "iuf":
            if values.dtype.kind == "f":  # masked numbers become NaN, whatever the block holds
                values = np.where(mask, values.dtype.type(np.nan), values)
            array = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        else:
            array = pa.array(values.tolist())
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=_describe_column(table[name])))
    metadata = {META_KEY: _describe(table)}
    if for_astropy:
        from astropy.table.meta import get_yaml_from_table

        metadata["table_meta_yaml"] = "\n".join(get_yaml_from_table(table))
        for name in table.colnames:
            if table[name].dtype.kind == "U":  # astropy's reader warns without
                metadata[f"table::len::{name}"] = str(max(table[name].dtype.itemsize // 4, 1))
    return pa.table(arrays, schema=pa.schema(fields, metadata=metadata))


def _write_hdf5(table: Table, path: Path) -> None:
    import h5py

    made = io.BytesIO()  # HDF5 on a full disk ends in a segmentation fault
    # Since 1.10 the structure has checksums, too: damaged, HDF5 may read it for ever.
    with h5py.File(made, "w", libver="v110") as file:
        # With checksums, which need a row to be of.
        options = {"path": HDF5_PATH, "serialize_meta": True, "fletcher32": bool(len(table))}
        table.write(file, format="hdf5", **options)
        file[HDF5_PATH].attrs[META_KEY] = np.bytes_(_describe(table).encode("ascii"))
    path.write_bytes(made.getbuffer())


FORMATS = {
    ".ecsv": "ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".csv": "csv",
}
NOT_GZIPPED = {"parquet", "hdf5"}
WRITERS: dict[str, Callable[[Table, Path], None]] = {
    "ecsv": _write_ecsv,
    "fits": _write_fits,
    "votable": _write_votable,
    "parquet": _write_parquet,
    "hdf5": _write_hdf5,
    "csv": _write_csv,
}
