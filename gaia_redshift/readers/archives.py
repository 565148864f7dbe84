"""Zips as the archive's DataLink delivers them: RAW, INDIVIDUAL or COMBINED, in any format."""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath
from typing import IO

from gaia_redshift._packing import DAMAGE, zlib
from gaia_redshift.errors import InputError
from gaia_redshift.readers.content import Content, unpack

__all__ = ["iter_members"]

logger = logging.getLogger(__name__)

_SPECTRA = re.compile(r"(XP_CONTINUOUS|MEAN_SPECTRUM_XP)(?!_(SAMPLED|GRAVLENS|CROWDING))", re.I)
# DataLink's other products; the archive names members RETRIEVAL_TYPE-..., RETRIEVAL_TYPE_RAW...
_OTHER = re.compile(
    r"(XP_|EPOCH_|MEAN_SPECTRUM_|MCMC_|RVS|CROWDED_|RESIDUAL_|GSP_|MSC_|TIMESERIES)", re.I
)
_NAMES = re.compile(r"\.(e?csv|fits?|xml|vot|votable|avro|parquet|h5|hdf5|txt|dat)(\.gz)?$", re.I)


def iter_members(content: Content) -> Iterator[Content]:
    """Yield the members of a zip that hold continuous XP spectra, read in memory only."""
    try:
        with _open(content) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            names = [info.filename for info in members]
            for name in names:
                _refuse_outside(name, content.label)
            chosen = set(_choose(names, content.label))
            for info in members:  # two may have one name
                if info.filename in chosen:
                    yield unpack(_member(archive, info, content))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, *DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{content.label}: cannot be read as a zip (damaged or cut short?): {reason}"
        ) from error


def _open(content: Content) -> zipfile.ZipFile:
    if content.path is not None:
        return zipfile.ZipFile(content.path)
    return zipfile.ZipFile(io.BytesIO(content.read()))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: Content) -> Content:
    def open_member() -> IO[bytes]:
        stream = archive.open(info)
        if info.compress_type == zipfile.ZIP_DEFLATED and hasattr(stream, "_decompressor"):
            stream._decompressor = zlib.decompressobj(-15)  # Python's own takes twice as long
        return stream

    return Content(f"{content.label}: {info.filename}", content.source, open_member)


def _refuse_outside(name: str, label: str) -> None:
    windows = PureWindowsPath(name)
    parts = {*PurePosixPath(name).parts, *windows.parts}
    if ".." in parts or PurePosixPath(name).is_absolute() or windows.drive or windows.root:
        raise InputError(f"{label}: refused, its member '{name}' has a path outside the zip")


def _choose(names: list[str], label: str) -> list[str]:
    files = [name for name in names if not PurePosixPath(name).name.startswith((".", "__MACOSX"))]
    spectra = [name for name in files if _SPECTRA.match(PurePosixPath(name).name)]
    others = [name for name in files if _OTHER.match(PurePosixPath(name).name)]
    if not spectra:
        rest = [name for name in files if name not in others]
        spectra = [name for name in rest if _NAMES.search(name)]
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
