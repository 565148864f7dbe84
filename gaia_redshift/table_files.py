"""Output tables to files and back, with provenance, masks, units and UCDs.

ECSV keeps all of it. FITS drops dimensionless units and all but 8-letter upper-case keywords,
astropy's VOTable writer drops ``table.meta``, its Parquet writer turns masks into extra columns:
there the table's own description goes along as JSON (FITS card ``GRZMETA``, VOTable INFO
``gaia_redshift_meta``, Parquet key ``gaia_redshift_meta``), beside what other programs can read
(FITS cards, TUCD, TCOMM; VOTable INFO, ucd, DESCRIPTION; Parquet nulls and astropy's own YAML).
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["check_output", "read_table", "table_format", "write_table"]

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
}
"""Provenance as cards that people read in a FITS header; GRZMETA holds all of it as JSON."""
META_KEY = "gaia_redshift_meta"
HDF5_PATH = "gaia_redshift"


def table_format(path: str | os.PathLike[str]) -> str:
    """Return the format that a file name stands for: "ecsv", "fits", "votable", ...

    Raises
    ------
    InputError
        If its ending is unknown.
    """
    name = os.fspath(path).lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in _FORMATS or (name.endswith(".gz") and _FORMATS[suffix] in _NOT_GZIPPED):
        raise InputError(
            f"cannot tell a table format from '{os.fspath(path)}': use"
            f" {', '.join(_FORMATS)} (or .gz after those of text, FITS and VOTable)"
        )
    return _FORMATS[suffix]


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Find out, before any work, whether `write_table` can write there.

    Raises
    ------
    InputError
        If the ending is unknown, the file exists already, or there is no such folder.
    """
    table_format(path)
    target = Path(path)
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already: choose another name, or ask to overwrite it")
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: there is no folder {target.parent}")


@preserve_settings()
def write_table(table: Table, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a table so that provenance, masks, units and UCDs survive.

    Parameters
    ----------
    table : Table
        As `predict_table` returns it.
    path : path
        ``.ecsv``, ``.fits``, ``.vot`` or ``.xml`` (VOTable), ``.parquet``, ``.h5``, or ``.csv``
        (values alone, masked ones empty); ``.gz`` may follow where it is text, FITS or VOTable.
    overwrite : bool
        Replace an existing file. The new file appears under its name only when it is complete.

    Raises
    ------
    InputError
        If the ending is unknown, the file exists, or it cannot be written.
    """
    check_output(path, overwrite=overwrite)
    kind, target = table_format(path), Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    temporary = Path(name)
    try:
        _WRITERS[kind](_with_plain_columns(table), temporary)
        if target.name.lower().endswith(".gz"):
            _compress(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except Exception as error:
        raise InputError(f"cannot write {target} as {kind}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@preserve_settings()
def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table that `write_table` wrote, with its provenance, masks, units and UCDs.

    Parameters
    ----------
    path : path

    Returns
    -------
    Table

    Raises
    ------
    InputError
        If the ending is unknown or the file cannot be read.
    """
    kind = table_format(path)
    try:
        return _READERS[kind](Path(path))
    except Exception as error:
        raise InputError(f"cannot read {os.fspath(path)} as {kind}: {error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _compress(path: Path) -> None:
    packed = path.with_name(path.name + ".gz")
    try:
        with path.open("rb") as source, gzip.open(packed, "wb") as out:
            shutil.copyfileobj(source, out)
        os.replace(packed, path)
    finally:
        packed.unlink(missing_ok=True)


def _with_plain_columns(table: Table) -> Table:
    """Return a copy whose text columns are fixed-width and whose masks have safe fill values."""
    from astropy.table import MaskedColumn, Table

    plain = Table(table, copy=False)
    for name in plain.colnames:
        column = plain[name]
        if column.dtype.kind == "O" and column.ndim == 1:
            mask = np.array(np.ma.getmaskarray(np.ma.asarray(column)))
            values = list(np.ma.getdata(column))
            if all(v is None or isinstance(v, (str, float)) for v in values):  # float: a NaN
                mask |= np.array([not isinstance(v, str) for v in values], dtype=bool)
                text = np.array(["" if m else v for v, m in zip(values, mask, strict=True)], "U")
                column = MaskedColumn(text, mask=mask) if mask.any() else text
                plain[name] = column
        elif isinstance(column, MaskedColumn) and column.dtype.kind in "iu":
            column = column.copy()
            if not column.mask.any():
                plain[name] = column.filled()
            else:  # FITS marks masked integers by a value that must not occur
                column.fill_value = np.iinfo(column.dtype).min or np.iinfo(column.dtype).max
                plain[name] = column
    return plain


def _describe(table: Table) -> str:
    """Return the table's meta and its columns' units, descriptions and UCDs as JSON (ASCII)."""
    columns = {name: _describe_column(table[name]) for name in table.colnames}
    return json.dumps({"meta": dict(table.meta), "columns": columns}, default=_to_plain)


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
        column = table[name]
        if "unit" in about:
            column.unit = units.Unit(about["unit"], parse_strict="silent")
        if "description" in about:
            column.info.description = about["description"]
        column.info.meta = {"ucd": about["ucd"]} if "ucd" in about else {}
    return table


def _write_ecsv(table: Table, path: Path) -> None:
    table.write(path, format="ascii.ecsv", overwrite=True)


def _read_ecsv(path: Path) -> Table:
    from astropy.table import Table

    return Table.read(path, format="ascii.ecsv")


def _write_csv(table: Table, path: Path) -> None:
    arrays = [name for name in table.colnames if table[name].ndim > 1]
    if arrays:
        raise ValueError(f"column '{arrays[0]}' holds arrays; use ECSV, FITS, VOTable or Parquet")
    table.write(path, format="ascii.csv", overwrite=True)


def _read_csv(path: Path) -> Table:
    from astropy.table import Table

    return Table.read(path, format="ascii.csv")


def _write_fits(table: Table, path: Path) -> None:
    from astropy.io import fits

    bare = table.copy(copy_data=False)
    bare.meta.clear()
    for name in bare.colnames:  # FITS holds ASCII; UTF-8 bytes are what most programs expect
        if bare[name].dtype.kind == "U":
            bare[name] = np.char.encode(np.ma.filled(np.ma.asarray(bare[name]), ""), "utf-8")
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
    hdu.writeto(path, overwrite=True, checksum=True)


def _read_fits(path: Path) -> Table:
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path) as hdus:
        table = Table.read(hdus[1])
        table.convert_bytestring_to_unicode()
        for name in table.colnames:
            if table[name].dtype.byteorder == ">":
                table[name] = table[name].astype(table[name].dtype.newbyteorder("="))
        return _restore(table, hdus[1].header.get("GRZMETA"))


def _write_votable(table: Table, path: Path) -> None:
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    document = from_table(table)
    resource = document.resources[0]
    for key, value in table.meta.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        resource.infos.append(Info(name=key, value=text))
    resource.infos.append(Info(name=META_KEY, value=_describe(table)))
    resource.tables[0].description = "Redshifts from Gaia BP/RP spectra, made with gaia_redshift"
    document.to_xml(os.fspath(path))


def _read_votable(path: Path) -> Table:
    from astropy.io.votable import parse

    document = parse(os.fspath(path))
    table = document.get_first_table().to_table(use_names_over_ids=True)
    infos = {info.name: info.value for info in document.resources[0].infos}
    return _restore(table, infos.get(META_KEY))


def _write_parquet(table: Table, path: Path) -> None:
    import pyarrow as pa
    from astropy.table.meta import get_yaml_from_table
    from pyarrow import parquet

    arrays, fields = [], []
    for name in table.colnames:
        masked = np.ma.asarray(table[name])
        mask, values = np.ma.getmaskarray(masked), np.ma.getdata(masked)
        if values.dtype.byteorder == ">":  # as FITS files deliver them
            values = values.astype(values.dtype.newbyteorder("="))
        if values.ndim == 1:
            array = pa.array(values, mask=mask if mask.any() else None)
        else:
            array = pa.array(values.tolist())
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=_describe_column(table[name])))
    metadata = {
        META_KEY: _describe(table),
        "table_meta_yaml": "\n".join(get_yaml_from_table(table)),  # for astropy's own reader
    }
    for name in table.colnames:
        if table[name].dtype.kind == "U":  # astropy's reader warns without
            metadata[f"table::len::{name}"] = str(max(table[name].dtype.itemsize // 4, 1))
    parquet.write_table(pa.table(arrays, schema=pa.schema(fields, metadata=metadata)), path)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    from astropy.table import MaskedColumn, Table
    from pyarrow import parquet

    content = parquet.read_table(path)
    table = Table()
    for name in content.column_names:
        chunk = content.column(name).combine_chunks()
        null = chunk.is_null().to_numpy(zero_copy_only=False)
        if pa.types.is_list(chunk.type):
            data = np.array(chunk.to_pylist())
        elif pa.types.is_string(chunk.type):
            data = np.array(chunk.fill_null("").to_pylist(), dtype="U")
        else:
            filler = float("nan") if pa.types.is_floating(chunk.type) else 0
            data = chunk.fill_null(pa.scalar(filler).cast(chunk.type)).to_numpy(
                zero_copy_only=False
            )
        table[name] = MaskedColumn(data, mask=null) if null.any() else data
    return _restore(table, (content.schema.metadata or {}).get(META_KEY.encode()))


def _write_hdf5(table: Table, path: Path) -> None:
    import h5py

    table.write(path, format="hdf5", path=HDF5_PATH, serialize_meta=True, overwrite=True)
    with h5py.File(path, "a") as file:
        file[HDF5_PATH].attrs[META_KEY] = _describe(table)


def _read_hdf5(path: Path) -> Table:
    import h5py
    from astropy.table import Table

    with h5py.File(path) as file:
        description = file[HDF5_PATH].attrs.get(META_KEY)
    table = Table.read(path, format="hdf5", path=HDF5_PATH)
    table.convert_bytestring_to_unicode()
    return _restore(table, description)


_FORMATS = {
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
_NOT_GZIPPED = {"parquet", "hdf5"}
_WRITERS: dict[str, Callable[[Table, Path], None]] = {
    "ecsv": _write_ecsv,
    "fits": _write_fits,
    "votable": _write_votable,
    "parquet": _write_parquet,
    "hdf5": _write_hdf5,
    "csv": _write_csv,
}
_READERS: dict[str, Callable[[Path], Table]] = {
    "ecsv": _read_ecsv,
    "fits": _read_fits,
    "votable": _read_votable,
    "parquet": _read_parquet,
    "hdf5": _read_hdf5,
    "csv": _read_csv,
}
