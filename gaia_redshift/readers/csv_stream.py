"""Cut csv files into columns of cells with pyarrow's parser, which looks at every byte only once.

What it cannot cut as the careful reader in ``text`` does is left to that one: values that go on
over several lines, comments among the rows, rows that are cut short.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from gaia_redshift.readers.content import Content

__all__ = ["OddRowError", "iter_cells"]

BLOCK_BYTES = 4 << 20


class OddRowError(Exception):
    """The file, or what comes next in it, is for the careful reader."""


def iter_cells(
    content: Content, *, delimiter: bytes, n_columns: int, wanted: list[int], skip_lines: int
) -> Iterator[list[list[bytes]]]:
    """Yield some rows at a time, as a list of cells for each wanted column.

    Parameters
    ----------
    content : Content
        Text, plain or packed with gzip once.
    delimiter : bytes
        One byte.
    n_columns : int
        Number of fields of every row.
    wanted : list of int
        Numbers of the columns to return.
    skip_lines : int
        Lines before the first row.

    Raises
    ------
    OddRowError
        If something is unusual. Rows yielded before are right, and none was left out.
    """
    import pyarrow as pa
    from pyarrow import csv

    # The first column tells comments, the last one whether the file ends inside a value.
    read = list(dict.fromkeys([*wanted, 0, n_columns - 1]))
    names = [str(i) for i in read]

    def cut(batch: Any) -> list[list[bytes]]:
        if any(cell[:1] == b"#" for cell in batch.column(read.index(0)).to_pylist()):
            raise OddRowError  # a comment with as many commas as a row has
        return [column.to_pylist() for column in batch.columns[: len(wanted)]]

    with ExitStack() as stack:
        try:
            if content.path is not None:
                raw: Any = stack.enter_context(pa.OSFile(str(content.path)))
            elif content.packed is not None:
                packed = stack.enter_context(pa.OSFile(str(content.packed)))
                raw = stack.enter_context(pa.CompressedInputStream(packed, "gzip"))
            else:
                raise OddRowError
            if content.meter is not None:
                content.meter.watch(raw if content.path is not None else packed)
            reader = stack.enter_context(
                csv.open_csv(
                    raw,
                    read_options=csv.ReadOptions(
                        column_names=[str(i) for i in range(n_columns)],
                        skip_rows=skip_lines,
                        block_size=BLOCK_BYTES,
                    ),
                    parse_options=csv.ParseOptions(delimiter=delimiter.decode("latin-1")),
                    convert_options=csv.ConvertOptions(
                        include_columns=names,
                        column_types=dict.fromkeys(names, pa.binary()),
                        check_utf8=False,
                    ),
                )
            )
            held = None
            for batch in reader:
                if held is not None:
                    yield cut(held)
                held = batch if batch.num_rows else None
            if held is not None:
                if _ends_inside(content, held.column(read.index(n_columns - 1))[-1].as_py()):
                    raise OddRowError
                yield cut(held)
        except (pa.ArrowInvalid, OSError) as error:
            raise OddRowError from error


def _ends_inside(content: Content, last_value: bytes) -> bool:
    """Tell whether a file is cut short within a quoted value, which pyarrow takes as whole."""
    if last_value[:1] in (b"(", b"[") and last_value[-1:] not in (b")", b"]"):
        return True
    if content.path is None:
        return False
    with content.path.open("rb") as file:
        file.seek(max(content.path.stat().st_size - BLOCK_BYTES, 0))
        return file.read().rpartition(b"\n")[2].count(b'"') % 2 == 1
