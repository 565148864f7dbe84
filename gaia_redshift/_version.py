"""The version, in one place: read by the package and by pyproject."""

__version__ = "0.2.0"
