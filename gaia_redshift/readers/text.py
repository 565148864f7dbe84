"""csv and ecsv files, as the archive writes them (arrays in quotes) or as anybody else does."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from operator import itemgetter
from typing import Any

from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import (
    Block,
    ColumnInfo,
    ReadOptions,
    find_id_name,
    find_layout,
)
from gaia_redshift.readers.content import Content, read_chunks

__all__ = ["iter_text_blocks", "read_ecsv_header"]

_DELIMITERS = (b",", b"\t", b";", b"|", b" ")
BLOCK_ROWS = 2048
BLOCK_BYTES = 8 << 20
LONGEST_LINE = 8 << 20
_BLANK_OR_COMMENT = frozenset(b"# \t\r\n\v\f")


def iter_text_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read a csv or ecsv file in blocks of some megabytes.

    Raises
    ------
    InputError
        If columns are missing, a row is cut short, or there is no row.
    """
    with closing(_iter_whole_lines(content)) as pieces:
        piece, comments, header = _read_header(pieces)
        delimiter, infos = read_ecsv_header(comments)
        delimiter = delimiter or _find_delimiter(header)
        names = [
            cell.decode("utf-8", errors="replace").strip()
            for cell in _cut_row(header, 0, len(header), delimiter, range(len(header)))[0]
        ]
        layout = find_layout(names, options, content.label)
        cutter = _Cutter(content.label, delimiter, names, layout.names)
        id_column = layout.names.index(layout.source_id)
        id_name = layout.source_id.lower().encode()
        empty = True
        for rows, first_row in _iter_rows(cutter, chain([piece], pieces)):
            # Files glued together: the header once more.
            columns = zip(
                *(r for r in rows if r[id_column].strip().lower() != id_name), strict=True
            )
            cells: dict[str, Any] = dict(zip(layout.names, map(list, columns), strict=False))
            if cells or (empty and not options.spectra):
                empty = False
                cells = cells or {name: [] for name in layout.names}
                yield Block(cells, layout, content.label, content.source, first_row, infos)
    if empty:
        raise InputError(f"{content.label}: holds no sources (a header and no rows)")


def _iter_whole_lines(content: Content) -> Generator[bytes, None, None]:
    """Yield pieces of text, each ending with a line's end."""
    rest: list[bytes] = []
    for chunk in read_chunks(content):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, chunk[:end]])
            rest = []
        rest.append(chunk[end:])
        if sum(map(len, rest)) > LONGEST_LINE:
            raise InputError(f"{content.label}: no line ends; this is no csv file")
    last = b"".join(rest)
    if last:
        yield last + b"\n"


def _read_header(pieces: Iterator[bytes]) -> tuple[bytes, list[str], bytes]:
    """Return what follows the first line that is no comment, the comments, and that line."""
    comments: list[str] = []
    for piece in pieces:
        at = 0
        while at < len(piece):
            end = piece.index(b"\n", at)
            line = piece[at:end].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
            at = end + 1
            if line.startswith(b"#"):
                comments.append(line.decode("utf-8", errors="replace")[1:].removeprefix(" "))
            elif line.strip():
                return piece[at:], comments, line
    return b"", comments, b""


def _iter_rows(
    cutter: _Cutter, pieces: Iterable[bytes]
) -> Iterator[tuple[list[tuple[bytes, ...]], int]]:
    """Yield some megabytes of rows at a time, and the number of their first one."""
    rows: list[tuple[bytes, ...]] = []
    size, first_row, rest = 0, 1, b""
    for piece in pieces:
        data = rest + piece
        n = len(rows)
        at = cutter.cut(data, rows)
        rest = data[at:]
        if len(rest) > LONGEST_LINE:
            break
        size += sum(sum(map(len, row)) for row in rows[n:])
        if len(rows) >= BLOCK_ROWS or size > BLOCK_BYTES:
            yield rows, first_row
            rows, size, first_row = [], 0, cutter.n_rows + 1
    if rest:
        raise cutter.complain("ends inside a quoted value (file cut short?)")
    yield rows, first_row


class _Cutter:
    """Cuts text into rows; what lies between quotes is passed over, not looked at.

    Nearly all of a file of spectra are arrays in quotes: finding where they end costs next to
    nothing, and only those that are wanted are copied.
    """

    def __init__(
        self, label: str, delimiter: bytes, names: list[str], wanted: Sequence[str]
    ) -> None:
        self.label, self.delimiter, self.n_columns = label, delimiter, len(names)
        places = [names.index(name) for name in wanted]
        self.places = frozenset(places)
        self.take = itemgetter(*places) if len(places) > 1 else lambda cells: (cells[places[0]],)
        self.n_rows = 0

    def complain(self, problem: str) -> InputError:
        """Return an error about the row that comes next."""
        return InputError(f"{self.label}, row {self.n_rows + 1}: {problem}")

    def cut(self, data: bytes, rows: list[tuple[bytes, ...]]) -> int:
        """Append the wanted cells of each row; return where one begins that goes on after the end.

        Raises
        ------
        InputError
            If a row has another number of fields than the header.
        """
        at, size, find, take = 0, len(data), data.find, self.take
        while at < size:
            end = find(b"\n", at)
            if data[at] in _BLANK_OR_COMMENT:
                line = data[at:end]
                if line.startswith(b"#") or not line or line.isspace():
                    at = end + 1
                    continue
            cells, end = _cut_row(data, at, end, self.delimiter, self.places)
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


def _cut_row(
    data: bytes, at: int, end: int, delimiter: bytes, places: Container[int]
) -> tuple[list[bytes], int]:
    """Return the fields of a row and its end; quoted ones are empty but at these places.

    The end is -1 where it, or a closing quote, is not there.
    """
    find = data.find
    cells: list[bytes] = []
    start, goes_on = at, False  # whether what begins here goes on with the cell before
    while (quote := find(b'"', start, end)) >= 0:
        outside = data[start:quote].split(delimiter)
        letter = bool(outside[-1].strip()) or (goes_on and len(outside) == 1)
        if letter:  # within a value: there a quote is like others
            stop = find(delimiter, quote, end)
            if stop < 0:
                break
            outside = [*data[start:stop].split(delimiter), b""]
        if goes_on:
            cells[-1] += outside.pop(0)
        cells += outside[:-1]
        if letter:
            start, goes_on = stop + 1, False
            continue
        close, doubled = find(b'"', quote + 1), False
        while close >= 0 and data.startswith(b'""', close):
            close, doubled = find(b'"', close + 2), True
        if close < 0:
            return cells, -1
        value = data[quote + 1 : close] if len(cells) in places else b""
        cells.append(value.replace(b'""', b'"') if doubled else value)
        start, goes_on = close + 1, True
        if close > end:  # over several lines
            end = find(b"\n", close)
            if end < 0:
                return cells, -1
    last = data[start:end].rstrip(b"\r").split(delimiter)
    if goes_on:
        cells[-1] += last.pop(0)
    return cells + last, end


def _find_delimiter(header: bytes) -> bytes:
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
    infos = {
        column["name"]: ColumnInfo(
            str(column["unit"]) if column.get("unit") else None,
            column.get("description"),
            (column.get("meta") or {}).get("ucd"),
            "array" if column.get("subtype") else column.get("datatype"),
        )
        for column in header.get("datatype", [])
    }
    return header.get("delimiter", " ").encode(), infos
