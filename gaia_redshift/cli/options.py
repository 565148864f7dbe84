"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from gaia_redshift.clean import LEVELS
from gaia_redshift.errors import InputError

__all__ = [
    "add_clean",
    "add_overwrite",
    "parse_bits",
    "parse_columns",
    "parse_keep",
    "parse_names",
    "split_words",
]


def add_clean(parser: argparse.ArgumentParser) -> None:
    """Add ``--clean``."""
    parser.add_argument(
        "--clean",
        nargs="?",
        const="clean",
        choices=list(LEVELS),
        metavar="LEVEL",
        help=f"only the clean sample; LEVEL is {', '.join(LEVELS)} (clean where none is given)",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite``."""
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")


def split_words(text: str) -> list[str]:
    """Return words between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_keep(values: Sequence[str] | None) -> list[str] | str | None:
    """Return what the values of ``--keep`` name: columns, "all", or nothing."""
    names = [name for value in values or [] for name in split_words(value)]
    return "all" if "all" in names else names or None


def parse_names(text: str) -> list[str] | None:
    """Return the names of ``--classes``, None for `any`."""
    return None if text == "any" else split_words(text)


def parse_bits(text: str) -> int | None:
    """Return the bits of ``--zwarning``, None for `any`."""
    if text == "any":
        return None
    if not text.isdigit():
        raise InputError(f"--zwarning must be a number of bits or `any`, not '{text}'")
    return int(text)


def parse_columns(text: str | None) -> dict[str, str] | None:
    """Return what ``--columns WHAT=NAME,...`` names."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in split_words(text)]
    for what, sign, name in pairs:
        if not sign or not name.strip():
            raise InputError(f"--columns takes WHAT=NAME,..., not '{what}'")
    return {what.strip(): name.strip() for what, _, name in pairs}
