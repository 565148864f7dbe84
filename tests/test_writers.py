"""What is written is read back, by this package and by others, and nothing half-written stays."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from pyarrow import parquet

from gaia_redshift.errors import InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.readers import iter_spectra, read_spectra
from gaia_redshift.spectra import BandSpectra, XPSpectra
from gaia_redshift.writers import SpectraWriter, write_spectra

TEXT = ["csv", "csv.gz", "ecsv", "ecsv.gz"]
BINARY = ["fits", "fits.gz", "xml", "vot", "vot.gz", "parquet", "h5", "hdf5"]
FIRST_ID = 5937083312263887617


def make_band(seed, counts, kind=np.float32):
    """Bands with so many coefficients in each row, none in some."""
    rng = np.random.default_rng(seed)
    k = max(counts)
    n = len(counts)
    coefficients = rng.normal(0, 10.0 ** rng.integers(-12, 9, (n, k)))
    errors = rng.uniform(1e-6, 10, (n, k)).astype(kind)
    correlations = rng.uniform(-1, 1, (n, k * (k - 1) // 2)).astype(kind)
    for row, count in enumerate(counts):
        coefficients[row, count:] = np.nan
        errors[row, count:] = np.nan
        correlations[row, count * (count - 1) // 2 :] = np.nan
    basis_id = np.where(np.array(counts) > 0, 56 if seed == 1 else 57, -1).astype("i2")
    return BandSpectra(coefficients, errors, correlations, np.array(counts, "i2"), basis_id)


def make_spectra(bp=(6, 4, 0, 6), rp=(5, 5, 5, 0), kind=np.float32):
    ids = FIRST_ID + np.arange(len(bp))
    return XPSpectra(ids, make_band(1, bp, kind), make_band(2, rp, kind))


def assert_same(found, wanted, *, text=False):
    np.testing.assert_array_equal(found.source_id, wanted.source_id)
    for name in ("bp", "rp"):
        f, w = getattr(found, name), getattr(wanted, name)
        for quantity in ("coefficients", "errors", "correlations", "n_coefficients", "basis_id"):
            a, b = getattr(f, quantity), getattr(w, quantity)
            if b is None:
                assert a is None, quantity
                continue
            if text and quantity in ("errors", "correlations"):
                a = a.astype(b.dtype)
            assert a.dtype == b.dtype, quantity
            np.testing.assert_array_equal(a, b, err_msg=quantity)


@pytest.mark.parametrize("extension", TEXT + BINARY)
def test_round_trip(tmp_path, extension):
    """Different numbers of coefficients, missing bands, ids beyond 2**53."""
    path = tmp_path / f"a.{extension}"
    spectra = make_spectra()
    write_spectra(spectra, path)
    found = read_spectra(path)
    assert_same(found, spectra, text=extension in TEXT)
    missing = [0, 0, QualityFlag.MISSING_BP, QualityFlag.MISSING_RP]
    assert found.flags.tolist() == missing
    assert found.release == "DR3"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("extension", BINARY)
def test_double_precision_stays(tmp_path, extension):
    spectra = make_spectra(kind=np.float64)
    write_spectra(spectra, tmp_path / f"a.{extension}")
    assert_same(read_spectra(tmp_path / f"a.{extension}"), spectra)


@pytest.mark.parametrize("extension", TEXT)
def test_double_errors_stay_in_text(tmp_path, extension):
    spectra = make_spectra(kind=np.float64)
    write_spectra(spectra, tmp_path / f"a.{extension}")
    found = read_spectra(tmp_path / f"a.{extension}")
    np.testing.assert_array_equal(found.bp.errors, spectra.bp.errors)


@pytest.mark.parametrize("extension", [*TEXT, *BINARY])
def test_without_errors_or_with_odd_numbers(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    spectra = make_spectra()
    bare = replace(
        spectra,
        bp=replace(spectra.bp, errors=None, correlations=None),
        rp=replace(spectra.rp, correlations=None),
    )
    bare.bp.coefficients[0, :2] = [np.inf, np.nan]
    write_spectra(bare, path)
    found = read_spectra(path)
    assert_same(found, bare, text=extension in TEXT)
    assert found.flags[0] == QualityFlag.NON_FINITE_FLUX | QualityFlag.NO_FLUX_ERROR


@pytest.mark.parametrize("extension", [*TEXT, *BINARY])
def test_blocks_make_the_same_file(tmp_path, extension):
    """Also when a later block is wider or the first lacks a band."""
    parts = [
        make_spectra((0, 0), (3, 3)),
        make_spectra((4, 4), (5, 0)),
        replace(make_spectra((2,), (5,)), source_id=np.array([7])),
    ]
    extras = [Table({"name": names}) for names in (["a", "bb"], ["ccc", "a long name"], ["e"])]
    parts = [replace(p, columns=c) for p, c in zip(parts, extras, strict=True)]
    path = tmp_path / f"a.{extension}"
    with SpectraWriter(path) as writer:
        for part in parts:
            writer.write(part)
        assert not path.exists()
    assert writer.n_written == 5
    found = read_spectra(path, keep="all")
    assert_same(found, XPSpectra.concatenate(parts), text=extension in TEXT)
    assert found.columns["name"].tolist() == ["a", "bb", "ccc", "a long name", "e"]


def test_many_rows_cross_internal_blocks(tmp_path):
    counts = np.resize([3, 0, 2], 2345)
    spectra = make_spectra(counts, counts[::-1])
    for extension in ("csv", "fits", "vot", "parquet", "h5"):
        write_spectra(spectra, tmp_path / f"a.{extension}")
        found = read_spectra(tmp_path / f"a.{extension}")
        assert_same(found, spectra, text=extension == "csv")


# ---------------------------------------------------------------- as others read it


@pytest.fixture
def labelled():
    table = Table(
        {
            "solution_id": np.array([4545469030156206080] * 4),
            "redshift_true": np.array([0.1, 0.2, 0.3, 0.4]),
            "note": MaskedColumn(["a", 'b, "c"', "d < é", "x"], mask=[0, 0, 0, 1]),
            "mag": np.array([17, 18, 19, 20.5], dtype=np.float32) * u.mag,
            "n": MaskedColumn([1, 2, 3, 4], mask=[0, 1, 0, 0]),
            "ok": [True, False, True, True],
        }
    )
    table["redshift_true"].description = 'true redshift, "simulated" & <exact>'
    table["redshift_true"].meta["ucd"] = "src.redshift"
    return replace(make_spectra(), columns=table)


@pytest.mark.parametrize("extension", [*TEXT, *BINARY])
def test_other_columns_come_back(labelled, tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    write_spectra(labelled, path)
    found = read_spectra(path, keep="all").columns
    assert found.colnames == labelled.columns.colnames
    assert found["solution_id"].tolist() == [4545469030156206080] * 4
    assert found["redshift_true"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert np.ma.filled(found["note"], "none").tolist() == ["a", 'b, "c"', "d < é", "none"]
    assert np.ma.filled(found["n"], -1).tolist() == [1, -1, 3, 4]
    assert found["ok"].tolist() == [True, False, True, True]
    if "csv" not in extension or extension.startswith("ecsv"):
        assert found["mag"].unit == u.mag
        assert found["redshift_true"].description == 'true redshift, "simulated" & <exact>'
        assert found["redshift_true"].meta["ucd"] == "src.redshift"


def test_csv_looks_like_the_archives(labelled, tmp_path):
    write_spectra(labelled, tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text()
    assert text.startswith("source_id,solution_id,bp_basis_function_id,bp_n_parameters,bp_coeff")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["source_id"] == str(FIRST_ID)
    numbers = rows[0]["bp_coefficients"]
    assert numbers == f"({', '.join(numbers[1:-1].split(', '))})"
    values = [float(x) for x in numbers[1:-1].split(",")]
    assert values == labelled.bp.coefficients[0].tolist()
    # float32 with its own shortest digits, as the archive writes it
    first_error = rows[0]["bp_coefficient_errors"][1:].split(",")[0]
    assert len(first_error) <= 13
    assert np.float32(first_error) == labelled.bp.errors[0, 0]
    assert rows[2]["bp_coefficients"] == rows[2]["bp_n_parameters"] == ""


def test_astropy_reads_fits_ecsv_votable(labelled, tmp_path):
    for extension, options in (
        ("fits", {}),
        ("ecsv", {"format": "ascii.ecsv"}),
        ("vot", {"format": "votable"}),
    ):
        if extension == "fits":
            labelled.columns["note"][2] = "e"
        write_spectra(labelled, tmp_path / f"a.{extension}")
        table = Table.read(tmp_path / f"a.{extension}", **options)
        assert table["source_id"].tolist() == labelled.source_id.tolist()
        assert table["source_id"].dtype.kind == "i"
        for row in (0, 1, 3):
            n = labelled.bp.n_coefficients[row]
            np.testing.assert_array_equal(
                np.ma.getdata(table["bp_coefficients"][row]), labelled.bp.coefficients[row, :n]
            )
        assert table["redshift_true"].tolist() == [0.1, 0.2, 0.3, 0.4]
        assert table["mag"].unit == u.mag


def test_fits_verifies(labelled, tmp_path):
    labelled.columns.remove_column("note")
    write_spectra(labelled, tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        assert hdus[1].columns["bp_coefficients"].format == "QD(6)"
        assert (tmp_path / "a.fits").stat().st_size % 2880 == 0


def test_votable_validates(labelled, tmp_path, recwarn):
    from astropy.io.votable import parse

    write_spectra(labelled, tmp_path / "a.vot")
    parse(tmp_path / "a.vot", verify="exception")
    assert not recwarn.list


def test_parquet_is_zstd_and_typed(labelled, tmp_path):
    write_spectra(labelled, tmp_path / "a.parquet")
    meta = parquet.read_metadata(tmp_path / "a.parquet")
    assert meta.row_group(0).column(0).compression == "ZSTD"
    schema = parquet.read_schema(tmp_path / "a.parquet")
    assert str(schema.field("source_id").type) == "int64"
    assert "float" in str(schema.field("bp_coefficient_correlations").type)


def test_parquet_makes_no_dictionary_of_float_arrays_alone(labelled, tmp_path):
    write_spectra(labelled, tmp_path / "x.parquet")
    group = parquet.ParquetFile(tmp_path / "x.parquet").metadata.row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    plain = {c.path_in_schema.split(".")[0] for c in chunks if not c.has_dictionary_page}
    names = ("coefficients", "coefficient_errors", "coefficient_correlations")
    plain.discard("ok")  # Parquet has no dictionaries of booleans
    assert plain == {f"{band}_{name}" for band in ("bp", "rp") for name in names}


def test_hdf5_has_a_dataset_per_column(labelled, tmp_path):
    write_spectra(labelled, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["source_id"][:].tolist() == labelled.source_id.tolist()
        np.testing.assert_array_equal(file["bp_coefficients"][:], labelled.bp.coefficients)


@pytest.mark.parametrize("extension", ["csv", "ecsv", "fits", "xml"])
def test_gaiaxpy_reads_it(tmp_path, extension):
    from gaia_redshift._quiet import quiet_gaiaxpy

    spectra = make_spectra((5, 5), (4, 4))
    deviation = Table({"bp_standard_deviation": [1.0, 1.0], "rp_standard_deviation": [1.0, 1.0]})
    write_spectra(replace(spectra, columns=deviation), tmp_path / f"a.{extension}")
    with quiet_gaiaxpy():
        from gaiaxpy.file_parser.parse_internal_continuous import InternalContinuousParser

        frame, _ = InternalContinuousParser().parse_file(
            str(tmp_path / f"a.{extension}"), disable_info=True
        )
    assert frame["source_id"].tolist() == spectra.source_id.tolist()
    covariance = frame["rp_covariance_matrix"][1]
    errors = spectra.rp.errors[1].astype(float)
    matrix = covariance / errors / errors[:, None]
    np.testing.assert_array_equal(frame["bp_coefficients"][0], spectra.bp.coefficients[0])
    order = [(i, j) for j in range(4) for i in range(j)]  # upper triangle, column by column
    np.testing.assert_allclose([matrix[i, j] for i, j in order], spectra.rp.correlations[1], 1e-6)


def test_same_spectra_same_packed_bytes(tmp_path):
    for name in ("a.csv.gz", "b.csv.gz"):
        write_spectra(make_spectra(), tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).startswith(b"source_id,")


# ---------------------------------------------------------------- safety


@pytest.mark.parametrize("extension", [*TEXT, *BINARY])
def test_an_interrupted_write_leaves_nothing(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    with pytest.raises(KeyboardInterrupt), SpectraWriter(path) as writer:  # noqa: PT012
        writer.write(make_spectra())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_overwritten(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"a\.csv: exists already; use overwrite=True"):
        write_spectra(make_spectra(), path)
    with pytest.raises(RuntimeError), SpectraWriter(path, overwrite=True) as writer:  # noqa: PT012
        writer.write(make_spectra())
        raise RuntimeError
    assert path.read_text() == "precious"
    write_spectra(make_spectra(), path, overwrite=True)
    assert len(read_spectra(path)) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.txt", "unknown extension; spectra are written as .csv"),
        ("a", "unknown extension"),
        ("a.parquet.gz", "unknown extension"),
        ("no/such/a.csv", "no such folder"),
        ("", "is a folder"),
    ],
)
def test_wrong_targets(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        write_spectra(make_spectra(), f"{tmp_path}/{name}")
    assert list(tmp_path.iterdir()) == []


def test_wrong_blocks(tmp_path):
    spectra = make_spectra()
    with (
        pytest.raises(InputError, match="no spectra were given"),
        SpectraWriter(tmp_path / "a.csv"),
    ):
        pass
    with pytest.raises(InputError, match="no spectra were given"):
        write_spectra(spectra[:0], tmp_path / "a.csv")
    with pytest.raises(InputError, match="takes XPSpectra, not dict"):
        write_spectra({}, tmp_path / "a.csv")
    more = replace(spectra, columns=Table({"z": np.ones(4)}))
    with (  # noqa: PT012
        pytest.raises(InputError, match="has 'z', which the first block had not"),
        SpectraWriter(tmp_path / "a.csv") as writer,
    ):
        writer.write(spectra)
        writer.write(more)
    arrays = replace(spectra, columns=Table({"z": np.ones((4, 2))}))
    with pytest.raises(InputError, match="'z' holds arrays"):
        write_spectra(arrays, tmp_path / "a.csv")
    text = replace(spectra, columns=Table({"z": ["a"] * 4}))
    with (  # noqa: PT012
        pytest.raises(InputError, match="'z' is float64 in the first block and"),
        SpectraWriter(tmp_path / "a.fits") as writer,
    ):
        writer.write(more)
        writer.write(text)
    assert list(tmp_path.iterdir()) == []


def test_text_with_a_nul_is_written_to_hdf5_which_has_none(tmp_path):
    spectra = replace(make_spectra(), columns=Table({"name": ["a\0b", "c", "", "d"]}))
    write_spectra(spectra, tmp_path / "a.h5")
    found = read_spectra(tmp_path / "a.h5", keep="all").columns["name"]
    assert found.tolist() == [r"a\x00b", "c", "", "d"]


def test_a_stream_from_reader_to_writer(tmp_path):
    counts = [3] * 50
    spectra = replace(make_spectra(counts, counts), columns=Table({"z": np.arange(50.0)}))
    write_spectra(spectra, tmp_path / "a.csv")
    with SpectraWriter(tmp_path / "b.parquet") as writer:
        for block in iter_spectra(tmp_path / "a.csv", block_size=7, keep="all"):
            writer.write(block)
    found = read_spectra(tmp_path / "b.parquet", keep=["z"])
    assert found.columns["z"].tolist() == list(range(50))
    np.testing.assert_array_equal(found.rp.coefficients, spectra.rp.coefficients)
