"""FITS binary tables, written in two passes with flat memory."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import open_target
from gaia_redshift.errors import InputError
from gaia_redshift.tables.columns import (
    Arrays,
    Block,
    Column,
    describe_table,
    name_unit,
    refuse_large,
)
from gaia_redshift.tables.types import Note, choose_storage, join_notes, measure_text, note_column

__all__ = ["FITS_CARDS", "FITSSink", "add_words", "list_cards", "list_column_cards"]

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
LONGEST_NAME = 68
"""Letters that a card of a FITS header has room for."""
_CODES = {"u1": "B", "i2": "I", "i4": "J", "i8": "K", "u8": "K", "f4": "E", "f8": "D", "b1": "L"}
_BLOCK = 2880
_HALF = 1 << 63
"""TZERO of unsigned integers, which are stored as signed ones."""


class _Summed:
    """Passes bytes on and adds them up as FITS's DATASUM says."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.total, self.rest = file, 0, b""

    def write(self, data: bytes) -> None:
        """Write, and add."""
        self.file.write(data)
        data = self.rest + data
        end = len(data) // 4 * 4
        self.total = add_words(data[:end], self.total)
        self.rest = data[end:]


def add_words(data: bytes | NDArray[np.uint8], total: int) -> int:
    """Add words of 32 bits in ones' complement (FITS 4.0, appendix J)."""
    total += int(np.frombuffer(data, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _write_sum(total: int) -> str:
    """Return the complement of a sum in letters and digits whose own sum is that (appendix J)."""
    letters = np.zeros((4, 4), dtype=int)  # of each byte: four that add up to it
    for i, byte in enumerate((~total & 0xFFFFFFFF).to_bytes(4, "big")):
        letters[i] = byte // 4 + ord("0")
        letters[i, 0] += byte % 4
        for j in (0, 2):
            while any(58 <= c <= 64 or 91 <= c <= 96 for c in letters[i, j : j + 2]):
                letters[i, j : j + 2] += (1, -1)
    text = letters.T.astype(np.uint8).tobytes().decode("ascii")
    return text[-1] + text[:-1]


@dataclass(frozen=True)
class _Field:
    """How a column is stored, and its type, shape and cards in the file."""

    stored: np.dtype[Any]
    kind: str
    shape: tuple[int, ...]
    form: str
    null: int | None = None
    lengths: str = ""


class FITSSink:
    """Keep rows and heap aside, then join them behind a header that knows their sizes.

    Rows hold 64-bit descriptors (Q) of arrays, for heaps beyond 2 GiB. Text is as wide as its
    longest, and masked integers take a value that none has: both show only in the end.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[Column],
        meta: Mapping[str, Any] | None = None,
        *,
        packed: bool = False,
    ) -> None:
        for column in columns:
            if len(column.name.encode("ascii", "replace")) > LONGEST_NAME:
                raise InputError(
                    f"column '{column.name[:40]}...' has a name of {len(column.name)} letters; FITS"
                    f" holds {LONGEST_NAME}: rename it, or write another format"
                )
        self.path, self.columns, self.meta, self.packed = path, columns, meta, packed
        # Beside the target: a heap may be larger than the system's place for temporary files.
        self.rows = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed by close/abort)
        self.heap = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
        self.heap_size = 0
        self.block_sizes: list[int] = []
        self.longest = {column.name: 1 for column in columns}
        self.notes: dict[str, Note] = {}

    def write(self, block: Block) -> None:
        """Append rows."""
        n = 0
        for column in self.columns:
            values = block[column.name]
            if isinstance(values, Arrays):
                np.save(self.rows, self._store_arrays(column.name, values))
                continue
            refuse_large(column, values)
            data, mask = np.ma.getdata(values), np.ma.getmaskarray(values)
            if len(data):
                before, note = self.notes.get(column.name), note_column(values)
                self.notes[column.name] = join_notes([before, note]) if before else note
            if data.dtype.kind == "U":  # FITS holds ASCII; most programs expect UTF-8 beyond it
                data = np.char.encode(np.where(mask, "", data), "utf-8", "surrogatepass")
            np.save(self.rows, data)
            np.save(self.rows, mask)
            n = len(data)
        self.block_sizes.append(n)

    def _store_arrays(self, name: str, values: Arrays) -> NDArray[Any]:
        item = values.padded.dtype.itemsize
        self.heap.write(values.flat.astype(values.padded.dtype.newbyteorder(">")).tobytes())
        ends = np.cumsum(values.lengths) * item
        offsets = self.heap_size + ends - values.lengths * item
        self.heap_size += int(ends[-1]) if len(ends) else 0
        self.longest[name] = max(self.longest[name], int(values.lengths.max(initial=0)))
        return np.stack([values.lengths, offsets], axis=1).astype(">i8")

    def close(self) -> None:
        """Write header, rows and heap."""
        fields = [self._place(column) for column in self.columns]
        dtype = np.dtype([(str(i), field.kind, field.shape) for i, field in enumerate(fields)])
        n = sum(self.block_sizes)
        with open_target(self.path, self.packed) as target:
            target.write(self._make_header(fields, dtype.itemsize, n))
            file = _Summed(target)
            self.rows.seek(0)
            for size in self.block_sizes:
                rows = np.zeros(size, dtype=dtype)
                for i, (column, field) in enumerate(zip(self.columns, fields, strict=True)):
                    data = np.load(self.rows)
                    if not column.ragged:
                        data = _store(data, np.load(self.rows), field.stored, field.null)
                    rows[str(i)] = data
                file.write(rows.tobytes())
            self.heap.seek(0)
            shutil.copyfileobj(self.heap, file, 1 << 20)
            file.write(b"\0" * (-(n * dtype.itemsize + self.heap_size) % _BLOCK))
            if not self.packed:  # which has a checksum of its own
                target.seek(0)
                target.write(self._make_header(fields, dtype.itemsize, n, file.total))
        self.abort()

    def abort(self) -> None:
        """Drop what was kept aside."""
        self.rows.close()
        self.heap.close()

    def _place(self, column: Column) -> _Field:
        """Find out how a column is stored, which all of it tells."""
        if column.ragged:
            form = f"Q{_CODES[column.dtype.str[1:]]}({self.longest[column.name]})"
            return _Field(column.dtype, ">i8", (2,), form)
        note = self.notes.get(column.name, column.note)
        given, shape = np.dtype(note["dtype"]), column.shape
        stored, null = choose_storage(note, "fits")
        if given.kind == "b" and self.meta is None:
            stored, null = given, None  # nothing else would say that they are boolean
        count, dim = math.prod(shape), shape
        if stored.kind == "U":
            width = measure_text(note)
            kind, form = f"S{width}", f"{width * count}A"
            dim = (*shape, width) if shape else ()
        else:
            kind = "u1" if stored.kind == "b" else stored.newbyteorder(">").str
            kind = kind.replace("u8", "i8")
            form = f"{count if shape else ''}{_CODES[stored.str[1:]]}"
        lengths = f"({','.join(map(str, dim[::-1]))})" if len(dim) > 1 else ""
        return _Field(stored, kind, shape, form, null, lengths)

    def _make_header(
        self, fields: Sequence[_Field], row_size: int, n: int, datasum: int = 0
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
        for i, (column, field) in enumerate(zip(self.columns, fields, strict=True), 1):
            # What FITS does not know GRZMETA tells, where there is one.
            unit = name_unit(column.unit, "fits", column.unit if self.meta is None else None)
            more = {
                "TDIM": field.lengths or None,
                "TZERO": _HALF if field.stored == np.uint64 else None,
            }
            table.update(list_column_cards(i, column, field.form, unit, field.null, **more))
        if self.meta is not None:
            table["EXTNAME"] = "REDSHIFTS"
            table.extend(list_cards(self.meta))
            table["GRZMETA"] = describe_table(self.columns, self.meta)
        if not self.packed:
            table["DATASUM"] = str(datasum)
            table["CHECKSUM"] = "0" * 16  # what its sum is told without
            table["CHECKSUM"] = _write_sum(add_words(table.tostring().encode("ascii"), datasum))
        return b"".join(header.tostring().encode("ascii") for header in (primary, table))


def _store(
    data: NDArray[Any], mask: NDArray[np.bool_], stored: np.dtype[Any], null: int | None
) -> NDArray[Any]:
    """Return values as they lie in the file."""
    if stored.kind == "U":
        if data.dtype.kind == "S":
            return data
        return np.where(mask, b"", data.astype("S"))
    if stored.kind == "b":
        return np.where(mask, 0, np.where(data, ord("T"), ord("F")))
    if stored.kind == "f":
        return np.where(mask, data.dtype.type(np.nan), data)
    if null is not None:
        data = np.where(mask, null, data.astype(stored))
    if stored.kind == "u" and stored.itemsize == 8:
        return (data.astype(np.uint64) - np.uint64(_HALF)).astype(np.int64)
    return data


def list_column_cards(
    number: int, column: Column, form: str, unit: str | None, null: int | None, **more: Any
) -> list[tuple[str, Any]]:
    """Return the cards that say what a column is; ``number`` counts from 1."""
    words = {"TUNIT": unit, "TUCD": column.ucd, "TCOMM": column.description}
    texts = {key: text.encode("ascii", "replace").decode() for key, text in words.items() if text}
    cards = {"TTYPE": column.name, "TFORM": form, **more, "TNULL": null, **texts}
    return [(f"{key}{number}", value) for key, value in cards.items() if value is not None]


def list_cards(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the provenance that has cards of its own."""
    cards = []
    for key, card in FITS_CARDS.items():
        if key in meta:
            value = meta[key]
            text = ", ".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)
            cards.append((card, text.encode("ascii", "replace").decode()))
    return cards
