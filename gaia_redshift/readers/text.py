"""csv and ecsv files, as the archive writes them (arrays in quotes) or as anybody else does."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator
from itertools import islice
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
from gaia_redshift.readers.csv_stream import OddRowError, iter_cells

__all__ = ["iter_text_blocks", "read_ecsv_header"]

logger = logging.getLogger(__name__)

_DELIMITERS = (b",", b"\t", b";", b"|", b" ")
BLOCK_ROWS = 2048
BLOCK_BYTES = 8 << 20
ROWS_AT_ONCE = 128
LONGEST_LINE = 64 << 20


def iter_text_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read a csv or ecsv file in blocks of some megabytes.

    Raises
    ------
    InputError
        If columns are missing, a row is cut short, or there is no row.
    """
    lines = _iter_lines(content)
    comments: list[str] = []
    header = b""
    n_lines = 0
    for line in lines:
        n_lines += 1
        header = line.removeprefix(b"\xef\xbb\xbf")
        if header.startswith(b"#"):
            comments.append(header.decode("utf-8", errors="replace")[1:].removeprefix(" "))
        elif header.strip():
            break
    lines.close()
    delimiter, infos = read_ecsv_header(comments)
    delimiter = delimiter or _find_delimiter(header)
    names = [
        cell.decode("utf-8", errors="replace").strip()
        for cell in _split_line(header, delimiter) or []
    ]
    layout = find_layout(names, options, content.label)
    wanted = [names.index(name) for name in layout.names]
    id_column = layout.names.index(layout.source_id)
    id_name = layout.source_id.lower().encode()

    def build_block(cells: list[list[bytes]], first_row: int) -> Block:
        columns: dict[str, Any] = dict(zip(layout.names, cells, strict=True))
        return Block(columns, layout, content.label, content.source, first_row, infos)

    waiting: list[list[bytes]] = [[] for _ in wanted]
    size = 0
    first_row = 1
    n_read = 0
    for part in _iter_cells(content, n_lines, delimiter, len(names), wanted):
        n_read += len(part[id_column])
        cells = part
        again = [id.strip().lower() == id_name for id in part[id_column]]
        if any(again):  # files glued together: the header once more
            cells = [
                [c for c, header in zip(column, again, strict=True) if not header]
                for column in part
            ]
        for column, more in zip(waiting, cells, strict=True):
            column.extend(more)
            size += sum(map(len, more))
        if len(waiting[0]) >= BLOCK_ROWS or size > BLOCK_BYTES:
            yield build_block(waiting, first_row)
            first_row = n_read + 1
            waiting, size = [[] for _ in wanted], 0
    if waiting[0] or (first_row == 1 and not options.spectra):
        yield build_block(waiting, first_row)
    elif first_row == 1:
        raise InputError(f"{content.label}: holds no sources (a header and no rows)")


def _iter_cells(
    content: Content, n_lines: int, delimiter: bytes, n_columns: int, wanted: list[int]
) -> Iterator[list[list[bytes]]]:
    """Yield some rows at a time, after so many lines, as a list of cells for each wanted column.

    The careful reader goes on where the fast one gives up; its messages name the row.
    """
    done = 0
    try:
        for cells in iter_cells(
            content, delimiter=delimiter, n_columns=n_columns, wanted=wanted, skip_lines=n_lines
        ):
            done += len(cells[0])
            yield cells
    except OddRowError:
        logger.debug("%s: the careful reader goes on at row %d", content.label, done + 1)
    else:
        return
    rows: list[list[bytes]] = []
    lines = islice(_iter_lines(content), n_lines, None)
    for row in islice(_iter_rows(lines, delimiter, n_columns, content.label), done, None):
        rows.append(row)
        if len(rows) >= ROWS_AT_ONCE:
            yield [[row[i] for row in rows] for i in wanted]
            rows = []
    if rows:
        yield [[row[i] for row in rows] for i in wanted]


def _iter_lines(content: Content) -> Generator[bytes, None, None]:
    """Yield lines without their ends; a quoted value may go on over several."""
    rest: list[bytes] = []
    for chunk in read_chunks(content):
        end = chunk.rfind(b"\n")
        if end < 0:
            rest.append(chunk)
            if sum(map(len, rest)) > LONGEST_LINE:
                raise InputError(f"{content.label}: no line ends; this is no csv file")
            continue
        rest.append(chunk[:end])
        yield from b"".join(rest).split(b"\n")
        rest = [chunk[end + 1 :]]
    last = b"".join(rest)
    if last:
        yield last


def _iter_rows(
    lines: Iterator[bytes], delimiter: bytes, n_columns: int, label: str
) -> Iterator[list[bytes]]:
    row = 0
    for line in lines:
        if not line or line.isspace() or line.startswith(b"#"):
            continue
        row += 1
        cells = _split_line(line, delimiter)
        if cells is None:
            parts = [line]  # an open quote: the value goes on in the next lines, or is cut short
            size = len(line)
            for more in lines:
                parts.append(more)
                size += len(more)
                if more.count(b'"') % 2:
                    break
                if size > LONGEST_LINE:
                    break
            cells = _split_line(b"\n".join(parts), delimiter)
        if cells is None:
            raise InputError(f"{label}, row {row}: ends inside a quoted value (file cut short?)")
        if len(cells) != n_columns:
            raise InputError(
                f"{label}, row {row}: {len(cells)} fields, the header has {n_columns}"
                " (file cut short or damaged?)"
            )
        yield cells


def _split_line(line: bytes, delimiter: bytes) -> list[bytes] | None:
    """Cut a line into fields; None if a quote is left open.

    Cutting at the quotes first costs next to nothing for long quoted arrays.
    """
    line = line.rstrip(b"\r") if line.endswith(b"\r") else line
    if b'"' not in line:
        return line.split(delimiter)
    if b'""' in line:
        return _split_escaped(line, delimiter)
    parts = line.split(b'"')
    if len(parts) % 2 == 0:
        return None
    cells: list[bytes] = []
    last = len(parts) - 1
    for i, part in enumerate(parts):
        if i % 2:
            cells.append(part)
            continue
        outside = part.split(delimiter)
        # What touches a quote is the quoted field itself, hence neither first nor last here.
        cells += outside[1 if i else 0 : -1 if i < last else None]
    return cells


def _split_escaped(line: bytes, delimiter: bytes) -> list[bytes] | None:
    """Cut a line that has doubled quotes or empty quoted fields."""
    if line.count(b'"') % 2:
        return None
    mark = re.escape(delimiter)
    pattern = re.compile(rb'(?:"([^"]*(?:""[^"]*)*)"|([^"' + mark + rb"]*))(" + mark + rb"|$)")
    cells: list[bytes] = []
    position = 0
    while True:
        match = pattern.match(line, position)
        if match is None:
            return cells  # misplaced quotes: the number of fields will be wrong
        quoted, bare, end = match.groups()
        cells.append(bare if quoted is None else quoted.replace(b'""', b'"'))
        position = match.end()
        if not end:
            return cells


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
