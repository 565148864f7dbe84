"""Write BP/RP spectra in the archive's RAW form: `write_spectra`, or `SpectraWriter` in blocks.

Modules: ``records`` (which columns, and their values), ``text`` (csv, ecsv), ``votable``, ``fits``
and ``containers`` (Parquet, HDF5).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from gaia_redshift._files import expand_path, sweep_parts
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.spectra import XPSpectra
from gaia_redshift.writers.records import plan_columns

__all__ = ["SpectraWriter", "write_spectra"]

ROWS_AT_ONCE = 1000
"""Blocks are cut to this many rows inside, which bounds the memory for their text."""


class Sink(Protocol):
    """What each format provides."""

    def write(self, spectra: XPSpectra) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


def _make_sink(path: Path, target: str) -> Callable[[list[Any]], Sink]:
    """Choose a format by the target's extension, to be written to ``path``."""
    name = target.lower()
    packed = name.endswith(".gz")
    name = name.removesuffix(".gz")
    if name.endswith((".csv", ".ecsv")):
        from gaia_redshift.writers.text import TextSink

        return lambda columns: TextSink(path, columns, ecsv=name.endswith("ecsv"), packed=packed)
    if name.endswith((".xml", ".vot", ".votable")):
        from gaia_redshift.writers.votable import VOTableSink

        return lambda columns: VOTableSink(path, columns, packed=packed)
    if name.endswith((".fits", ".fit")):
        from gaia_redshift.writers.fits import FITSSink

        return lambda columns: FITSSink(path, columns, packed=packed)
    if name.endswith((".parquet", ".pq")) and not packed:
        from gaia_redshift.writers.containers import ParquetSink

        return lambda columns: ParquetSink(path, columns)
    if name.endswith((".h5", ".hdf5")) and not packed:
        from gaia_redshift.writers.containers import HDF5Sink

        return lambda columns: HDF5Sink(path, columns)
    raise InputError(
        f"{target}: unknown extension; spectra are written as .csv, .csv.gz, .ecsv, .fits, .xml or"
        " .vot (VOTable), .parquet, .h5 or .hdf5"
    )


class SpectraWriter:
    """Write spectra block by block; memory does not grow with their number.

    The file appears under its name only when it is complete: until then it is a hidden file beside
    it, which is removed if anything goes wrong.

    Parameters
    ----------
    path : str or PathLike
        Its extension says the format: .csv, .ecsv, .fits, .xml, .vot (VOTable, BINARY2), each also
        with .gz, .parquet (zstd), .h5 or .hdf5.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    InputError
        If the extension is unknown, the folder does not exist or the file does.

    Notes
    -----
    The first block settles which columns there are. The ``flags`` of `XPSpectra` are not written:
    reading the file finds them again.

    Examples
    --------
    >>> with SpectraWriter("spectra.parquet") as writer:  # doctest: +SKIP
    ...     for block in iter_spectra("big.csv.gz"):
    ...         writer.write(block)
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = expand_path(path)
        self.overwrite = overwrite
        self.n_written = 0
        self._check_target()
        sweep_parts(self.path)
        self._part = self.path.with_name(f".{self.path.name[:200]}.{secrets.token_hex(4)}.part")
        self._make = _make_sink(self._part, str(self.path))
        self._sink: Sink | None = None

    def _check_target(self) -> None:
        if self.path.is_dir():
            raise InputError(f"{self.path}: is a folder; give the name of a file")
        if self.path.exists() and not self.overwrite:
            raise InputError(f"{self.path}: exists already; use overwrite=True to replace it")
        if not self.path.parent.is_dir():
            raise InputError(f"{self.path.parent}: no such folder")

    def write(self, block: XPSpectra) -> None:
        """Append spectra.

        Raises
        ------
        InputError
            If the block has columns that the first one had not, or the file cannot be written.
        """
        if not isinstance(block, XPSpectra):
            raise InputError(f"write takes XPSpectra, not {type(block).__name__}")
        try:
            if self._sink is None:
                self._sink = self._make(plan_columns(block))
            for part in block.blocks(ROWS_AT_ONCE):
                self._sink.write(part)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error}") from error
        self.n_written += len(block)

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises
        ------
        InputError
            If nothing was written, or a file of that name has appeared meanwhile.
        """
        try:
            if self._sink is None or not self.n_written:
                raise InputError(f"{self.path}: no spectra were given to write")
            self._check_target()
            try:
                self._sink.close()
                self._sink = None
                os.replace(self._part, self.path)
            except OSError as error:
                raise InputError(f"{self.path}: cannot be written: {error}") from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: remove what was written."""
        if self._sink is not None:
            with suppress(Exception):
                self._sink.abort()
            self._sink = None
        with suppress(OSError):
            self._part.unlink()

    def __enter__(self) -> SpectraWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


@preserve_settings()
def write_spectra(
    spectra: XPSpectra, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write spectra in the archive's RAW form, so that `read_spectra` reads them back.

    Parameters
    ----------
    spectra : XPSpectra
    path : str or PathLike
        Its extension says the format: .csv, .ecsv, .fits, .xml, .vot (VOTable, BINARY2), each also
        with .gz, .parquet (zstd), .h5 or .hdf5.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    InputError
        If the extension is unknown, the folder does not exist, the file does, or there are no
        spectra.

    Notes
    -----
    Numbers come back exactly. Text formats write each number with the fewest digits that give it
    back in its own precision, as the archive does; reading text gives errors in 64 bits and
    correlations in 32.
    """
    with SpectraWriter(path, overwrite=overwrite) as writer:
        writer.write(spectra)
