"""Exceptions and warnings of the package: whole calls that cannot work raise one of these."""

from __future__ import annotations

from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "ArchiveError",
    "GaiaRedshiftError",
    "GaiaRedshiftWarning",
    "InputError",
    "MissingColumnError",
    "ModelError",
    "ModelIntegrityError",
]


class GaiaRedshiftError(Exception):
    """Base class of every error that this package raises on purpose."""


class InputError(GaiaRedshiftError, ValueError):
    """The input of a whole call cannot be used: unreadable file, missing column, wrong shape."""


class MissingColumnError(InputError):
    """A column that was asked for is not in the input; ``column`` is its name."""

    def __init__(self, message: str, column: str = "") -> None:
        super().__init__(message)
        self.column = column


class ArchiveError(GaiaRedshiftError):
    """A remote service did not deliver: time-out, refusal, or a damaged answer."""


class ModelError(GaiaRedshiftError):
    """A model cannot be found, read, built or used for this input."""


class ModelIntegrityError(ModelError):
    """A model file does not have the sha256 that its manifest records."""


class GaiaRedshiftWarning(AstropyUserWarning):
    """Something a user should know, though the call went on."""
