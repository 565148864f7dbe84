"""FITS tables, of which all is copied as bytes and rows get longer, and Parquet, read and written.

astropy cannot add columns to FITS: ``BinTableHDU.from_columns`` turns arrays of variable length
into their descriptors.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import DAMAGE, one_line, open_unpacked
from gaia_redshift.enrich.predictions import BLOCK_ROWS, Addition, Cells
from gaia_redshift.enrich.text import add_to_yaml
from gaia_redshift.errors import InputError
from gaia_redshift.readers.binary import read_parquet_infos, unscale
from gaia_redshift.readers.columns import set_masks_apart
from gaia_redshift.readers.values import fold_masks, from_arrow
from gaia_redshift.tables.arrow import make_field
from gaia_redshift.tables.columns import META_KEY, Column, add_to_description
from gaia_redshift.tables.fits import list_cards, list_column_cards

__all__ = ["FitsCatalogue", "ParquetCatalogue"]

_BLOCK = 2880
_SIZES = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16}
_SIZES |= {"P": 8, "Q": 16}
_TYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_FORMATS = {"f4": "E", "f8": "D", "i4": "J", "i8": "K"}
_ASTROPY_KEY = b"table_meta_yaml"
_PROVENANCE_KEY = b"gaia_redshift_provenance"


class FitsCatalogue:
    """The first table of a FITS file that has the columns looked for.

    ``stack`` removes the unpacked copy of a gzipped file in the end; ``likely`` are columns, in
    lower case, that tell the table from others.
    """

    def __init__(self, path: Path, stack: ExitStack, likely: Sequence[str]) -> None:
        from astropy.io import fits

        self.path = path
        self.plain = stack.enter_context(_unpack(path))
        try:
            with (  # astropy leaves a file open that it cannot read
                self.plain.open("rb") as stream,
                fits.open(stream, memmap=True, lazy_load_hdus=False) as hdus,
            ):
                tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
                if not tables:
                    raise InputError(f"{path}: holds no binary table")
                named = [t for t in tables if {n.lower() for n in t.columns.names} & set(likely)]
                place = (named or tables)[0].fileinfo()
        except OSError as error:
            raise InputError(f"{path}: cannot be read as FITS: {error}") from None
        self.header_at, self.data_at = int(place["hdrLoc"]), int(place["datLoc"])
        self.after = self.data_at + int(place["datSpan"])
        with self.plain.open("rb") as stream:
            stream.seek(self.header_at)
            text = stream.read(self.data_at - self.header_at).decode("ascii", "replace")
        self.header = fits.Header.fromstring(text)
        self.n_rows, self.width = int(self.header["NAXIS2"]), int(self.header["NAXIS1"])
        self.names: list[str] = []
        self.columns: dict[str, tuple[int, int, str, Any, Any, Any]] = {}
        at = 0
        for number in range(1, int(self.header["TFIELDS"]) + 1):
            match = re.match(r"\s*(\d*)([A-Z])", str(self.header[f"TFORM{number}"]))
            if match is None:
                raise InputError(f"{path}: TFORM{number} is no format of a column")
            count, letter = int(match[1] or 1), match[2]
            size = -(-count // 8) if letter == "X" else count * _SIZES[letter]
            name = str(self.header.get(f"TTYPE{number}", f"col{number}")).strip()
            self.names.append(name)
            scaling = (self.header.get(f"TSCAL{number}", 1), self.header.get(f"TZERO{number}", 0))
            self.columns[name] = (at, count, letter, self.header.get(f"TNULL{number}"), *scaling)
            at += size

    def unit(self, name: str) -> str:
        """Return the unit of a column."""
        number = self.names.index(name) + 1
        return str(self.header.get(f"TUNIT{number}", "")).strip()

    def _blocks(self) -> Iterator[NDArray[np.uint8]]:
        with self.plain.open("rb") as stream:
            stream.seek(self.data_at)
            for start in range(0, self.n_rows, BLOCK_ROWS):
                n = min(BLOCK_ROWS, self.n_rows - start)
                data = stream.read(n * self.width)
                if len(data) < n * self.width:
                    raise InputError(f"{self.path}: the file ends in the middle of its rows")
                yield np.frombuffer(data, dtype=np.uint8).reshape(n, self.width)

    def _pick(self, rows: NDArray[np.uint8], wanted: Sequence[str]) -> Cells:
        cells: Cells = {}
        for name in wanted:
            at, count, letter, null, scale, zero = self.columns[name]
            if letter == "A":
                text = np.ascontiguousarray(rows[:, at : at + count]).view(f"S{count}")[:, 0]
                cells[name] = [one.decode("ascii", "replace").strip() for one in text.tolist()]
                continue
            if letter not in _TYPES or count != 1:
                raise InputError(f"{self.path}: the column '{name}' must hold one number a row")
            kind = np.dtype(_TYPES[letter])
            raw = np.ascontiguousarray(rows[:, at : at + kind.itemsize]).view(kind)[:, 0]
            hidden = raw == null if null is not None else np.zeros(len(raw), dtype=bool)
            cells[name] = np.ma.MaskedArray(unscale(raw, scale, zero), mask=hidden)
        return cells

    def scan(self, wanted: Sequence[str]) -> Iterator[Cells]:
        """Yield the wanted columns block by block."""
        for rows in self._blocks():
            yield self._pick(rows, wanted)

    def rewrite(self, target: Path, added: Addition) -> None:
        """Copy the file to ``target`` with the new columns."""
        new, meta = added.new, added.meta
        extra = sum(column.dtype.itemsize for column in new)
        heap = int(self.header.get("PCOUNT", 0))
        with self.plain.open("rb") as stream, target.open("wb") as out:
            _copy(stream, out, self.header_at)
            out.write(self._make_header(new, extra, meta))
            for rows in self._blocks():
                values = added.compute(self._pick(rows, added.wanted))
                parts = [rows]
                for column in new:
                    big = np.ascontiguousarray(values[column.name]).astype(
                        column.dtype.newbyteorder(">")
                    )
                    parts.append(big.view(np.uint8).reshape(len(rows), -1))
                out.write(np.concatenate(parts, axis=1).tobytes())
            stream.seek(self.data_at + self.n_rows * self.width)
            _copy(stream, out, heap)  # variable-length cells point into it by distance from it
            out.write(b"\0" * (-(self.n_rows * (self.width + extra) + heap) % _BLOCK))
            stream.seek(self.after)
            shutil.copyfileobj(stream, out)

    def _make_header(self, new: Sequence[Column], extra: int, meta: dict[str, Any]) -> bytes:
        header = self.header.copy()
        for card in ("CHECKSUM", "DATASUM"):
            header.remove(card, ignore_missing=True)
        header["NAXIS1"] = self.width + extra
        if "THEAP" in header:
            header["THEAP"] = int(header["THEAP"]) + self.n_rows * extra
        first = len(self.names) + 1
        header["TFIELDS"] = len(self.names) + len(new)
        for number, column in enumerate(new, start=first):
            form = _FORMATS[column.dtype.str[1:]]
            header.update(list_column_cards(number, column, form, column.unit, column.null))
        header.update(list_cards(meta))
        if "GRZMETA" in header:  # a table of this package's own: its reader goes by this card
            header["GRZMETA"] = add_to_description(str(header["GRZMETA"]), new, meta)
        return header.tostring().encode("ascii")  # type: ignore[no-any-return]


def _copy(stream: Any, out: Any, n_bytes: int) -> None:
    while n_bytes > 0:
        piece = stream.read(min(n_bytes, 1 << 20))
        if not piece:
            raise InputError("the FITS file ends too early")
        out.write(piece)
        n_bytes -= len(piece)


@contextmanager
def _unpack(path: Path) -> Iterator[Path]:
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


class ParquetCatalogue:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            self.schema = file.schema_arrow
        self.names: list[str] = list(self.schema.names)
        self.masks = set_masks_apart(self.names)[1]

    def _open(self) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(self.path)
        except (pa.ArrowException, OSError) as error:
            reason = one_line(error, 150)
            raise InputError(f"{self.path}: cannot be read as Parquet: {reason}") from None

    def unit(self, name: str) -> str:
        """Return the unit of a column, where the file says it."""
        about = read_parquet_infos(self.schema).get(name)
        return (about.unit if about else None) or ""

    def scan(self, wanted: Sequence[str]) -> Iterator[Cells]:
        """Yield the wanted columns block by block."""
        with self._open() as file:
            columns = list(dict.fromkeys([*wanted, *self._choose_masks(wanted).values()]))
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=columns):
                yield self._pick(batch, wanted)

    def _choose_masks(self, wanted: Sequence[str]) -> dict[str, str]:
        return {name: self.masks[name] for name in wanted if name in self.masks}

    def _pick(self, batch: Any, wanted: Sequence[str]) -> Cells:
        masks = self._choose_masks(wanted)
        folded = fold_masks({n: batch.column(n) for n in (*wanted, *masks.values())}, masks)
        return {name: from_arrow(folded[name]) for name in wanted}

    def rewrite(self, target: Path, added: Addition) -> None:
        """Copy the file to ``target`` with the new columns."""
        import pyarrow as pa
        from pyarrow import parquet

        new, meta = added.new, added.meta
        fields = [*self.schema, *map(make_field, new)]
        schema = pa.schema(fields, metadata=self._add_metadata(new, meta))
        codec = self._find_compression()
        with (
            self._open() as file,
            parquet.ParquetWriter(target, schema, compression=codec) as writer,
        ):
            for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                values = added.compute(self._pick(batch, added.wanted))
                arrays = list(batch.columns)
                for column in new:
                    found = values[column.name]
                    # Null integers would become floats in many readers, and ids lose digits.
                    floats = column.dtype.kind == "f"
                    arrays.append(pa.array(found, mask=column.is_null(found) if floats else None))
                writer.write_batch(pa.record_batch(arrays, schema=schema))

    def _find_compression(self) -> str:
        with self._open() as file:
            groups, columns = file.metadata.num_row_groups, file.metadata.num_columns
            if not (groups and columns):
                return "snappy"
            codec = str(file.metadata.row_group(0).column(0).compression).lower()
        return "none" if codec == "uncompressed" else codec

    def _add_metadata(self, new: Sequence[Column], meta: dict[str, Any]) -> dict[bytes, bytes]:
        """Tell astropy's reader, and this package's own, about the new columns."""
        metadata = dict(self.schema.metadata or {})
        metadata[_PROVENANCE_KEY] = json.dumps(meta).encode()
        if _ASTROPY_KEY in metadata:
            lines = metadata[_ASTROPY_KEY].decode().split("\n")
            metadata[_ASTROPY_KEY] = "\n".join(add_to_yaml(lines, new, meta)).encode()
        key = META_KEY.encode()
        if key in metadata:
            metadata[key] = add_to_description(metadata[key].decode(), new, meta).encode()
        return metadata
