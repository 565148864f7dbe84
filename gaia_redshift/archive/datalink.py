"""One request to DataLink for a chunk of spectra, and a look at whether the answer is whole."""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import (
    Answer,
    RefusedError,
    TransientError,
    check_answer,
    read_reason,
)
from gaia_redshift.archive.mirror import ask_mirror
from gaia_redshift.archive.releases import Release
from gaia_redshift.errors import InputError
from gaia_redshift.readers.bands import build_spectra
from gaia_redshift.readers.columns import ReadOptions
from gaia_redshift.readers.content import Content
from gaia_redshift.readers.formats import iter_content_blocks
from gaia_redshift.spectra import XPSpectra

__all__ = ["request_spectra"]

FORMAT = "fits"
"""Read four times as fast as csv and twenty times as fast as VOTable; states its own length."""


def request_spectra(
    connections: Connections,
    source_id: NDArray[np.int64],
    release: Release,
    *,
    until: float | None = None,
) -> XPSpectra | None:
    """Ask once for the spectra of at most 5,000 distinct sources, until a ``time.monotonic()``.

    Return those that came, in the order asked for; None if none did. DataLink says nothing about
    sources that it leaves out. No answer or a damaged one is a TransientError.
    """
    if connections.settings.spectra_table:
        answer = ask_mirror(connections, source_id, until)
        spectra = _parse(answer, connections.settings.largest_answer)
        return None if spectra is None else _select(spectra, source_id, answer.host, release)
    form = {
        "ID": ",".join(map(str, source_id.tolist())),
        "RELEASE": release.label,
        "RETRIEVAL_TYPE": release.retrieval_type,
        "FORMAT": FORMAT,
        "VALID_DATA": "false",
        "USE_ZIP_ALWAYS": "true",
    }
    answer = connections.find_structure(release).ask(
        lambda word: connections.post_data({**form, "DATA_STRUCTURE": word}, until=until), until
    )
    check_answer(answer, what="the request for spectra", expected=(200, 204))
    if answer.status == 204:
        return None
    spectra = _parse(answer, connections.settings.largest_answer)
    return None if spectra is None else _select(spectra, source_id, answer.host, release)


def _parse(answer: Answer, most: int) -> XPSpectra | None:
    host, body = answer.host, answer.body
    if not body:
        raise TransientError(f"{host} sent an empty answer to the request for spectra")
    if body[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                members = [info for info in archive.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
            raise TransientError(f"{host} sent a zip that is cut short or damaged") from error
        names = [info.filename for info in members]
        if sum(info.file_size for info in members) > most:
            raise RefusedError(f"{host} sent a zip that unpacks to more than {most / 1e9:.3g} GB")
        if len(set(names)) < len(names):
            raise TransientError(f"{host} sent a zip with two files of one name")
        if not names:
            return None
    elif not body.startswith((b"SIMPLE", b"<?xml", b"<VOTABLE")) and body[:40].isascii():
        raise RefusedError(
            f"{host} answered the request for spectra with words: {read_reason(answer)}"
        )
    label = f"the archive's answer from {host}"
    options = ReadOptions()
    try:
        parts = [
            build_spectra(block, options)
            for block in iter_content_blocks(
                Content(label, host, lambda: io.BytesIO(body)), options
            )
        ]
    except InputError as error:
        if "holds no sources" in str(error):
            return None
        raise TransientError(f"{host} sent damaged spectra ({error})") from error
    return XPSpectra.concatenate(parts) if parts else None


def _select(
    spectra: XPSpectra, source_id: NDArray[np.int64], host: str, release: Release
) -> XPSpectra | None:
    """Put the spectra in the order asked for, each once; what was not asked for is damage."""
    if not np.isin(spectra.source_id, source_id).all():
        raise TransientError(f"{host} sent spectra of sources that were not asked for")
    _, first = np.unique(spectra.source_id, return_index=True)
    by_id = {int(i): row for row, i in zip(first, spectra.source_id[first], strict=True)}
    rows = np.array([by_id[i] for i in source_id.tolist() if i in by_id], dtype=np.intp)
    if not len(rows):
        return None
    in_order = len(rows) == len(spectra) and bool((rows == np.arange(len(rows))).all())
    chosen = spectra if in_order else spectra[rows]
    return XPSpectra(
        source_id=chosen.source_id,
        bp=chosen.bp,
        rp=chosen.rp,
        flags=chosen.flags,
        release=release.name,
        meta={"inputs": [f"{release.label} archive ({host})"]},
    )
