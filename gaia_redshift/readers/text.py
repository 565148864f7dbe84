"""csv and ecsv files, as the archive writes them (arrays in quotes) or as anybody else does."""

from __future__ import annotations

import re
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from operator import itemgetter
from typing import Any

from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import (
    BLOCK_ROWS,
    Block,
    ColumnInfo,
    ReadOptions,
    find_id_name,
    find_layout,
)
from gaia_redshift.readers.content import Content, read_chunks

__all__ = ["find_delimiter", "iter_text_blocks", "read_ecsv_header"]

_DELIMITERS = (b",", b"\t", b";", b"|", b" ")
BLOCK_BYTES = 8 << 20
LONGEST_LINE = 8 << 20
_BLANK_OR_COMMENT = frozenset(b"# \t\r\n\v\f")


def iter_text_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read a csv or ecsv file in blocks of some megabytes."""
    chunks = _iter_chunks(content)
    with closing(chunks):
        rest, comments, header = _read_header(chunks, content.label)
        delimiter, infos = read_ecsv_header(comments)
        delimiter = delimiter or find_delimiter(header)
        fields = _Cutter(content.label, delimiter).cut_row(header + b"\n", 0, header.find(b'"'))[0]
        names = [cell.decode("utf-8", errors="replace").strip() for cell in fields]
        layout = find_layout(names, options, content.label)
        places = [names.index(name) for name in layout.names]
        id_column = layout.names.index(layout.source_id)
        id_name = layout.source_id.lower().encode()
        empty = True
        cutter = _Cutter(content.label, delimiter, len(names), places)
        for rows, first_row in _iter_rows(cutter, chain([rest], chunks)):
            # Files glued together: the header once more.
            kept = [row for row in rows if row[id_column].strip().lower() != id_name]
            if kept or (empty and not options.spectra):
                empty = False
                columns = map(list, zip(*kept, strict=True)) if kept else [[] for _ in places]
                cells: dict[str, Any] = dict(zip(layout.names, columns, strict=True))
                yield Block(cells, layout, content.label, content.source, first_row, infos)


def _iter_chunks(content: Content) -> Generator[bytes, None, None]:
    """Yield the text; its last line has an end."""
    yield from read_chunks(content)
    yield b"\n"


def _read_header(chunks: Iterator[bytes], label: str) -> tuple[bytes, list[str], bytes]:
    """Return what follows the first line that is no comment, the comments, and that line."""
    comments: list[str] = []
    data = b""
    for chunk in chunks:
        data += chunk
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            line = data[at:end].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
            at = end + 1
            if line.startswith(b"#"):
                comments.append(line.decode("utf-8", errors="replace")[1:].removeprefix(" "))
            elif line.strip():
                return data[at:], comments, line
        data = data[at:]
        if len(data) > LONGEST_LINE:
            raise InputError(f"{label}: no line ends; this is no csv file")
    return b"", comments, b""


def _iter_rows(
    cutter: _Cutter, chunks: Iterable[bytes]
) -> Iterator[tuple[list[tuple[bytes, ...]], int]]:
    """Yield some megabytes of rows at a time, and the number of their first one."""
    rows: list[tuple[bytes, ...]] = []
    first_row, rest = 1, b""
    for chunk in chunks:
        # Mostly the line that goes on ends the row: then not all of the chunk is copied.
        start = chunk.find(b"\n") + 1 if rest else 0
        if rest and cutter.cut(rest + chunk[:start], rows) == 0:
            chunk, start = rest + chunk, 0  # noqa: PLW2901
        rest = chunk[cutter.cut(chunk, rows, start) :]
        if len(rest) > LONGEST_LINE:
            raise cutter.complain("does not end (a quote too many?)")
        # Rows are about equally long.
        if len(rows) >= BLOCK_ROWS or (rows and len(rows) * sum(map(len, rows[-1])) > BLOCK_BYTES):
            yield rows, first_row
            rows, first_row = [], cutter.n_rows + 1
    if rest:
        raise cutter.complain("ends inside a quoted value (file cut short?)")
    yield rows, first_row


class _Cutter:
    """Cuts text into rows; what lies between quotes is passed over, not looked at.

    Nearly all of a file of spectra are arrays in quotes: finding where they end costs next to
    nothing, and only those that are wanted are copied.
    """

    def __init__(
        self, label: str, delimiter: bytes, n_columns: int = 0, wanted: Sequence[int] | None = None
    ) -> None:
        self.label, self.delimiter, self.n_columns = label, delimiter, n_columns
        self.places: Container[int] = range(LONGEST_LINE) if wanted is None else frozenset(wanted)
        first, *others = wanted or [0]
        self.take: Any = itemgetter(first, *others) if others else lambda row: (row[first],)
        self.find_stop = re.compile(b"[\n" + re.escape(delimiter) + b"]").search
        self.n_rows = 0

    def complain(self, problem: str) -> InputError:
        """Return an error about the row that comes next."""
        return InputError(f"{self.label}, row {self.n_rows + 1}: {problem}")

    def cut(self, data: bytes, rows: list[tuple[bytes, ...]], at: int = 0) -> int:
        """Append the wanted cells of each row; return where one begins that has no end yet."""
        size, take = len(data), self.take
        quote = data.find(b'"', at)
        while at < size:
            if data[at] in _BLANK_OR_COMMENT:
                end = data.find(b"\n", at)
                line = data[at:end]
                if end >= 0 and (line.startswith(b"#") or not line or line.isspace()):
                    at = end + 1
                    continue
            if 0 <= quote < at:
                quote = data.find(b'"', at)
            cells, end, quote = self.cut_row(data, at, quote)
            if end < 0:
                return at
            if len(cells) != self.n_columns:
                raise self.complain(
                    f"{len(cells)} fields, the header has {self.n_columns}"
                    " (file cut short or damaged?)"
                )
            rows.append(take(cells))
            self.n_rows += 1
            at = end + 1
        return at

    def cut_row(self, data: bytes, at: int, quote: int) -> tuple[list[bytes], int, int]:
        """Cut the row that begins at a byte; return cells, end (-1: none), and the next quote.

        Quoted cells are empty where they are not wanted.
        """
        find, delimiter, places = data.find, self.delimiter, self.places
        cells: list[bytes] = []
        start, end, goes_on = at, -1, False  # whether what begins here goes on with the cell before
        while True:
            if not (goes_on and quote == start + 1 and data.startswith(delimiter, start)):
                end = find(b"\n", start, quote) if quote >= 0 else find(b"\n", start)
                if end >= 0 or quote < 0:
                    break
                outside = data[start:quote].split(delimiter)
                if outside[-1].strip() or (goes_on and len(outside) == 1):
                    # Within a value a quote is like other letters: on to where the value ends.
                    stop = self.find_stop(data, quote)
                    if stop is None:
                        break
                    quote = find(b'"', stop.start())
                    if stop[0] == b"\n":
                        end = stop.start()
                        break
                    outside = data[start : stop.start()].split(delimiter)
                    if goes_on:
                        cells[-1] += outside.pop(0)
                    cells += outside
                    start, goes_on = stop.end(), False
                    continue
                if goes_on:
                    cells[-1] += outside.pop(0)
                cells += outside[:-1]
            close, doubled = find(b'"', quote + 1), False
            while close >= 0 and data.startswith(b'""', close):
                close, doubled = find(b'"', close + 2), True
            if close < 0:
                break
            value = data[quote + 1 : close] if len(cells) in places else b""
            cells.append(value.replace(b'""', b'"') if doubled else value)
            start, goes_on = close + 1, True
            quote = find(b'"', start)
        if end < 0:
            return cells, -1, quote
        last = data[start:end].rstrip(b"\r").split(delimiter)
        if goes_on:
            cells[-1] += last.pop(0)
        return cells + last, end, quote


def find_delimiter(header: bytes) -> bytes:
    """Choose the delimiter between which the header has source ids, else the most frequent one."""
    for delimiter in _DELIMITERS:
        cells = [cell.strip(b' "\r').decode("utf-8", "replace") for cell in header.split(delimiter)]
        if len(cells) > 1 and find_id_name(cells):
            return delimiter
    return max(_DELIMITERS[:-1], key=header.count)  # the first, a comma, where there is none


def read_ecsv_header(comments: list[str]) -> tuple[bytes | None, dict[str, ColumnInfo]]:
    """Take delimiter, units, descriptions and UCDs from an ECSV header, if it is one."""
    if not comments or not comments[0].startswith("%ECSV"):
        return None, {}
    from astropy.table.meta import get_header_from_yaml

    header = get_header_from_yaml(comments[1:])
    return header.get("delimiter", " ").encode(), ColumnInfo.read_yaml(header)
