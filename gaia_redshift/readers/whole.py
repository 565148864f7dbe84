"""Any file of a table, whole: lists of ids, catalogues of redshifts, csv files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import ReadOptions
from gaia_redshift.readers.formats import iter_content_blocks
from gaia_redshift.readers.kept import build_kept_columns

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.readers.content import Content

__all__ = ["read_columns"]


def read_columns(source: Path | Content) -> Table:
    """Read the scalar columns of a file of any kind that `read_spectra` reads, spectra or not.

    Of several tables that with source ids is taken, else that with positions, else the first.
    """
    from astropy.table import Table

    from gaia_redshift.readers.content import open_path
    from gaia_redshift.tables.stacks import settle_types, stack_tables

    content = open_path(source) if isinstance(source, Path) else source
    tables = []
    for block in iter_content_blocks(content, ReadOptions(spectra=False)):
        table = build_kept_columns(block)
        tables.append(Table() if table is None else table)
    if not tables or not any(table.colnames for table in tables):
        raise InputError(f"{content.label}: holds no columns of numbers or text")
    return settle_types(stack_tables(tables))
