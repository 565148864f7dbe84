"""Every accepted input gives the same spectra; a damaged one gives one clear error or a flag."""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import importlib.util
import struct
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table

from gaia_redshift import simulate_spectra
from gaia_redshift.errors import InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.readers import flag_duplicates, iter_spectra, read_spectra
from gaia_redshift.spectra import BandSpectra, FluxVectors, XPSpectra
from gaia_redshift.writers import write_spectra

SHARED = Path(__file__).parents[2] / "shared" / "data"
EXAMPLES = SHARED / "gaiaxpy_examples"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared real data")

ASTROQUERY = importlib.util.find_spec("astroquery")
ZIPS = sorted(
    (Path(ASTROQUERY.origin).parent / "gaia" / "tests" / "data").glob("*dl_products*.zip")
    if ASTROQUERY and ASTROQUERY.origin
    else []
)
N = 4
K = 5
FIRST_ID = 5937083312263887617  # odd and beyond 2**53: a float would lose it


def make_band(seed: int, basis_id: int, n: int = N, k: int = K) -> BandSpectra:
    rng = np.random.default_rng(seed)
    return BandSpectra(
        rng.normal(0, 10.0 ** rng.integers(-8, 5, (n, k))),
        rng.uniform(0.1, 2, (n, k)).astype(np.float32),
        rng.uniform(-1, 1, (n, k * (k - 1) // 2)).astype(np.float32),
        basis_id=np.full(n, basis_id),
    )


@pytest.fixture
def spectra() -> XPSpectra:
    return XPSpectra(FIRST_ID + 2 * np.arange(N), make_band(1, 56), make_band(2, 57))


def to_columns(spectra: XPSpectra) -> dict[str, np.ndarray]:
    """The archive's columns, as plain arrays."""
    columns = {"source_id": spectra.source_id}
    for name in ("bp", "rp"):
        band = getattr(spectra, name)
        columns[f"{name}_basis_function_id"] = band.basis_id
        columns[f"{name}_n_parameters"] = band.n_coefficients
        columns[f"{name}_coefficients"] = band.coefficients
        columns[f"{name}_coefficient_errors"] = band.errors
        columns[f"{name}_coefficient_correlations"] = band.correlations
    return columns


def to_rows(spectra: XPSpectra, brackets: str = "()", between: str = ", ") -> pd.DataFrame:
    """The archive's columns with arrays as text."""
    return pd.DataFrame(
        {
            name: values
            if values.ndim == 1
            else [brackets[0] + between.join(map(str, row)) + brackets[1] for row in values]
            for name, values in to_columns(spectra).items()
        }
    )


def to_scalars(
    spectra: XPSpectra, coefficient: str, error: str, first: int
) -> dict[str, np.ndarray]:
    columns = {"source_id": spectra.source_id}
    for name in ("bp", "rp"):
        band = getattr(spectra, name)
        for i in range(K):
            columns[coefficient.format(b=name, i=i + first)] = band.coefficients[:, i]
            columns[error.format(b=name, i=i + first)] = band.errors[:, i]
    return columns


def assert_same(found: XPSpectra, wanted: XPSpectra, *, correlations: bool = True) -> None:
    assert found.source_id.dtype == np.int64
    np.testing.assert_array_equal(found.source_id, wanted.source_id)
    for name in ("bp", "rp"):
        f, w = getattr(found, name), getattr(wanted, name)
        np.testing.assert_array_equal(f.coefficients, w.coefficients)
        np.testing.assert_array_equal(np.float32(f.errors), w.errors)
        if correlations:
            np.testing.assert_array_equal(np.float32(f.correlations), w.correlations)
        else:
            assert f.correlations is None
        np.testing.assert_array_equal(f.n_coefficients, w.n_coefficients)


# ---------------------------------------------------------------- files, made by other writers


def write_fixed_fits(spectra, path):
    Table(to_columns(spectra)).write(path.with_suffix(".fits"))


def write_upper_case_fits(spectra, path):
    table = Table({k.upper(): v for k, v in to_columns(spectra).items()})
    table.write(path.with_suffix(".fits"))


def write_variable_fits(spectra, path):
    columns = []
    for name, values in to_columns(spectra).items():
        if values.ndim == 1:
            columns.append(fits.Column(name, "K", array=values))
        else:
            code = {"float64": "PD()", "float32": "PE()"}[values.dtype.name]
            columns.append(fits.Column(name, code, array=np.array([*values, None], object)[:-1]))
    fits.BinTableHDU.from_columns(columns).writeto(path.with_suffix(".fits"))


def write_tabledata(spectra, path):
    Table(to_columns(spectra)).write(path.with_suffix(".vot"), format="votable")


def write_binary(spectra, path):
    table = Table(to_columns(spectra))
    table.write(path.with_suffix(".xml"), format="votable", tabledata_format="binary")


def write_ecsv_with_blanks(spectra, path):
    Table(to_columns(spectra)).write(path.with_suffix(".ecsv"), format="ascii.ecsv")


def write_csv(spectra, path):
    to_rows(spectra).to_csv(path.with_suffix(".csv"), index=False)


def write_csv_brackets(spectra, path):
    to_rows(spectra, "[]", ",").to_csv(path.with_suffix(".csv"), index=False)


def write_csv_of_numpy(spectra, path):
    """Arrays as NumPy prints them, over several lines: what DataFrame.to_csv does to them."""
    frame = to_rows(spectra, "[]", "\n  ")
    frame.to_csv(path.with_suffix(".csv"), index=False)


def write_csv_crlf_and_blank_lines(spectra, path):
    text = to_rows(spectra).to_csv(index=False).replace("\n", "\r\n")
    head, rest = text.split("\r\n", 1)
    path.with_suffix(".csv").write_bytes(b"\xef\xbb\xbf" + f"{head}\r\n\r\n{rest}\r\n".encode())


def write_tab_separated(spectra, path):
    to_rows(spectra).to_csv(path.with_suffix(".txt"), index=False, sep="\t")


def write_gzip_without_name(spectra, path):
    path.with_suffix(".csv").write_bytes(
        gzip.compress(to_rows(spectra).to_csv(index=False).encode())
    )


def write_pandas_parquet(spectra, path):
    frame = pd.DataFrame({k: list(v) for k, v in to_columns(spectra).items()})
    frame.columns = frame.columns.str.upper()
    frame.to_parquet(path.with_suffix(".parquet"))


def write_astropy_hdf5(spectra, path):
    Table(to_columns(spectra)).write(path.with_suffix(".h5"), path="spectra", serialize_meta=True)


def write_hdf5_group(spectra, path):
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for name, values in to_columns(spectra).items():
            file[f"deep/inside/{name}"] = values


OTHER_WRITERS = [value for name, value in list(globals().items()) if name.startswith("write_")][1:]


@pytest.mark.parametrize("write", OTHER_WRITERS, ids=lambda f: f.__name__[6:])
def test_files_of_other_writers(spectra, tmp_path, write):
    write(spectra, tmp_path / "file")
    (path,) = tmp_path.iterdir()
    found = read_spectra(path)
    assert_same(found, spectra)
    assert not found.flags.any()
    assert found.release == "DR3"
    assert found.meta["inputs"] == [str(path)]


OWN = ["csv", "csv.gz", "ecsv", "fits", "fits.gz", "xml", "vot.gz", "parquet", "h5"]


@pytest.mark.parametrize("extension", OWN)
def test_a_wrong_name_does_not_matter(spectra, tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    write_spectra(spectra, path)
    assert_same(read_spectra(path.rename(tmp_path / "spectra")), spectra)


@pytest.mark.parametrize("extension", OWN)
def test_less_can_be_asked_for(spectra, tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    write_spectra(spectra, path)
    assert_same(read_spectra(path, correlations=False), spectra, correlations=False)
    bare = read_spectra(str(path), errors=False)
    assert bare.bp.errors is None
    assert bare.rp.correlations is None
    assert not bare.flags.any()


@pytest.mark.parametrize(
    ("coefficient", "error", "first"),
    [
        ("{b}_coeff_{i}", "e_{b}_coeff_{i}", 0),
        ("{b}_coeff_{i}", "e_{b}_coeff_{i}", 1),
        ("{b}_coefficients_{i}", "{b}_coefficient_errors_{i}", 1),
        ("{b}_coefficient_{i}", "{b}_coefficient_error_{i}", 0),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "fits", "hdf5", "parquet", "frame"])
def test_scalar_columns(spectra, tmp_path, coefficient, error, first, kind):
    columns = to_scalars(spectra, coefficient, error, first)
    source = path = tmp_path / f"a.{kind}"
    if kind == "csv":
        pd.DataFrame(columns).to_csv(path, index=False)
    elif kind == "parquet":
        pd.DataFrame(columns).to_parquet(path)
    elif kind == "frame":
        source = pd.DataFrame(columns)
    else:
        Table(columns).write(path, **({"path": "t"} if kind == "hdf5" else {}))
    found = read_spectra(source)
    assert_same(found, spectra, correlations=False)
    assert found.release is None


def test_pandas_fixed_hdf5(spectra, tmp_path):
    pytest.importorskip("tables")
    numbers = to_scalars(spectra, "{b}_coeff_{i}", "e_{b}_coeff_{i}", 0)
    pd.DataFrame(numbers).to_hdf(tmp_path / "a.h5", key="spectra")
    assert_same(read_spectra(tmp_path / "a.h5"), spectra, correlations=False)


# ---------------------------------------------------------------- tables in memory


def to_matrices(spectra):
    """GaiaXPy's form: correlations as symmetric matrices."""
    frame = pd.DataFrame({k: list(v) for k, v in to_columns(spectra).items()})
    for name in ("bp", "rp"):
        matrices = []
        for triangle in getattr(spectra, name).correlations:
            matrix = np.eye(K)
            for number, (j, i) in enumerate(zip(*np.tril_indices(K, -1), strict=True)):
                matrix[i, j] = matrix[j, i] = triangle[number]
            matrices.append(matrix)
        frame[f"{name}_coefficient_correlations"] = matrices
    return frame


MEMORY = {
    "dictionary": to_columns,
    "dictionary of lists": lambda s: {k: v.tolist() for k, v in to_columns(s).items()},
    "table": lambda s: Table(to_columns(s)),
    "masked table": lambda s: Table(to_columns(s), masked=True),
    "qtable": lambda s: QTable(
        {k: v * u.electron / u.s if v.ndim == 2 else v for k, v in to_columns(s).items()}
    ),
    "frame of arrays": lambda s: pd.DataFrame({k: list(v) for k, v in to_columns(s).items()}),
    "frame of text": to_rows,
    "frame of bracket text": lambda s: to_rows(s, "[]", ","),
    "frame of matrices": to_matrices,
    "frame of nullable types": lambda s: to_rows(s).convert_dtypes(),
    "frame of arrow types": lambda s: to_rows(s).convert_dtypes(dtype_backend="pyarrow"),
    "frame with source_id as index": lambda s: to_rows(s).set_index("source_id"),
    "frame with ids as text": lambda s: to_rows(s).astype({"source_id": str}),
    "arrow table": lambda s: pa.table({k: pa.array(list(v)) for k, v in to_columns(s).items()}),
    "structured array": lambda s: Table(to_columns(s)).as_array(),
    "spectra": lambda s: s,
    "list": lambda s: [Table(to_columns(s[:1])), to_rows(s[1:3]), s[3:]],
    "camel case": lambda s: to_rows(s).rename(columns={"source_id": "sourceId"}),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_tables_in_memory(spectra, kind):
    found = read_spectra(MEMORY[kind](spectra))
    assert_same(found, spectra)
    assert not found.flags.any()


def test_spectra_come_back_as_they_are(spectra):
    assert read_spectra(spectra) is spectra


def test_one_source_as_plain_arrays(spectra):
    one = {name: values[2] for name, values in to_columns(spectra).items()}
    assert_same(read_spectra(one), spectra[2:3])


def test_input_is_not_changed_or_shared(spectra):
    columns = to_columns(spectra)
    columns["bp_coefficient_errors"] = columns["bp_coefficient_errors"].copy()
    columns["bp_coefficient_errors"][0, 0] = -1
    before = {name: values.copy() for name, values in columns.items()}
    found = read_spectra(columns)
    found.bp.coefficients[:] = 0
    for name, values in before.items():
        np.testing.assert_array_equal(columns[name], values)


def test_arrow_tables_are_not_changed_or_shared(spectra, tmp_path):
    write_spectra(spectra, tmp_path / "a.parquet")
    table = pa.parquet.read_table(tmp_path / "a.parquet")
    correlations = table["bp_coefficient_correlations"].chunk(0).values
    memory = np.frombuffer(correlations.buffers()[1], np.float32)
    memory[0] = 2  # no correlation
    found = read_spectra(table)
    assert memory[0] == 2
    assert np.isnan(found.bp.correlations[0]).all()
    before = found.bp.correlations[1:].copy()
    memory[:] = 0
    np.testing.assert_array_equal(found.bp.correlations[1:], before)


# ---------------------------------------------------------------- text


def test_text_is_read_as_float_reads_it(tmp_path):
    rng = np.random.default_rng(5)
    words = [
        f"{x:.{d}g}" for x, d in zip(rng.normal(size=200), rng.integers(1, 26, 200), strict=True)
    ]
    words += ["1E-4", "-4.4715125E-4", "+7", "1e400", "5e-324", "2.2250738585072011e-308", "-0.0"]
    array = "(" + ", ".join(words[:110]) + ")"
    path = tmp_path / "a.csv"
    path.write_text(f'source_id,bp_coefficients,rp_coefficients\n7,"{array}","[{words[-7]}, 1]"\n')
    found = read_spectra(path)
    assert found.bp.coefficients[0].tolist() == [float(word) for word in words[:110]]
    path.write_text(f'source_id,bp_coefficients,rp_coefficients\n7,"({",".join(words[110:])})",\n')
    assert read_spectra(path).bp.coefficients[0].tolist() == [float(w) for w in words[110:]]


ROW_TROUBLE = {
    "": ("MISSING_BP", 0),
    "nan": ("MISSING_BP", 0),
    "null": ("MISSING_BP", 0),
    "()": ("MISSING_BP", 0),
    "[ ]": ("MISSING_BP", 0),
    "(nan, NaN, null, nan, nan)": ("MISSING_BP", 0),
    "(1, 2, nan, 4, 5)": ("NON_FINITE_FLUX", 5),
    "(1, 2, null, 4, 5)": ("NON_FINITE_FLUX", 5),
    "(1, 2, inf, 4, 5)": ("NON_FINITE_FLUX", 5),
    "(1, 2, 3, 4)": ("BAD_COEFFICIENT_COUNT", 4),
    "(1, 2, 3, 4, 5, 6)": ("BAD_COEFFICIENT_COUNT", 6),
    "(1, 2, 3.3.3, 4, 5)": ("BAD_COEFFICIENT_COUNT", 2),
    "(1, 2, 3, 4, 5": ("BAD_COEFFICIENT_COUNT", 5),
    "(1, 2), (4, 5, 6)": ("BAD_COEFFICIENT_COUNT", 1),
    "hello": ("BAD_COEFFICIENT_COUNT", 0),
    "(" + "1, " * 500 + "1)": ("BAD_COEFFICIENT_COUNT", 128),
}


@pytest.mark.parametrize("cell", ROW_TROUBLE)
@pytest.mark.parametrize("kind", ["csv", "frame"])
def test_trouble_in_one_row_is_a_flag_there(spectra, tmp_path, cell, kind):
    frame = to_rows(spectra)
    frame.loc[1, "bp_coefficients"] = cell
    if kind == "csv":
        frame.to_csv(tmp_path / "a.csv", index=False)
    found = read_spectra(tmp_path / "a.csv" if kind == "csv" else frame)
    name, count = ROW_TROUBLE[cell]
    assert found.flags[1] & QualityFlag[name]
    assert found.bp.n_coefficients.tolist() == [K, count, K, K]
    assert not found.flags[[0, 2, 3]].any()
    others = [0, 2, 3]
    np.testing.assert_array_equal(
        found.bp.coefficients[others, :K], spectra.bp.coefficients[others]
    )
    np.testing.assert_array_equal(found.rp.coefficients, spectra.rp.coefficients)


@pytest.mark.parametrize(
    ("column", "cell", "flag"),
    [
        ("errors", "(1, 1, -1, 1, 1)", "BAD_FLUX_ERROR"),
        ("errors", "(1, 1, nan, 1, 1)", "BAD_FLUX_ERROR"),
        ("errors", "(1, 1, 1, 1)", "BAD_FLUX_ERROR"),
        ("errors", "(1, 1, 1, 1, 1, 1)", "BAD_FLUX_ERROR"),
        ("errors", "(1, 1, x, 1, 1)", "BAD_FLUX_ERROR"),
        ("errors", "", "NO_FLUX_ERROR"),
        ("correlations", "(0, 0, 0, 0, 0, 0, 0, 0, 0)", "BAD_FLUX_ERROR"),
        ("correlations", "(0, 0, 0, 0, 1.1, 0, 0, 0, 0, 0)", "BAD_FLUX_ERROR"),
        ("correlations", "(0, 0, 0, 0, nan, 0, 0, 0, 0, 0)", "BAD_FLUX_ERROR"),
    ],
)
def test_bad_errors_are_flagged_and_dropped(spectra, column, cell, flag):
    frame = to_rows(spectra)
    frame.loc[2, f"rp_coefficient_{column}"] = cell
    found = read_spectra(frame)
    assert found.flags.tolist() == [0, 0, QualityFlag[flag], 0]
    assert np.isnan(found.rp.errors[2]).all()
    np.testing.assert_array_equal(found.rp.coefficients, spectra.rp.coefficients)
    good = [0, 1, 3]
    np.testing.assert_array_equal(np.float32(found.rp.errors[good]), spectra.rp.errors[good])
    np.testing.assert_array_equal(found.rp.correlations[good], spectra.rp.correlations[good])


def test_absent_correlations_are_no_trouble_here(spectra):
    frame = to_rows(spectra)
    frame.loc[1, "bp_coefficient_correlations"] = None
    found = read_spectra(frame)
    assert not found.flags.any()
    assert np.isnan(found.bp.correlations[1]).all()
    assert np.isfinite(found.bp.errors).all()


@pytest.mark.parametrize("absent", [None, np.nan, np.ma.masked, np.full(K, np.nan), np.array([])])
def test_missing_band_in_object_columns(spectra, absent):
    columns = to_columns(spectra)
    cells = np.empty(N, dtype=object)
    cells[:] = list(columns["rp_coefficients"])
    cells[3] = absent
    found = read_spectra({**columns, "rp_coefficients": cells})
    assert found.flags.tolist() == [0, 0, 0, QualityFlag.MISSING_RP]
    assert found.rp.n_coefficients.tolist() == [K, K, K, 0]


def test_masked_rows_are_missing_bands(spectra):
    table = Table(to_columns(spectra), masked=True)
    table["bp_coefficients"].mask[2] = True
    assert read_spectra(table).flags.tolist() == [0, 0, QualityFlag.MISSING_BP, 0]


def test_only_one_band_given(spectra):
    columns = {k: v for k, v in to_columns(spectra).items() if not k.startswith("bp")}
    found = read_spectra(columns)
    assert (found.flags == QualityFlag.MISSING_BP).all()
    np.testing.assert_array_equal(found.rp.coefficients, spectra.rp.coefficients)


def test_stated_number_of_parameters_decides_about_padding(spectra):
    columns = to_columns(spectra)
    columns["bp_coefficients"] = columns["bp_coefficients"].copy()
    columns["bp_coefficients"][1, 3:] = np.nan
    columns["bp_n_parameters"] = np.array([5, 3, 4, 5])
    found = read_spectra(columns, errors=False)
    assert found.bp.n_coefficients.tolist() == [5, 3, 5, 5]
    assert found.flags.tolist() == [0, 0, QualityFlag.BAD_COEFFICIENT_COUNT, 0]


def test_duplicates_over_the_whole_input(spectra, tmp_path):
    write_spectra(spectra, tmp_path / "a.csv")
    found = read_spectra([tmp_path / "a.csv", spectra[1:2]])
    repeated = (found.flags & QualityFlag.DUPLICATE_SOURCE_ID) != 0
    assert repeated.tolist() == [False, True, False, False, True]
    assert flag_duplicates(np.array([], dtype=np.int64)).tolist() == []
    twice = replace(spectra, source_id=np.array([1, 2, 2, 3]))
    assert (read_spectra(twice).flags != 0).tolist() == [False, True, True, False]
    assert not twice.flags.any()


# ---------------------------------------------------------------- source_id


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, None, 3, 4], "row 2: no source_id"),
        (["1", "2", "", "4"], "row 3: no source_id"),
        (["1", "2", "x7", "4"], "row 3: 'x7' is no source_id"),
        (["1", "2", "3", "5.9e18"], "row 4: '5.9e18' is no source_id"),
        (["1", "2", "3", "99999999999999999999"], "row 4: '99999999999999999999' is no source_id"),
        (np.array([1.0, 2.0, 3.0, 5937083312263887617]), "lost its last digits"),
        (np.array([1, 2, np.nan, 3]), "row 3: no source_id"),
        (np.array([1, 2.5, 3, 4]), "row 2: 2.5 is no source_id"),
        (MaskedColumn([1, 2, 3, 4], mask=[0, 1, 0, 0]), "row 2: no source_id"),
        (np.array([1, 2, 3, 2**63 + 1], dtype=np.uint64), "row 4: .* is no source_id"),
    ],
)
def test_bad_source_ids(spectra, ids, message):
    with pytest.raises(InputError, match=message):
        read_spectra({**to_columns(spectra), "source_id": ids})


def test_blank_source_id_in_csv(spectra, tmp_path):
    frame = to_rows(spectra).astype({"source_id": object})
    frame.loc[2, "source_id"] = ""
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"a\.csv, row 3: no source_id"):
        read_spectra(tmp_path / "a.csv")


def test_small_whole_floats_are_ids(spectra):
    found = read_spectra({**to_columns(spectra), "source_id": np.array([1027.0, 2, 3, 4])})
    assert found.source_id.tolist() == [1027, 2, 3, 4]


# ---------------------------------------------------------------- other columns


@pytest.fixture
def with_columns(spectra) -> XPSpectra:
    table = Table(
        {
            "redshift_true": [0.1, 0.2, np.nan, 0.4],
            "name": ["a", "b, c", 'say "hi"', "d"],
            "objid": np.array([1237651250450432001, 2, 3, 4]),
            "good": [True, False, True, True],
            "count": MaskedColumn([1, 2, 3, 4], mask=[0, 0, 1, 0], dtype=np.int32),
            "mag": np.array([17.1, 18.2, 19.3, 20.4], dtype=np.float32) * u.mag,
        }
    )
    table["mag"].description = "G magnitude"
    return replace(spectra, columns=table)


@pytest.mark.parametrize("extension", [*OWN, "memory"])
def test_kept_columns(with_columns, tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    if extension == "memory":
        path = Table({**to_columns(with_columns), **dict(with_columns.columns.items())})
    else:
        write_spectra(with_columns, path)
    assert read_spectra(path).columns is None
    kept = read_spectra(path, keep="all").columns
    assert kept.colnames == with_columns.columns.colnames
    for name in kept.colnames:
        wanted, found = with_columns.columns[name], kept[name]
        assert found.dtype.kind == wanted.dtype.kind, name
        np.testing.assert_array_equal(
            np.ma.getmaskarray(np.ma.asarray(found)), np.ma.getmaskarray(np.ma.asarray(wanted))
        )
        if name == "mag":
            np.testing.assert_array_equal(np.float32(found), wanted)
        else:
            np.testing.assert_array_equal(np.ma.filled(found, 0), np.ma.filled(wanted, 0))
    if "csv" not in extension or extension == "ecsv":
        assert kept["mag"].unit == u.mag
        assert kept["mag"].description == "G magnitude"
    chosen = read_spectra(path, keep=["OBJID", "source_id"]).columns
    assert chosen.colnames == ["OBJID"]
    assert chosen["OBJID"][0] == 1237651250450432001
    with pytest.raises(InputError, match=r"no column 'z' to keep; there are: source_id, .*bp_"):
        read_spectra(path, keep=["z"])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64])
def test_csv_reads_the_same_wherever_its_pieces_end(tmp_path, monkeypatch, size):
    path = tmp_path / "spectra.csv"
    note = '"a ""word"", and\na second line"'
    lines = [f'{number},"(1,{number})","(2,3)",{note}' for number in range(1, 6)]
    path.write_text("source_id,bp_coefficients,rp_coefficients,note\n" + "\n".join(lines))
    monkeypatch.setattr("gaia_redshift.readers.content.CHUNK", size)
    found = read_spectra(path, keep="note")
    assert found.source_id.tolist() == [1, 2, 3, 4, 5]
    assert found.bp.coefficients.tolist() == [[1.0, number] for number in range(1, 6)]
    assert found.columns["note"].tolist() == ['a "word", and\na second line'] * 5


def test_kept_columns_of_csv_widen(tmp_path):
    """A column may look whole at first and not later, also across blocks and files."""
    head = "source_id,bp_coefficients,rp_coefficients,a,b,c,d\n"
    row = '{i},"(1, 2)","(1, 2)",{a},{b},{c},\n'
    late = [(1, 1, "x") if i < 5000 else ("", 1.5, "y") for i in range(5001)]
    lines = [row.format(i=i + 1, a=a, b=b, c=c) for i, (a, b, c) in enumerate(late)]
    (tmp_path / "1.csv").write_text(head + "".join(lines))
    (tmp_path / "2.csv").write_text(head + row.format(i=9000, a="text", b=7, c=3))
    kept = read_spectra([tmp_path / "1.csv", tmp_path / "2.csv"], keep="all").columns
    assert kept["a"][0] == "1"
    assert kept["a"].mask[5000]
    assert kept["a"][5001] == "text"
    assert kept["b"].tolist()[-2:] == [1.5, 7]
    assert kept["c"].tolist()[-2:] == ["y", "3"]
    with pytest.raises(InputError, match="'bp_coefficients' holds arrays"):
        read_spectra(tmp_path / "1.csv", keep=["bp_coefficients"])


# ---------------------------------------------------------------- blocks, folders, zips


@pytest.mark.parametrize("extension", ["csv.gz", "parquet", "fits", "h5"])
def test_blocks_in_order(tmp_path, extension):
    n = 2500
    many = XPSpectra(np.arange(1, n + 1), make_band(3, 56, n), make_band(4, 57, n))
    write_spectra(many, tmp_path / f"a.{extension}")
    blocks = list(iter_spectra([tmp_path / f"a.{extension}", many[:10]], block_size=600))
    assert [len(block) for block in blocks] == [600, 600, 600, 600, 110]
    assert_same(XPSpectra.concatenate(blocks), XPSpectra.concatenate([many, many[:10]]))


def test_blocks_come_before_the_end_is_read(tmp_path, spectra):
    """Streaming: damage at the end does not keep the first block from coming."""
    text = to_rows(spectra).to_csv(index=False)
    rows = text.split("\n", 1)[1]
    (tmp_path / "a.csv").write_text(text + rows * 1000 + "1,2")
    blocks = iter_spectra(tmp_path / "a.csv", block_size=10)
    assert len(next(blocks)) == 10
    with pytest.raises(InputError, match=r"a\.csv, row 4005: 2 fields, the header has 11"):
        list(blocks)
    with pytest.raises(InputError, match="block_size is 0"):
        iter_spectra(spectra, block_size=0)


def test_folder_and_glob(spectra, tmp_path):
    for i, extension in enumerate(["csv", "fits", "parquet", "xml"]):
        write_spectra(spectra[i : i + 1], tmp_path / f"part{i}.{extension}")
    (tmp_path / "notes.md").write_text("nothing")
    found = read_spectra(tmp_path)
    assert_same(found, spectra)
    assert len(found.meta["inputs"]) == 4
    assert_same(read_spectra(f"{tmp_path}/part[0-1].*"), spectra[:2])


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def to_bytes(spectra, tmp_path, extension):
    path = tmp_path / f"member.{extension}"
    write_spectra(spectra, path, overwrite=True)
    return path.read_bytes()


@pytest.mark.parametrize("extension", ["csv", "ecsv", "fits", "xml"])
def test_zips_as_the_archive_sends_them(spectra, tmp_path, extension):
    raw = to_bytes(spectra, tmp_path, extension)
    path = make_zip(tmp_path / "raw.zip", {f"XP_CONTINUOUS_RAW.{extension}": raw})
    assert_same(read_spectra(path), spectra)
    path = make_zip(tmp_path / "gz.zip", {f"XP_CONTINUOUS_RAW.{extension}": gzip.compress(raw)})
    assert_same(read_spectra(path), spectra)

    members = {"XP_SAMPLED-Gaia DR3 1.csv": b"source_id,flux\n1,2\n", "RVS_RAW.csv": b"x"}
    for one in spectra.blocks(1):
        name = f"XP_CONTINUOUS-Gaia DR3 {one.source_id[0]}.{extension}"
        members[name] = to_bytes(one, tmp_path, extension)
    path = make_zip(tmp_path / "individual.zip", members)
    found = read_spectra(path)
    assert_same(found, spectra)
    assert found.meta["inputs"] == [str(path)]

    named = {f"MEAN_SPECTRUM_XP_RAW.{extension}": raw, "MEAN_SPECTRUM_XP_SAMPLED_RAW.csv": b"x"}
    assert_same(read_spectra(make_zip(tmp_path / "dr4.zip", named)), spectra)
    assert_same(read_spectra(make_zip(tmp_path / "own.zip", {f"mine.{extension}": raw})), spectra)


def test_combined_files_hold_several_tables(spectra, tmp_path):
    text = to_rows(spectra[:2]).to_csv(index=False) + to_rows(spectra[2:]).to_csv(index=False)
    (tmp_path / "a.csv").write_text(text)
    assert_same(read_spectra(tmp_path / "a.csv"), spectra)
    hdus = [fits.table_to_hdu(Table(to_columns(s))) for s in spectra.blocks(1)]
    other = fits.table_to_hdu(Table({"a": [1]}))
    fits.HDUList([fits.PrimaryHDU(), other, *hdus]).writeto(tmp_path / "a.fits")
    assert_same(read_spectra(tmp_path / "a.fits"), spectra)


@pytest.mark.parametrize("name", ["../evil.csv", "/etc/evil.csv", "a/../../b.csv", "C:\\x\\b.csv"])
def test_zip_with_a_path_outside_is_refused(spectra, tmp_path, name):
    members = {"XP_CONTINUOUS_RAW.csv": to_bytes(spectra, tmp_path, "csv"), name: b"x"}
    with pytest.raises(InputError, match="path outside the zip"):
        read_spectra(make_zip(tmp_path / "a.zip", members))


def test_zip_without_spectra(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"XP_SAMPLED-Gaia DR3 1.csv": b"source_id,flux\n1,2\n"})
    with pytest.raises(InputError, match=r"no continuous XP spectra .* it holds: XP_SAMPLED"):
        read_spectra(path)


# ---------------------------------------------------------------- damage and misuse


@pytest.mark.parametrize("extension", [*OWN, "zip", "avro"])
@pytest.mark.parametrize("share", [0.97, 0.5, 0.02])
def test_truncated_files(tmp_path, extension, share):
    n = 50
    spectra = XPSpectra(np.arange(1, n + 1), make_band(3, 56, n, 55), make_band(4, 57, n, 55))
    path = tmp_path / f"a.{extension}"
    if extension == "zip":
        make_zip(path, {"XP_CONTINUOUS_RAW.csv": to_bytes(spectra, tmp_path, "csv")})
    elif extension == "avro":
        write_avro(path, [make_record(i) for i in range(30)])
    else:
        write_spectra(spectra, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=f"a.{extension}") as caught:
        read_spectra(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extension", OWN)
def test_flipped_bytes_never_raise_anything_else(spectra, tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    write_spectra(spectra, path)
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    for _ in range(10):
        damaged = content.copy()
        for place in rng.integers(0, len(content), 20):
            damaged[place] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            assert len(read_spectra(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"<!DOCTYPE html><html><body>Error 500</body></html>", "HTML page"),
        (b"<foo/>", "XML but no VOTable"),
        (b'{"error": 1}', "looks like JSON"),
        (b"BZh91AY&SY", "bzip2"),
        (bytes(range(1, 200)) + b"\x00\x00", "no known kind"),
        (b"source_id,flux,flux_error\n1,2,3\n", "XP_SAMPLED"),
        (b"source_id,ra,dec\n1,2,3\n", "no BP/RP coefficient columns; found: source_id, ra, dec"),
        (b"id,bp_coefficients,rp_coefficients\n", "no source_id column; found: id, bp_coeff"),
        (b"source_id,bp_coefficients,rp_coefficients\n", "holds no sources"),
        (b'source_id,bp_coefficients,rp_coefficients\n1,"(1, 2', "row 1: ends inside a quoted"),
        (b'source_id,bp_coefficients,rp_coefficients\n1,"(1, 2)"\n', "row 1: 2 fields"),
        (b"source_id,bp_coeff_0,bp_coeff_2\n1,2,3\n", "lack number 1"),
        (b"source_id,bp_coeff_3,bp_coeff_4\n1,2,3\n", "lack number"),
    ],
)
def test_wrong_files(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_spectra(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extension", ["csv", "ecsv", "fits", "vot", "parquet", "h5"])
def test_table_without_rows(spectra, tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    empty = Table(to_columns(spectra))[:0]
    if extension == "csv":
        to_rows(spectra[:0]).to_csv(path, index=False)
    elif extension == "parquet":
        to_rows(spectra[:0]).to_parquet(path)
    else:
        options = {"vot": {"format": "votable"}, "h5": {"path": "t"}}.get(extension, {})
        empty.write(path, **options)
    with pytest.raises(InputError, match="holds no sources"):
        read_spectra(path)
    with pytest.raises(InputError, match="holds no sources"):
        read_spectra(empty)
    with pytest.raises(InputError, match="holds no sources"):
        read_spectra(spectra[:0])


def test_error_message_of_the_archive(tmp_path):
    (tmp_path / "a.vot").write_text(
        '<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE type="results">'
        '<INFO name="QUERY_STATUS" value="ERROR">no such table</INFO></RESOURCE></VOTABLE>'
    )
    with pytest.raises(InputError, match="error message of a server: no such table"):
        read_spectra(tmp_path / "a.vot")


def test_data_elsewhere_are_not_fetched(spectra, tmp_path):
    """A VOTable may name any address or file: reading it must not open that."""
    write_spectra(spectra, tmp_path / "a.vot")
    text = (tmp_path / "a.vot").read_text()
    start, end = text.index("<STREAM"), text.index("</STREAM>")
    linked = f'{text[:start]}<STREAM href="file:///etc/passwd">{text[end:]}'
    (tmp_path / "a.vot").write_text(linked)
    with pytest.raises(InputError, match="not fetched"):
        read_spectra(tmp_path / "a.vot")
    (tmp_path / "a.vot").write_text(
        text.replace("<VOTABLE", '<!DOCTYPE x [<!ENTITY y "z">]><VOTABLE')
    )
    with pytest.raises(InputError, match="entities"):
        read_spectra(tmp_path / "a.vot")


def test_pickled_objects_are_not_read(spectra, tmp_path):
    pytest.importorskip("tables")
    frame = to_rows(spectra).astype(object)
    with pytest.warns(pd.errors.PerformanceWarning):
        frame.to_hdf(tmp_path / "a.h5", key="t")
    with pytest.raises(InputError, match="pickled"):
        read_spectra(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([5937083312263887616, 1], "fetch_spectra fetches them"),
        (5937083312263887616, "fetch_spectra fetches them"),
        (np.array([1, 2]), "fetch_spectra fetches them"),
        (pd.Series([1, 2]), "fetch_spectra fetches them"),
        ("5937083312263887616", "fetch_spectra fetches them"),
        (
            "SELECT source_id FROM gaiadr3.gaia_source",
            "ADQL query: no spectra to read; fetch_spectra",
        ),
        ("  select top 5 *\nfrom x", "ADQL query: no spectra to read; fetch_spectra"),
        ("/nowhere/spectra.csv", "no such file: '/nowhere/spectra.csv'"),
        ("", "no such file: ''"),
        ("/nowhere/*.csv", "no file matches '/nowhere/"),
        ([], "no sources given"),
        (None, "NoneType cannot be read; give a file"),
        (3.5, "float cannot be read"),
        ([None], "NoneType cannot be read"),
        (iter([]), "no sources given"),
        (FluxVectors(np.array([1]), np.ones((1, 186))), "give them to predict_redshift"),
        ({"source_id": [1]}, "no BP/RP coefficient columns"),
        ({"source_id": [1, 2], "bp_coefficients": [[1.0, 2.0]]}, "has 1 rows, 'source_id' has 2"),
    ],
)
def test_wrong_sources(source, message):
    with pytest.raises(InputError, match=message):
        read_spectra(source)


def test_folder_without_spectra(tmp_path):
    with pytest.raises(InputError, match="no files of XP spectra in this folder"):
        read_spectra(tmp_path)


def test_reading_loads_nothing_heavy():
    code = (
        "import sys, gaia_redshift.readers, gaia_redshift.writers;"
        "print([m for m in ('pandas', 'pyarrow', 'h5py', 'fastavro', 'astropy.table',"
        " 'astropy.io.fits', 'gaiaxpy', 'tensorflow') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# ---------------------------------------------------------------- avro


def make_record(seed, *, covariance=True, missing=None):
    rng = np.random.default_rng(seed)
    record = {"sourceId": FIRST_ID + seed, "bpNumOfTransits": 7}
    for band, k in (("bp", 4), ("rp", 3)):
        factor = rng.normal(size=(k, k))
        matrix = factor @ factor.T + np.eye(k)
        solution = {
            "numberOfParameters": k,
            "parameters": rng.normal(size=k).tolist(),
            "covariance": [matrix[i, j] for j in range(k) for i in range(j + 1)]
            if covariance
            else None,
            "standardDeviation": 2.0,
        }
        spectrum = {"solution": solution, "basisFunctionSetDefId": 0}
        record[f"{band}Spec"] = None if missing == band else spectrum
    return record


def write_avro(path, records):
    import fastavro

    solution = {
        "type": "record",
        "name": "Solution",
        "fields": [
            {"name": "numberOfParameters", "type": "int"},
            {"name": "parameters", "type": ["null", {"type": "array", "items": "double"}]},
            {"name": "covariance", "type": ["null", {"type": "array", "items": "double"}]},
            {"name": "standardDeviation", "type": "double"},
        ],
    }
    spectrum = {
        "type": "record",
        "name": "Spectrum",
        "fields": [
            {"name": "solution", "type": ["null", solution]},
            {"name": "basisFunctionSetDefId", "type": "int"},
        ],
    }
    schema = {
        "type": "record",
        "name": "Source",
        "fields": [
            {"name": "sourceId", "type": "long"},
            {"name": "bpNumOfTransits", "type": "int"},
            {"name": "bpSpec", "type": ["null", spectrum]},
            {"name": "rpSpec", "type": ["null", "Spectrum"]},
        ],
    }
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, sync_interval=500)


def test_avro_covariances_become_errors_and_correlations(tmp_path):
    records = [
        make_record(0),
        make_record(1, covariance=False),
        make_record(2, missing="bp"),
    ]
    records[0]["rpSpec"]["solution"]["covariance"].pop()
    write_avro(tmp_path / "a.avro", records)
    found = read_spectra(tmp_path / "a.avro", keep="all")
    assert found.source_id.tolist() == [FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]
    assert found.flags.tolist() == [
        QualityFlag.BAD_FLUX_ERROR,
        QualityFlag.NO_FLUX_ERROR,
        QualityFlag.MISSING_BP,
    ]
    assert found.columns["bp_num_of_transits"].tolist() == [7, 7, 7]
    assert found.bp.basis_id.tolist() == [-1, -1, -1]  # 0 says nothing
    triangle = records[0]["bpSpec"]["solution"]["covariance"]
    matrix = np.zeros((4, 4))
    matrix[tuple(np.array([(i, j) for j in range(4) for i in range(j + 1)]).T)] = triangle
    np.testing.assert_allclose(found.bp.errors[0], 2 * np.sqrt(np.diag(matrix)), rtol=1e-14)
    # second column: one correlation, of coefficients 0 and 1
    expected = matrix[0, 1] / np.sqrt(matrix[0, 0] * matrix[1, 1])
    np.testing.assert_allclose(found.bp.correlations[0, 0], expected, rtol=1e-14)


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "null"},
        {"type": "fixed", "name": "F", "size": 0},
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": "null"}]},
    ],
)
def test_avro_lists_of_nothing_are_refused_before_they_take_memory(tmp_path, items):
    import fastavro

    lists = ["null", {"type": "array", "items": items}]
    fields = [{"name": "sourceId", "type": "long"}, {"name": "x", "type": lists}]
    schema = {"type": "record", "name": "Source", "fields": fields}
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, schema, [{"sourceId": 1, "x": None}])
    with pytest.raises(InputError, match=r"a\.avro: has lists of nothing"):
        read_spectra(tmp_path / "a.avro")


# ---------------------------------------------------------------- real files


@needs_shared
@pytest.mark.parametrize("stem", ["XP_CONTINUOUS_RAW", "XP_CONTINUOUS_RAW_with_missing_BP"])
def test_real_formats_agree(stem):
    names = [n for n in EXAMPLES.glob(f"{stem}*.*") if n.stem in (stem, f"{stem}_plain")]
    assert len(names) >= 4
    reference = read_spectra(EXAMPLES / f"{stem}.csv", keep="all")
    assert reference.release == "DR3"
    assert (reference.flags != 0).tolist() == (
        [False, True, False] if "BP" in stem else [False] * 2
    )
    for name in names:
        found = read_spectra(name, keep="all")
        np.testing.assert_array_equal(found.source_id, reference.source_id)
        np.testing.assert_array_equal(found.flags, reference.flags)
        for band in ("bp", "rp"):
            f, r = getattr(found, band), getattr(reference, band)
            np.testing.assert_array_equal(f.basis_id, r.basis_id)
            np.testing.assert_array_equal(f.n_coefficients, r.n_coefficients)
            np.testing.assert_array_equal(f.coefficients, r.coefficients)
            np.testing.assert_allclose(f.errors, r.errors, rtol=1e-7)
            np.testing.assert_array_equal(np.float32(f.correlations), r.correlations)
        assert found.columns.colnames == reference.columns.colnames
        assert found.columns["solution_id"].tolist() == reference.columns["solution_id"].tolist()
        if name.suffix != ".csv":
            assert found.columns["rp_chi_squared"].description


@needs_shared
def test_real_csv_by_an_independent_route():
    csv.field_size_limit(1 << 20)
    path = SHARED / "xp_continuous_616_dr3_sources.csv.gz"
    found = read_spectra(path, keep=["bp_chi_squared"])
    assert len(found) == 616
    assert not found.flags.any()
    with gzip.open(path, "rt") as file:
        for i, row in enumerate(csv.DictReader(file)):
            if i % 100:
                continue
            assert found.source_id[i] == int(row["source_id"])
            assert found.columns["bp_chi_squared"][i] == float(row["bp_chi_squared"])
            for band in ("bp", "rp"):
                b = getattr(found, band)
                for quantity, values in (
                    ("coefficients", b.coefficients),
                    ("coefficient_errors", b.errors),
                ):
                    text = row[f"{band}_{quantity}"]
                    assert values[i].tolist() == [float(x) for x in text[1:-1].split(",")]
                text = row[f"{band}_coefficient_correlations"]
                numbers = np.array([float(x) for x in text[1:-1].split(",")], dtype=np.float32)
                np.testing.assert_array_equal(b.correlations[i], numbers)


@needs_shared
def test_real_avro_agrees_with_csv_and_gaiaxpy():
    avro = read_spectra(EXAMPLES / "MeanSpectrumSolutionWithCov.avro")
    table = read_spectra(EXAMPLES / "XP_CONTINUOUS_RAW.csv")
    np.testing.assert_array_equal(avro.source_id, table.source_id)
    for band in ("bp", "rp"):
        a, t = getattr(avro, band), getattr(table, band)
        np.testing.assert_array_equal(a.coefficients, t.coefficients)
        np.testing.assert_allclose(a.errors, t.errors, rtol=1e-6)
        np.testing.assert_allclose(a.correlations, t.correlations, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(a.basis_id, t.basis_id)


@needs_shared
@pytest.mark.parametrize(
    ("name", "n", "counts"),
    [
        ("MeanSpectrumSolutionWithCov.avro", 2, (55, 55)),
        ("C04_regular_single_source.avro", 1, (48, 44)),
        ("sources_30.avro", 30, (51, 55)),
    ],
)
def test_real_avro_as_gaiaxpy_reads_it(name, n, counts):
    found = read_spectra(EXAMPLES / name)
    assert len(found) == n
    assert not found.flags.any()
    from gaia_redshift._quiet import quiet_gaiaxpy

    with quiet_gaiaxpy():
        from gaiaxpy.file_parser.parse_internal_continuous import InternalContinuousParser

        frame, _ = InternalContinuousParser().parse_file(str(EXAMPLES / name), disable_info=True)
    np.testing.assert_array_equal(found.source_id, frame["source_id"].to_numpy(dtype=np.int64))
    for band, k in zip(("bp", "rp"), counts, strict=True):
        b = getattr(found, band)
        assert (b.n_coefficients == k).all()
        np.testing.assert_array_equal(b.coefficients, np.stack(frame[f"{band}_coefficients"]))
        # GaiaXPy: flux error = sqrt(diag(D^T covariance D)) times the standard deviation
        scale = frame[f"{band}_standard_deviation"].to_numpy(dtype=float)[:, None, None]
        wanted = np.stack(frame[f"{band}_covariance_matrix"]) * scale**2
        i, j = np.triu_indices(k, 1)
        order = np.lexsort((i, j))
        ours = np.einsum("ni,nj->nij", b.errors, b.errors)
        np.testing.assert_allclose(
            np.einsum("nii->ni", ours), np.einsum("nii->ni", wanted), rtol=1e-12
        )
        np.testing.assert_allclose(
            b.correlations * ours[:, i[order], j[order]], wanted[:, i[order], j[order]], rtol=1e-10
        )


@needs_shared
@pytest.mark.parametrize("ending", ["csv", "ecsv", "fits", "xml", "votplain.xml"])
def test_the_archives_own_tables_of_other_products_are_told_from_damaged_ones(ending):
    """In its VOTables bits of arrays as long as they are take a byte each."""
    path = SHARED / "dr4_datalink_samples" / f"ea.{ending}"
    with pytest.raises(InputError, match="no BP/RP coefficient columns; found: source_id, obs_t"):
        read_spectra(path)


@needs_shared
def test_real_scalar_columns():
    path = SHARED / "xp_coefficients_2000_dr3_sources.fits"
    found = read_spectra(path, keep="all")
    assert len(found) == 2000
    assert found.bp.coefficients.shape == (2000, 55)
    assert found.bp.correlations is None
    data = fits.getdata(path)
    np.testing.assert_array_equal(found.source_id, data["source_id"])
    first = 0 if "bp_coeff_0" in data.names else 1
    np.testing.assert_array_equal(found.rp.coefficients[:, 7], data[f"rp_coeff_{7 + first}"])
    np.testing.assert_array_equal(found.rp.errors[:, 54], data[f"e_rp_coeff_{54 + first}"])


@pytest.mark.skipif(not ZIPS, reason="this astroquery does not carry the archive's zips")
def test_genuine_zips_of_the_archive():
    read = [read_spectra(path) for path in ZIPS]
    assert len(read) >= 2
    for found in read:
        assert found.source_id.tolist() == [5937083312263887616]
        assert found.release == "DR3"
        assert not found.flags.any()
        assert found.bp.coefficients.shape == (1, 55)
        np.testing.assert_array_equal(found.bp.coefficients, read[0].bp.coefficients)
        np.testing.assert_array_equal(found.rp.coefficients, read[0].rp.coefficients)
        np.testing.assert_allclose(found.bp.errors, read[0].bp.errors, rtol=1e-6)
        np.testing.assert_allclose(found.bp.correlations, read[0].bp.correlations, atol=1e-7)
    assert read[0].bp.coefficients[0, 0] == 3325.743093963916  # from the csv member, by eye


def test_paths_may_come_from_an_iterator_an_array_or_a_series(tmp_path):
    names = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for i, name in enumerate(names):
        name.write_text(f'source_id,bp_coefficients,rp_coefficients\n{i},"(1,2)","(3,4)"\n')
    texts = [str(name) for name in names]
    several = (iter(sorted(tmp_path.glob("*.csv"))), map(str, names), np.array(texts))
    for sources in (*several, pd.Series(texts), (name for name in names)):
        assert read_spectra(sources).source_id.tolist() == [0, 1]
    with names[0].open("rb") as file, pytest.raises(InputError, match="cannot be read; give"):
        read_spectra(file)


def test_columns_to_keep_are_names_and_each_is_kept_once():
    table = {"source_id": [1], "bp_coefficients": [[1.0, 2.0]], "rp_coefficients": [[1.0, 2.0]]}
    table["ra"] = [10.0]
    assert read_spectra(table, keep=["ra", "ra"]).columns.colnames == ["ra"]
    for wrong in (3, [3], [None]):
        with pytest.raises(InputError, match="keep takes a column's name"):
            read_spectra(table, keep=wrong)


def test_joining_leaves_the_columns_of_the_given_spectra_alone():
    table = {"source_id": [1], "bp_coefficients": [[1.0, 2.0]], "rp_coefficients": [[1.0, 2.0]]}
    first = read_spectra(table | {"note": [7]}, keep="note")
    joined = read_spectra([first, table | {"note": ["text"]}], keep="note")
    assert joined.columns["note"].tolist() == ["7", "text"]
    assert first.columns["note"].dtype.kind == "i"


def test_a_damaged_fits_header_is_one_error_without_warnings(tmp_path):
    columns = {"source_id": [1], "bp_coefficients": [[1.0, 2.0]], "rp_coefficients": [[1.0, 2.0]]}
    write_spectra(read_spectra(columns), tmp_path / "a.fits")
    data = bytearray((tmp_path / "a.fits").read_bytes())
    where = data.index(b"TTYPE2  = ")
    data[where + 12] = 0xE4
    (tmp_path / "a.fits").write_bytes(bytes(data[:-100]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="cut short"):
            read_spectra(tmp_path / "a.fits")


def test_a_file_without_a_header_is_not_printed_whole(tmp_path):
    (tmp_path / "a.csv").write_text(f'1,"({",".join(["1.23456789"] * 500)})","(3,4)"\n')
    with pytest.raises(InputError, match="no source_id column") as caught:
        read_spectra(tmp_path / "a.csv")
    assert len(str(caught.value)) < 500


# ---------------------------------------------------------------- VOTable without astropy

VOTABLE = """<VOTABLE version="1.4"><RESOURCE type="results"><TABLE>
<FIELD name="source_id" datatype="long"/>
<FIELD name="bp_n_parameters" datatype="short"><VALUES null="-1"/></FIELD>
<FIELD name="bp_coefficients" datatype="double" arraysize="3"/>
<FIELD name="rp_coefficients" datatype="float" arraysize="*"/>
<FIELD name="rp_coefficient_errors" datatype="float" arraysize="*"/>
<FIELD name="rp_basis_function_id" datatype="int" arraysize="1"/>
<DATA>{}</DATA></TABLE></RESOURCE></VOTABLE>"""
TABLEDATA = """<TABLEDATA>
<TR><TD>11</TD><TD>3</TD><TD>1.5  -2 3e5</TD><TD> 0.1 0.2</TD><TD>1\t2</TD><TD>7</TD></TR>
<TR><TD>12</TD><TD>-1</TD><TD>NaN NaN NaN</TD><TD>1 2</TD><TD></TD><TD>7</TD></TR>
<TR><TD>13</TD><TD></TD><TD>1 NaN 3</TD><TD></TD><TD></TD><TD></TD></TR></TABLEDATA>"""


def pack_votable_rows(*, flagged):
    rows = [
        ((11, 3, [1.5, -2, 3e5], [0.1, 0.2], [1, 2], 7), 0),
        ((12, -1, [np.nan] * 3, [1, 2], [], 7), 0b00001000),
        ((13, -1, [1, np.nan, 3], [], [], 0), 0b01000100),
    ]
    data = b""
    for (id, n, bp, rp, errors, basis), flags in rows:
        data += bytes([flags]) if flagged else b""
        data += struct.pack(">qh3d", id, n, *bp)
        for numbers in (rp, errors):
            data += struct.pack(f">i{len(numbers)}f", len(numbers), *numbers)
        data += struct.pack(">i", basis)
    name = "BINARY2" if flagged else "BINARY"
    text = base64.b64encode(data).decode()
    return f'<{name}><STREAM encoding="base64">{text}</STREAM></{name}>'


@pytest.mark.parametrize("form", ["TABLEDATA", "BINARY", "BINARY2"])
def test_a_votable_of_numbers_holds_what_astropy_finds_in_it(tmp_path, monkeypatch, form):
    from gaia_redshift.readers import votable
    from gaia_redshift.readers.votable_rows import UnusualError

    rows = TABLEDATA if form == "TABLEDATA" else pack_votable_rows(flagged=form == "BINARY2")
    (tmp_path / "a.xml").write_text(VOTABLE.format(rows))
    taken = []
    take = votable._Table.take_blocks
    monkeypatch.setattr(
        votable._Table, "take_blocks", lambda *given: taken.append(take(*given)) or taken[-1]
    )
    found = read_spectra(tmp_path / "a.xml")
    assert len(taken) == 1
    assert found.source_id.tolist() == [11, 12, 13]
    np.testing.assert_array_equal(found.rp.coefficients[0], np.float32([0.1, 0.2]))
    assert found.bp.coefficients[0].tolist() == [1.5, -2, 3e5]

    def refuse(*_):
        raise UnusualError

    monkeypatch.setattr(votable._Table, "take_blocks", refuse)
    expected = read_spectra(tmp_path / "a.xml")
    assert found.flags.tolist() == expected.flags.tolist()
    for band in ("bp", "rp"):
        for name in ("coefficients", "errors", "n_coefficients", "basis_id"):
            got, wanted = (getattr(getattr(s, band), name) for s in (found, expected))
            np.testing.assert_array_equal(got, wanted, err_msg=f"{band} {name}")


def test_commas_between_a_votables_numbers_add_none(tmp_path):
    (tmp_path / "a.xml").write_text(VOTABLE.format(TABLEDATA.replace(" 0.1 0.2", "0.5, 2,3")))
    rp = read_spectra(tmp_path / "a.xml").rp
    assert rp.n_coefficients[0] == 3
    assert rp.coefficients[0].tolist() == [0.5, 2, 3]


@pytest.mark.parametrize("cell", ["1,2,3", "1 2 3 4", "1 2 x", "1 2", ""])
def test_a_votable_cell_that_is_no_array_of_numbers_is_told_or_flagged(tmp_path, cell):
    (tmp_path / "a.xml").write_text(VOTABLE.format(TABLEDATA.replace("1.5  -2 3e5", cell)))
    told = contextlib.suppress(InputError)
    with told:
        assert read_spectra(tmp_path / "a.xml").flags[0]


def test_another_format_needs_a_reader_and_an_entry(tmp_path, monkeypatch):
    from gaia_redshift.readers import formats
    from gaia_redshift.readers.text import iter_text_blocks

    def iter_marked_blocks(content, options):
        def skip_the_mark():
            stream = content.open()
            stream.read(5)
            return stream

        yield from iter_text_blocks(replace(content, open=skip_the_mark, path=None), options)

    marked = formats.Format("marked csv", iter_marked_blocks, (".mcsv",), b"MCSV\n")
    monkeypatch.setitem(formats.FORMATS, "marked", marked)
    expected = simulate_spectra(3, seed=2)
    write_spectra(expected, tmp_path / "plain.csv")
    path = tmp_path / "three.mcsv"
    path.write_bytes(b"MCSV\n" + (tmp_path / "plain.csv").read_bytes())
    assert read_spectra(path).source_id.tolist() == expected.source_id.tolist()
    path.write_bytes(b"MCSV\nnonsense\n")
    with pytest.raises(InputError, match=r"three\.mcsv"):
        read_spectra(path)
