"""Types of columns: what a column holds, one type for several parts, what a format can store.

A column in one part of a table, or in one file of many, is described by a note, a dictionary that
JSON holds. Notes are joined, and every part is then cast to the type that holds them all: integers
never pass through floats, what is blank throughout has no type, and the cells of csv files stay
text until the whole column proves to be something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError

__all__ = [
    "AS_WRITTEN",
    "Note",
    "cast_column",
    "choose_storage",
    "join_notes",
    "measure_text",
    "note_column",
    "simplify_column",
    "unwrap_column",
]

Note = dict[str, Any]
"""``dtype``, ``shape``, ``masked``, ``blank``, ``widest`` (bytes of text) and ``escaped`` (whether
XML cannot hold some of it as it is); of integers ``low``, ``high`` and ``taken`` (which of
`_find_nulls` occur); of cells of csv files ``proof``."""
AS_WRITTEN = "as_written"
"""In a column's meta: text of a csv file, whose type only the whole column can prove."""
EXACT = 2**53
"""Up to here every integer is a float64, too."""
_NULLS = 16

_INTEGER = re.compile(r"(0|-?[1-9]\d*)\Z")
_FLOAT = re.compile(r"[+-]?(0|[1-9]\d*)?(?:\.(\d*))?(?:[eE][+-]?\d+)?\Z")
_WORDS = {"nan", "inf", "+inf", "-inf", "infinity", "-infinity", "+infinity"}
_BOOLEANS = {"true": True, "false": False}
_KINDS = ("null", "bool", "int", "float", "str")


def simplify_column(column: Any, name: str) -> NDArray[Any] | np.ma.MaskedArray[Any, Any]:
    """Return a column as an array of booleans, integers, floats or text, masked where blank."""
    if hasattr(column, "isot"):  # astropy's Time
        texts = np.ma.asarray(column.isot)
        hidden = np.ma.getmaskarray(np.ma.asarray(getattr(column, "mask", False)))
        return np.ma.MaskedArray(np.ma.getdata(texts), mask=np.broadcast_to(hidden, texts.shape))
    array = unwrap_column(column)
    data = np.ma.getdata(array)
    kind = data.dtype.kind
    if not data.dtype.isnative and kind in "iufU":
        array = array.astype(data.dtype.newbyteorder("="))
    elif kind in "Mm":  # no format but Parquet has them
        text = np.where(np.isnat(data), "", data.astype(str))
        array = np.ma.MaskedArray(text, mask=np.isnat(data) | np.ma.getmaskarray(array))
    elif kind == "O" and data.ndim == 1:
        array = _simplify_objects(array, name)
    elif kind == "S":
        text = np.char.decode(data, "utf-8", "backslashreplace")
        array = np.ma.MaskedArray(text, mask=array.mask) if np.ma.isMaskedArray(array) else text
    if kind == "f" and data.dtype.itemsize > 8:
        narrow = data.astype(np.float64)
        if not ((narrow == data) | np.isnan(data)).all():
            raise InputError(f"column '{name}' holds numbers of more than 64 bits: round them")
        array = np.ma.MaskedArray(narrow, mask=np.ma.getmaskarray(array))
    if np.ma.getdata(array).dtype.kind not in "biufU":
        words = {"c": "complex numbers", "V": "records", "O": "objects"}
        raise InputError(
            f"column '{name}' holds {words.get(kind, str(data.dtype))}, which no format here keeps;"
            " leave it out, or make numbers or text of it"
        )
    return array  # type: ignore[no-any-return]


def unwrap_column(column: Any) -> Any:
    """Return what a column of astropy's, or an array, holds, masked where it is."""
    unmasked = getattr(column, "unmasked", None)
    if unmasked is not None:  # astropy's Masked quantities
        return np.ma.MaskedArray(getattr(unmasked, "value", unmasked), mask=column.mask)
    if hasattr(column, "mask"):
        return np.ma.MaskedArray(np.asarray(column.data.data), mask=column.mask)
    return np.asarray(getattr(column, "value", column))


def _simplify_objects(array: Any, name: str) -> Any:
    """Give objects the type that all of them have; None, NaN and the like are masked."""
    cells = np.ma.getdata(array).tolist()
    mask = np.ma.getmaskarray(array) | np.array([_is_blank(c) for c in cells], dtype=bool)
    present = [c for c, hidden in zip(cells, mask, strict=True) if not hidden]
    types = {bool if isinstance(c, bool | np.bool_) else type(c) for c in present}
    if types <= {bytes, np.bytes_}:
        found: NDArray[Any] = np.array(
            [c.decode("utf-8", "backslashreplace") for c in present], dtype="U"
        )
    elif types == {bool}:
        found = np.array(present, dtype=bool)
    elif all(isinstance(c, int | np.integer) for c in present) and bool not in types:
        found = _make_integers([int(c) for c in present])
    elif any(isinstance(c, np.ndarray | list | tuple | dict | complex) for c in present):
        return array
    elif all(isinstance(c, float | np.floating) for c in present):
        found = np.array(present, dtype=np.float64)
    else:
        found = np.array([str(c) for c in present], dtype="U")
    filled = np.zeros(len(cells), dtype=found.dtype)
    filled[~mask] = found
    return np.ma.MaskedArray(filled, mask=mask) if mask.any() else filled


def _make_integers(values: Sequence[int]) -> NDArray[Any]:
    """Return integers as int64, or uint64; as text where neither holds them."""
    if not values or (min(values) >= -(2**63) and max(values) < 2**63):
        return np.array(values, dtype=np.int64)
    if min(values) >= 0 and max(values) < 2**64:
        return np.array(values, dtype=np.uint64)
    return np.array([str(v) for v in values])


def _is_blank(cell: Any) -> bool:
    if cell is None or cell is np.ma.masked or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float) and math.isnan(cell)


def _split(column: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values = np.ma.asarray(column)
    return np.ma.getdata(values), np.ma.getmaskarray(values)


def _find_nulls(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values of an integer type that may stand for "none", the usual ones first."""
    info = np.iinfo(dtype)
    low = [info.min + i for i in range(_NULLS)]
    high = [info.max - i for i in range(_NULLS)]
    return np.array([low[0], high[0], *low[1:], *high[1:]], dtype=dtype)


def note_column(column: Any) -> Note:
    """Describe one part of a column."""
    values, mask = _split(column)
    present = values[~mask]
    note: Note = {
        "dtype": values.dtype.newbyteorder("=").str,
        "shape": list(values.shape[1:]),
        "masked": bool(mask.any()),
        "blank": not present.size,
        "widest": 0,
    }
    if values.dtype.kind == "U":
        texts = present.tolist()
        note["widest"] = max(
            (len(text.encode("utf-8", "surrogatepass")) for text in texts), default=0
        )
        note["escaped"] = not all(map(str.isprintable, texts))
        if (getattr(getattr(column, "info", None), "meta", None) or {}).get(AS_WRITTEN):
            note["proof"] = _prove(texts)
    elif values.dtype.kind == "f":
        note["blank"] = bool(np.isnan(present).all())
    elif values.dtype.kind in "iu" and present.size:
        note["low"], note["high"] = int(present.min()), int(present.max())
        note["taken"] = np.flatnonzero(np.isin(_find_nulls(values.dtype), present)).tolist()
    return note


def _prove(cells: Sequence[str]) -> Note:
    """Say what cells of a csv file prove to be.

    Decimals are counted because `1.10` is a number where all cells have two of them, and a name
    beside `1.9`.
    """
    proof: Note = {"kind": "null"}
    for cell in dict.fromkeys(cells):
        proof = _join_two(proof, _prove_cell(cell))
        if proof["kind"] == "str":
            break
    return proof


def _prove_cell(cell: str) -> Note:
    if _INTEGER.match(cell):
        value = int(cell)
        kind = "int" if -(2**63) <= value < 2**64 else "str"
        return {"kind": kind, "low": value, "high": value, "trailing": False, "decimals": 0}
    if cell.lower() in _BOOLEANS:
        return {"kind": "bool"}
    number = _FLOAT.match(cell)
    if number is not None and (number[1] or number[2]):
        digits = number[2] or ""
        trailing = digits.endswith("0") and digits != "0"
        about = {"trailing": trailing, "decimals": len(digits), "only": cell}
        return {"kind": "float", **about}
    return {"kind": "float" if cell.lower() in _WORDS else "str"}


def _join_two(a: Note, b: Note) -> Note:
    """Join what two sets of cells prove."""
    if a["kind"] == "null" or b["kind"] == "null":
        return b if a["kind"] == "null" else a
    kinds = {a["kind"], b["kind"]}
    if "str" in kinds or ("bool" in kinds and len(kinds) > 1):
        return {"kind": "str"}
    kind = max(kinds, key=_KINDS.index)
    joined: Note = {"kind": kind}
    if "low" in a or "low" in b:
        joined["low"] = min(each["low"] for each in (a, b) if "low" in each)
        joined["high"] = max(each["high"] for each in (a, b) if "high" in each)
    if "decimals" in a and "decimals" in b:
        same = a["decimals"] == b["decimals"]
        joined["decimals"] = a["decimals"] if same else -1
        joined["trailing"] = a["trailing"] or b["trailing"]
        if "only" in a and a.get("only") == b.get("only"):
            joined["only"] = a["only"]
    else:  # one of them is words such as nan
        joined |= {key: value for each in (a, b) for key, value in each.items() if key != "kind"}
    return joined


def _read_proof(proof: Note) -> str:
    """Return the type that cells prove to have."""
    low, high = proof.get("low", 0), proof.get("high", 0)
    if proof["kind"] == "int":
        if high < 2**63:
            return "<i8"
        return "<u8" if low >= 0 else "<U1"
    if proof["kind"] == "float":
        if max(-low, high) > EXACT:
            return "<U1"  # identifiers among numbers: a float would lose digits
        # Names such as versions: 1.10 and 1.9 are two, and 1.10 alone proves nothing.
        decimals = proof.get("decimals", 0)
        doubtful = decimals < 0 or (decimals < 3 and "only" in proof)
        return "<U1" if proof.get("trailing") and doubtful else "<f8"
    return {"bool": "|b1", "str": "<U1", "null": "<U1"}[proof["kind"]]


def join_notes(notes: Sequence[Note], *, absent: bool = False) -> Note:
    """Return the note of a column of which parts have these, and others (``absent``) nothing."""
    proofs = [note["proof"] for note in notes if "proof" in note]
    others = [note for note in notes if "proof" not in note and not note["blank"]]
    types = [np.dtype(note["dtype"]) for note in others]
    widest = max(note["widest"] for note in notes)
    low, high = _find_range(others)
    if proofs:
        proof: Note = {"kind": "null"}
        for each in proofs:
            proof = _join_two(proof, each)
        if proof["kind"] != "null":
            types.append(np.dtype(_read_proof(proof)))
            if types[-1].kind in "iu":
                low = proof["low"] if low is None else min(low, proof["low"])
                high = proof["high"] if high is None else max(high, proof["high"])
    dtype = _join_types(types, low, high)
    if dtype is None:  # blank throughout
        dtype = np.dtype("U1") if proofs else np.dtype(notes[0]["dtype"])
    elif dtype.kind == "U":
        texts = [kind.itemsize // 4 for kind in types if kind.kind == "U"]
        written = [np.dtype(note["dtype"]).itemsize // 4 for note in notes if "proof" in note]
        digits = [_count_digits(kind) for kind in types if kind.kind != "U"]
        dtype = np.dtype(f"<U{max([1, *texts, *written, *digits])}")
        widest = max([widest, 1, *digits])
    joined: Note = {
        "dtype": dtype.str,
        "shape": notes[0]["shape"],
        "masked": absent or any(note["masked"] for note in notes),
        "blank": all(note["blank"] for note in notes),
        "widest": widest,
        "escaped": any(note.get("escaped", True) for note in notes if note["widest"]),
    }
    if dtype.kind in "iu":
        same = all(np.dtype(note["dtype"]) == dtype for note in others) and not proofs
        taken = {number for note in others for number in note.get("taken", [])}
        joined |= {"low": low or 0, "high": high or 0}
        joined["taken"] = sorted(taken) if same else _find_taken(dtype, low or 0, high or 0)
    # Blank floats are NaN, in other types they are masked.
    if dtype.kind != "f" and any(note["blank"] for note in notes):
        joined["masked"] = True
    return joined


def _find_range(notes: Iterable[Note]) -> tuple[int | None, int | None]:
    ranges = [(note["low"], note["high"]) for note in notes if "low" in note]
    if not ranges:
        return None, None
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _find_taken(dtype: np.dtype[Any], low: int, high: int) -> list[int]:
    nulls = _find_nulls(dtype).tolist()
    return [i for i, value in enumerate(nulls) if low <= value <= high]


def _count_digits(dtype: np.dtype[Any]) -> int:
    return np.empty(0, dtype=dtype).astype(str).dtype.itemsize // 4


def _join_types(
    types: Sequence[np.dtype[Any]], low: int | None, high: int | None
) -> np.dtype[Any] | None:
    """Return the type that holds all values; text where no number does."""
    kinds = {dtype.kind for dtype in types}
    if not kinds:
        return None
    low, high = low or 0, high or 0
    if "U" in kinds or ("b" in kinds and len(kinds) > 1):
        return np.dtype("U")
    joined = np.result_type(*types)
    if kinds <= {"i", "u"}:
        if joined.kind == "f":  # int64 and uint64, which share no type
            joined = np.dtype("i8" if high < 2**63 else "u8" if low >= 0 else "U")
    elif kinds & {"i", "u"} and max(-low, high) > EXACT:
        joined = np.dtype("U")
    return joined


def cast_column(column: Any, dtype: np.dtype[Any]) -> Any:
    """Return a part's values as a type that `join_notes` found to hold them, masks kept."""
    values, mask = _split(column)
    if values.dtype == dtype or (values.dtype.kind == "U" and dtype.kind == "U"):
        found = values.astype(dtype)
    elif dtype.kind == "U":
        found = values.astype(str).astype(dtype)
        if values.dtype.kind == "f":
            mask = mask | np.isnan(values)
    elif values.dtype.kind == "U":
        found = np.zeros(values.shape, dtype=dtype)
        found[~mask] = _parse(values[~mask].tolist(), dtype)
        if dtype.kind == "f":
            found[mask] = np.nan
    else:
        if values.dtype.kind == "f" and dtype.kind != "f":  # blank: NaN is no integer
            mask = mask | np.isnan(values)
        found = np.where(mask, values.dtype.type(0), values).astype(dtype)
        if dtype.kind == "f" and values.dtype.kind != "f":
            found[mask] = np.nan
    return np.ma.MaskedArray(found, mask=mask) if mask.any() else found


def _parse(texts: Sequence[str], dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return [_BOOLEANS[text.lower()] for text in texts]
    if dtype.kind in "iu":
        return np.array([int(text) for text in texts], dtype=dtype)
    return np.array([float(text) for text in texts], dtype=dtype)


def measure_text(note: Note) -> int:
    """Return how many bytes a column's values take at most where they are stored as text."""
    dtype = np.dtype(note["dtype"])
    return max(note["widest"], 1) if dtype.kind == "U" else _count_digits(dtype)


def choose_storage(note: Note, kind: str) -> tuple[np.dtype[Any], int | None]:
    """Return the type in which a format stores a column, and the value that stands for "none".

    Unsigned integers and bytes with a sign are stored in the next wider type (they are told from
    it by the table's own description), masked bytes too, in which every value may occur.
    """
    dtype = np.dtype(note["dtype"])
    if dtype.kind == "b" and kind == "fits" and note["masked"]:
        return np.dtype("i2"), -1
    if dtype.kind not in "iu":
        return (np.dtype("f4") if dtype.kind == "f" and dtype.itemsize < 4 else dtype), None
    stored = {"i1": "i2", "u2": "i4", "u4": "i8"}.get(dtype.str[1:], dtype.str[1:])
    if stored == "u1" and note["masked"]:
        stored = "i2"
    if stored == "u8":
        if note.get("high", 0) < 2**63:
            stored = "i8"
        elif kind == "votable" or note["masked"]:
            return np.dtype("U20"), None  # digits: no integer of these formats holds them
    chosen = np.dtype(stored)
    if not note["masked"]:
        return chosen, None
    if chosen != dtype:
        return chosen, int(np.iinfo(chosen).min)
    free = [i for i in range(2 * _NULLS) if i not in note.get("taken", [])]
    if not free:
        raise InputError("no value is left that could stand for what is masked")
    return chosen, int(_find_nulls(chosen)[free[0]])
