"""Columns of every type, masked or not, through every format and command: equal, or refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scale import FakeModel, make_spectra, write_columns

from gaia_redshift import predict_table, read_table, write_spectra, write_table
from gaia_redshift.readers import iter_spectra
from gaia_redshift.scale import predict_to_file
from gaia_redshift.spectra import XPSpectra

FORMATS = ["ecsv", "fits", "vot", "parquet", "h5", "csv"]
INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
FLOATS = ["f2", "f4", "f8"]
MASKS = {"unmasked": [], "masked": [1, 4], "all masked": range(6)}


KINDS = {"bool": "?", **{k: k for k in (*INTEGERS, *FLOATS)}, "text": "U"}
"""Names of columns and the types that they have."""


def make_values(kind):
    """Six values of a type: its ends among them, where fills and nulls of formats lie."""
    if kind == "?":
        return np.array([True, False, True, False, True, False])
    if kind == "U":
        return np.array(["a", "007", "galaxy ü", "1.10", "nan, no", 'a "quote"'])
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        info = np.finfo(dtype)
        return np.array([0.5, -1.25, info.max, info.tiny, 0.1, -0.0]).astype(dtype)
    info = np.iinfo(dtype)
    return np.array([info.min, info.max, 0, 1, info.max - 1, info.min + 1], dtype=dtype)


def make_column(kind, hidden):
    values = make_values(kind)
    mask = np.isin(np.arange(len(values)), list(hidden))
    if kind == "f2":  # numpy's own fill of masked ones overflows
        return values
    return MaskedColumn(values, mask=mask) if mask.any() else values


def make_table(hidden):
    return Table({name: make_column(kind, MASKS[hidden]) for name, kind in KINDS.items()})


def assert_equal(got, expected, *, dtype=True, label=""):
    """Masks and values are the same; a hidden value may be anything."""
    got, expected = np.ma.asarray(got), np.ma.asarray(expected)
    mask = np.ma.getmaskarray(expected)
    assert np.ma.getmaskarray(got).tolist() == mask.tolist(), label
    if dtype:
        assert got.dtype.kind == expected.dtype.kind, label
        if expected.dtype.kind != "U":
            assert got.dtype == expected.dtype, label
    shown = np.ma.getdata(got)[~mask].tolist()
    wanted = np.ma.getdata(expected)[~mask].tolist()
    assert shown == wanted, label
    assert [type(value) for value in shown] == [type(value) for value in wanted], label


def assert_all_equal(back, table, ending):
    for name in KINDS:
        expected = table[name]
        if ending == "csv":  # which says no types
            if np.ma.getmaskarray(np.ma.asarray(expected)).all():
                assert np.ma.getmaskarray(np.ma.asarray(back[name])).all()
            else:
                assert_equal(back[name], expected, dtype=False, label=name)
        else:
            assert_equal(back[name], expected, label=name)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("hidden", MASKS)
def test_a_table_comes_back_as_it_was_written(tmp_path, ending, hidden):
    table = make_table(hidden)
    write_table(table, tmp_path / f"t.{ending}")
    back = read_table(tmp_path / f"t.{ending}")
    assert back.colnames == table.colnames
    assert_all_equal(back, table, ending)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("hidden", MASKS)
def test_kept_columns_come_back_as_they_were_read(tmp_path, ending, hidden):
    made = make_spectra(6, errors=False)
    columns = make_table(hidden)
    spectra = XPSpectra(made.source_id, made.bp, made.rp, columns=columns)
    output = tmp_path / f"z.{ending}"
    predict_to_file(spectra, output, model=FakeModel(), keep="all", block_size=4)
    assert_all_equal(read_table(output), columns, ending)


# --- where blocks and files meet -----------------------------------------------------------------

BIG = 4611686018427387905  # a float64 would end in 904


def write_csv(path, **columns):
    """Spectra as csv, these columns' cells as they are."""
    made = make_spectra(len(next(iter(columns.values()))), errors=False)
    write_spectra(XPSpectra(made.source_id, made.bp, made.rp), path)
    cells = [list(columns), *zip(*columns.values(), strict=True)]
    lines = zip(path.read_text().splitlines(), cells, strict=True)
    path.write_text("".join(f"{line},{','.join(more)}\n" for line, more in lines))
    return path


CELLS = {
    # What the cells of the first and the last rows are, and what the column then holds.
    "ids after blanks": (["", ""], [str(BIG), "7"], [None, None, BIG, 7]),
    "ids after a number": (["1.5", ""], [str(BIG), "7"], ["1.5", None, str(BIG), "7"]),
    "booleans after blanks": (["", ""], ["true", "false"], [None, None, True, False]),
    "a name after numbers": (["1", "2"], ["x", "2"], ["1", "2", "x", "2"]),
    "leading zeros": (["007", "12"], ["8", "9"], ["007", "12", "8", "9"]),
    "leading zeros later": (["7", "12"], ["008", "9"], ["7", "12", "008", "9"]),
    "versions": (["1.9", "1.8"], ["1.10", "1.11"], ["1.9", "1.8", "1.10", "1.11"]),
    "one version": (["1.10", "1.10"], ["1.10", "1.10"], ["1.10"] * 4),
    "letters": (["F", "T"], ["F", "F"], ["F", "T", "F", "F"]),
    "decimals": (["1.50", "2.25"], ["3.75", "1.00"], [1.5, 2.25, 3.75, 1.0]),
    "numbers": (["1", "2.5"], ["-3e5", "nan"], [1.0, 2.5, -3e5, np.nan]),
    "unsigned": (["1", "2"], [str(2**64 - 1), "3"], [1, 2, 2**64 - 1, 3]),
    "too long": (["1", "2"], [str(2**64), "3"], ["1", "2", str(2**64), "3"]),
    "all blank": (["", ""], ["", ""], [None] * 4),
}


def to_cells(column):
    return [None if v is np.ma.masked else v for v in np.ma.asarray(column).tolist()]


@pytest.mark.parametrize("case", CELLS)
@pytest.mark.parametrize("how", ["one file", "two files", "table", "stream", "to csv"])
def test_cells_of_csv_have_the_type_that_the_whole_column_proves(tmp_path, case, how):
    first, last, expected = CELLS[case]
    if how == "two files":
        inputs = [write_csv(tmp_path / "a.csv", x=first), write_csv(tmp_path / "b.csv", x=last)]
    else:
        inputs = [write_csv(tmp_path / "a.csv", x=[*first, *last])]
    if how == "table":
        found = predict_table(inputs, model=FakeModel(), keep="x", block_size=2)["x"]
    elif how == "stream":
        blocks = iter_spectra(inputs, keep="x", block_size=2)
        found = np.ma.concatenate([np.ma.asarray(block.columns["x"]) for block in blocks])
    else:
        output = tmp_path / ("z.csv" if how == "to csv" else "z.parquet")
        predict_to_file(inputs, output, model=FakeModel(), keep="x", block_size=2)
        found = read_table(output)["x"]
    assert repr(to_cells(found)) == repr(expected)


MEETINGS = {
    "blank floats, then ids": ([np.nan] * 2, [BIG, 7], [None, None, BIG, 7]),
    "int64 and uint64": (np.array([-1, 2]), np.array([3, BIG], "u8"), [-1, 2, 3, BIG]),
    "uint64 and int64": (np.array([1, 2**64 - 1], "u8"), np.array([3, 4]), [1, 2**64 - 1, 3, 4]),
    "no integer holds both": (
        *(np.array([-1, 2]), np.array([2**64 - 1, 3], "u8")),
        ["-1", "2", str(2**64 - 1), "3"],
    ),
    "ids and floats": ([0.5, 2.0], [BIG, 7], ["0.5", "2.0", str(BIG), "7"]),
    "short integers and floats": ([0.5, 2.0], [1, 7], [0.5, 2.0, 1.0, 7.0]),
    "blank floats, then booleans": ([np.nan] * 2, [True, False], [None, None, True, False]),
    "booleans and integers": ([True, False], [1, 7], ["True", "False", "1", "7"]),
    "blank floats, then text": ([np.nan] * 2, ["a", "b"], [None, None, "a", "b"]),
}


@pytest.mark.parametrize("ending", [*FORMATS, "in memory"])
@pytest.mark.parametrize("case", MEETINGS)
def test_columns_of_several_files_meet_without_loss(tmp_path, case, ending):
    first, last, expected = MEETINGS[case]
    inputs = [
        write_columns(tmp_path / "a.parquet", n=2, x=first),
        write_columns(tmp_path / "b.parquet", n=2, start=5, x=last),
    ]
    if ending == "in memory":
        found = predict_table(inputs, model=FakeModel(), keep="x")["x"]
    else:
        output = tmp_path / f"z.{ending}"
        predict_to_file(inputs, output, model=FakeModel(), keep="x")
        found = read_table(output)["x"]
    assert to_cells(found) == expected


# --- random tables -------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["C"]), max_size=5).map(str.strip)


def make_cells(kind):
    if kind == "U":
        return texts
    if kind == "?":
        return st.booleans()
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return st.floats(width=8 * dtype.itemsize)
    return st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


@st.composite
def draw_tables(draw):
    n = draw(st.integers(1, 6))
    table = Table()
    for number, kind in enumerate(draw(st.lists(st.sampled_from([*KINDS.values()]), min_size=1))):
        values = np.array(draw(st.lists(make_cells(kind), min_size=n, max_size=n)), dtype=kind)
        hidden = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        if kind == "U":
            hidden |= values == ""  # most formats have no other word for nothing
        elif kind[0] == "f":
            hidden |= np.isnan(values)
        masked = hidden.any() and kind != "f2"
        table[f"c{number}"] = MaskedColumn(values, mask=hidden) if masked else values
    return table


@given(draw_tables(), st.sampled_from(FORMATS[:-1]), st.sampled_from(FORMATS[:-1]))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_random_tables_come_back_through_any_two_formats(table, first, second):
    with tempfile.TemporaryDirectory() as folder:
        write_table(table, Path(folder) / f"a.{first}")
        write_table(read_table(Path(folder) / f"a.{first}"), Path(folder) / f"b.{second}")
        back = read_table(Path(folder) / f"b.{second}")
    for name in table.colnames:
        got, expected = (np.ma.asarray(t[name]) for t in (back, table))
        assert got.dtype.kind == expected.dtype.kind
        if expected.dtype.kind == "f":  # what is NaN may be masked, and what is masked NaN
            got, expected = (np.ma.filled(c.astype("f8"), np.nan) for c in (got, expected))
            np.testing.assert_array_equal(got, expected)
        else:
            assert_equal(got, expected, label=name)
