"""One chunk of sources, asked for until each of them is answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.archive.account import FetchStatus
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.datalink import request_spectra
from gaia_redshift.archive.failures import Patience, RefusedError, StoppedError, TransientError
from gaia_redshift.archive.jobs import ask_now
from gaia_redshift.archive.releases import Release
from gaia_redshift.archive.tables import check_open, find_tables, forget_tables, read_truth
from gaia_redshift.errors import ArchiveError
from gaia_redshift.spectra import XPSpectra

__all__ = ["Chunk", "explain_missing", "fetch_chunk"]

logger = logging.getLogger(__name__)

IDS_AT_ONCE = 1000
"""Ids in a query: they go in its text, because uploads count against a quota."""


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
    chunk.spectra = _join(parts, source_id)
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


def _join(parts: list[XPSpectra], source_id: NDArray[np.int64]) -> XPSpectra | None:
    """Put what came in several answers into the order asked for."""
    if len(parts) < 2:
        return parts[0] if parts else None
    joined = XPSpectra.concatenate(parts)
    place = {int(i): row for row, i in enumerate(joined.source_id)}
    rows = np.array([place[i] for i in source_id.tolist() if i in place], dtype=np.intp)
    ordered = joined[rows]
    return XPSpectra(
        source_id=ordered.source_id,
        bp=ordered.bp,
        rp=ordered.rp,
        flags=ordered.flags,
        release=parts[0].release,
        meta=dict(parts[0].meta),
    )


def explain_missing(
    connections: Connections, source_id: NDArray[np.int64], release: Release, patience: Patience
) -> NDArray[np.int8]:
    """Ask the release's tables why sources (n,) got no spectrum.

    Return ``NO_PUBLIC_XP``, ``UNKNOWN_ID``, or ``PENDING`` for those that should have one.
    """
    if patience.left <= 0:
        raise TransientError(f"{connections.data_host} was too slow to say which sources it has")
    flag = find_tables(connections, release, patience).find_flag()
    status = np.full(len(source_id), FetchStatus.UNKNOWN_ID, dtype=np.int8)
    try:
        if flag.column:
            known, has_xp = _look_up(connections, source_id, flag.table, flag.column, patience)
        else:
            tables = find_tables(connections, release, patience)
            known, _ = _look_up(connections, source_id, tables.find_positions(), "", patience)
            found, _ = _look_up(connections, source_id, flag.table, "", patience)
            known = np.union1d(known, found)
            has_xp = np.isin(known, found)
    except RefusedError:
        forget_tables(connections, release)
        raise
    status[np.isin(source_id, known)] = FetchStatus.NO_PUBLIC_XP
    status[np.isin(source_id, known[has_xp])] = FetchStatus.PENDING
    return status


def _look_up(
    connections: Connections,
    source_id: NDArray[np.int64],
    table: str,
    column: str,
    patience: Patience,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return which of the ids a table has, and whether a column is true of them."""
    chosen = f"source_id, {column} AS has_xp" if column else "source_id"
    known, truth = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=bool)]
    for start in range(0, len(source_id), IDS_AT_ONCE):
        ids = source_id[start : start + IDS_AT_ONCE]
        adql = (
            f"SELECT {chosen} FROM {table} WHERE source_id IN ({','.join(map(str, ids.tolist()))})"
        )
        # Its own tries: those of the chunk count what DataLink fails at.
        result = ask_now(
            connections.tap,
            adql,
            patience.renew(),
            maxrec=len(ids) + 1,
            columns=("source_id", "has_xp") if column else ("source_id",),
        )
        known.append(np.ma.filled(np.ma.asarray(result["source_id"]), 0).astype(np.int64))
        truth.append(read_truth(result["has_xp"]) if column else np.ones(len(result), bool))
    return np.concatenate(known), np.concatenate(truth)
