"""Results of queries: VOTables, unpacked within bounds and parsed, and tables to upload."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING

from gaia_redshift._files import GZIP, one_line
from gaia_redshift._quiet import ignore_warnings
from gaia_redshift.archive.failures import (
    Answer,
    RefusedError,
    TransientError,
    check_answer,
)
from gaia_redshift.errors import ArchiveError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["parse_result", "to_votable", "unpack"]


def unpack(body: bytes, most: int, host: str) -> bytes:
    """Unpack gzip; a bomb is refused."""
    if body[:2] != GZIP:
        return body
    unpacker = zlib.decompressobj(31)
    unpacked = unpacker.decompress(body, most)
    if unpacker.unconsumed_tail:
        raise RefusedError(f"{host} sent a result that unpacks to more than {most / 1e9:.3g} GB")
    return unpacked if unpacker.eof and not unpacker.unused_data else gzip.decompress(body)


def parse_result(answer: Answer, most: int) -> tuple[Table, bool]:
    """Turn a VOTable, perhaps packed with gzip, into a table; and tell whether there was more.

    ``most`` is what it may unpack to, in bytes. A damaged one is a TransientError, the server's
    error message a RefusedError.
    """
    from gaia_redshift.readers.votable import parse_votable

    try:
        body = unpack(answer.body, most, answer.host)
        plain = Answer(answer.status, answer.headers, body, answer.host)
        check_answer(plain, what="the result of the query")
        with ignore_warnings():  # oddities that do not stop astropy
            votable = parse_votable(body, f"the answer of {answer.host}")
            words = [
                (str(info.value).upper(), str(info.content or ""))
                for resource in votable.resources
                for info in resource.infos
                if info.name == "QUERY_STATUS"
            ]
            for value, content in words:
                if value == "ERROR":
                    reason = " ".join(content.split())[:300] or "no reason given"
                    raise RefusedError(f"{answer.host} could not run the query: {reason}")
            table = votable.get_first_table().to_table(use_names_over_ids=True)
    except (ArchiveError, MemoryError):
        raise
    except Exception as error:  # gzip and the parsers of XML and VOTable raise anything
        reason = one_line(error, 120)
        raise TransientError(
            f"{answer.host} sent a damaged result of the query ({reason})"
        ) from error
    table.meta.clear()
    return table, any(value == "OVERFLOW" for value, _ in words)


def to_votable(table: Table) -> bytes:
    """Write a table for an upload."""
    from astropy.io.votable import from_table, writeto

    stream = io.BytesIO()
    with ignore_warnings():
        writeto(from_table(table), stream, tabledata_format="tabledata")
    return stream.getvalue()
