"""Which column is what: names as they occur, found among the names of a table."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gaia_redshift.errors import InputError, MissingColumnError
from gaia_redshift.readers.content import ReadMeter
from gaia_redshift.readers.values import fold_masks, to_source_ids

__all__ = [
    "BLOCK_ROWS",
    "DEC_NAMES",
    "ID_NAMES",
    "RA_NAMES",
    "SPECTRA_ID_NAMES",
    "Block",
    "ColumnInfo",
    "Layout",
    "ReadOptions",
    "Skip",
    "choose_ids",
    "cut_blocks",
    "find_id_name",
    "find_layout",
    "find_name",
    "find_position_names",
    "list_names",
    "parse_keep",
    "set_masks_apart",
    "tell_unused_ids",
]

logger = logging.getLogger(__name__)

BANDS = ("bp", "rp")
_QUANTITIES = {
    "coefficients": r"{b}_coeff(?:icient)?s?",
    "errors": r"(?:e_|err_){b}_coeff(?:icient)?s?|{b}_coeff(?:icient)?s?_err(?:or)?s?",
    "correlations": r"{b}_coeff(?:icient)?s?_corr(?:elation)?s?",
}
RA_NAMES = ("ra", "raj2000", "ra_icrs", "_raj2000", "ra_deg", "radeg", "right_ascension")
DEC_NAMES = ("dec", "dej2000", "de_icrs", "_dej2000", "dec_deg", "dedeg", "decj2000", "declination")
"""Names of columns of positions, in lower case, in the order in which they are looked for."""
SPECTRA_ID_NAMES = ("source_id", "sourceid")
ID_NAMES = (
    *SPECTRA_ID_NAMES,
    "gaia_source_id", "dr3_source_id", "gaia_dr3_source_id", "source_id_dr3", "gaia_sourceid",
    "gaia_id", "gaiadr3_id", "gaia_dr3_id", "gaiadr3", "gaia_dr3", "gaiaid",
    "designation", "source",
)  # fmt: skip
"""Names of columns of Gaia's source ids, in lower case, in the order in which they are looked for:
in catalogues and lists of ids. Spectra have the first two."""
BLOCK_ROWS = 2048
MASK = ".mask"
_SHOWN = 12


@dataclass
class Skip:
    """Rows still to be passed over, at the beginning of what is read."""

    n: int = 0

    def take(self, n: int) -> bool:
        """Tell whether the next n rows are passed over as a whole; they then count as done."""
        if not self.n or n > self.n:
            return False
        self.n -= n
        return True


@dataclass(frozen=True)
class ReadOptions:
    """What the caller wants to have read.

    Columns in ``optional`` are kept where there are any. ``skip`` and ``meter`` change while a
    file is read. Without ``spectra`` any table will do, and all its scalar columns are kept,
    or those named. With ``settle``, columns of csv files get the types that all of it proves.
    """

    errors: bool = True
    correlations: bool = True
    keep: str | tuple[str, ...] | None = None
    optional: tuple[str, ...] = ()
    skip: Skip = field(default_factory=Skip)
    meter: ReadMeter | None = None
    spectra: bool = True
    settle: bool = True


@dataclass(frozen=True)
class ColumnInfo:
    """What a format says about a column besides its values; ``dtype`` for text formats only."""

    unit: str | None = None
    description: str | None = None
    ucd: str | None = None
    dtype: str | None = None

    @classmethod
    def read_yaml(cls, header: Mapping[str, Any]) -> dict[str, ColumnInfo]:
        """Take what astropy's YAML, in ECSV and elsewhere, says of each column."""
        return {
            column["name"]: cls(
                str(column["unit"]) if column.get("unit") else None,
                column.get("description"),
                (column.get("meta") or {}).get("ucd"),
                "array" if column.get("subtype") else column.get("datatype"),
            )
            for column in header.get("datatype", [])
        }


@dataclass
class BandLayout:
    """Names of one band's columns: a single name, or one a coefficient, or none."""

    coefficients: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    correlations: tuple[str, ...] = ()
    n_parameters: str | None = None
    basis_id: str | None = None

    @property
    def names(self) -> list[str]:
        """Every column of the band that is to be read."""
        singles = [name for name in (self.n_parameters, self.basis_id) if name is not None]
        return [*self.coefficients, *self.errors, *self.correlations, *singles]


@dataclass
class Layout:
    """Names of the columns of a table that are to be read.

    ``masks`` are the columns of booleans that astropy writes beside masked ones, by these' names.
    """

    source_id: str
    bp: BandLayout
    rp: BandLayout
    keep: dict[str, str] = field(default_factory=dict)
    keep_all: bool = False
    masks: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every column to be read, each once."""
        others = [*self.keep.values(), *self.masks.values()]
        return list(dict.fromkeys([self.source_id, *self.bp.names, *self.rp.names, *others]))


@dataclass
class Block:
    """Consecutive rows of one table, columns as the format holds them.

    Columns are lists of bytes (text formats), ndarrays, masked arrays or pyarrow arrays; ``label``
    names them in messages, ``source`` in ``meta["inputs"]``; ``first_row`` counts from 1. Memory
    that is ``shared`` has another owner, who may change it.
    """

    columns: dict[str, Any]
    layout: Layout
    label: str
    source: str
    first_row: int = 1
    infos: dict[str, ColumnInfo] = field(default_factory=dict)
    release: str | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        self.columns = fold_masks(self.columns, self.layout.masks)

    def __len__(self) -> int:
        return len(self.columns[self.layout.source_id])

    def get_info(self, name: str) -> ColumnInfo:
        """Return what the format says about a column."""
        return self.infos.get(name, ColumnInfo())


def cut_blocks(
    n: int,
    read: Callable[[str, slice], Any],
    layout: Layout,
    options: ReadOptions,
    **about: Any,
) -> Iterator[Block]:
    """Cut a table of n rows into blocks, all else of which is the same.

    ``read`` gives some rows of a column.
    """
    for start in range(0, n, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, n))
        if options.skip.take(rows.stop - start):
            continue
        columns = {name: read(name, rows) for name in layout.names}
        yield Block(columns, layout, first_row=start + 1, **about)


def choose_ids(names: Sequence[str], peek: Callable[[str], Any]) -> str | None:
    """Return the name of the column of source ids; None where there is none.

    ``peek`` gives the first cells of a column: one called just ``source`` may hold names.
    """
    name = find_id_name(names)
    if name is None or name.lower().strip() in SPECTRA_ID_NAMES:
        return name
    try:
        to_source_ids(_drop_blank(peek(name)), "")
    except InputError:
        rest = [other for other in names if other != name]
        return choose_ids(rest, peek)
    return name


def _drop_blank(column: Any) -> Any:
    cells = column if isinstance(column, list) else np.ma.asarray(column).tolist()
    return [cell for cell in cells if cell not in (None, "", b"")]


def tell_unused_ids(names: Iterable[str], label: str) -> None:
    """Warn that a column looks like source ids where positions are used instead of it."""
    for name in names:
        words = re.sub(r"[^a-z]", "", name.lower())
        if "sourceid" in words or ("gaia" in words and words.endswith("id")):
            logger.warning(
                "%s: positions are used, not the column '%s': name it source_id if it holds Gaia's"
                " ids",
                *(label, name),
            )
            return


def parse_keep(keep: Any) -> str | tuple[str, ...] | None:
    """Return the names of columns to keep, each once; "all" and None as they are."""
    if keep is None or (isinstance(keep, str) and keep == "all"):
        return keep
    names = (keep,) if isinstance(keep, str) else keep
    try:
        if all(isinstance(name, str) for name in names):
            return tuple(dict.fromkeys(names))
    except TypeError:  # nothing that could be gone through
        pass
    raise InputError(f"keep takes a column's name, a list of names or 'all', not {keep!r:.80}")


def list_names(names: Iterable[str]) -> str:
    """Return the first names, for a message."""
    names = list(names)
    # Cut short: in a file without a header the "names" are its first row, arrays and all.
    shown = ", ".join(n if len(n) <= 40 else f"{n[:40]}..." for n in names[:_SHOWN])
    return f"{shown}, ... ({len(names)} columns)" if len(names) > _SHOWN else shown or "none"


def find_layout(names: Sequence[str], options: ReadOptions, label: str) -> Layout:
    """Find source_id, the bands' columns and those to keep; upper and lower case are alike."""
    names, masks = set_masks_apart(names)
    layout = (_find_spectra if options.spectra else _find_others)(names, options, label)
    read = set(layout.names)
    layout.masks = {name: mask for name, mask in masks.items() if name in read}
    return layout


def _find_others(names: Sequence[str], options: ReadOptions, label: str) -> Layout:
    """Keep all columns of any table, or those named."""
    if not names:
        raise InputError(f"{label}: holds no columns")
    layout = Layout(find_id_name(names) or names[0], BandLayout(), BandLayout(), keep_all=True)
    layout.keep = {name: name for name in names}
    if isinstance(options.keep, tuple):
        wanted = {name.lower() for name in (*options.keep, *options.optional)}
        layout.keep = {name: name for name in names if name.lower() in wanted}
    return layout


def _find_spectra(names: Sequence[str], options: ReadOptions, label: str) -> Layout:
    by_lower: dict[str, str] = {}
    for name in names:
        by_lower.setdefault(name.lower().strip(), name)
    source_id = next((by_lower[n] for n in SPECTRA_ID_NAMES if n in by_lower), None)
    bands: dict[str, BandLayout] = {}
    used: set[str] = {source_id} if source_id else set()
    for band in BANDS:
        found = {key: _find_arrays(by_lower, band, key, label) for key in _QUANTITIES}
        bands[band] = BandLayout(
            coefficients=found["coefficients"],
            errors=found["errors"] if options.errors else (),
            correlations=found["correlations"] if options.errors and options.correlations else (),
            n_parameters=by_lower.get(f"{band}_n_parameters"),
            basis_id=by_lower.get(f"{band}_basis_function_id"),
        )
        used.update(*found.values(), bands[band].names)
    if source_id is None or not (bands["bp"].coefficients or bands["rp"].coefficients):
        raise InputError(_describe_wrong_columns(names, by_lower, source_id, label))
    layout = Layout(source_id, bands["bp"], bands["rp"])
    if options.keep == "all":
        layout.keep, layout.keep_all = {name: name for name in names if name not in used}, True
        return layout
    for wanted in dict.fromkeys([*(options.keep or ()), *options.optional]):
        actual = find_name(names, (wanted,))
        if actual is None and wanted in (options.keep or ()):
            raise MissingColumnError(
                f"{label}: no column '{wanted}' to keep; there are: {list_names(names)}", wanted
            )
        if actual not in (None, source_id):  # which is always there
            layout.keep[wanted] = actual
    return layout


def set_masks_apart(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split ``NAME.mask``, which astropy writes beside masked columns, from the others."""
    there = set(names)
    masks = {name: f"{name}{MASK}" for name in names if f"{name}{MASK}" in there}
    return [name for name in names if name not in masks.values()], masks


def find_name(names: Iterable[str], candidates: Iterable[str]) -> str | None:
    """Return the first of the candidates that is there, as it is written there, whatever case."""
    names = list(names)
    lower: dict[str, str] = {name: name for name in names}
    for name in names:
        lower.setdefault(name.lower().strip().lstrip("\ufeff"), name)
    found = (lower.get(one, lower.get(one.lower())) for one in candidates)
    return next((name for name in found if name is not None), None)


def find_id_name(names: Iterable[str]) -> str | None:
    """Return the name of the column that holds Gaia's source ids, as one usually calls it."""
    return find_name(names, ID_NAMES)


def find_position_names(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the names of the columns of positions, as one usually calls them."""
    ra, dec = find_name(names, RA_NAMES), find_name(names, DEC_NAMES)
    return None if ra is None or dec is None else (ra, dec)


def _find_arrays(by_lower: dict[str, str], band: str, quantity: str, label: str) -> tuple[str, ...]:
    """Return the one array column, or the numbered scalar columns in their order."""
    pattern = _QUANTITIES[quantity].format(b=band)
    whole = [name for lower, name in by_lower.items() if re.fullmatch(pattern, lower)]
    if whole:
        return (whole[0],)
    numbered: dict[int, str] = {}
    for lower, name in by_lower.items():
        match = re.fullmatch(rf"(?:{pattern})_?(\d+)", lower)
        if match:
            numbered[int(match[1])] = name
    if not numbered:
        return ()
    first, last = min(numbered), max(numbered)
    if first > 1 or len(numbered) != last - first + 1:
        absent = next(i for i in range(min(first, 1), last + 1) if i not in numbered)
        raise InputError(
            f"{label}: columns '{numbered[first]}' to '{numbered[last]}' lack number {absent}"
        )
    return tuple(numbered[i] for i in range(first, last + 1))


def _describe_wrong_columns(
    names: Sequence[str], by_lower: dict[str, str], source_id: str | None, label: str
) -> str:
    lacking = "no source_id column" if source_id is None else "no BP/RP coefficient columns"
    text = f"{label}: {lacking}; found: {list_names(names)}."
    if "flux" in by_lower:
        return (
            f"{text} This looks like sampled spectra (XP_SAMPLED or a converter's output);"
            " the continuous product is needed (XP_CONTINUOUS, in DR4 MEAN_SPECTRUM_XP)"
        )
    return (
        f"{text} Expected source_id with bp_coefficients and rp_coefficients"
        " (or bp_coeff_0, bp_coeff_1, ...), as in the archive's XP_CONTINUOUS files"
    )
