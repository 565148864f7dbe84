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
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import escape_controls
from gaia_redshift.errors import InputError
from gaia_redshift.parquet_encoding import choose_encoding
from gaia_redshift.readers.columns import fold_masks, set_masks_apart
from gaia_redshift.readers.tables import split_places
from gaia_redshift.table_stacks import add_column
from gaia_redshift.table_types import (
    Note,
    cast_column,
    choose_storage,
    note_column,
    replace_column,
    simplify_column,
)

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "FORMATS",
    "NOT_GZIPPED",
    "READERS",
    "WRITERS",
    "format_text",
    "make_arrow_table",
    "make_fits_hdu",
    "store_columns",
    "take_plain_columns",
]

logger = logging.getLogger(__name__)

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


def _restore(table: Table, description: str | bytes | None) -> Table:
    """Give a table read from a file what `_describe` noted."""
    from astropy import units

    if description is None:
        return table
    noted = json.loads(description)
    table.meta.clear()
    table.meta.update(noted["meta"])
    for name, about in noted["columns"].items():
        if name not in table.colnames:
            continue
        _restore_mask(table, name, about.get("masked"))
        _restore_type(table, name, about.get("dtype"))
        column = table[name]
        if "unit" in about:
            column.unit = units.Unit(about["unit"], parse_strict="silent")
        if "description" in about:
            column.info.description = about["description"]
        column.info.meta = {key: about[key] for key in ("ucd", GRID_KEY) if key in about}
    return table


def _restore_mask(table: Table, name: str, kind: str | None) -> None:
    """Mask the empty texts of formats without masked ones; make FITS's 0, 1 and null boolean."""
    from astropy.table import MaskedColumn

    values = np.ma.asarray(table[name])
    if kind == "U" and not _is_masked(values):
        table[name] = MaskedColumn(values.data, mask=values.data == "")
    elif kind == "b" and values.dtype.kind == "i":
        table[name] = MaskedColumn(values.data == 1, mask=values.mask)


def _restore_type(table: Table, name: str, noted: str | None) -> None:
    """Give integers and short floats back the type that the format does not have."""
    if noted is None or table[name].dtype.str[1:] == noted:
        return
    values = np.ma.asarray(table[name])
    mask = np.ma.getmaskarray(values)
    if values.dtype.kind == "U":
        mask = mask | (np.ma.getdata(values) == "")
    replace_column(
        table, name, cast_column(np.ma.MaskedArray(values.data, mask=mask), np.dtype(noted))
    )


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


def _read_ecsv(path: Path) -> Table:
    from astropy.table import Table

    return Table.read(path, format="ascii.ecsv")


def _write_csv(table: Table, path: Path) -> None:
    path.write_bytes(format_text(table, "csv"))


def _read_csv(path: Path) -> Table:
    from gaia_redshift.readers.whole import read_columns

    return read_columns(path)


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


def _read_fits(path: Path) -> Table:
    from astropy.table import Table

    from gaia_redshift.readers.binary import choose_layouts, open_fits
    from gaia_redshift.readers.columns import ReadOptions
    from gaia_redshift.readers.content import open_path

    with open_fits(open_path(path)) as (tables, _):
        hdu, _ = choose_layouts(tables, ReadOptions(spectra=False), str(path))[0]
        table = Table.read(hdu)
        _make_native(table)
        return _restore(table, hdu.header.get("GRZMETA"))


def _make_native(table: Table) -> None:
    """Turn bytes into text (astropy's own way loses masks), and numbers into this machine's."""
    for name in table.colnames:
        dtype = getattr(table[name], "dtype", np.dtype("O"))
        if dtype.kind == "S" or not dtype.isnative:
            replace_column(table, name, simplify_column(table[name], name))


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


def _read_votable(path: Path) -> Table:
    from gaia_redshift.readers.content import open_path
    from gaia_redshift.readers.votable import FITSInsideError, parse_votable
    from gaia_redshift.readers.whole import read_columns

    try:
        document = parse_votable(open_path(path).read(), str(path))
    except FITSInsideError:
        return read_columns(path)
    found = document.get_first_table()
    table = found.to_table(use_names_over_ids=True)
    for field in found.fields:
        if str(field.arraysize) == "1" and table[field.name].ndim == 2:  # one number, in words
            replace_column(table, field.name, table[field.name][:, 0])
    infos = {info.name: info.value for info in document.resources[0].infos}
    return _restore(table, infos.get(META_KEY))


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


def _read_parquet(path: Path) -> Table:
    from astropy.table import Table
    from astropy.units import Unit
    from pyarrow import parquet

    from gaia_redshift.readers.binary import read_parquet_infos

    content = parquet.read_table(path, page_checksum_verification=True)
    columns: dict[str, Any] = {}
    for name in content.column_names:
        values = _take_arrow(content.column(name).combine_chunks(), name)
        if values is None:
            logger.info("%s: column '%s' holds %s and is left out", path, name, content[name].type)
        else:
            columns[name] = values
    table = Table()
    for name, values in fold_masks(columns, set_masks_apart(list(columns))[1]).items():
        hidden = np.ma.getmaskarray(np.ma.asarray(values)).any()
        table[name] = values if hidden else np.ma.getdata(values)
    for name, info in read_parquet_infos(content.schema).items():
        if name in table.colnames:
            table[name].unit = Unit(info.unit, parse_strict="silent") if info.unit else None
            table[name].info.description = info.description
    return _restore(table, (content.schema.metadata or {}).get(META_KEY.encode()))


def _take_arrow(column: Any, name: str) -> Any:
    """Return an arrow column as an array, masked where null; None where it is no table's column."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    null = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(kind) and not column.null_count:
        flat = column.flatten().to_numpy(zero_copy_only=False)
        data = flat.reshape(len(column), kind.list_size)
        return np.ma.MaskedArray(data, mask=np.isnan(data)) if data.dtype.kind == "f" else data
    if pa.types.is_nested(kind):
        try:
            data = np.array(column.to_pylist())
        except ValueError:  # of different lengths
            return None
        return data if data.dtype.kind in "biuf" and data.ndim > 1 else None
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        filler = float("nan") if pa.types.is_floating(kind) else 0
        data = column.fill_null(pa.scalar(filler).cast(kind)).to_numpy(zero_copy_only=False)
        return np.ma.MaskedArray(data, mask=null)
    cells = np.empty(len(column), dtype=object)
    cells[:] = column.to_pylist()
    values = simplify_column(np.ma.MaskedArray(cells, mask=null), name)
    # Nothing but nulls is text, as in csv files.
    return values if len(values) and not null.all() else np.ma.MaskedArray(cells.astype("U1"), null)


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


def _read_hdf5(path: Path) -> Table:
    import h5py
    from astropy.table import Table

    from gaia_redshift.readers.hdf5 import check_dataset

    with h5py.File(path) as file:
        link = file.get(HDF5_PATH, getlink=True)
        if not isinstance(link, h5py.HardLink):  # another program's
            from gaia_redshift.readers.whole import read_columns

            return read_columns(path)
        check_dataset(file[HDF5_PATH], path.stat().st_size, str(path))
        description = file[HDF5_PATH].attrs.get(META_KEY)
    table = Table.read(path, format="hdf5", path=HDF5_PATH)
    _make_native(table)
    return _restore(table, description)


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
READERS: dict[str, Callable[[Path], Table]] = {
    "ecsv": _read_ecsv,
    "fits": _read_fits,
    "votable": _read_votable,
    "parquet": _read_parquet,
    "hdf5": _read_hdf5,
    "csv": _read_csv,
}
