"""Any local file as blocks of columns: the format is told by content, not by name.

Zips are opened as the archive's DataLink delivers them: RAW, INDIVIDUAL or COMBINED, in any format.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from gaia_redshift._files import DAMAGE, one_line, zlib
from gaia_redshift.errors import InputError
from gaia_redshift.readers.avro import iter_avro_blocks
from gaia_redshift.readers.binary import iter_fits_blocks, iter_parquet_blocks
from gaia_redshift.readers.columns import Block, ReadOptions
from gaia_redshift.readers.content import Content, open_path, read_head, report_damage, unpack
from gaia_redshift.readers.hdf5 import iter_hdf5_blocks
from gaia_redshift.readers.text import iter_text_blocks
from gaia_redshift.readers.votable import iter_votable_blocks

__all__ = [
    "ACCEPTED",
    "EXTENSIONS",
    "FORMATS",
    "has_ending",
    "iter_content_blocks",
    "iter_file_blocks",
    "sniff_format",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Format:
    """A format of files: its name in messages, reader, endings and, if it has such, first bytes."""

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
"""Formats by the words of `sniff_format`; text is told in that function itself."""
_ENDINGS = tuple(ending for one in FORMATS.values() for ending in one.endings)
EXTENSIONS = (*_ENDINGS, ".zip")
"""Names that count as spectra in a folder, each also with ``.gz``."""
ACCEPTED = ", ".join([*(one.name for one in FORMATS.values()), "zip"])
"""The formats, in words."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OTHER = (
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"7z\xbc\xaf", "a 7z file"),
    (b"%PDF", "a PDF document"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
)

_SPECTRA = re.compile(r"(XP_CONTINUOUS|MEAN_SPECTRUM_XP)(?!_(SAMPLED|GRAVLENS|CROWDING))", re.I)
# DataLink's other products; the archive names members RETRIEVAL_TYPE-..., RETRIEVAL_TYPE_RAW...
_OTHER_PRODUCTS = re.compile(
    r"(XP_|EPOCH_|MEAN_SPECTRUM_|MCMC_|RVS|CROWDED_|RESIDUAL_|GSP_|MSC_|TIMESERIES)", re.I
)


def sniff_format(content: Content) -> str:
    """Tell a file's format by its first bytes, for names are often wrong: "zip", "avro", ..."""
    head = read_head(content)
    if head.startswith(_ZIP):
        return "zip"
    for name, about in FORMATS.items():
        if about.magic and head.startswith(about.magic):
            return name
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
        raise InputError(f"{content.label}: is of no known kind ({ACCEPTED} are read)")
    return "csv"


def has_ending(name: str, endings: tuple[str, ...] = EXTENSIONS) -> bool:
    """Tell whether a file is named like one of these, packed with gzip or not."""
    return name.lower().removesuffix(".gz").endswith(endings)


def iter_file_blocks(path: Path, options: ReadOptions) -> Iterator[Block]:
    """Read a file in blocks."""
    yield from iter_content_blocks(open_path(path, options.meter), options)


def iter_content_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read bytes from anywhere in blocks, as `iter_file_blocks` does a file's."""
    kind = sniff_format(content)
    if kind != "zip":
        yield from _iter_content(content, FORMATS[kind], options)
        return
    for member in _iter_members(content):
        kind = sniff_format(member)
        if kind == "zip":
            raise InputError(f"{member.label}: a zip inside a zip is not read; unpack it first")
        yield from _iter_content(member, FORMATS[kind], options)


def _iter_content(content: Content, found: Format, options: ReadOptions) -> Iterator[Block]:
    empty, still = True, options.skip.n
    for block in report_damage(found.read(content, options), content.label, found.name):
        empty = False
        yield block
    if empty and options.skip.n == still:  # nor were rows passed over
        raise InputError(f"{content.label}: holds no sources (a table without rows)")


def _iter_members(content: Content) -> Iterator[Content]:
    """Yield the members of a zip that hold continuous XP spectra, read in memory only."""
    try:
        with zipfile.ZipFile(content.path or io.BytesIO(content.read())) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            names = [info.filename for info in members]
            for name in names:
                _refuse_outside(name, content.label)
            chosen = set(_choose_members(names, content.label))
            for info in members:  # two may have one name
                if info.filename in chosen:
                    yield unpack(_open_member(archive, info, content))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, *DAMAGE) as error:
        raise InputError(
            f"{content.label}: cannot be read as a zip (damaged or cut short?): {one_line(error)}"
        ) from error


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: Content) -> Content:
    def unzip() -> IO[bytes]:
        stream = archive.open(info)
        if info.compress_type == zipfile.ZIP_DEFLATED and hasattr(stream, "_decompressor"):
            stream._decompressor = zlib.decompressobj(-15)  # Python's own takes twice as long
        return stream

    return Content(f"{content.label}: {info.filename}", content.source, unzip)


def _refuse_outside(name: str, label: str) -> None:
    windows = PureWindowsPath(name)
    parts = {*PurePosixPath(name).parts, *windows.parts}
    if ".." in parts or PurePosixPath(name).is_absolute() or windows.drive or windows.root:
        raise InputError(f"{label}: refused, its member '{name}' has a path outside the zip")


def _choose_members(names: list[str], label: str) -> list[str]:
    files = [name for name in names if not PurePosixPath(name).name.startswith((".", "__MACOSX"))]
    spectra = [name for name in files if _SPECTRA.match(PurePosixPath(name).name)]
    others = [name for name in files if _OTHER_PRODUCTS.match(PurePosixPath(name).name)]
    if not spectra:
        rest = [name for name in files if name not in others]
        spectra = [name for name in rest if has_ending(name, (*_ENDINGS, ".txt", ".dat"))]
    if not spectra:
        found = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "") or "nothing"
        raise InputError(
            f"{label}: no continuous XP spectra (XP_CONTINUOUS, in DR4 MEAN_SPECTRUM_XP) in this"
            f" zip; it holds: {found}"
        )
    skipped = [name for name in files if name not in spectra]
    if skipped:
        logger.info(
            "%s: skipped %d members that hold no continuous XP spectra: %s",
            *(label, len(skipped), ", ".join(skipped[:5])),
        )
    return spectra
