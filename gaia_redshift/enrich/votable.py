"""VOTables: the document is copied as it is, with fields and cells put in where they belong.

An XML parser says at which byte of the file each element begins; everything between is copied.
Rows in text (TABLEDATA) get cells before their end; rows in BINARY and BINARY2 are made longer and
packed again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

import numpy as np

from gaia_redshift._files import DAMAGE, open_unpacked
from gaia_redshift.enrich.predictions import BLOCK_ROWS, Addition, Cells, Columns
from gaia_redshift.errors import InputError
from gaia_redshift.readers.votable_rows import NUMBERS, BinaryLayout, BinaryRows, Field
from gaia_redshift.tables.columns import Column
from gaia_redshift.tables.votable import TYPES, Base64Lines, make_field, make_info

__all__ = ["VOTableCatalogue"]

_CHUNK = 1 << 16
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ASCII_LIKE = ("utf-8", "us-ascii", "ascii", "iso-8859", "latin", "windows-125")


class VOTableCatalogue:
    """The first table of a VOTable that has the columns looked for, in lower case."""

    def __init__(self, path: Path, likely: Sequence[str]) -> None:
        self.path = path
        tables = _Walk(self).list_tables()
        if not tables:
            raise InputError(f"{path}: holds no table with data")
        named = [t for t in tables if {f.name.lower() for f in t[1]} & set(likely)]
        self.number, self.fields = (named or tables)[0]
        self.names = [field.name for field in self.fields]

    def unit(self, name: str) -> str:
        """Return the unit of a column."""
        return self.fields[self.names.index(name)].unit

    def scan(self, wanted: Sequence[str]) -> Iterator[Cells]:
        """Yield the wanted columns block by block."""
        return _Walk(self, wanted).iter_blocks()

    def rewrite(self, target: Path, added: Addition) -> None:
        """Copy the file to ``target`` with the new columns."""
        with target.open("wb") as out:
            for _ in _Walk(self, added.wanted, out, added).iter_blocks():
                pass


class _Walk:
    """One pass through the document, with or without a copy being written."""

    def __init__(
        self,
        catalogue: VOTableCatalogue,
        wanted: Sequence[str] = (),
        out: BinaryIO | None = None,
        added: Addition | None = None,
    ) -> None:
        self.catalogue, self.out, self.wanted = catalogue, out, list(wanted)
        self.added, self.label = added, str(catalogue.path)
        self.pending, self.base = bytearray(), 0  # bytes read and not written, and where they begin
        self.path: list[str] = []
        self.prefix = ""
        self.n_tables = 0
        self.fields: list[Field] = []
        self.tables: list[tuple[int, list[Field]]] = []
        self.active = self.listing = False
        self.n_rows, self.stated = 0, ""
        self.fields_at: int | None = None
        self.ends: list[int] = []  # of rows in text
        self.cells: list[list[str]] = []
        self.cell = -1
        self.text: list[str] = []
        self.binary: _Stream | None = None
        self.stream_at: int | None = None
        self.blocks: list[Cells] = []
        self.skipping = False

    def list_tables(self) -> list[tuple[int, list[Field]]]:
        """Return number and fields of the tables that have data."""
        self.listing = True
        for _ in self.iter_blocks():
            pass
        return self.tables

    def iter_blocks(self) -> Iterator[Cells]:
        """Go through the document; yield blocks of the wanted columns."""
        self.n_read = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = False
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.EntityDeclHandler = self._refuse_entities
        self.parser.XmlDeclHandler = self._check_encoding
        try:
            with open_unpacked(self.catalogue.path) as stream:
                while True:
                    piece = stream.read(_CHUNK)
                    if not self.n_read and (b"\0" in piece[:4] or piece[:2] in _UTF_16):
                        raise InputError(f"{self.label}: is encoded as UTF-16; UTF-8 is needed")
                    self.n_read += len(piece)
                    if self.out is not None:
                        self.pending += piece
                    self.parser.Parse(piece, not piece)
                    self._drop_stream()
                    yield from self.blocks
                    self.blocks.clear()
                    if not piece:
                        break
        except expat.ExpatError as error:
            raise InputError(f"{self.label}: is no well-formed VOTable: {error}") from None
        except (OSError, *DAMAGE) as error:
            raise InputError(f"{self.label}: cannot be read: {error}") from error
        if self.out is not None:
            self.out.write(self.pending)

    def _refuse_entities(self, *_: Any) -> None:
        raise InputError(f"{self.label}: defines XML entities, which are refused")

    def _check_encoding(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding and not encoding.lower().startswith(_ASCII_LIKE):
            raise InputError(
                f"{self.label}: is encoded as {encoding}; UTF-8 is needed to add to it"
            )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        prefix, _, name = tag.rpartition(":")
        parent = self.path[-1] if self.path else ""
        self.path.append(name)
        if name == "TABLE":
            self.n_tables += 1
            self.n_rows, self.stated = 0, attributes.get("nrows", "").strip()
            self.fields, self.fields_at = [], None
            self.active = not self.listing and self.n_tables == self.catalogue.number
        elif name == "FIELD" and parent == "TABLE":
            self.prefix = f"{prefix}:" if prefix else ""
            self.fields.append(Field.read(attributes))
        elif name == "VALUES" and parent == "FIELD" and "null" in attributes:
            self.fields[-1].null = attributes["null"].strip()
        elif name in ("LINK", "DATA") and parent == "TABLE":
            self._start_data(name)
        elif self.active:
            self._start_row(name, attributes)

    def _start_data(self, name: str) -> None:
        if self.fields_at is None:
            self.fields_at = self.parser.CurrentByteIndex
        if name == "DATA":
            if self.listing:
                self.tables.append((self.n_tables, self.fields))
            elif self.active and self.added is not None:
                self._write_until(self.fields_at)
                for column in self.added.new:
                    stated = replace(column, unit=column.unit or None)
                    kind = TYPES[column.dtype.str[1:]]
                    self._write(make_field(stated, kind, "", column.null, self.prefix) + "\n")

    def _start_row(self, name: str, attributes: dict[str, str]) -> None:
        if name == "TR":
            self.cells.append([""] * len(self.wanted))
            self.cell = -1
        elif name == "TD":
            self.cell += 1
            self.text = []
        elif name == "FITS":
            raise InputError(f"{self.label}: has its rows as FITS: give the FITS file")
        elif name in ("BINARY", "BINARY2"):
            layout = BinaryLayout(self.fields, self.label, flagged=name == "BINARY2")
            self.binary = _Stream(layout, self.label)
        elif name == "STREAM":
            if "href" in attributes:
                raise InputError(f"{self.label}: its data lie elsewhere (STREAM href)")
            if attributes.get("encoding", "base64") != "base64":
                raise InputError(
                    f"{self.label}: its rows are encoded as {attributes['encoding']};"
                    " base64 is needed to add to them"
                )

    def _characters(self, text: str) -> None:
        if not self.active:
            return
        if self.binary is not None and self.path[-1] == "STREAM":
            if self.stream_at is None:
                self.stream_at = self.parser.CurrentByteIndex
                self._write_until(self.stream_at)
                self.skipping = True
                self.parser.buffer_text = True  # longer pieces; positions no longer matter
                self.parser.buffer_size = _CHUNK
            for rows in self.binary.feed(text):
                self._finish_binary(rows)
        elif self.path[-1] == "TD" and self.cell >= 0:
            self.text.append(text)

    def _end(self, tag: str) -> None:
        name = tag.rpartition(":")[2]
        if self.active:
            at = self.parser.CurrentByteIndex
            if name == "TD":
                self._end_cell()
            elif name == "TR":
                self._end_row(at)
            elif name == "TABLEDATA":
                self._finish_rows()
            elif name == "STREAM" and self.binary is not None:
                self._end_stream(at)
            elif name == "TABLE":
                if self.stated.isdigit() and int(self.stated) != self.n_rows:
                    raise InputError(
                        f"{self.label}: has {self.n_rows} rows, and says that it has"
                        f" {self.stated} (file damaged?)"
                    )
                self._write_until(at)
                for key, value in self.added.meta.items() if self.added else ():
                    self._write(make_info(key, value, self.prefix) + "\n")
                self.active = False
        self.path.pop()

    def _end_cell(self) -> None:
        if self.cell >= len(self.fields):
            return
        field = self.fields[self.cell].name
        if field in self.wanted:
            text = "".join(self.text).strip()
            null = self.fields[self.cell].null
            self.cells[-1][self.wanted.index(field)] = "" if text == null else text

    def _end_row(self, at: int) -> None:
        if self.cell + 1 != len(self.fields):
            raise InputError(
                f"{self.label}: a row has {self.cell + 1} cells, there are"
                f" {len(self.fields)} fields"
            )
        self.ends.append(at)
        self.n_rows += 1
        if len(self.ends) == BLOCK_ROWS:
            self._finish_rows()

    def _end_stream(self, at: int) -> None:
        assert self.binary is not None
        self.parser.buffer_text = False
        for rows in self.binary.feed("", last=True):
            self._finish_binary(rows)
        if self.stream_at is not None:
            self._write_bytes(self.binary.lines.encode(last=True))
            self._drop_until(at)
        self.skipping, self.binary = False, None

    def _finish_rows(self) -> None:
        if not self.ends:
            return
        block = {name: [row[i] for row in self.cells] for i, name in enumerate(self.wanted)}
        if self.added is None:
            self.blocks.append(block)
        else:
            values = self.added.compute(block)
            columns = [
                ["NaN" if str(v) == "nan" else str(v) for v in values[column.name]]
                for column in self.added.new
            ]
            opened, closed = f"<{self.prefix}TD>", f"</{self.prefix}TD>"
            for at, cells in zip(self.ends, zip(*columns, strict=True), strict=True):
                self._write_until(at)
                self._write("".join(f"{opened}{cell}{closed}" for cell in cells))
        self.ends, self.cells = [], []

    def _finish_binary(self, rows: BinaryRows) -> None:
        assert self.binary is not None
        self.n_rows += len(rows)
        block = {name: self._take_binary(rows, name) for name in self.wanted}
        if self.added is None:
            self.blocks.append(block)
        else:
            data = _lengthen(rows, self.added.new, self.added.compute(block))
            self._write_bytes(self.binary.lines.encode(data))

    def _take_binary(self, rows: BinaryRows, name: str) -> Any:
        number = [field.name for field in self.fields].index(name)
        field = self.fields[number]
        if field.datatype == "char":
            return rows.take_texts(number)
        if field.datatype not in NUMBERS or field.is_array:
            raise InputError(f"{self.label}: the column '{name}' must hold one number a row")
        return rows.take(number)

    def _drop_stream(self) -> None:
        """Forget the bytes of a binary stream, which is written anew."""
        if self.skipping:
            self._drop_until(min(self.parser.CurrentByteIndex, self.base + len(self.pending)))

    def _write_until(self, at: int) -> None:
        if self.out is not None and at > self.base:
            self.out.write(self.pending[: at - self.base])
            self._drop_until(at)

    def _drop_until(self, at: int) -> None:
        if self.out is not None and at > self.base:
            del self.pending[: at - self.base]
            self.base = at

    def _write(self, text: str) -> None:
        self._write_bytes(text.encode("ascii", "xmlcharrefreplace"))

    def _write_bytes(self, data: bytes) -> None:
        if self.out is not None:
            self.out.write(data)


class _Stream:
    """The rows of a stream that is fed in pieces of base64; ``lines`` are what it becomes."""

    def __init__(self, layout: BinaryLayout, label: str) -> None:
        self.layout, self.label, self.lines = layout, label, Base64Lines()
        self.letters = ""
        self.data = bytearray()
        self.enough = _CHUNK
        """Bytes that are waited for, so that a block of rows is looked through twice at most."""

    def feed(self, text: str, *, last: bool = False) -> Iterator[BinaryRows]:
        """Take more of the stream; yield blocks of rows, which are good until the next."""
        self.letters += "".join(text.split())
        whole = len(self.letters) // 4 * 4
        try:
            self.data += base64.b64decode(self.letters[:whole], validate=True)
        except binascii.Error as error:
            raise InputError(f"{self.label}: its rows are no base64: {error}") from None
        self.letters = self.letters[whole:]
        while last or len(self.data) >= self.enough:
            rows = self.layout.find(self.data, most=BLOCK_ROWS)
            if not last and len(rows) < BLOCK_ROWS:
                self.enough = 2 * len(self.data)
                return
            if not len(rows):
                break
            yield rows
            del self.data[: int(rows.edges[-1])]
        if last and (self.letters or self.data):
            raise InputError(f"{self.label}: its stream ends in the middle of a row")


def _lengthen(rows: BinaryRows, new: Sequence[Column], values: Columns) -> bytes:
    """Return rows with new columns behind the others, and the bits for these."""
    cells = [
        np.ascontiguousarray(values[c.name]).astype(c.dtype.newbyteorder(">")).view(np.uint8)
        for c in new
    ]
    tails = np.concatenate([cell.reshape(len(rows), -1) for cell in cells], axis=1)
    n_flags = rows.layout.n_flags
    heads = [b""] * len(rows)
    if n_flags:
        null = [rows.null, *(c.is_null(values[c.name])[:, None] for c in new)]
        heads = [bits.tobytes() for bits in np.packbits(np.concatenate(null, axis=1), axis=1)]
    bodies = rows.cut(rows.edges[:-1] + n_flags, rows.edges[1:])
    parts = zip(heads, bodies, map(bytes, tails), strict=True)
    return b"".join(piece for row in parts for piece in row)
