"""The columns that a cross-match adds to a table, and a line about them."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.crossmatch.matching import Matches, MatchFlag, SkyObjects

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["add_matches", "summarise_matches"]


def add_matches(table: Table, matches: Matches, objects: SkyObjects, survey: str) -> None:
    """Add the columns of a cross-match to a table of n rows; one of the same name gets ``_in``."""
    from astropy import units
    from astropy.table import MaskedColumn

    matched = matches.row >= 0
    of: dict[str, Any] = {}  # what the object of each row has; zero or "" where there is none
    for one in fields(objects):
        values = getattr(objects, one.name)
        of[one.name] = np.zeros(len(table), dtype=values.dtype if values.dtype.itemsize else "U1")
        of[one.name][matched] = values[matches.row[matched]]
    has_error = matches.good & np.isfinite(of["redshift_error"])
    separation = np.where(matched, matches.separation, 0.0)
    new = {
        f"redshift_{survey}": MaskedColumn(of["redshift"], mask=~matches.good),
        f"redshift_{survey}_error": MaskedColumn(of["redshift_error"], mask=~has_error),
        f"zwarning_{survey}": MaskedColumn(of["zwarning"], mask=~matched | (of["zwarning"] < 0)),
        f"class_{survey}": MaskedColumn(of["kind"], mask=of["kind"] == ""),
        f"id_{survey}": MaskedColumn(of["identifier"], mask=of["identifier"] == ""),
        f"separation_{survey}": MaskedColumn(separation, mask=~matched),
        f"match_flag_{survey}": matches.flags,
    }
    for name, values in new.items():
        if name in table.colnames:  # keep what the user has
            spare = f"{name}_in"
            while spare in table.colnames:
                spare += "_in"
            table.rename_column(name, spare)
        table[name] = values
        unit, ucd, description = _DESCRIPTIONS[name.replace(f"_{survey}", "", 1)]
        if unit is not None:
            table[name].info.unit = units.Unit(unit)
        table[name].info.description = description.format(survey=survey.upper())
        table[name].info.meta = {"ucd": ucd}
    table[f"separation_{survey}"].info.format = ".3f"


_DESCRIPTIONS = {
    "redshift": ("", "src.redshift", "Spectroscopic redshift from {survey}"),
    "redshift_error": ("", "stat.error;src.redshift", "Error of the redshift from {survey}"),
    "zwarning": (None, "meta.code.qual", "Warning bits of the {survey} redshift, 0 is good"),
    "class": (None, "src.class", "Class of the {survey} spectrum"),
    "id": (None, "meta.id.cross", "Identifier in {survey}"),
    "separation": ("arcsec", "pos.angDistance", "Distance of the {survey} object"),
    "match_flag": (
        None,
        "meta.code",
        "Bits about the {survey} match, 0 is clean: "
        + ", ".join(f"{flag.value} {flag.name}" for flag in MatchFlag),
    ),
}
"""Unit, UCD and description of each column, without its ending."""


def summarise_matches(table: Table, survey: str) -> str:
    """Say in a line what a cross-match found; the columns end in ``survey``."""
    flags = np.asarray(table[f"match_flag_{survey}"])
    found = ~np.ma.getmaskarray(np.ma.asarray(table[f"redshift_{survey}"]))
    parts = [f"{len(table):,} rows: {int(found.sum()):,} redshifts"]
    words = {
        MatchFlag.AMBIGUOUS: "ambiguous",
        MatchFlag.CONFLICT: "with spectra that disagree",
        MatchFlag.REJECTED: "rejected by class or zWarning",
        MatchFlag.NO_SPECTRUM: "without a spectrum",
        MatchFlag.TAKEN: "beside a nearer source",
        MatchFlag.NO_POSITION: "without a position",
    }
    for flag, text in words.items():
        count = int((flags & int(flag) != 0).sum())
        if count:
            parts.append(f"{count:,} {text}")
    return ", ".join(parts)
