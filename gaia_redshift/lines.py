"""Spectral lines that help to see a redshift: `LINES`."""

__all__ = ["LINES"]

LINES = {
    "[O II]": (372.8, "emission"),
    "Ca K, H": (395.2, "absorption"),
    "Hδ": (410.3, "absorption"),
    "G": (430.6, "absorption"),
    "Hβ": (486.3, "emission"),
    "[O III]": (500.8, "emission"),
    "Mg b": (517.6, "absorption"),
    "Na D": (589.3, "absorption"),
    "Hα": (656.5, "emission"),
    "[S II]": (672.5, "emission"),
}
"""Rest wavelengths (nm, in vacuum but for some tenths) of what is prominent in galaxies, and how it
is usually seen. XP spectra resolve 30 to 100 of their wavelength: blends have one name."""
