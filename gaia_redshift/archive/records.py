"""Spectra as files of fixed-size records, of which single rows can be read."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = ["read_records", "write_records"]

_ARRAYS = ("coefficients", "errors", "correlations")


def write_records(spectra: XPSpectra, path: Path) -> int:
    """Write spectra as one structured array in npy format; return its bytes."""
    fields: list[Any] = [("source_id", "<i8"), ("flags", "<i4")]
    for name in ("bp", "rp"):
        band: BandSpectra = getattr(spectra, name)
        fields += [(f"{name}_n_parameters", "<i2"), (f"{name}_basis_function_id", "<i2")]
        for quantity in _ARRAYS:
            values = getattr(band, quantity)
            if values is not None:
                kind = values.dtype.newbyteorder("<").str
                fields.append((f"{name}_{quantity}", kind, (values.shape[1],)))
    records = np.empty(len(spectra), dtype=[*fields, ("crc32", "<u4")])
    records["source_id"] = spectra.source_id
    records["flags"] = spectra.flags
    for name in ("bp", "rp"):
        band = getattr(spectra, name)
        records[f"{name}_n_parameters"] = band.n_coefficients
        records[f"{name}_basis_function_id"] = band.basis_id
        for quantity in _ARRAYS:
            values = getattr(band, quantity)
            if values is not None:
                records[f"{name}_{quantity}"] = values
    records["crc32"] = _sum_up(records)
    with path.open("wb") as file:
        np.lib.format.write_array(file, records, allow_pickle=False)
        return file.tell()


def _sum_up(records: NDArray[Any]) -> NDArray[np.uint32]:
    """Return a checksum of each record but for its last field, which holds it."""
    size = records.dtype.itemsize
    rows = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), size)
    return np.array([zlib.crc32(row) for row in rows[:, : size - 4]], dtype=np.uint32)


def read_records(path: Path, rows: NDArray[np.int64], source_id: NDArray[np.int64]) -> XPSpectra:
    """Read rows (n,), which must hold these source ids (n,).

    OSError or ValueError tell that the file has gone, is damaged or holds something else.
    """
    records = np.load(path, mmap_mode="r", allow_pickle=False)
    names = records.dtype.names or ()
    if records.ndim != 1 or "source_id" not in names or (rows >= len(records)).any():
        raise ValueError(f"{path}: is no file of spectra")
    first, last = int(rows[0]), int(rows[-1])
    consecutive = last - first + 1 == len(rows) and bool((np.diff(rows) == 1).all())
    chosen = records[first : last + 1] if consecutive else records[rows]
    if (chosen["source_id"] != source_id).any():
        raise ValueError(f"{path}: does not hold what the index says")
    if "crc32" not in names or (_sum_up(chosen) != chosen["crc32"]).any():
        raise ValueError(f"{path}: is damaged")
    bands = {}
    for band in ("bp", "rp"):
        arrays: dict[str, Any] = {
            quantity: np.array(chosen[f"{band}_{quantity}"])
            for quantity in _ARRAYS
            if f"{band}_{quantity}" in names
        }
        bands[band] = BandSpectra(
            n_coefficients=np.array(chosen[f"{band}_n_parameters"]),
            basis_id=np.array(chosen[f"{band}_basis_function_id"]),
            **arrays,
        )
    return XPSpectra(
        source_id=np.array(chosen["source_id"]),
        bp=bands["bp"],
        rp=bands["rp"],
        flags=np.array(chosen["flags"]),
    )
