"""VOTable files: tabledata, binary, binary2, and FITS inside; nothing outside the file is opened.

The document is gone through once with an XML parser before astropy reads it, which would follow
addresses, believe claims and stop without a word where rows are damaged.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from xml.parsers import expat

import numpy as np

from gaia_redshift._quiet import ignore_warnings
from gaia_redshift.errors import InputError
from gaia_redshift.readers.binary import choose_layouts, iter_fits_blocks
from gaia_redshift.readers.columns import Block, ColumnInfo, Layout, ReadOptions, cut_blocks
from gaia_redshift.readers.content import Content
from gaia_redshift.readers.votable_rows import (
    BinaryLayout,
    BinaryRows,
    Field,
    UnusualError,
    choose_fields,
    iter_text_columns,
)

__all__ = ["FITSInsideError", "iter_votable_blocks", "parse_votable"]


class FITSInsideError(InputError):
    """A table has its rows as FITS; `iter_votable_blocks` reads it."""


_LONG = np.iinfo(np.int64)


def parse_votable(data: bytes, label: str) -> Any:
    """Parse a VOTable of unknown origin, as astropy's ``VOTableFile``.

    Refused is one whose data lie elsewhere, that defines entities or attributes of its own, or has
    other rows than it says.
    """
    walk = _Walk(data, label)
    if walk.fits:
        raise FITSInsideError(f"{label}: has its rows as FITS: give the FITS file")
    return _parse(walk)


def _parse(walk: _Walk) -> Any:
    from astropy.io.votable import parse

    # Oddities of a file that do not stop astropy from reading it say nothing about its rows.
    with ignore_warnings():
        votable = parse(io.BytesIO(walk.simplified()), verify="ignore")
    read = [len(table.array) for table in votable.iter_tables()]
    counted = [table.n_rows for table in walk.tables]
    if read != counted:
        raise InputError(
            f"{walk.label}: {sum(counted):,} rows are there, of which {sum(read):,} can be read"
            " (file damaged?)"
        )
    _check_longs(list(votable.iter_tables()), walk)
    return votable


def _check_longs(tables: list[Any], walk: _Walk) -> None:
    """Refuse integers that astropy has cut off at 64 bits: no cell has their digits."""
    if walk.binary:
        return
    fields = [(table.array[one.ID], one.datatype) for table in tables for one in table.fields]
    longs = [values for values, kind in fields if kind == "long" and values.dtype.kind == "i"]
    for edge, written in walk.edges.items():
        if sum(int((values == int(edge)).sum() or 0) for values in longs) > written:
            raise InputError(f"{walk.label}: holds integers beyond 64 bits")


@dataclass
class _Table:
    """A table's fields and the rows that it has."""

    stated: str
    fields: list[Field] = field(default_factory=list)
    n_rows: int = 0
    rows: list[list[str]] = field(default_factory=list)
    blocks: list[BinaryRows] = field(default_factory=list)

    def take_blocks(self, layout: Layout) -> list[dict[str, Any]]:
        """Return the columns, some rows at a time."""
        if layout.keep or (self.blocks and self.rows):
            raise UnusualError
        if not self.blocks:
            return list(iter_text_columns(self.fields, self.rows, layout.names))
        chosen = choose_fields(self.fields, layout.names)
        return [{self.fields[i].name: rows.take(i) for i in chosen} for rows in self.blocks]


class _Walk:
    """One pass through a document: what it holds, and what it must not hold."""

    def __init__(self, data: bytes, label: str, *, keep_rows: bool = False) -> None:
        self.data, self.label, self.keep_rows = data, label, keep_rows
        self.problem = ""
        self.tables: list[_Table] = []
        self.fits: list[bytes] = []
        self.binary = False
        self.patches: list[tuple[int, str]] = []
        self.edges = {str(edge): 0 for edge in (_LONG.max, _LONG.min)}  # cells with just these
        self._path: list[str] = []
        self._letters: list[str] = []
        parser = expat.ParserCreate()
        parser.buffer_text, parser.buffer_size = True, 1 << 18
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._check_doctype
        parser.EntityDeclHandler = parser.AttlistDeclHandler = self._refuse_definitions
        self._parser = parser
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise InputError(
                f"{label}: cannot be read as VOTable (damaged or cut short?): {error}"
            ) from None

    def simplified(self) -> bytes:
        """Return the document with arrays of texts as one text each, which astropy can read."""
        if not self.patches:
            return self.data
        out = bytearray(self.data)
        for at, size in reversed(self.patches):
            end = out.index(b">", at)
            plain = b"*" if "*" in size else b"%d" % Field("", "char", size).size  # type: ignore[str-format]
            out[at:end] = out[at:end].replace(size.encode(), plain)
        return bytes(out)

    def _check_doctype(self, name: str, system: Any, public: Any, internal: int) -> None:
        if internal:
            self._refuse_definitions()

    def _refuse_definitions(self, *_: Any) -> None:
        raise InputError(
            f"{self.label}: defines XML entities or attributes, which are refused for safety"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if name in ("STREAM", "FITS", "BINARY", "BINARY2"):
            self._letters = []
            if any(key.rpartition(":")[2].lower() == "href" for key in attributes):
                raise InputError(
                    f"{self.label}: its data lie elsewhere ({name} href) and are not fetched from"
                    " there"
                )
            encoding = attributes.get("encoding", "base64")
            if encoding != "base64":
                raise InputError(f"{self.label}: its rows are encoded as {encoding}, not base64")
        elif name == "TABLE":
            self.tables.append(_Table(attributes.get("nrows", "").strip()))
        elif name == "FIELD" and self.tables and parent == "TABLE":
            found = Field.read(attributes)
            self.tables[-1].fields.append(found)
            if found.datatype in ("char", "unicodeChar") and "x" in found.arraysize:
                self.patches.append((self._parser.CurrentByteIndex, found.arraysize))
        elif name == "VALUES" and parent == "FIELD" and self.tables and self.tables[-1].fields:
            self.tables[-1].fields[-1].null = attributes.get("null")
        elif name == "INFO" and parent == "RESOURCE":
            self._letters = []
            if (attributes.get("name"), attributes.get("value")) == ("QUERY_STATUS", "ERROR"):
                self.problem = "no reason given"
        elif name == "TR":
            self.tables[-1].n_rows += 1
            if self.keep_rows:
                self.tables[-1].rows.append([])
        elif name == "TD":
            self._letters = []

    def _characters(self, text: str) -> None:
        if self._path and self._path[-1] in ("STREAM", "INFO", "TD"):
            self._letters.append(text)

    def _end(self, tag: str) -> None:
        name = self._path.pop()
        if name == "TD":
            cell = "".join(self._letters)
            if (word := cell.strip().lstrip("+")) in self.edges:
                self.edges[word] += 1
            if self.keep_rows:
                self.tables[-1].rows[-1].append(cell)
        elif name == "STREAM":
            self._end_stream()
        elif name == "INFO":
            if self.problem == "no reason given":
                self.problem = " ".join("".join(self._letters).split()) or self.problem
        elif name == "TABLE":
            table = self.tables[-1]
            if table.stated.isdigit() and int(table.stated) != table.n_rows and not self.fits:
                raise InputError(
                    f"{self.label}: a table has {table.n_rows:,} rows and says that it has"
                    f" {table.stated[:20]} (file damaged?)"
                )

    def _end_stream(self) -> None:
        holder = self._path[-1] if self._path else ""
        try:
            data = base64.b64decode("".join("".join(self._letters).split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(
                f"{self.label}: its stream of rows is no base64 (file damaged?): {error}"
            ) from None
        self._letters = []
        if holder == "FITS":
            self.fits.append(data)
        elif holder in ("BINARY", "BINARY2") and self.tables:
            self.binary = True
            self._find_rows(self.tables[-1], data, flagged=holder == "BINARY2")

    def _find_rows(self, table: _Table, data: bytes, *, flagged: bool) -> None:
        layout = BinaryLayout(table.fields, self.label, flagged=flagged)
        at = 0
        while len(rows := layout.find(data, at)):
            at = int(rows.edges[-1])
            table.n_rows += len(rows)
            if self.keep_rows:
                table.blocks.append(rows)
        if at < len(data):
            raise InputError(
                f"{self.label}: its stream of rows ends in the middle of one (file damaged?)"
            )


def iter_votable_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read the tables of a VOTable; it is parsed as a whole."""
    walk = _Walk(content.read(), content.label, keep_rows=options.spectra)
    if walk.fits:
        for data in walk.fits:
            opener = partial(io.BytesIO, data)
            yield from iter_fits_blocks(Content(content.label, content.source, opener), options)
        return
    if walk.problem:
        raise InputError(f"{content.label}: is an error message of a server: {walk.problem[:200]}")
    try:
        found = _take_blocks(walk, options)
    except UnusualError:
        yield from _iter_astropy_blocks(walk, content, options)
        return
    for columns, layout, first_row in found:
        yield Block(columns, layout, content.label, content.source, first_row)


def _take_blocks(walk: _Walk, options: ReadOptions) -> list[tuple[dict[str, Any], Layout, int]]:
    """Return columns, layout and number of the first row of some rows at a time of spectra."""
    if not options.spectra:
        raise UnusualError
    named = [(table, [field.name for field in table.fields]) for table in walk.tables]
    found = []
    for table, layout in choose_layouts(named, options, walk.label):
        first_row = 1
        for columns in table.take_blocks(layout):
            found.append((columns, layout, first_row))
            first_row += len(columns[layout.source_id])
    return found


def _iter_astropy_blocks(walk: _Walk, content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read any columns by astropy."""
    votable = _parse(walk)
    tables = [(table, [f.name for f in table.fields]) for table in votable.iter_tables()]
    for table, layout in choose_layouts(tables, options, content.label):
        fields = {field.name: field for field in reversed(table.fields)}  # the first of a name
        infos = {
            field.name: ColumnInfo(
                str(field.unit) if field.unit else None, field.description, field.ucd
            )
            for field in fields.values()
        }
        about = {"label": content.label, "source": content.source, "infos": infos}
        read = partial(_take_rows, table.array, fields)
        yield from cut_blocks(len(table.array), read, layout, options, **about)


def _take_rows(array: Any, fields: dict[str, Any], name: str, rows: slice) -> Any:
    """Return numbers as they are; for objects let the mask hide only whole rows."""
    about = fields[name]
    column = array[about.ID][rows]
    if column.ndim == 2 and str(about.arraysize) == "1":  # one number a row, said in words
        column = column[:, 0]
    if column.dtype.kind == "f":  # astropy masks what is NaN
        return np.ma.filled(column, np.nan)
    if column.dtype.kind != "O":
        return column
    single = about.datatype == "float"  # astropy makes arrays of variable length double
    data = np.ma.getdata(column)
    hidden = np.ma.getmaskarray(column)
    cells = np.empty(len(data), dtype=object)
    for i, (cell, mask) in enumerate(zip(data, hidden, strict=True)):
        if np.size(cell) and not np.all(mask) and not (isinstance(cell, str) and not cell):
            cells[i] = np.ma.asarray(cell, dtype=np.float32) if single else cell
    return cells
