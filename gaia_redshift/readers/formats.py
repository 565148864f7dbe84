"""Any local file as blocks of columns: the kind is told by content, not by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gaia_redshift.errors import InputError
from gaia_redshift.readers.archives import iter_members
from gaia_redshift.readers.avro import iter_avro_blocks
from gaia_redshift.readers.binary import iter_fits_blocks, iter_parquet_blocks
from gaia_redshift.readers.columns import Block, ReadOptions
from gaia_redshift.readers.content import Content, open_path, report_damage, sniff_kind
from gaia_redshift.readers.hdf5 import iter_hdf5_blocks
from gaia_redshift.readers.text import iter_text_blocks
from gaia_redshift.readers.votable import iter_votable_blocks

__all__ = ["EXTENSIONS", "iter_content_blocks", "iter_file_blocks"]

EXTENSIONS = (
    *(".csv", ".ecsv", ".fits", ".fit", ".xml", ".vot", ".votable"),
    *(".avro", ".parquet", ".pq", ".h5", ".hdf5", ".hdf", ".zip"),
)
"""Names that count as spectra in a folder, each also with ``.gz``."""

_READERS = {
    "csv": ("csv", iter_text_blocks),
    "ecsv": ("ecsv", iter_text_blocks),
    "fits": ("FITS", iter_fits_blocks),
    "votable": ("VOTable", iter_votable_blocks),
    "avro": ("avro", iter_avro_blocks),
    "parquet": ("Parquet", iter_parquet_blocks),
    "hdf5": ("HDF5", iter_hdf5_blocks),
}


def iter_file_blocks(path: Path, options: ReadOptions) -> Iterator[Block]:
    """Read a file in blocks."""
    yield from iter_content_blocks(open_path(path, options.meter), options)


def iter_content_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read bytes from anywhere in blocks, as `iter_file_blocks` does a file's."""
    if sniff_kind(content) != "zip":
        yield from _iter_content(content, options)
        return
    empty = True
    for member in iter_members(content):
        empty = False
        if sniff_kind(member) == "zip":
            raise InputError(f"{member.label}: a zip inside a zip is not read; unpack it first")
        yield from _iter_content(member, options)
    if empty:
        raise InputError(f"{content.label}: holds no sources")


def _iter_content(content: Content, options: ReadOptions) -> Iterator[Block]:
    name, reader = _READERS[sniff_kind(content)]
    yield from report_damage(reader(content, options), content.label, name)
