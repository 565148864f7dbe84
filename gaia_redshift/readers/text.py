"""csv and ecsv files, as the archive writes them (arrays in quotes) or as anybody else does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import (
    Block,
    ColumnInfo,
    ReadOptions,
    find_layout,
)
from gaia_redshift.readers.content import Content, read_chunks

__all__ = ["iter_text_blocks"]

_DELIMITERS = (b",", b"\t", b";", b"|", b" ")
BLOCK_ROWS = 2048
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
    for header in lines:
        if header.startswith(b"#"):
            comments.append(header.decode("utf-8", errors="replace")[1:].removeprefix(" "))
        elif header.strip():
            break
    delimiter, infos = _read_ecsv_header(comments)
    header = header.removeprefix(b"\xef\xbb\xbf")
    delimiter = delimiter or _find_delimiter(header)
    names = [
        cell.decode("utf-8", errors="replace").strip()
        for cell in _split_line(header, delimiter) or []
    ]
    layout = find_layout(names, options, content.label)
    wanted = [(name, names.index(name)) for name in layout.names]

    def build_block(rows: list[list[bytes]], first_row: int) -> Block:
        columns: dict[str, Any] = {name: [row[i] for row in rows] for name, i in wanted}
        return Block(columns, layout, content.label, content.source, first_row, infos)

    id_index = names.index(layout.source_id)

    rows: list[list[bytes]] = []
    size = 0
    first_row = 1
    n_read = 0
    for cells in _iter_rows(lines, delimiter, len(names), content.label):
        n_read += 1
        if cells[id_index].strip().lower() == layout.source_id.lower().encode():
            continue  # files glued together: the header again
        rows.append(cells)
        size += sum(map(len, cells))
        if len(rows) >= BLOCK_ROWS or size > 8 << 20:
            yield build_block(rows, first_row)
            first_row = n_read + 1
            rows, size = [], 0
    if rows:
        yield build_block(rows, first_row)
    elif first_row == 1:
        raise InputError(f"{content.label}: holds no sources (a header and no rows)")


def _iter_lines(content: Content) -> Iterator[bytes]:
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
    """Choose the delimiter between which the header has a source_id; a comma where none fits."""
    for delimiter in _DELIMITERS:
        cells = [cell.strip(b' "\r').lower() for cell in header.split(delimiter)]
        if len(cells) > 1 and (b"source_id" in cells or b"sourceid" in cells):
            return delimiter
    return b","


def _read_ecsv_header(comments: list[str]) -> tuple[bytes | None, dict[str, ColumnInfo]]:
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
