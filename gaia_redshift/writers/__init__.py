"""Write BP/RP spectra in the archive's RAW form: `write_spectra`, or `SpectraWriter` in blocks.

``records`` says which columns there are, and their values.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from gaia_redshift._files import expand_path, written_whole
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.spectra import XPSpectra
from gaia_redshift.tables.columns import Column, Sink
from gaia_redshift.tables.files import is_packed, open_sink, table_format
from gaia_redshift.writers.records import check_block, plan_columns, take_values

__all__ = ["SpectraWriter", "write_spectra"]

ROWS_AT_ONCE = 1000
"""Blocks are cut to this many rows inside, which bounds the memory for their text."""


class SpectraWriter:
    """Write spectra block by block; memory does not grow with their number.

    The file appears under its name only when it is complete: until then it is a hidden file beside
    it, which is removed if anything goes wrong.

    Parameters
    ----------
    path : str or PathLike
        Its extension says the format: .csv, .ecsv, .fits, .fit, .xml, .vot, .votable (BINARY2),
        each also with .gz, .parquet, .pq (zstd), .h5 or .hdf5.
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
        self._kind = _choose_format(self.path)
        self._columns: list[Column] = []
        self._sink: Sink | None = None
        self._stack = ExitStack()
        self._part: Path | None = None

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
                self._columns = plan_columns(block)
                self._part = self._stack.enter_context(written_whole(self.path))
                packed = is_packed(self.path)
                self._sink = open_sink(self._kind, self._part, self._columns, packed=packed)
            check_block(block, self._columns)
            for part in block.blocks(ROWS_AT_ONCE):
                self._sink.write({c.name: take_values(part, c) for c in self._columns})
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
                self._stack.close()
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
        if self._part is not None:
            self._part.unlink(missing_ok=True)
        self._stack.close()

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
        Its extension says the format: .csv, .ecsv, .fits, .fit, .xml, .vot, .votable (BINARY2),
        each also with .gz, .parquet, .pq (zstd), .h5 or .hdf5.
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


def _choose_format(path: Path) -> str:
    """Choose a format by the extension."""
    try:
        return table_format(path)
    except InputError:
        raise InputError(
            f"{path}: unknown extension; spectra are written as .csv, .csv.gz, .ecsv, .fits, .xml"
            " or .vot (VOTable), .parquet, .h5 or .hdf5"
        ) from None
