"""XP spectra for the readers of astropy and specutils: `register_formats`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.spectra import XPSpectra

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["register_formats", "to_table"]

TABLE_FORMAT = "gaia-xp"
SPECTRUM_FORMAT = "Gaia XP"
_ARRAYS = {
    "coefficients": "coefficients",
    "coefficient_errors": "errors",
    "coefficient_correlations": "correlations",
}


@preserve_settings()
def register_formats() -> list[str]:
    """Let astropy's tables, and specutils where it is installed, read XP spectra.

    Afterwards ``Table.read(path, format="gaia-xp")`` reads the coefficients as
    `gaia_redshift.bridges.to_table` has them, ``SpectrumList.read(path, format="Gaia XP")`` BP and
    RP as `gaia_redshift.to_specutils` gives them, and ``Spectrum.read(path, format="Gaia XP")`` the
    calibrated spectrum. ``path`` is whatever `gaia_redshift.read_spectra` reads.

    Returns
    -------
    list of str
        Whose readers these are now: ``["astropy", "specutils"]``.
    """
    from astropy.io import registry
    from astropy.table import Table

    registry.register_reader(TABLE_FORMAT, Table, _read_table, force=True)
    if find_spec("specutils") is None:
        return ["astropy"]
    from specutils import Spectrum, SpectrumList

    from gaia_redshift.bridges.spectra import to_specutils

    def read_bands(path: Any, **options: Any) -> Any:
        return to_specutils(path, **options)

    def read_calibrated(path: Any, **options: Any) -> Any:
        return to_specutils(path, calibrated=True, **options)

    registry.register_reader(SPECTRUM_FORMAT, SpectrumList, read_bands, force=True)
    registry.register_reader(SPECTRUM_FORMAT, Spectrum, read_calibrated, force=True)
    return ["astropy", "specutils"]


def _read_table(path: Any, **options: Any) -> Table:
    from gaia_redshift.readers import read_spectra

    return to_table(read_spectra(path, **{"keep": "all", **options}))


def to_table(spectra: XPSpectra) -> Table:
    """Turn XP spectra into a table with the archive's columns.

    Parameters
    ----------
    spectra : XPSpectra

    Returns
    -------
    Table
        ``source_id``; for each band ``bp_basis_function_id``, ``bp_n_parameters``, and as arrays
        ``bp_coefficients``, ``bp_coefficient_errors`` and ``bp_coefficient_correlations``, where
        there are any, NaN beyond a row's own number; then the other columns.
    """
    from astropy.table import Table

    table = Table({"source_id": spectra.source_id}, meta=dict(spectra.meta))
    for name in ("bp", "rp"):
        band = getattr(spectra, name)
        table[f"{name}_basis_function_id"] = band.basis_id
        table[f"{name}_n_parameters"] = band.n_coefficients
        for what, attribute in _ARRAYS.items():
            values = getattr(band, attribute)
            if values is not None:
                table[f"{name}_{what}"] = values
    for name in [] if spectra.columns is None else spectra.columns.colnames:
        if name not in table.colnames:
            table[name] = spectra.columns[name]  # type: ignore[index]
    return table
