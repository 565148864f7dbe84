"""Output tables survive every file format, and files are written whole or not at all."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import parse
from astropy.io.votable.ucd import check_ucd
from astropy.table import MaskedColumn, Table

from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.grid import DEFAULT_GRID
from gaia_redshift.readers.files import read_table
from gaia_redshift.tables import COLUMNS, build_table, describe_provenance, write_table

IDS = np.array([2**62 + 1, 4295806720, 2**62 + 3], dtype=np.int64)  # floats would lose digits
RICH = ["t.ecsv", "t.fits", "t.vot", "t.xml", "t.parquet", "t.h5", "t.ecsv.gz", "t.fits.gz"]


@pytest.fixture
def table():
    columns = Table(
        {
            "ra": [1.5, 2.5, 3.5] * u.deg,
            "redshift_cnn": [9.0, 9.0, 9.0],
            "name": ["NGC 1", "Müller", "x"],
            "n_transits": MaskedColumn([5, 999999, 7], mask=[False, False, True]),
            "pair": np.arange(6.0).reshape(3, 2),
        }
    )
    return build_table(
        IDS,
        [0.125, np.nan, 0.3],
        [0, 5, 128],
        columns=columns,
        meta=describe_provenance(
            model_name="kiraleos2023",
            model_version="1",
            model_sha256="ab" * 32,
            trained_on="simulated galaxies " * 8,
            grid=DEFAULT_GRID,
            release="DR3",
            inputs=["a.csv", "b/ü.fits"],
            prior="sdss",
        ),
    )


def test_columns_have_the_documented_types_masks_and_meanings(table):
    assert table.colnames[:4] == ["source_id", "redshift_cnn", "flags_cnn", "ra"]
    assert table["source_id"].dtype == np.int64
    assert table["flags_cnn"].dtype == np.int32
    assert table["redshift_cnn"].mask.tolist() == [False, True, False]
    assert table["redshift_cnn"].unit == u.dimensionless_unscaled
    assert "redshift_cnn_in" in table.colnames  # the input's own column of that name
    assert table["redshift_cnn_in"].tolist() == [9, 9, 9]
    assert "128 diagonal_flux_error" in table["flags_cnn"].description
    for name in ("source_id", "redshift_cnn", "flags_cnn"):
        assert check_ucd(table[name].meta["ucd"], check_controlled_vocabulary=True)
    assert all(check_ucd(c.ucd, check_controlled_vocabulary=True) for c in COLUMNS.values())


def test_columns_have_the_types_that_are_stated():
    ones = np.ones(2)
    more = dict.fromkeys(("lower", "upper", "std", "shape", "probability_galaxy"), ones)
    more |= {"pdf": np.ones((2, 3)), "peaks": np.ones((2, 4))}
    table = build_table([1, 2], ones, [0, 0], **more)
    assert {c: table[c].dtype for c in table.colnames} == {n: c.dtype for n, c in COLUMNS.items()}


def test_percentiles_join_when_there_are_any():
    table = build_table([1], [0.1], [0], lower=[0.05], upper=[np.nan])
    names = ["source_id", "redshift_cnn", "redshift_cnn_lower", "redshift_cnn_upper", "flags_cnn"]
    assert table.colnames == names
    assert table["redshift_cnn_upper"].mask.all()


@pytest.mark.parametrize("name", RICH)
def test_everything_survives_a_round_trip(table, tmp_path, name):
    path = tmp_path / name
    write_table(table, path)
    back = read_table(path)
    assert back.colnames == table.colnames
    assert dict(back.meta) == dict(table.meta)
    assert back["source_id"].dtype == np.int64
    assert back["source_id"].tolist() == IDS.tolist()
    assert back["redshift_cnn"].dtype == np.float32
    assert np.ma.getmaskarray(back["redshift_cnn"]).tolist() == [False, True, False]
    assert back["redshift_cnn"].filled(-1).tolist() == pytest.approx([0.125, -1, 0.3])
    assert back["flags_cnn"].tolist() == [0, 5, 128]
    assert back["name"].tolist() == ["NGC 1", "Müller", "x"]
    assert np.ma.getmaskarray(back["n_transits"]).tolist() == [False, False, True]
    assert back["n_transits"][1] == 999999
    assert back["pair"].tolist() == table["pair"].tolist()
    for column in table.colnames:
        assert back[column].unit == table[column].unit, column
        assert back[column].info.description == table[column].info.description, column
        assert (back[column].info.meta or {}) == (table[column].info.meta or {}), column


def test_csv_has_values_alone_and_empty_masked_cells(table, tmp_path):
    table.remove_column("pair")
    write_table(table, tmp_path / "t.csv")
    frame = pd.read_csv(tmp_path / "t.csv")
    assert frame["source_id"].tolist() == IDS.tolist()
    assert frame["redshift_cnn"].isna().tolist() == [False, True, False]
    assert read_table(tmp_path / "t.csv")["redshift_cnn"].mask.tolist() == [False, True, False]
    write_table(table, tmp_path / "t.csv.gz")
    packed = (tmp_path / "t.csv.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "t.csv").read_bytes()


def test_other_programs_find_provenance_and_ucds(table, tmp_path):
    """What plain FITS, VOTable and Parquet readers see, without this package."""
    for name in ("t.fits", "t.vot", "t.parquet", "t.ecsv"):
        write_table(table, tmp_path / name)
    header = fits.getheader(tmp_path / "t.fits", 1)
    assert header["GRZMODEL"] == "kiraleos2023"
    assert header["GRZPRIOR"] == "sdss"
    assert header["GRZMSHA"] == "ab" * 32
    assert header["TUCD2"] == "src.redshift"
    assert header["TCOMM1"] == "Gaia source identifier"
    document = parse(tmp_path / "t.vot")
    infos = {info.name: info.value for info in document.resources[0].infos}
    assert infos["model_name"] == "kiraleos2023"
    fields = {f.name: f for f in document.get_first_table().fields}
    assert fields["redshift_cnn"].ucd == "src.redshift"
    assert fields["redshift_cnn"].description.startswith("Redshift predicted")
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert frame["redshift_cnn"].isna().tolist() == [False, True, False]
    plain = Table.read(tmp_path / "t.parquet", exclude_names=["n_transits"])
    assert plain.meta["model_name"] == "kiraleos2023"
    assert plain["redshift_cnn"].meta["ucd"] == "src.redshift"
    assert Table.read(tmp_path / "t.ecsv").meta["data_release"] == "DR3"


def test_an_existing_file_is_kept_unless_asked(table, tmp_path):
    path = tmp_path / "t.ecsv"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        write_table(table, path)
    assert path.read_text() == "precious"
    write_table(table, path, overwrite=True)
    assert len(read_table(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["t.ecsv"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(table, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("precious")
    with pytest.raises(InputError, match="column 'pair' holds arrays"):
        write_table(table, path, overwrite=True)
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("name", ["t.fits", "t.vot", "t.parquet", "t.h5"])
def test_arrays_of_any_shape_come_back(tmp_path, name):
    table = build_table([1, 2], [0.1, 0.2], [0, 0])
    table["cube"] = np.arange(12, dtype=np.int32).reshape(2, 3, 2)
    table["yes"] = [[True, False], [False, False]]
    hidden = [[False, True], [False, False]]
    table["some"] = MaskedColumn(np.arange(4, dtype=np.float32).reshape(2, 2), mask=hidden)
    write_table(table, tmp_path / name)
    back = read_table(tmp_path / name)
    for column in ("cube", "yes", "some"):
        assert back[column].dtype == table[column].dtype
        assert np.ma.filled(back[column], 9).tolist() == np.ma.filled(table[column], 9).tolist()


def test_a_votable_refuses_arrays_of_text(table, tmp_path):
    table["pairs"] = [["a", "b"]] * 3
    with pytest.raises(InputError, match="column 'pairs' holds arrays of text: leave it out"):
        write_table(table, tmp_path / "t.vot")


@pytest.mark.parametrize("name", ["t.txt", "t", "t.parquet.gz", "t.gz"])
def test_unknown_endings_name_the_known_ones(table, tmp_path, name):
    with pytest.raises(InputError, match=r"\.ecsv.*\.fits.*\.parquet"):
        write_table(table, tmp_path / name)


def test_missing_folder_and_damaged_file_are_one_line(table, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        write_table(table, tmp_path / "no" / "t.ecsv")
    (tmp_path / "bad.fits").write_bytes(b"SIMPLE")
    with pytest.raises(InputError, match=r"bad\.fits"):
        read_table(tmp_path / "bad.fits")
    with pytest.raises(InputError, match=r"absent\.vot"):
        read_table(tmp_path / "absent.vot")


def test_text_columns_of_objects_and_an_empty_table(tmp_path):
    columns = Table({"kind": np.array(["a", None, "ccc"], dtype=object)})
    table = build_table([1, 2, 3], [0.1, 0.2, 0.3], [0, 0, 0], columns=columns)
    for name in ("t.fits", "t.vot", "t.parquet", "t.h5", "t.csv", "t.ecsv"):
        write_table(table, tmp_path / name)
        back = read_table(Path(tmp_path / name))
        assert [str(v) for v in np.ma.filled(np.ma.asarray(back["kind"]), "")] == ["a", "", "ccc"]
        write_table(table[:0], tmp_path / name, overwrite=True)
        assert len(read_table(tmp_path / name)) == 0


@pytest.mark.parametrize("name", ["t.ecsv", "t.fits", "t.vot", "t.parquet", "t.h5"])
def test_masked_texts_and_booleans_stay_masked(tmp_path, name):
    table = build_table([1, 2, 3], [0.1, 0.2, 0.3], [0, 0, 0])
    table["text"] = MaskedColumn(["a", "b", "c"], mask=[True, False, False])
    table["yes"] = MaskedColumn([True, True, False], mask=[True, False, False])
    write_table(table, tmp_path / name)
    again = read_table(tmp_path / name)
    assert again["text"].tolist() == [None, "b", "c"]
    assert again["yes"].tolist() == [None, True, False]
    assert again["yes"].dtype == bool


def test_fits_tables_that_astropy_wrote_anew_are_read(tmp_path):
    """It carries the cards of checksums along, which are then those of another file."""
    write_table(Table({"source_id": [1, 2], "name": ["a", "b"]}), tmp_path / "a.fits")
    edited = Table.read(tmp_path / "a.fits")
    edited["mine"] = [0.5, 0.25]
    edited.write(tmp_path / "b.fits")
    with pytest.warns(GaiaRedshiftWarning, match=r"b\.fits: the checksums .* of another file"):
        found = read_table(tmp_path / "b.fits")
    assert found["mine"].tolist() == [0.5, 0.25]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
def test_checksums_of_fits_are_right_or_not_there(tmp_path, name):
    table = Table({"source_id": np.arange(7), "rate": np.arange(7.0)})
    table["rate"].unit = "electron / s"  # which FITS does not know
    write_table(table, tmp_path / name)
    with fits.open(tmp_path / name, checksum=True) as hdus:
        assert hdus[1].data["rate"].tolist() == list(range(7))
        assert ("CHECKSUM" in hdus[1].header) == (name == "a.fits")
    assert str(read_table(tmp_path / name)["rate"].unit) == "electron / s"


def test_votables_text_can_be_converted_by_astropy(tmp_path):
    names = ["a", "größer", "bell\x07", "\U0001f30c"]
    write_table(Table({"source_id": np.arange(4), "name": names}), tmp_path / "a.vot")
    read = Table.read(tmp_path / "a.vot")
    assert read["name"].dtype.kind == "U"
    assert read["name"].tolist() == ["a", "größer", r"bell\x07", "\U0001f30c"]
    Table({"name": read["name"]}).write(tmp_path / "b.ecsv")


def test_a_column_that_cannot_be_written_is_told_with_the_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*a\.fits as fits: column 'c' .*complex"):
        write_table(Table({"source_id": [1], "c": [1j]}), tmp_path / "a.fits")
