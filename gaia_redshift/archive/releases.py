"""What the archive calls things in each data release: the one place for such names."""

from __future__ import annotations

from dataclasses import dataclass

from gaia_redshift.errors import InputError

__all__ = ["DEFAULT_RELEASE", "RELEASES", "Release", "find_release"]

DEFAULT_RELEASE = "DR3"


@dataclass(frozen=True)
class Release:
    """Names of one data release.

    Parameters
    ----------
    name : str
        "DR3", "DR4".
    label : str
        What DataLink's ``RELEASE`` takes.
    schema : str
        Prefix of its tables.
    retrieval_type : str
        DataLink's name for the mean BP/RP spectra as coefficients.
    data_structures : tuple of str
        DataLink's names for "one file, one row a source", the newest first.
    has_xp_column : str
        Column of ``source_table`` that says whether a source has a public spectrum.
    bases : str
        The sets of basis functions, in words.
    confirmed : bool
        Whether these names are published; else they are what is expected.
    """

    name: str
    label: str
    schema: str
    retrieval_type: str
    data_structures: tuple[str, ...]
    has_xp_column: str
    bases: str
    confirmed: bool

    @property
    def source_table(self) -> str:
        """The main table."""
        return f"{self.schema}.gaia_source"


RELEASES = {
    "DR3": Release(
        name="DR3",
        label="Gaia DR3",
        schema="gaiadr3",
        retrieval_type="XP_CONTINUOUS",
        data_structures=("DATAMODEL_GAIA", "RAW"),
        has_xp_column="has_xp_continuous",
        bases="Hermite functions, 55 BP + 55 RP coefficients",
        confirmed=True,
    ),
    # Not confirmed: DR4 is announced for 2 December 2026. The retrieval type is the one that
    # astroquery lists; schema, structure and column follow DR3's until the archive says otherwise.
    "DR4": Release(
        name="DR4",
        label="Gaia DR4",
        schema="gaiadr4",
        retrieval_type="MEAN_SPECTRUM_XP",
        data_structures=("DATAMODEL_GAIA", "RAW"),
        has_xp_column="has_xp_continuous",
        bases="told by each spectrum's number of coefficients (51 + 55 expected)",
        confirmed=False,
    ),
}
"""The releases known, by name."""


def find_release(name: str | Release) -> Release:
    """Return the release of this name ("DR3", "dr3", "Gaia DR3").

    Raises
    ------
    InputError
        If there is none.
    """
    if isinstance(name, Release):
        return name
    short = str(name).upper().replace("GAIA", "").replace(" ", "").replace("_", "")
    if short not in RELEASES:
        raise InputError(f"no data release '{name}'; known are {', '.join(RELEASES)}")
    return RELEASES[short]
