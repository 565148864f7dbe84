"""Chunks of spectra from DataLink: requests, whole answers, until each source is answered.

Mirrors of the archive have a table of coefficients instead; it is asked for ids in the text of
plain queries.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.archive.account import FetchStatus
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import (
    Answer,
    Patience,
    RefusedError,
    StoppedError,
    TransientError,
    check_answer,
    read_reason,
    unpack,
)
from gaia_redshift.archive.jobs import submit_now
from gaia_redshift.archive.releases import Release, check_open, explain_missing
from gaia_redshift.errors import ArchiveError, InputError
from gaia_redshift.readers.bands import build_spectra
from gaia_redshift.readers.columns import ReadOptions
from gaia_redshift.readers.content import Content
from gaia_redshift.readers.formats import iter_content_blocks
from gaia_redshift.spectra import XPSpectra

__all__ = ["Chunk", "fetch_chunk", "request_spectra"]

logger = logging.getLogger(__name__)

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
        answer = _ask_mirror(connections, source_id, until)
    else:
        answer = _ask_datalink(connections, source_id, release, until)
    if answer.status == 204:
        return None
    spectra = _parse(answer, connections.settings.largest_answer)
    return None if spectra is None else _select(spectra, source_id, answer.host, release)


def _ask_datalink(
    connections: Connections, source_id: NDArray[np.int64], release: Release, until: float | None
) -> Answer:
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
    return check_answer(answer, what="the request for spectra", expected=(200, 204))


def _ask_mirror(
    connections: Connections, source_id: NDArray[np.int64], until: float | None
) -> Answer:
    """Ask the table for a chunk of spectra; the answer is a VOTable."""
    table = connections.settings.spectra_table
    ids = ",".join(map(str, source_id.tolist()))
    adql = f"SELECT * FROM {table} WHERE source_id IN ({ids})"
    session = connections.tap
    with session.asking("the request for spectra", until):
        answer = submit_now(session, adql, maxrec=len(source_id) + 1)
    answer = replace(answer, body=unpack(answer.body, session.settings.largest_answer, answer.host))
    for place in (answer.body[:20_000], answer.body[-20_000:]):
        status = re.search(rb'name="QUERY_STATUS"[^>]*value="ERROR"', place, re.IGNORECASE)
        if status:
            raise RefusedError(f"{answer.host} could not run the query: {read_reason(answer)}")
    return answer


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
) -> XPSpectra:
    """Put the spectra in the order asked for, each once; what was not asked for is damage."""
    if not np.isin(spectra.source_id, source_id).all():
        raise TransientError(f"{host} sent spectra of sources that were not asked for")
    meta = {"inputs": [f"{release.label} archive ({host})"]}
    ordered = _put_in_order(spectra, source_id)
    return replace(ordered, columns=None, release=release.name, meta=meta)


def _put_in_order(spectra: XPSpectra, source_id: NDArray[np.int64]) -> XPSpectra:
    """Return spectra, of some of the ids (n,), in their order and each once."""
    ids, first = np.unique(spectra.source_id, return_index=True)
    place = np.minimum(np.searchsorted(ids, source_id), len(ids) - 1)
    rows = first[place[ids[place] == source_id]]
    return spectra if np.array_equal(rows, np.arange(len(spectra))) else spectra[rows]


@dataclass
class Chunk:
    """What became of n distinct sources, none of which is left ``PENDING``.

    ``spectra`` are those of the sources with status ``SPECTRUM``, in order; ``reasons`` tell by id
    why some failed, ``error`` what ended it, ``stored`` whether the cache has it all.
    """

    source_id: NDArray[np.int64]
    status: NDArray[np.int8]
    spectra: XPSpectra | None = None
    reasons: dict[int, str] = field(default_factory=dict)
    error: ArchiveError | None = None
    n_requests: int = 0
    stored: bool = False

    @property
    def answered(self) -> bool:
        """Whether the archive said anything about any of them."""
        return bool((self.status != FetchStatus.FAILED).any())


def fetch_chunk(
    connections: Connections,
    source_id: NDArray[np.int64],
    release: Release,
    *,
    stop: threading.Event | None = None,
    on_failure: Callable[[TransientError], None] | None = None,
) -> Chunk:
    """Ask for at most 5,000 distinct sources until each is answered, or tries or time are used up.

    It raises nothing for the archive's failures: they are in the chunk. DataLink leaves out sources
    silently. So whatever is missing from an answer is looked up in the release's main table: a
    source that is not there is an unknown id; one without a public spectrum is that; one that
    should have come was lost on the way, and is asked for again.
    """
    patience = Patience(connections.settings, connections.settings.deadline, stop, on_failure)
    chunk = Chunk(source_id, np.full(len(source_id), FetchStatus.PENDING, dtype=np.int8))
    parts: list[XPSpectra] = []
    explained = divided = False
    try:
        while (todo := np.flatnonzero(chunk.status == FetchStatus.PENDING)).size:
            wanted = source_id[todo]
            if patience.stop.is_set():
                raise StoppedError("given up")
            try:
                chunk.n_requests += 1
                found = request_spectra(connections, wanted, release, until=patience.ends)
            except TransientError as failure:
                if chunk.n_requests == 1 and failure.answered:
                    check_open(connections, release, patience)
                if patience.is_last and failure.answered and not divided:
                    divided = True
                    if _divide(connections, chunk, todo, release, patience=patience, parts=parts):
                        continue
                patience.fail(failure)
                continue
            if found is not None:
                parts.append(found)
                came = np.isin(wanted, found.source_id)
                chunk.status[todo[came]] = FetchStatus.SPECTRUM
                todo = todo[~came]
                patience = patience.renew()  # it gets on: what is cut short comes in the end
            if not todo.size:
                break
            if not explained:
                chunk.status[todo] = explain_missing(
                    connections, source_id[todo], release, patience
                )
                explained = True
            n_lost = int((chunk.status == FetchStatus.PENDING).sum())
            if n_lost:
                patience.fail(
                    TransientError(
                        f"{connections.data_host} left out {n_lost:,} spectra that the archive"
                        " says it has"
                    )
                )
    except ArchiveError as error:
        chunk.error = error
        failed = chunk.status == FetchStatus.PENDING
        chunk.status[failed] = FetchStatus.FAILED
        chunk.reasons.update(dict.fromkeys(source_id[failed].tolist(), str(error)))
        logger.info("%d of a chunk of %d sources failed: %s", failed.sum(), len(failed), error)
    failed_ids = set(source_id[chunk.status == FetchStatus.FAILED].tolist())
    chunk.reasons = {one: why for one, why in chunk.reasons.items() if one in failed_ids}
    if parts:
        joined = _put_in_order(XPSpectra.concatenate(parts), source_id)
        chunk.spectra = replace(joined, release=parts[0].release, meta=parts[0].meta)
    return chunk


def _divide(
    connections: Connections,
    chunk: Chunk,
    todo: NDArray[np.intp],
    release: Release,
    *,
    patience: Patience,
    parts: list[XPSpectra],
) -> bool:
    """Find the sources for whose sake the archive fails on a whole chunk, by halving it.

    It stops when both of the first halves fail as well: the chunk is then not the reason. Return
    whether a part worked; what is then left to ask for is ``PENDING``.
    """
    if len(todo) < 2:
        return False
    groups = [todo[: len(todo) // 2], todo[len(todo) // 2 :]]
    worked = False
    n_failed = 0
    failed: list[NDArray[np.intp]] = []
    while groups:
        group = groups.pop(0)
        try:
            chunk.n_requests += 1
            wanted = chunk.source_id[group]
            found = request_spectra(connections, wanted, release, until=patience.ends)
        except TransientError as error:
            n_failed += 1
            if not error.answered or (n_failed == 2 and not worked) or patience.left <= 0:
                return worked
            if len(group) == 1:
                failed.append(group)
                chunk.reasons[int(wanted[0])] = str(error)
            else:
                groups += [group[: len(group) // 2], group[len(group) // 2 :]]
            continue
        worked = True
        if found is not None:
            parts.append(found)
            chunk.status[group[np.isin(wanted, found.source_id)]] = FetchStatus.SPECTRUM
    for group in failed:
        chunk.status[group] = FetchStatus.FAILED
    return worked
