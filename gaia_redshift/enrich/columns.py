"""What is added to a catalogue, and what the formats have in common."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from gaia_redshift._files import DAMAGE, open_unpacked
from gaia_redshift.errors import InputError
from gaia_redshift.tables.columns import Column

__all__ = [
    "Addition",
    "Cells",
    "Compute",
    "Format",
    "add_to_description",
    "add_to_yaml",
    "plain_file",
    "write_cell",
]

Cells = dict[str, Any]
"""The columns that are needed of a block of rows: arrays, masked arrays, or lists of text."""
Compute = Callable[[Cells], dict[str, NDArray[Any]]]
"""Gives the new columns of a block; NaN, or 0 in ``source_id``, where there is nothing."""
BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Addition:
    """Columns that ``compute`` makes of the ``wanted`` ones of a block, and what to note."""

    wanted: Sequence[str]
    new: Sequence[Column]
    compute: Compute
    meta: dict[str, Any]


class Format(Protocol):
    """A catalogue file that can be copied with columns added."""

    names: list[str]

    def unit(self, name: str) -> str:
        """Return the unit of a column; empty where the file says none."""

    def scan(self, wanted: Sequence[str]) -> Iterator[Cells]:
        """Yield the wanted columns block by block."""

    def rewrite(self, target: Path, added: Addition) -> None:
        """Copy the file to ``target`` with the new columns."""


def write_cell(column: Column, values: NDArray[Any], null: str) -> list[str]:
    """Return a column as text, with the fewest digits that give each number back."""
    hidden = column.is_null(values)
    return [null if h else str(v) for v, h in zip(values, hidden, strict=True)]


@contextmanager
def plain_file(path: Path) -> Iterator[Path]:
    """Give the path of the file unpacked: itself, or a temporary one where it is gzipped."""
    source = open_unpacked(path)
    with source, tempfile.TemporaryDirectory() as folder:
        if not isinstance(source, gzip.GzipFile):
            yield path
            return
        unpacked = Path(folder) / "catalogue"
        try:
            with unpacked.open("wb") as out:
                shutil.copyfileobj(source, out)
        except (OSError, *DAMAGE) as error:
            raise InputError(f"{path}: is damaged: {error}") from error
        yield unpacked


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


def add_to_description(text: str, new: Sequence[Column], meta: dict[str, Any]) -> str:
    """Add to the JSON that `gaia_redshift.write_table` puts into its files."""
    noted = json.loads(text)
    noted["meta"] = {**noted.get("meta", {}), **meta}
    for column in new:
        noted["columns"][column.name] = {k: v for k, v in column.words.items() if v}
    return json.dumps(noted)
