"""What the archive calls things in each data release: the one place for such names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gaia_redshift.errors import InputError

__all__ = [
    "DEFAULT_RELEASE",
    "GALAXIES",
    "NEIGHBOURS",
    "QUASARS",
    "RELEASES",
    "Release",
    "find_release",
]

DEFAULT_RELEASE = "DR3"


@dataclass(frozen=True)
class Release:
    """Names of one data release, and candidates for those that the archive is asked about.

    Parameters
    ----------
    label, retrieval_type : str
        DataLink's names for the release and for mean BP/RP spectra as coefficients.
    data_structures : tuple of str
        DataLink's names for "one file, one row a source", the newest first.
    schema : str
        Prefix of its tables.
    flags : tuple of str
        Where it may stand that a source has a mean spectrum: ``table.column``, or ``table`` where a
        row is enough. Tables of all sources come first, as in ``positions`` and ``magnitudes``.
    columns : mapping of str to str
        Tables whose columns are published, with those that are used; ``name:boolean`` for truth.
    bases : str
        The sets of basis functions, in words.
    confirmed : bool
        Whether these names are published; else the archive's ``TAP_SCHEMA`` is asked which of the
        candidates there are (`gaia_redshift.archive.tables.find_tables`).
    """

    name: str
    label: str
    retrieval_type: str
    data_structures: tuple[str, ...]
    schema: str
    flags: tuple[str, ...]
    positions: tuple[str, ...]
    magnitudes: tuple[str, ...]
    columns: Mapping[str, str]
    bases: str
    confirmed: bool

    @property
    def source_table(self) -> str:
        """The main table."""
        return f"{self.schema}.gaia_source"


GALAXIES, QUASARS, NEIGHBOURS = "galaxy_candidates", "qso_candidates", "dr3_neighbourhood"
"""Tables that have the same name in each release that has them."""

RELEASES = {
    "DR3": Release(
        name="DR3",
        label="Gaia DR3",
        retrieval_type="XP_CONTINUOUS",
        data_structures=("DATAMODEL_GAIA", "RAW"),
        schema="gaiadr3",
        flags=("gaia_source.has_xp_continuous", "xp_summary"),
        positions=("gaia_source",),
        magnitudes=("gaia_source",),
        columns={
            "gaia_source": "source_id ra dec phot_g_mean_mag phot_bp_mean_mag phot_rp_mean_mag"
            " has_xp_continuous:boolean"
        },
        bases="Hermite functions, 55 BP + 55 RP coefficients",
        confirmed=True,
    ),
    # Not confirmed: DR4 opens on 2 December 2026. The retrieval type is the one that astroquery
    # lists; tables and columns are those of ESA's draft of its data model (June 2026), where
    # gaia_source has no flag for XP spectra and lacks sources without good astrometry, as many
    # galaxies are; those after them follow DR3.
    "DR4": Release(
        name="DR4",
        label="Gaia DR4",
        retrieval_type="MEAN_SPECTRUM_XP",
        data_structures=("DATAMODEL_GAIA", "RAW"),
        schema="gaiadr4",
        flags=(
            "all_source_flags.has_xp",
            "all_source_flags.has_xp_continuous",
            "gaia_source.has_xp_continuous",
            "gaia_source.has_xp",
            "xp_summary",
            "xp_continuous_mean_spectrum",
        ),
        positions=("all_source_astrometry", "gaia_source"),
        magnitudes=("all_source_photometry", "gaia_source"),
        columns={},
        bases="told by each spectrum's number of coefficients (51 + 55 expected)",
        confirmed=False,
    ),
}
"""The releases known, by name."""


def find_release(name: str | Release) -> Release:
    """Return the release of this name ("DR3", "dr3", "Gaia DR3")."""
    if isinstance(name, Release):
        return name
    short = str(name).upper().replace("GAIA", "").replace(" ", "").replace("_", "")
    if short not in RELEASES:
        raise InputError(f"no data release '{name}'; known are {', '.join(RELEASES)}")
    return RELEASES[short]
