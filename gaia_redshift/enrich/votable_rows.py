"""Rows of a VOTable's BINARY and BINARY2 streams: taken apart, made longer, packed again."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.enrich.predictions import Cells
from gaia_redshift.errors import InputError
from gaia_redshift.readers.votable_rows import NUMBERS, SIZES, Field
from gaia_redshift.tables.columns import Column

__all__ = ["BinaryRows"]

_LINE = 57
"""Bytes in a line of 76 characters of base64."""


class BinaryRows:
    """A stream of rows, fed in pieces of base64; `take` gives the columns wanted.

    ``flagged`` (BINARY2): each row begins with bits that tell its null cells.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        wanted: Sequence[str],
        new: Sequence[Column],
        flagged: bool,
    ) -> None:
        for field in fields:
            if field.datatype not in SIZES and field.datatype != "bit":
                raise InputError(f"column '{field.name}' is of unknown type '{field.datatype}'")
        self.fields, self.wanted, self.new = list(fields), list(wanted), list(new)
        self.n_flags = -(-len(fields) // 8) if flagged else 0
        self.sizes = [field.size for field in fields]
        self.fixed = all(size is not None for size in self.sizes)
        self.width = self.n_flags + sum(size or 0 for size in self.sizes)
        self.letters = ""
        self.data = bytearray()
        self.rows: list[tuple[int, int, dict[str, int]]] = []  # begin, end, where the wanted are
        self.parsed = 0
        self.taken: list[tuple[int, int, dict[str, int]]] = []
        self.flags: NDArray[np.uint8] = np.zeros((0, 0), dtype=np.uint8)
        self.unsent = b""

    @property
    def n_rows(self) -> int:
        """Whole rows that were fed and not taken."""
        return len(self.rows)

    def feed(self, text: str) -> None:
        """Take more of the stream."""
        self.letters += "".join(text.split())
        whole = len(self.letters) // 4 * 4
        if whole:
            try:
                self.data += base64.b64decode(self.letters[:whole], validate=True)
            except binascii.Error as error:
                raise InputError(f"the stream of rows is no base64: {error}") from None
            self.letters = self.letters[whole:]
            self._find_rows()

    def end(self, label: str) -> None:
        """Refuse a stream that ends in the middle of a row."""
        if self.letters or self.parsed != len(self.data):
            raise InputError(f"{label}: its stream ends in the middle of a row")

    def _find_rows(self) -> None:
        while True:
            begin = at = self.parsed
            at += self.n_flags
            if self.fixed and begin + self.width > len(self.data):
                return
            places = {}
            for field, size in zip(self.fields, self.sizes, strict=True):
                length = size
                if length is None:
                    if at + 4 > len(self.data):
                        return
                    count = int.from_bytes(self.data[at : at + 4], "big")
                    bits = field.datatype == "bit"
                    length = 4 + (-(-count // 8) if bits else count * SIZES[field.datatype])
                if field.name in self.wanted:
                    places[field.name] = at
                at += length
            if at > len(self.data):
                return
            self.rows.append((begin, at, places))
            self.parsed = at

    def take(self, n: int) -> Cells:
        """Return the wanted columns of the next n rows."""
        self.taken, self.rows = self.rows[:n], self.rows[n:]
        if self.n_flags:
            raw = b"".join(bytes(self.data[b : b + self.n_flags]) for b, _, _ in self.taken)
            bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(-1, self.n_flags), axis=1)
            self.flags = bits[:, : len(self.fields)]
        return {name: self._take_column(name) for name in self.wanted}

    def _take_column(self, name: str) -> Any:
        number = [field.name for field in self.fields].index(name)
        field = self.fields[number]
        if field.datatype == "char":
            cells = [self._take_text(places[name], field) for _, _, places in self.taken]
            hidden = self.flags[:, number] if self.n_flags else np.zeros(len(cells))
            return ["" if h or c == field.null else c for c, h in zip(cells, hidden, strict=True)]
        if field.datatype not in NUMBERS or field.arraysize not in ("", "1"):
            raise InputError(f"the column '{name}' must hold one number a row")
        kind = np.dtype(NUMBERS[field.datatype])
        raw = b"".join(bytes(self.data[p[name] : p[name] + kind.itemsize]) for *_, p in self.taken)
        values = np.frombuffer(raw, kind).astype(kind.newbyteorder("="))
        mask = np.zeros(len(values), dtype=bool)
        if self.n_flags:
            mask |= self.flags[:, number].astype(bool)
        if field.null is not None and kind.kind in "iu":
            mask |= values == int(field.null)
        return np.ma.MaskedArray(values, mask=mask)

    def _take_text(self, at: int, field: Field) -> str:
        size = field.size
        if size is None:
            size = int.from_bytes(self.data[at : at + 4], "big")
            at += 4
        return bytes(self.data[at : at + size]).decode("ascii", "replace").strip("\0 ")

    def extend(self, values: dict[str, NDArray[Any]]) -> bytes:
        """Return the rows taken, with the new columns, as base64 (the rest follows later)."""
        cells = [
            np.ascontiguousarray(values[c.name]).astype(c.dtype.newbyteorder(">")).view(np.uint8)
            for c in self.new
        ]
        n = len(self.taken)
        tails = np.concatenate([cell.reshape(n, -1) for cell in cells], axis=1)
        heads = None
        if self.n_flags:
            null = np.column_stack([c.is_null(values[c.name]) for c in self.new])
            heads = np.packbits(np.concatenate([self.flags, null.astype(np.uint8)], axis=1), axis=1)
        parts = []
        for i, (begin, stop, _) in enumerate(self.taken):
            if heads is not None:
                parts.append(heads[i].tobytes())
            parts.append(bytes(self.data[begin + self.n_flags : stop]))
            parts.append(tails[i].tobytes())
        self.forget()
        data = self.unsent + b"".join(parts)
        whole = len(data) // _LINE * _LINE
        self.unsent = data[whole:]
        return base64.encodebytes(data[:whole])

    def forget(self) -> None:
        """Let go of the rows taken."""
        if self.taken:
            end = self.taken[-1][1]
            del self.data[:end]
            self.rows = [
                (b - end, s - end, {name: p - end for name, p in places.items()})
                for b, s, places in self.rows
            ]
            self.parsed -= end
            self.taken = []

    def encode_rest(self) -> bytes:
        """Return the end of the stream."""
        rest, self.unsent = self.unsent, b""
        return base64.encodebytes(rest)
