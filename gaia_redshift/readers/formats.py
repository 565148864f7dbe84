"""Any local file as blocks of columns: the kind is told by content, not by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gaia_redshift.errors import InputError
from gaia_redshift.readers.archives import iter_members
from gaia_redshift.readers.avro import iter_avro_blocks
from gaia_redshift.readers.binary import iter_fits_blocks, iter_parquet_blocks
from gaia_redshift.readers.columns import Block, ReadOptions
from gaia_redshift.readers.content import Content, open_path, read_head, report_damage
from gaia_redshift.readers.hdf5 import iter_hdf5_blocks
from gaia_redshift.readers.text import iter_text_blocks
from gaia_redshift.readers.votable import iter_votable_blocks

__all__ = ["EXTENSIONS", "FORMATS", "iter_content_blocks", "iter_file_blocks", "sniff_kind"]


@dataclass(frozen=True)
class Format:
    """A kind of file: its name in messages, reader, endings and, if it has such, first bytes."""

    name: str
    read: Callable[[Content, ReadOptions], Iterator[Block]]
    endings: tuple[str, ...]
    magic: bytes | None = None


FORMATS = {
    "csv": Format("csv", iter_text_blocks, (".csv",)),
    "ecsv": Format("ecsv", iter_text_blocks, (".ecsv",)),
    "fits": Format("FITS", iter_fits_blocks, (".fits", ".fit"), b"SIMPLE  ="),
    "votable": Format("VOTable", iter_votable_blocks, (".xml", ".vot", ".votable")),
    "avro": Format("avro", iter_avro_blocks, (".avro",), b"Obj\x01"),
    "parquet": Format("Parquet", iter_parquet_blocks, (".parquet", ".pq"), b"PAR1"),
    "hdf5": Format("HDF5", iter_hdf5_blocks, (".h5", ".hdf5", ".hdf"), b"\x89HDF\r\n\x1a\n"),
}
"""Kinds of files by the words of `sniff_kind`; text is told in that function itself."""
EXTENSIONS = (*(ending for kind in FORMATS.values() for ending in kind.endings), ".zip")
"""Names that count as spectra in a folder, each also with ``.gz``."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OTHER = (
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"7z\xbc\xaf", "a 7z file"),
    (b"%PDF", "a PDF document"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
)


def sniff_kind(content: Content) -> str:
    """Tell a file's kind from its first bytes (names are often wrong): "zip", "avro", "csv", ..."""
    head = read_head(content)
    if head.startswith(_ZIP):
        return "zip"
    for kind, about in FORMATS.items():
        if about.magic and head.startswith(about.magic):
            return kind
    for magic, words in _OTHER:
        if head.startswith(magic):
            raise InputError(f"{content.label}: is {words}, which cannot be read; unpack it first")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lowered = text[:1024].lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        raise InputError(
            f"{content.label}: is an HTML page (an error page of a server?), not a data file"
        )
    if lowered.startswith(b"<"):
        if b"<votable" in head.lower() or lowered.startswith(b"<?xml"):
            return "votable"
        raise InputError(f"{content.label}: is XML but no VOTable")
    if lowered.startswith(b"# %ecsv"):
        return "ecsv"
    if lowered.startswith((b"{", b"[")):
        raise InputError(f"{content.label}: looks like JSON, which is not read; use csv or VOTable")
    if not text:
        raise InputError(f"{content.label}: the file is empty")
    if b"\x00" in head:
        raise InputError(
            f"{content.label}: is of no known kind ({', '.join(f.name for f in FORMATS.values())}"
            " and zip are read)"
        )
    return "csv"


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
    kind = FORMATS[sniff_kind(content)]
    yield from report_damage(kind.read(content, options), content.label, kind.name)
