"""Random tables through every pair of formats."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from test_columns_everywhere import FORMATS, KINDS, assert_equal

from gaia_redshift import read_table, write_table

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

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
