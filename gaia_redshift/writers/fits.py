"""FITS binary tables with arrays of variable length, written in two passes with flat memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from gaia_redshift.spectra import XPSpectra
from gaia_redshift.tables.types import Note, choose_storage, join_notes, note_column
from gaia_redshift.writers.records import Arrays, OutputColumn, check_block, narrow, take_narrow
from gaia_redshift.writers.text import open_output

__all__ = ["FITSSink"]

_CODES = {"int16": "I", "int32": "J", "int64": "K", "float32": "E", "float64": "D"}
_BLOCK = 2880


class _Summed:
    """Passes bytes on and adds them up as FITS's DATASUM says: in ones' complement, by four."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.total, self.rest = file, 0, b""

    def write(self, data: bytes) -> None:
        """Write, and add."""
        self.file.write(data)
        data = self.rest + data
        end = len(data) // 4 * 4
        self.total += int(np.frombuffer(data[:end], ">u4").sum(dtype=np.uint64))
        while self.total >> 32:
            self.total = (self.total & 0xFFFFFFFF) + (self.total >> 32)
        self.rest = data[end:]


class FITSSink:
    """Keep rows and heap aside, then join them behind a header that knows their sizes.

    Rows hold 64-bit descriptors (Q), for heaps beyond 2 GiB. A string column is as wide as its
    longest string, and masked integers take a value that none has, which is known only at the end:
    hence the rows are kept block by block.
    """

    def __init__(self, path: Path, columns: list[OutputColumn], *, packed: bool) -> None:
        self.path, self.packed = path, packed
        self.columns = columns
        # Beside the target: a heap may be larger than the system's place for temporary files.
        self.rows = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed by close/abort)
        self.heap = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
        self.heap_size = 0
        self.block_sizes: list[int] = []
        self.longest = {column.name: 1 for column in columns}
        self.notes: dict[str, list[Note]] = {}

    def write(self, spectra: XPSpectra) -> None:
        """Append a block."""
        check_block(spectra, self.columns)
        fields: list[np.ndarray[Any, Any]] = []
        for column in self.columns:
            values = take_narrow(spectra, column)
            if isinstance(values, Arrays):
                fields.append(self._store_arrays(column.name, values))
                continue
            field = _encode_scalars(values)
            if field.dtype.kind == "S":
                self.longest[column.name] = max(self.longest[column.name], field.dtype.itemsize)
            fields.append(field)
            if values.dtype.kind == "i":
                self.notes.setdefault(column.name, []).append(note_column(values))
                fields.append(np.ma.getmaskarray(values))
        for field in fields:
            np.save(self.rows, field, allow_pickle=False)
        self.block_sizes.append(len(spectra))

    def _store_arrays(self, name: str, values: Arrays) -> np.ndarray[Any, Any]:
        item = values.padded.dtype.itemsize
        self.heap.write(values.flat.astype(values.padded.dtype.newbyteorder(">")).tobytes())
        ends = np.cumsum(values.lengths) * item
        offsets = self.heap_size + ends - values.lengths * item
        self.heap_size += int(ends[-1]) if len(ends) else 0
        self.longest[name] = max(self.longest[name], int(values.lengths.max(initial=0)))
        return np.stack([values.lengths, offsets], axis=1).astype(">i8")

    def close(self) -> None:
        """Write header, rows and heap."""
        dtype = np.dtype([(c.name, *self._row_type(c)) for c in self.columns])
        n = sum(self.block_sizes)
        nulls = {k: choose_storage(join_notes(v), "fits")[1] for k, v in self.notes.items()}
        with open_output(self.path, self.packed) as target:
            header = self._make_header(dtype.itemsize, n, nulls)
            target.write(header)
            file = _Summed(target)
            self.rows.seek(0)
            for size in self.block_sizes:
                rows = np.zeros(size, dtype=dtype)
                for column in self.columns:
                    field = np.load(self.rows, allow_pickle=False)
                    if column.name in nulls:
                        mask = np.load(self.rows, allow_pickle=False)
                        field = np.where(mask, nulls[column.name] or 0, field)
                    rows[column.name] = field
                file.write(rows.tobytes())
            self.heap.seek(0)
            shutil.copyfileobj(self.heap, file, 1 << 20)
            file.write(b"\0" * (-(n * dtype.itemsize + self.heap_size) % _BLOCK))
            if not self.packed:  # which has a checksum of its own
                target.seek(0)
                target.write(self._make_header(dtype.itemsize, n, nulls, file.total))
        self.abort()

    def abort(self) -> None:
        """Drop what was kept aside."""
        self.rows.close()
        self.heap.close()

    def _row_type(self, column: OutputColumn) -> tuple[Any, ...]:
        if column.is_array:
            return (">i8", (2,))
        if column.dtype.kind == "U":
            return (f"S{self.longest[column.name]}",)
        return ("u1",) if column.dtype.kind == "b" else (narrow(column).newbyteorder(">"),)

    def _make_header(
        self, row_size: int, n: int, nulls: dict[str, int | None], datasum: int = 0
    ) -> bytes:
        from astropy.io import fits

        primary = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)])
        table = fits.Header(
            [
                ("XTENSION", "BINTABLE"),
                ("BITPIX", 8),
                ("NAXIS", 2),
                ("NAXIS1", row_size),
                ("NAXIS2", n),
                ("PCOUNT", self.heap_size),
                ("GCOUNT", 1),
                ("TFIELDS", len(self.columns)),
            ]
        )
        for i, column in enumerate(self.columns, 1):
            table[f"TTYPE{i}"] = column.name
            table[f"TFORM{i}"] = self._format(column)
            if nulls.get(column.name) is not None:
                table[f"TNULL{i}"] = nulls[column.name]
            for key, value in (
                ("TUNIT", column.unit),
                ("TUCD", column.ucd),
                ("TCOMM", column.description),
            ):
                if value:
                    table[f"{key}{i}"] = value.encode("ascii", errors="replace").decode()
        table["DATASUM"] = str(datasum)  # 0: none
        return b"".join(header.tostring().encode("ascii") for header in (primary, table))

    def _format(self, column: OutputColumn) -> str:
        if column.is_array:
            return f"Q{_CODES[column.dtype.name]}({self.longest[column.name]})"
        if column.dtype.kind == "U":
            return f"{self.longest[column.name]}A"
        return "L" if column.dtype.kind == "b" else _CODES[narrow(column).name]


def _encode_scalars(values: np.ma.MaskedArray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return cells as they are stored, integers apart, whose masked ones wait for a value."""
    mask, data = np.ma.getmaskarray(values), np.ma.getdata(values)
    if values.dtype.kind == "U":  # FITS holds ASCII; most programs expect UTF-8 beyond it
        texts = np.where(mask, "", data)
        return np.char.encode(texts, "utf-8", "surrogatepass")
    if values.dtype.kind == "b":
        return np.where(mask, 0, np.where(data, ord("T"), ord("F"))).astype("u1")
    return np.where(mask, np.nan, data) if values.dtype.kind == "f" else data
