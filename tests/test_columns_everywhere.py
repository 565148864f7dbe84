"""Columns of every type, masked or not, through every format and command: equal, or refused."""

from __future__ import annotations

import base64
import json
from datetime import date, time
from decimal import Decimal
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from pyarrow import parquet
from test_scale import FakeModel, make_spectra, write_columns

from gaia_redshift import (
    crossmatch_catalogue,
    predict_table,
    read_table,
    write_spectra,
    write_table,
)
from gaia_redshift._quiet import ignore_warnings
from gaia_redshift.archive.sources import resolve_sources
from gaia_redshift.cli import main
from gaia_redshift.errors import InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.predict import predict_to_file
from gaia_redshift.readers import iter_spectra, read_spectra
from gaia_redshift.readers.columns import tell_unused_ids
from gaia_redshift.readers.files import read_ids
from gaia_redshift.readers.sources import is_for_archive
from gaia_redshift.readers.values import to_source_ids
from gaia_redshift.spectra import XPSpectra
from gaia_redshift.tables.arrow import make_field, to_arrow
from gaia_redshift.tables.columns import take_table
from gaia_redshift.writers import SpectraWriter

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


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("hidden", MASKS)
def test_columns_beside_spectra_come_back_or_are_refused(tmp_path, ending, hidden):
    made, columns = make_spectra(6, errors=False), make_table(hidden)
    spectra = XPSpectra(made.source_id, made.bp, made.rp, columns=columns)
    if hidden == "unmasked" and ending in ("fits", "vot"):
        with pytest.raises(InputError, match="column 'u8' holds integers beyond 2"):
            write_spectra(spectra, tmp_path / f"a.{ending}")
        columns.remove_column("u8")
    with SpectraWriter(tmp_path / f"a.{ending}") as writer:
        for block in spectra.blocks(4):  # masked rows on both sides
            writer.write(block)
    back = read_spectra(tmp_path / f"a.{ending}", keep="all").columns
    for name in columns.colnames:
        got, wanted = to_cells(back[name]), to_cells(columns[name])
        if columns[name].dtype.kind == "f":  # what is masked may be NaN
            got, wanted = (np.array(cells, dtype=columns[name].dtype) for cells in (got, wanted))
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@pytest.mark.parametrize("ending", FORMATS)
def test_later_blocks_lose_no_digits_in_the_first_ones_type(tmp_path, ending):
    made = make_spectra(2, errors=False)
    for first, later in ((np.array([1, 2], "i4"), [1, BIG]), ([0.5, 1.5], [1, BIG])):
        with (  # noqa: PT012
            pytest.raises(InputError, match=r"'x' is .* in the first block and int64 now"),
            SpectraWriter(tmp_path / f"a.{ending}") as writer,
        ):
            for values in (first, later):
                columns = Table({"x": values})
                writer.write(XPSpectra(made.source_id, made.bp, made.rp, columns=columns))


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


# --- masks, units and names that every command must understand -----------------------------------

MASKED_FORMATS = {
    # Masked columns as astropy, not this package, writes them.
    "parquet": lambda table, path: table.write(path, overwrite=True),
    "h5": lambda table, path: table.write(path, path="data", serialize_meta=True, overwrite=True),
    "ecsv": lambda table, path: table.write(path, serialize_method="data_mask", overwrite=True),
    "fits": lambda table, path: table.write(path, overwrite=True),
    "vot": lambda table, path: table.write(path, format="votable", overwrite=True),
}


def write_masked(path, table):
    with ignore_warnings():
        MASKED_FORMATS[path.suffix[1:]](table, path)
    return path


@pytest.mark.parametrize("ending", MASKED_FORMATS)
def test_masks_that_astropy_writes_hide_spectra(tmp_path, ending):
    made = make_spectra(4, errors=False)
    table = Table({"source_id": made.source_id})
    for name, band in (("bp", made.bp), ("rp", made.rp)):
        hidden = np.zeros((4, 55), dtype=bool)
        hidden[2] = name == "bp"
        values = np.ma.MaskedArray(band.coefficients, mask=hidden)
        if ending == "ecsv":  # which has no masks of arrays: numbered columns
            for i in range(55):
                table[f"{name}_coeff_{i}"] = MaskedColumn(values[:, i])
        else:
            table[f"{name}_coefficients"] = MaskedColumn(values)
    table["z"] = MaskedColumn([0.1, -9.0, 0.3, 0.4], mask=[False, True, False, False])
    found = predict_table(
        write_masked(tmp_path / f"a.{ending}", table), model=FakeModel(), keep="z"
    )
    assert np.ma.getmaskarray(found["redshift_cnn"]).tolist() == [False, False, True, False]
    assert found["flags_cnn"][2] == QualityFlag.MISSING_BP
    assert np.ma.filled(found["z"].astype(float), np.nan).tolist()[0] == 0.1
    assert not np.isfinite(np.ma.filled(found["z"].astype(float), np.nan)[1])


@pytest.mark.parametrize("ending", MASKED_FORMATS)
def test_masks_that_astropy_writes_hide_redshifts_of_catalogues_and_tables(tmp_path, ending):
    catalogue = Table({"ra": [10.0, 20.0], "dec": [1.0, 2.0]})
    catalogue["z"] = MaskedColumn([-9.0, 0.2], mask=[True, False])
    path = write_masked(tmp_path / f"a.{ending}", catalogue)
    assert match({"ra": [10.0, 20.0], "dec": [1.0, 2.0]}, path) == [None, 0.2]
    assert_equal(read_table(path)["z"], catalogue["z"], dtype=False)
    report = str(tmp_path / "r")
    assert main(["evaluate", str(path), "--truth", "ra", "--prediction", "z", "-o", report]) == 0
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["metrics"]["n"] == 1


def match(table, catalogue):
    """Redshifts that a catalogue gives the rows of a table."""
    names = {"ra": "ra", "dec": "dec", "redshift": "z"}
    cuts = {"classes": None, "zwarning": None}
    found = crossmatch_catalogue(table, catalogue, survey="x", columns=names, **cuts)
    return to_cells(found["redshift_x"])


@pytest.mark.parametrize("ending", MASKED_FORMATS)
def test_masked_ids_are_refused_not_taken(tmp_path, ending):
    table = Table({"source_id": MaskedColumn([BIG, 8], mask=[False, True]), "x": [1, 2]})
    path = write_masked(tmp_path / f"ids.{ending}", table)
    source = np.ma.asarray(read_ids(path)["source_id"])
    assert np.ma.getmaskarray(source).tolist() == [False, True]
    with pytest.raises(InputError, match="row 2: no source_id"):
        to_source_ids(source, "ids")


ID_FILES = {
    "mark.csv": b"\xef\xbb\xbfsource_id,ra,dec\n%d,1,2\n",
    "mark.txt": b"\xef\xbb\xbf%d\n",
    "mark and comment.csv": b"\xef\xbb\xbf# ids\nsource_id,ra,dec\n%d,1,2\n",
    "upper.csv": b"SOURCE_ID,ra,dec\n%d,1,2\n",
    "gaia.csv": b"gaia_source_id,ra,dec\n%d,1,2\n",
    "dr3.csv": b"ra,dec,dr3_source_id\n1,2,%d\n",
    "vizier.csv": b"RA_ICRS,DE_ICRS,Source\n1,2,%d\n",
    "semicolons.csv": b"source_id;ra;dec\n%d;1;2\n",
    "tabs.txt": b"source_id\tra\n%d\t1\n",
    "quoted.txt": b'# some ids\n"%d"\n',
    "designations.txt": b"Gaia DR3 %d\n",
    "designations.csv": b"designation,ra,dec\nGaia DR3 %d,1,2\n",
    "comments.txt": b"%d # the first\n# no more\n",
    "apostrophes.txt": b"'%d'\n",
    "words.csv": b"name;source_id\nNGC 7;%d\n",
}


@pytest.mark.parametrize("name", ID_FILES)
def test_ids_are_found_whatever_a_list_looks_like(tmp_path, name):
    (tmp_path / name).write_bytes(ID_FILES[name] % BIG)
    settings = SimpleNamespace()
    wanted = resolve_sources(str(tmp_path / name), settings, lambda: pytest.fail("asked"))
    assert wanted.source_id.tolist() == [BIG]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4295806720,17\n4295806721,18\n", "line 1: has 2 numbers, which are not all ids"),
        ("4295806720\nNGC 7\n", "line 2: 'NGC 7' is no id"),
        # No header, though they are no ids: the first row would be lost.
        ("4295806720.0\n4295806721.0\n", "line 1: '4295806720.0' is no id"),
        ("NGC 7,4295806720\nNGC 8,4295806721\n", "line 1: 'NGC 7,4295806720' is no id"),
        ("GaiaDR3_4295806720\n4295806721\n", "line 1: 'GaiaDR3_4295806720' is no id"),
        ("Gaia DR2 4295806720\n", "earlier data release"),
    ],
)
def test_lists_that_are_none_are_refused(tmp_path, text, message):
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_ids(tmp_path / "ids.txt")


@pytest.mark.parametrize("word", ["float6", "int7", "bool"])
def test_what_is_not_of_the_type_that_ecsv_states_is_text(tmp_path, word):
    write_table(Table({"source_id": IDS, "x": ["a", "b", "c"]}), tmp_path / "a.ecsv")
    text = (tmp_path / "a.ecsv").read_text()
    (tmp_path / "a.ecsv").write_text(text.replace("datatype: string", f"datatype: {word}"))
    assert read_ids(tmp_path / "a.ecsv")["x"].tolist() == ["a", "b", "c"]


def test_a_column_that_looks_like_ids_and_is_not_used_is_told(tmp_path, caplog):
    columns = ["ra", "dec", "gaia_dr2_source_id"]
    tell_unused_ids(columns, "a.csv")
    assert "not the column 'gaia_dr2_source_id'" in caplog.text


UNITS = {"deg": 1.0, "rad": 180 / np.pi, "h": 15.0, "arcsec": 1 / 3600}


def make_arrow_table(table):
    columns, block = take_table(table)
    arrays = [to_arrow(block[column.name]) for column in columns]
    return pa.table(arrays, schema=pa.schema(map(make_field, columns)))


TABLES = {
    "table": lambda table: table,
    "dictionary": lambda table: {name: table[name].quantity for name in table.colnames},
    "arrow": make_arrow_table,
}


@pytest.mark.parametrize("ending", [*MASKED_FORMATS, *TABLES])
@pytest.mark.parametrize("unit", UNITS)
def test_positions_in_any_unit_are_the_same_positions(tmp_path, ending, unit):
    table = Table({"ra": np.array([150.0, 20.0]) / UNITS[unit], "dec": [2.0, 1.0]})
    table["ra"].unit, table["dec"].unit = unit, "deg"
    table["z"] = [0.1, 0.2]
    if ending in TABLES:
        source = TABLES[ending](table)
    else:
        source = write_masked(tmp_path / f"a.{ending}", table)
    plain = {"ra": [20.0, 150.0], "dec": [1.0, 2.0], "z": [0.2, 0.1]}
    assert match(plain, source) == [0.2, 0.1]
    assert match(source, plain) == [0.1, 0.2]


@pytest.mark.parametrize("code", ["PJ", "PI", "QJ"])
def test_scaled_arrays_of_fits_are_numbers_not_what_is_stored(tmp_path, code):
    made = make_spectra(3, errors=False)
    columns = [fits.Column("source_id", "K", array=made.source_id)]
    for name, band in (("bp", made.bp), ("rp", made.rp)):
        stored = np.round(band.coefficients).astype("i4" if code[1] == "J" else "i2")
        cells = np.empty(3, dtype=object)
        cells[:] = list(stored)
        columns.append(fits.Column(f"{name}_coefficients", f"{code}(55)", array=cells))
    hdu = fits.BinTableHDU.from_columns(columns)
    for number in (2, 3):
        hdu.header[f"TSCAL{number}"] = 0.5
        hdu.header[f"TZERO{number}"] = 5.0
    hdu.writeto(tmp_path / "a.fits")
    found = read_spectra(tmp_path / "a.fits")
    np.testing.assert_allclose(found.bp.coefficients, 0.5 * made.bp.coefficients + 5, atol=0.26)


def test_comments_among_the_rows_of_a_csv_catalogue_are_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("# a catalogue\nra,dec,z\n10,1,0.1\n#20,2,0.9\n20,2,0.2\n")
    assert match({"ra": [10.0, 20.0], "dec": [1.0, 2.0]}, tmp_path / "a.csv") == [0.1, 0.2]
    assert len(read_table(tmp_path / "a.csv")) == 2


@pytest.mark.parametrize("ending", [*FORMATS, "in memory"])
def test_a_missing_date_is_missing_not_1970(tmp_path, ending):
    path = write_columns(tmp_path / "a.parquet", n=2, day=pd.to_datetime(["2020-02-03", None]))
    if ending == "in memory":
        found = predict_table(pd.read_parquet(path), model=FakeModel(), keep="day")
    else:
        predict_to_file(path, tmp_path / f"z.{ending}", model=FakeModel(), keep="day")
        found = read_table(tmp_path / f"z.{ending}")
    first, second = to_cells(found["day"])
    assert first.startswith("2020-02-03")
    assert second is None


def test_spectra_in_a_nested_column_are_not_asked_from_the_archive():
    cells = [{"bp_coefficients": [1.0], "rp_coefficients": [1.0]}]
    for frame in (
        pd.DataFrame({"source_id": [BIG], "xp": cells}),
        pa.table({"source_id": [BIG], "xp": cells}),
        Table({"source_id": [BIG], "xp": np.array([*cells, None], dtype=object)[:1]}),
    ):
        assert not is_for_archive(frame)
        with pytest.raises(InputError, match="no BP/RP coefficient columns; found: source_id, xp"):
            predict_table(frame, model=FakeModel())


@pytest.mark.parametrize("ending", FORMATS)
def test_names_of_results_in_upper_case_are_the_inputs_columns(tmp_path, ending):
    path = write_columns(tmp_path / "a.parquet", n=2, REDSHIFT_CNN=[0.5, 0.25], Flags_cnn=[7, 8])
    predict_to_file(path, tmp_path / f"z.{ending}", model=FakeModel(), keep="all")
    found = read_table(tmp_path / f"z.{ending}")
    assert found["REDSHIFT_CNN_in"].tolist() == [0.5, 0.25]
    assert found["Flags_cnn_in"].tolist() == [7, 8]
    assert found["flags_cnn"].tolist() != [7, 8]


@pytest.mark.parametrize("ending", FORMATS)
def test_times_and_places_are_written_as_other_programs_read_them(tmp_path, ending):
    table = Table({"when": Time(["2020-02-03T04:05:06.5", "2021-01-01"])})
    table["where"] = SkyCoord([10.0, 20.0], [1.0, 2.0], unit="deg")
    write_table(table, tmp_path / f"t.{ending}")
    back = read_table(tmp_path / f"t.{ending}")
    assert back["when"].tolist() == ["2020-02-03T04:05:06.500", "2021-01-01T00:00:00.000"]
    assert back["where_ra"].tolist() == pytest.approx([10.0, 20.0])
    assert back["where_dec"].tolist() == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("ending", FORMATS)
def test_what_no_format_holds_is_refused_in_one_line(tmp_path, ending):
    for values, word in (
        (np.array([1 + 2j]), "complex numbers"),
        (np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]), "records"),
        (np.array([1], dtype=np.longdouble) / 3, "more than 64 bits"),
        (np.array([{"a": 1}], dtype=object), "objects"),
    ):
        with pytest.raises(InputError, match=f"column 'x' holds .*{word}"):
            write_table(Table({"x": values}), tmp_path / f"t.{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["ecsv", "vot", "csv", "fits", "parquet", "h5"])
def test_text_with_control_characters_can_be_read_back(tmp_path, ending):
    table = Table({"x": ["a\x1b[31m\x00b", "c\ud800"], "y": [1, 2]})
    if ending in ("parquet", "h5", "fits"):  # which hold any text but halves of characters
        table["x"] = ["a\x1b[31mb", "c"]
    write_table(table, tmp_path / f"t.{ending}")
    back = read_table(tmp_path / f"t.{ending}")
    assert back["y"].tolist() == [1, 2]
    if ending in ("ecsv", "vot", "csv"):
        assert back["x"].tolist() == ["a\\x1b[31m\\x00b", "c\\ud800"]


# --- what lies beside the columns that are wanted, and where they lie ----------------------------

BESIDE = {
    # Columns of Parquet, and what is kept of them; None where they hold arrays.
    "dictionary": (pa.array(["a", "b", None]).dictionary_encode(), ["a", "b", None]),
    "numbers in a dictionary": (pa.array([7, 8, None]).dictionary_encode(), [7, 8, None]),
    "date": (pa.array([date(2020, 2, 3), None, None]), ["2020-02-03", None, None]),
    "time": (pa.array([time(1, 2, 3), None, None]), ["01:02:03", None, None]),
    "binary": (pa.array([b"a", b"\xe9", None]), ["a", "\\xe9", None]),
    "binary view": (pa.array([b"a", b"b", None], pa.binary_view()), ["a", "b", None]),
    "null": (pa.nulls(3), [None] * 3),
    "string view": (pa.array(["a", "b", None], pa.string_view()), ["a", "b", None]),
    "large string": (pa.array(["a", "b", None], pa.large_string()), ["a", "b", None]),
    "decimal": (pa.array([Decimal("1.10"), None, None]), ["1.10", None, None]),
    "half": (pa.array(np.array([1, 2, 0.5], "f2")), [1.0, 2.0, 0.5]),
    "struct": (pa.array([{"a": 1, "b": [1]}] * 3), None),
    "ragged": (pa.array([[1], [1, 2], None]), None),
    "large list": (pa.array([[1.0], [1.0, 2], None], pa.large_list(pa.float64())), None),
    "fixed list": (pa.array([[1.0, 2]] * 3, pa.list_(pa.float64(), 2)), None),
    "map": (pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())), None),
}
IDS = 4 * 10**18 + np.arange(3)
PLACES = {"ra": [10.0, 20.0, 30.0], "dec": [1.0, 2.0, 3.0], "z": [0.1, 0.2, 0.3]}


@pytest.mark.parametrize("case", BESIDE)
def test_parquet_is_read_whatever_lies_beside(tmp_path, case):
    column, expected = BESIDE[case]
    made = make_spectra(3, errors=False)
    bands = {f"{b}_coefficients": list(getattr(made, b).coefficients) for b in ("bp", "rp")}
    table = pa.table({"source_id": IDS, **bands, **PLACES, "x": column})
    parquet.write_table(table, tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        assert predict_table(source, model=FakeModel(), keep="z")["z"].tolist() == PLACES["z"]
        found = predict_table(source, model=FakeModel(), keep="all")
        assert (to_cells(found["x"]) if "x" in found.colnames else None) == expected
        assert match({"ra": [20.0], "dec": [2.0]}, source) == [0.2]
    assert read_ids(tmp_path / "a.parquet")["source_id"].tolist() == IDS.tolist()
    assert read_table(tmp_path / "a.parquet")["z"].tolist() == PLACES["z"]


def fill_group(group, *more):
    for name, values in (*{"source_id": IDS, **PLACES}.items(), *more):
        group[name] = values


def write_hdf5(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)


def write_records(file):
    names = ["source_id", *PLACES]
    file["t"] = np.rec.fromarrays([IDS, *map(np.array, PLACES.values())], names=names)


def write_frame(path):
    frame = pa.table({"source_id": IDS, **PLACES}).to_pandas()
    pytest.importorskip("tables")
    frame.to_hdf(path, key="k")


def write_fits(path, *before):
    table = fits.BinTableHDU(Table({"source_id": IDS, **PLACES}))
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 3))), *before, table]).writeto(path, overwrite=True)


def write_votable(path, fields="", cells="", scalar=""):
    types = {"source_id": "long", "ra": "double", "dec": "double", "z": "double"}
    columns = "".join(f'<FIELD name="{n}" datatype="{t}" {scalar}/>' for n, t in types.items())
    rows = "".join(
        f"<TR>{''.join(f'<TD>{value}</TD>' for value in row)}{cells}</TR>"
        for row in zip(IDS, *PLACES.values(), strict=True)
    )
    path.write_text(
        f'<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE><TABLE>{columns}{fields}'
        f"<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    )


def write_fits_inside(path):
    write_fits(path)
    stream = base64.encodebytes(path.read_bytes()).decode()
    path.write_text(
        '<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE><TABLE><DATA><FITS>'
        f'<STREAM encoding="base64">{stream}</STREAM></FITS></DATA></TABLE></RESOURCE></VOTABLE>'
    )


def fill_with_oddities(file):
    fill_group(file.create_group("g"), ("n", np.array([b"\xe9", b"b", b"c"])))
    file["g"]["other"] = np.zeros(7)
    file["g"].create_dataset("ragged", (3,), h5py.vlen_dtype("f8"))
    file["g"]["nothing"] = h5py.Empty("f8")
    file["image"], file["words"] = np.zeros((5, 5)), "hello"


CATALOGUES = {
    "group.h5": lambda path: write_hdf5(path, lambda f: fill_group(f.create_group("a/b"))),
    "odd.h5": lambda path: write_hdf5(path, fill_with_oddities),
    "records.h5": lambda path: write_hdf5(path, write_records),
    "frame.h5": write_frame,
    "second.fits": lambda path: write_fits(path, fits.BinTableHDU(Table({"a": [1, 2]}))),
    "31x9.vot": lambda path: write_votable(
        path, '<FIELD name="c" datatype="char" arraysize="31x9"/>', f"<TD>{'c' * 279}</TD>"
    ),
    "ones.vot": lambda path: write_votable(path, scalar='arraysize="1"'),
    "twice.vot": lambda path: write_votable(
        path, '<FIELD name="source_id" datatype="long"/>', "<TD>7</TD>"
    ),
    "inside.vot": write_fits_inside,
}


@pytest.mark.parametrize("name", CATALOGUES)
def test_ids_and_places_are_found_wherever_they_lie(tmp_path, name):
    CATALOGUES[name](tmp_path / name)
    assert read_ids(tmp_path / name)["source_id"].tolist() == IDS.tolist()
    assert read_table(tmp_path / name)["source_id"].tolist() == IDS.tolist()
    assert match({"ra": [20.0], "dec": [2.0]}, tmp_path / name) == [0.2]
    assert match(tmp_path / name, PLACES) == PLACES["z"]


def test_times_and_places_are_kept_as_they_are_written():
    made = make_spectra(2, errors=False)
    table = Table({"source_id": made.source_id})
    table["bp_coefficients"], table["rp_coefficients"] = made.bp.coefficients, made.rp.coefficients
    table["when"] = Time([2020.0, 2021.5], format="jyear")
    table["where"] = SkyCoord([10.0, 20.0], [1.0, 2.0], unit="deg")
    found = predict_table(table, model=FakeModel(), keep="all")
    assert found["when"].tolist() == table["when"].isot.tolist()
    assert found["where_ra"].tolist() == pytest.approx([10.0, 20.0])
    assert found["where_dec"].tolist() == pytest.approx([1.0, 2.0])
    assert match(
        {"ra": [20.0], "dec": [2.0]}, Table({**PLACES, "t": Time([2020.0] * 3, format="jyear")})
    )
