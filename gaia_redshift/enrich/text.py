"""Csv and ECSV: lines are copied as they are, with cells at their end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from numpy.typing import NDArray

from gaia_redshift._files import DAMAGE, open_unpacked
from gaia_redshift.enrich.predictions import BLOCK_ROWS, Addition, Cells
from gaia_redshift.errors import InputError
from gaia_redshift.readers.text import find_delimiter, read_ecsv_header
from gaia_redshift.tables.columns import Column

__all__ = ["TextCatalogue", "add_to_yaml"]


class TextCatalogue:
    """A csv or ECSV file."""

    def __init__(self, path: Path, *, ecsv: bool) -> None:
        self.path, self.ecsv = path, ecsv
        self.above: list[str] = []
        with self._open() as stream:
            for line in stream:
                if line.lstrip("\ufeff").startswith("#") or not line.strip():
                    self.above.append(line)
                    continue
                self.title = line
                break
            else:
                raise InputError(f"{path}: has no line of column names")
        comments = [
            line.lstrip("\ufeff").rstrip("\r\n")[1:].removeprefix(" ") for line in self.above
        ]
        stated, self.infos = read_ecsv_header(comments) if ecsv else (b",", {})
        title = self.title.rstrip("\r\n")
        found = find_delimiter(title.encode("utf-8", "surrogateescape"))
        self.delimiter = (stated or b" " if ecsv else found).decode()
        names = next(csv.reader([title.lstrip("\ufeff")], delimiter=self.delimiter))
        self.names = [name.strip() for name in names]
        self.end = self.title[len(title) :] or "\n"

    def _open(self) -> TextIO:
        # Bytes that are not UTF-8 come out as they went in.
        options: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        return io.TextIOWrapper(open_unpacked(self.path), **options)

    def unit(self, name: str) -> str:
        """Return the unit of a column, where the header of an ECSV file says it."""
        about = self.infos.get(name)
        return (about.unit if about else None) or ""

    def _records(self) -> Iterator[tuple[str, list[str] | None]]:
        """Yield the text of each record and its cells; None for lines that are none."""
        taken: list[str] = []
        passed: list[str] = []  # comments and blank lines, in which quotes mean nothing

        def lines() -> Iterator[str]:
            for line in stream:
                if not taken and (line.startswith("#") or not line.strip()):
                    passed.append(line)
                else:
                    taken.append(line)
                    yield line

        with self._open() as stream:
            for _ in range(len(self.above) + 1):
                next(stream)
            try:
                for cells in csv.reader(lines(), delimiter=self.delimiter):
                    yield from ((line, None) for line in passed)
                    passed.clear()
                    text = "".join(taken)
                    taken.clear()
                    if text.count('"') % 2:
                        self._refuse_open(text)
                    yield text, cells or None
                yield from ((line, None) for line in passed)
            except (csv.Error, OSError, *DAMAGE) as error:
                raise InputError(f"{self.path}: cannot be read: {error}") from error

    def _refuse_open(self, text: str) -> None:
        """Refuse a record that ends inside a quoted cell: what is added would go into it."""
        try:
            list(csv.reader(io.StringIO(text), delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(
                    f"{self.path}: ends inside a quoted cell (file cut short?)"
                ) from None

    def _blocks(self) -> Iterator[tuple[list[str], list[list[str] | None]]]:
        texts: list[str] = []
        rows: list[list[str] | None] = []
        for number, (text, cells) in enumerate(self._records(), start=1):
            if cells is not None and len(cells) != len(self.names):
                raise InputError(
                    f"{self.path}, row {number}: has {len(cells)} cells, there are"
                    f" {len(self.names)} columns"
                )
            texts.append(text)
            rows.append(cells)
            if len(rows) == BLOCK_ROWS:
                yield texts, rows
                texts, rows = [], []
        if rows:
            yield texts, rows

    def _pick(self, rows: Sequence[list[str] | None], wanted: Sequence[str]) -> Cells:
        index = {name: self.names.index(name) for name in wanted}
        return {
            name: [row[i].strip() for row in rows if row is not None] for name, i in index.items()
        }

    def scan(self, wanted: Sequence[str]) -> Iterator[Cells]:
        """Yield the wanted columns block by block, as text."""
        for _, rows in self._blocks():
            yield self._pick(rows, wanted)

    def rewrite(self, target: Path, added: Addition) -> None:
        """Copy the file to ``target`` with the new columns."""
        new, meta = added.new, added.meta
        null = '""' if self.ecsv else ""
        with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
            out.writelines(self._make_head(new, meta))
            title = self.title.rstrip("\r\n")
            out.write(self.delimiter.join([title, *(column.name for column in new)]) + self.end)
            for texts, rows in self._blocks():
                values = added.compute(self._pick(rows, added.wanted))
                cells = zip(*(_write_cell(c, values[c.name], null) for c in new), strict=True)
                for text, row in zip(texts, rows, strict=True):
                    if row is None:
                        out.write(text)
                    else:
                        plain = text.rstrip("\r\n")
                        out.write(self.delimiter.join([plain, *next(cells)]) + self.end)

    def _make_head(self, new: Sequence[Column], meta: dict[str, Any]) -> list[str]:
        if not self.ecsv:
            return self.above
        plain = [line.rstrip("\r\n") for line in self.above]
        try:
            return [line + self.end for line in add_to_yaml(plain, new, meta, "# ")]
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None


def _write_cell(column: Column, values: NDArray[Any], null: str) -> list[str]:
    """Return a column as text, with the fewest digits that give each number back."""
    hidden = column.is_null(values)
    return [null if h else str(v) for v, h in zip(values, hidden, strict=True)]


def add_to_yaml(
    lines: list[str], new: Sequence[Column], meta: dict[str, Any], prefix: str = ""
) -> list[str]:
    """Add columns and flat metadata to the lines of an ECSV header, leaving the others as they are.

    The lines have ``prefix`` in front of each ("# " in files).
    """
    body = [line.removeprefix(prefix) for line in lines]
    added = []
    for column in new:
        item: dict[str, Any] = {"name": column.name, "datatype": str(column.dtype)}
        if column.unit:
            item["unit"] = column.unit
        if column.description:
            item["description"] = column.description
        if column.ucd:
            item["meta"] = {"ucd": column.ucd}
        added.append(f"- {json.dumps(item)}")  # JSON is YAML, too
    end = _find_end(body, "datatype:")
    if end is None:
        raise InputError("its header has no list of columns ('datatype:')")
    body[end:end] = added
    start = next((i for i, line in enumerate(body) if line.startswith("meta:")), None)
    if start is None:
        at = next((i for i, line in enumerate(body) if line.startswith("schema:")), len(body))
        body[at:at] = ["meta:", *_as_mapping(meta)]
    else:
        stop = _find_end(body, "meta:") or len(body)
        if body[start].rstrip() == "meta: !!omap":
            body[stop:stop] = [f"- {json.dumps({k: v})}" for k, v in meta.items()]
        elif body[start].rstrip() == "meta:":
            body[stop:stop] = _as_mapping(meta)
    return [prefix + line for line in body]


def _as_mapping(meta: dict[str, Any]) -> list[str]:
    return [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in meta.items()]


def _find_end(lines: list[str], key: str) -> int | None:
    """Return where the block under a top-level key ends."""
    start = next((i for i, line in enumerate(lines) if line.startswith(key)), None)
    if start is None:
        return None
    for i in range(start + 1, len(lines)):
        if not lines[i].startswith((" ", "-")):
            return i
    return len(lines)
