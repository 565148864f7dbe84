"""Catalogues with redshifts added: nothing else changes, in any format, at any length."""

import base64
import gzip
import io
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import astropy
import numpy as np
import pytest
from archive_samples import FIRST_ID, make_settings, make_sources, make_spectra
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import from_table, parse
from astropy.table import MaskedColumn, Table
from doubles.gaia_archive import Fault, GaiaArchiveDouble

from gaia_redshift import read_table, write_table
from gaia_redshift.enrich import enrich_catalogue
from gaia_redshift.errors import InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.grid import DEFAULT_GRID

NEW = ["redshift_cnn", "flags_cnn"]


class Mean:
    """A model that is quick to load: a number that depends on every flux."""

    name, version, sha256 = "mean", "1", "0" * 64
    grid, uses_errors, manifest = DEFAULT_GRID, False, {"trained_on": "nothing"}

    def predict(self, flux, flux_error=None):
        weights = np.linspace(1, 2, flux.shape[1])
        redshift = np.abs(flux @ weights / flux.sum(axis=1)) % 1
        return SimpleNamespace(redshift=redshift, flags=None, lower=None, upper=None)


@pytest.fixture(scope="module")
def spectra():
    made = make_spectra(30, k=55)
    for band in (made.bp, made.rp):
        band.coefficients[:, 0] = np.linspace(3e4, 9e4, 30)
    return made


@pytest.fixture(scope="module")
def truth(spectra):
    from gaia_redshift import predict_table

    table = predict_table(spectra, model=Mean())
    return dict(zip(table["source_id"].tolist(), table["redshift_cnn"].tolist(), strict=True))


@pytest.fixture
def catalogue(spectra):
    """Rows in no order, one source twice, one without spectrum, columns of every kind."""
    rng = np.random.default_rng(3)
    ids = np.concatenate([rng.permutation(spectra.source_id), spectra.source_id[:1], [FIRST_ID]])
    n = len(ids)
    table = Table()
    table["name"] = [f'galaxy {i}, "{chr(945)}"' for i in range(n)]
    table["source_id"] = ids
    table["flux"] = rng.normal(size=n).astype(np.float32) * u.Jy
    table["n_obs"] = MaskedColumn(np.arange(n, dtype=np.int16), mask=np.arange(n) % 5 == 0)
    table["good"] = rng.random(n) < 0.5
    table["ra"] = rng.uniform(0, 360, n) * u.deg
    table["flux"].description = "Flux in the radio"
    table.meta["AUTHOR"] = "A. N. Observer"
    table.meta["comments"] = ["seen twice"]
    return table


def check_new(got, ids, truth, names=NEW):
    """The redshifts are those of the row's own source."""
    expected = np.array([truth.get(int(i), np.nan) for i in ids])
    found = np.ma.filled(np.ma.asarray(got[names[0]]).astype(float), np.nan)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    missing = ~np.isfinite(expected)
    assert missing.any()
    absent = int(QualityFlag.MISSING_BP | QualityFlag.MISSING_RP)
    assert (np.asarray(got[names[1]])[missing] == absent).all()
    assert (np.asarray(got[names[1]])[~missing] == 0).all()


def run(source, target, spectra, **options):
    return enrich_catalogue(source, target, spectra=spectra, model=Mean(), **options)


# --- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_csv_keeps_every_byte_and_gets_cells(tmp_path, spectra, truth, packed):
    ids = [int(i) for i in spectra.source_id[[4, 2, 4]]]
    lines = [
        "# made by hand",
        'Name,"Source_ID",z  ,note',
        f'"a, ""b""",{ids[0]},0.10,1e5',
        f"c,{ids[1]},  7.000,",
        '"two\nlines",,0.3,\u00e9',
        f"d,{ids[2]},,0x1F",
        f"e,{FIRST_ID},,",
    ]
    text = "\r\n".join(lines) + "\r\n"
    source, target = tmp_path / f"a.csv{packed}", tmp_path / f"b.csv{packed}"
    source.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = run(source, target, spectra)
    data = target.read_bytes()
    got = (gzip.decompress(data) if packed else data).decode()
    assert got.startswith('# made by hand\r\nName,"Source_ID",z  ,note,redshift_cnn,flags_cnn\r\n')
    for line in lines[2:]:
        assert line + "," in got
    table = Table.read(io.BytesIO(got.encode()), format="ascii.csv", comment="#")
    assert list(table["Source_ID"].filled(0)) == [ids[0], ids[1], 0, ids[2], FIRST_ID]
    check_new(table[[0, 1, 3, 4]], [ids[0], ids[1], ids[2], FIRST_ID], truth)
    assert table["flags_cnn"][2] == QualityFlag.MISSING_BP | QualityFlag.MISSING_RP
    assert (found.n_rows, found.n_redshifts) == (5, 3)
    assert found.columns == NEW
    assert "5 rows, 3 with a redshift; flags: missing_bp 2, missing_rp 2" in found.summary()


def test_csv_rows_of_the_wrong_length_are_named(tmp_path, spectra):
    (tmp_path / "a.csv").write_text("source_id,b\n1,2\n3\n")
    with pytest.raises(InputError, match=r"row 2: has 1 cells, there are 2 columns"):
        run(tmp_path / "a.csv", tmp_path / "b.csv", spectra)
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_ecsv(tmp_path, spectra, truth, catalogue, delimiter):
    catalogue.write(tmp_path / "a.ecsv", delimiter=delimiter)
    before = (tmp_path / "a.ecsv").read_text().splitlines()
    run(tmp_path / "a.ecsv", tmp_path / "b.ecsv", spectra)
    after = (tmp_path / "b.ecsv").read_text().splitlines()
    got = Table.read(tmp_path / "b.ecsv")
    check_same(got, catalogue)
    check_new(got, catalogue["source_id"], truth)
    assert got["redshift_cnn"].info.meta["ucd"] == "src.redshift"
    assert got.meta["model_name"] == "mean"
    rows = [line for line in before if not line.startswith("#")]
    assert [a for a in after if not a.startswith("#")][1:] == [
        a for a in after if any(a.startswith(b + delimiter) for b in rows[1:])
    ]
    assert set(before) - set(rows) <= set(after), "no line of the header is lost"


def check_same(got, catalogue, units=True):
    """All the old columns, in their order, first."""
    n = len(catalogue.colnames)
    assert got.colnames[:n] == catalogue.colnames
    for name in catalogue.colnames:
        old, new = np.ma.asarray(catalogue[name]), np.ma.asarray(got[name])
        assert old.dtype.kind == new.dtype.kind, name
        if old.dtype.kind not in "U":
            assert old.dtype.itemsize == new.dtype.itemsize, name
        np.testing.assert_array_equal(np.ma.getmaskarray(old), np.ma.getmaskarray(new))
        np.testing.assert_array_equal(old.compressed(), new.compressed())
        if units:
            assert catalogue[name].unit == got[name].unit
    if units:
        assert got["flux"].description in ("Flux in the radio", None)
    assert got.colnames[n:] == NEW


# --- FITS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_fits(tmp_path, spectra, truth, catalogue, packed):
    """Also: a picture before, a table after, cells of different lengths, scaled integers."""
    catalogue["name"] = [f"galaxy {i}" for i in range(len(catalogue))]
    hdu = fits.table_to_hdu(catalogue)
    ragged = np.empty(len(catalogue), dtype=object)
    ragged[:] = [np.arange(i % 4, dtype=np.float32) for i in range(len(catalogue))]
    scaled = fits.Column("counts", "I", array=np.arange(len(catalogue)) + 40000, bzero=32768)
    columns = [*hdu.columns, fits.Column("ragged", "PE()", array=ragged), scaled]
    table = fits.BinTableHDU.from_columns(columns, header=hdu.header, name="GALAXIES")
    table.header["HIERARCH my long key"] = 3.5
    table.header.add_history("as it was")
    other = fits.BinTableHDU(Table({"x": [1, 2]}), name="OTHER")
    picture = fits.PrimaryHDU(np.arange(100).reshape(10, 10))
    source, target = tmp_path / f"a.fits{packed}", tmp_path / f"b.fits{packed}"
    fits.HDUList([picture, other, table, other]).writeto(source, checksum=True)
    run(source, target, spectra)
    with fits.open(source) as old, fits.open(target, checksum=True) as new:
        assert [h.name for h in new] == ["PRIMARY", "OTHER", "GALAXIES", "OTHER"]
        np.testing.assert_array_equal(new[0].data, old[0].data)
        np.testing.assert_array_equal(new[3].data["x"], [1, 2])
        before, after = old[2], new[2]
        for name in before.columns.names:
            assert before.columns[name].format == after.columns[name].format
            assert before.columns[name].unit == after.columns[name].unit
            assert before.columns[name].null == after.columns[name].null
            for a, b in zip(before.data[name], after.data[name], strict=True):
                np.testing.assert_array_equal(a, b)
        structure = ("NAXIS1", "TFIELDS", "CHECKSUM", "DATASUM")
        for card in before.header.cards:
            if card.keyword not in structure:
                assert card.image in [c.image for c in after.header.cards], card
        check_new(after.data, catalogue["source_id"], truth)
        assert after.header["TUCD9"] == "src.redshift"
        assert after.header["GRZMODEL"] == "mean"
    assert Table.read(target, hdu=2).colnames[-2:] == NEW
    new_rows = fits.getdata(target, "GALAXIES")
    assert new_rows.dtype["redshift_cnn"] == np.dtype(">f4")


def test_a_table_of_our_own_keeps_what_write_table_noted(tmp_path, spectra, truth, catalogue):
    for ending in ("fits", "parquet", "ecsv"):
        source, target = tmp_path / f"own.{ending}", tmp_path / f"more.{ending}"
        write_table(catalogue, source)
        run(source, target, spectra)
        got = read_table(target)
        check_same(got, catalogue)
        check_new(got, catalogue["source_id"], truth)
        assert got.meta["AUTHOR"] == "A. N. Observer"
        assert got.meta["model_name"] == "mean"
        assert got["redshift_cnn"].info.meta["ucd"] == "src.redshift"


# --- VOTable ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tabledata", "binary", "binary2"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_votable(tmp_path, spectra, truth, catalogue, form, packed):
    """Also: cells of different lengths before and after the id, a second table."""
    if form == "binary2" and tuple(map(int, astropy.__version__.split(".")[:2])) < (7, 2):
        pytest.skip("astropy cannot write this form before 7.2")
    catalogue["listed"] = np.arange(2 * len(catalogue)).reshape(-1, 2)
    catalogue["bits"] = catalogue["good"]
    if form == "binary":  # which has no null integers without a value for them
        catalogue["n_obs"] = np.arange(len(catalogue), dtype=np.int16)
    document = from_table(catalogue)
    document.description = "A catalogue & more"
    table = document.get_first_table()
    table.description = "Galaxies"
    second = from_table(Table({"other": [1, 2, 3]}))
    document.resources.append(second.resources[0])
    for one in document.iter_tables():
        one.format = form
    source, target = tmp_path / "a.vot", tmp_path / f"b.vot{packed}"
    document.to_xml(str(source))
    if packed:
        (tmp_path / "a.vot.gz").write_bytes(gzip.compress(source.read_bytes()))
        source = tmp_path / "a.vot.gz"
    run(source, target, spectra)
    old, new = parse(str(source)), parse(str(target))
    assert new.description == "A catalogue & more"
    assert [len(t.array) for t in new.iter_tables()] == [32, 3]
    before, after = old.get_first_table(), new.get_first_table()
    assert after.description == "Galaxies"
    for a, b in zip(before.fields, after.fields, strict=False):
        assert (a.name, a.datatype, a.arraysize, a.unit, a.ucd, a.values.null) == (
            *(b.name, b.datatype, b.arraysize, b.unit, b.ucd, b.values.null),
        )
        np.testing.assert_array_equal(before.array[a.name], after.array[a.name])
        np.testing.assert_array_equal(before.array.mask[a.name], after.array.mask[a.name])
    assert [f.name for f in after.fields][-2:] == NEW
    assert after.fields[-2].ucd == "src.redshift"
    check_new(after.to_table(), catalogue["source_id"], truth)
    assert {i.name: i.value for i in after.infos}["model_name"] == "mean"


def test_votable_text_is_copied_to_the_byte(tmp_path, spectra, truth):
    """With prefixes, comments that look like rows, character data sections and null values."""
    one, two = (int(i) for i in spectra.source_id[:2])
    text = textwrap.dedent(
        f"""\
        <?xml version="1.0" encoding="utf-8"?>
        <!-- <TR><TD>9</TD></TR> -->
        <v:VOTABLE version="1.4" xmlns:v="http://www.ivoa.net/xml/VOTable/v1.3"><v:RESOURCE>
        <v:TABLE nrows="3"><v:PARAM name="p" datatype="int" value="1"/>
        <v:FIELD name="source_id" datatype="long"><v:VALUES null="-1"/></v:FIELD>
        <v:FIELD name="n" datatype="char" arraysize="*"/><v:LINK href="http://x.org/a"/>
        <v:DATA><v:TABLEDATA>
        <v:TR><v:TD>{one}</v:TD><v:TD><![CDATA[</TR> & ]]></v:TD></v:TR>
        <v:TR><v:TD> -1 </v:TD><v:TD/></v:TR><!-- </TR> -->
        <v:TR  ><v:TD>{two}</v:TD><v:TD>\u03b1 &amp; &#946;</v:TD></v:TR >
        </v:TABLEDATA></v:DATA></v:TABLE></v:RESOURCE></v:VOTABLE>
        """
    )
    (tmp_path / "a.vot").write_text(text, encoding="utf-8")
    run(tmp_path / "a.vot", tmp_path / "b.vot", spectra)
    got = (tmp_path / "b.vot").read_text(encoding="utf-8")
    rest = got
    for piece in ("<v:TR  >", "</v:TR >", "<![CDATA[</TR> & ]]>", "<!-- </TR> -->", "&#946;"):
        assert piece in rest
    table = parse(str(tmp_path / "b.vot")).get_first_table().to_table()
    assert table["source_id"].filled(-1).tolist() == [one, -1, two]
    np.testing.assert_allclose(
        table["redshift_cnn"].filled(np.nan), [truth[one], np.nan, truth[two]], rtol=1e-6
    )
    assert got.index('name="redshift_cnn"') < got.index("<v:LINK")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<VOTABLE><RESOURCE><TABLE><FIELD name='source_id' datatype='long'/><DATA>",
            "well-formed",
        ),
        ("<VOTABLE/>", "no table with data"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><VOTABLE/>", "entities"),
        (
            "<VOTABLE><RESOURCE><TABLE><FIELD name='source_id' datatype='long'/><DATA><BINARY>"
            "<STREAM href='file:///etc/passwd'/></BINARY></DATA></TABLE></RESOURCE></VOTABLE>",
            "elsewhere",
        ),
        (
            "<VOTABLE><RESOURCE><TABLE><FIELD name='source_id' datatype='long'/><DATA><BINARY>"
            "<STREAM encoding='base64'>AAAA</STREAM></BINARY></DATA></TABLE></RESOURCE></VOTABLE>",
            "middle of a row",
        ),
    ],
)
def test_votables_that_cannot_be_added_to(tmp_path, spectra, text, message):
    (tmp_path / "a.vot").write_text(text)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "a.vot", tmp_path / "b.vot", spectra)
    assert not (tmp_path / "b.vot").exists()


# --- Parquet ------------------------------------------------------------------------------------


def test_parquet(tmp_path, spectra, truth, catalogue):
    import pyarrow as pa
    from pyarrow import parquet

    catalogue.write(tmp_path / "astropy.parquet")
    run(tmp_path / "astropy.parquet", tmp_path / "b.parquet", spectra)
    before, got = Table.read(tmp_path / "astropy.parquet"), Table.read(tmp_path / "b.parquet")
    check_same(got, before)
    check_new(got, catalogue["source_id"], truth)
    assert got.meta["AUTHOR"] == "A. N. Observer"

    frame = catalogue.to_pandas().set_index("name")
    frame.to_parquet(tmp_path / "pandas.parquet", compression="gzip")
    run(tmp_path / "pandas.parquet", tmp_path / "c.parquet", spectra)
    import pandas as pd

    again = pd.read_parquet(tmp_path / "c.parquet")
    pd.testing.assert_frame_equal(again[frame.columns], frame)
    check_new(Table.from_pandas(again), catalogue["source_id"], truth)

    nested = pa.table(
        {"source_id": spectra.source_id, "list": [[i] * (i % 3) for i in range(30)]},
        metadata={"note": "kept"},
    )
    parquet.write_table(nested, tmp_path / "nested.parquet", compression="zstd")
    run(tmp_path / "nested.parquet", tmp_path / "d.parquet", spectra)
    more = parquet.read_table(tmp_path / "d.parquet")
    assert more.column("list").equals(nested.column("list"))
    assert more.schema.metadata[b"note"] == b"kept"
    assert (
        parquet.ParquetFile(tmp_path / "d.parquet").metadata.row_group(0).column(0).compression
        == "ZSTD"
    )


# --- from the archive ----------------------------------------------------------------------------


@pytest.fixture
def archive(spectra, tmp_path, monkeypatch):
    from dataclasses import replace

    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = replace(spectra, release="DR3")
    with GaiaArchiveDouble(made, make_sources(made, n_without=6)) as double:
        yield double


def test_spectra_come_by_id_or_by_position(tmp_path, archive, truth):
    ids = archive.spectra.source_id
    lines = [f"{ids[3]},a", f"{FIRST_ID},b", ",c", f"{ids[3]},d", "12345,e"]
    (tmp_path / "a.csv").write_text("source_id,n\n" + "\n".join(lines) + "\n")
    options = {"model": Mean(), "archive": {"settings": make_settings(archive)}}
    found = enrich_catalogue(tmp_path / "a.csv", tmp_path / "b.csv", **options)
    got = Table.read(tmp_path / "b.csv")
    np.testing.assert_allclose(got["redshift_cnn"][[0, 3]], truth[int(ids[3])], rtol=1e-6)
    unknown = int(QualityFlag.UNKNOWN_SOURCE_ID)
    assert got["flags_cnn"].tolist() == [0, int(QualityFlag.NO_PUBLIC_XP), unknown, 0, unknown]
    assert found.n_failed == 0
    assert max(archive.asked.values()) == 1

    place = archive.database.query("SELECT source_id, ra, dec FROM gaiadr3.gaia_source")
    own = Table({"RA": place["ra"], "Dec": place["dec"], "m": np.arange(len(place))})[:5]
    own["Dec"][2] += 0.1
    own["RA"].unit = own["Dec"].unit = u.deg
    for ending in ("fits", "vot", "parquet", "csv"):
        own.write(tmp_path / f"p.{ending}", **({"format": "votable"} if ending == "vot" else {}))
        target = tmp_path / f"q.{ending}"
        enrich_catalogue(tmp_path / f"p.{ending}", target, suffix="_x", **options)
        got = Table.read(target, **({"format": "votable"} if ending == "vot" else {}))
        new = ["source_id_x", "separation_gaia_x", "redshift_cnn_x", "flags_cnn_x"]
        assert got.colnames == ["RA", "Dec", "m", *new]
        expected = place["source_id"][:5].tolist()
        got_ids = np.ma.filled(np.ma.asarray(got["source_id_x"]), 0).tolist()
        assert got_ids == [*expected[:2], 0, *expected[3:]], ending
        assert got["flags_cnn_x"][2] == QualityFlag.NO_GAIA_SOURCE
    own["RA"].unit = u.m
    own.write(tmp_path / "h.fits")
    with pytest.raises(InputError, match="has unit m, no angle: degrees are needed"):
        enrich_catalogue(tmp_path / "h.fits", tmp_path / "i.fits", **options)
    own["RA"] = (np.asarray(own["RA"]) * u.deg).to(u.rad)
    for ending in ("fits", "vot", "parquet", "ecsv"):
        own.write(tmp_path / f"r.{ending}", **({"format": "votable"} if ending == "vot" else {}))
        enrich_catalogue(tmp_path / f"r.{ending}", tmp_path / f"s.{ending}", suffix="_x", **options)
        got = read_table(tmp_path / f"s.{ending}")["source_id_x"]
        assert np.ma.filled(np.ma.asarray(got), 0).tolist() == got_ids, ending


def test_ids_that_fits_stores_with_a_zero_point_are_found(tmp_path, spectra, truth):
    ids = spectra.source_id.astype("u8")
    columns = [fits.Column("source_id", "K", bzero=2**63, array=ids)]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    found = run(tmp_path / "a.fits", tmp_path / "b.fits", spectra)
    assert found.n_redshifts == 30
    got = Table.read(tmp_path / "b.fits")
    assert got["source_id"].tolist() == spectra.source_id.tolist()
    np.testing.assert_allclose(got["redshift_cnn"], list(truth.values()), rtol=1e-6)


@pytest.mark.parametrize("name", ["gaia_source_id", "DR3_Source_ID", "Source", "SOURCE_ID"])
def test_ids_are_found_by_any_of_their_names(tmp_path, spectra, name):
    lines = "".join(f"{i},{i}\n" for i in spectra.source_id)
    (tmp_path / "a.csv").write_text(f"\ufeffn,{name}\n{lines}", encoding="utf-8")
    assert run(tmp_path / "a.csv", tmp_path / "b.csv", spectra).n_redshifts == 30


def test_a_column_source_of_names_is_none_of_ids(tmp_path, spectra, archive):
    (tmp_path / "a.csv").write_text("source,ra,dec\nSDSS,1,2\n")
    options = {"model": Mean(), "archive": {"settings": make_settings(archive)}}
    found = enrich_catalogue(tmp_path / "a.csv", tmp_path / "b.csv", **options)
    assert found.columns[0] == "source_id"


def test_csv_cut_inside_its_last_quotes_is_refused_and_comments_mean_nothing(tmp_path, spectra):
    ids = spectra.source_id
    whole = f'source_id,n\n{ids[0]},a\n#,"x\n{ids[1]},"b"\n'
    (tmp_path / "a.csv").write_text(whole)
    assert run(tmp_path / "a.csv", tmp_path / "b.csv", spectra).n_rows == 2
    lines = (tmp_path / "b.csv").read_text().splitlines()
    assert lines[2] == '#,"x'
    assert lines[3].startswith(f'{ids[1]},"b",0.')
    (tmp_path / "a.csv").write_text(whole[:-2])
    with pytest.raises(InputError, match="ends inside a quoted cell"):
        run(tmp_path / "a.csv", tmp_path / "c.csv", spectra)
    assert not (tmp_path / "c.csv").exists()


@pytest.mark.parametrize("ending", ["csv.gz", "fits.gz", "vot.gz", "fits", "parquet"])
def test_damaged_catalogues_are_one_error(tmp_path, spectra, ending):
    path = tmp_path / f"a.{ending}"
    write_table(Table({"source_id": spectra.source_id, "n": np.linspace(0, 1, 30)}), path)
    data = path.read_bytes()
    for at in range(8, len(data), max(len(data) // 40, 1)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        try:
            run(path, tmp_path / f"b.{ending}", spectra, overwrite=True)
        except InputError as error:
            assert "a." in str(error)  # noqa: PT017
    assert {p.name for p in tmp_path.iterdir()} <= {path.name, f"b.{ending}"}


def test_votables_in_utf_16_are_refused(tmp_path, spectra):
    table = Table({"source_id": spectra.source_id})
    table.write(tmp_path / "a.vot", format="votable")
    text = (tmp_path / "a.vot").read_text().split("?>", 1)[1]
    (tmp_path / "a.vot").write_text(text, encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16; UTF-8 is needed"):
        run(tmp_path / "a.vot", tmp_path / "b.vot", spectra)


def test_votables_that_lack_rows_that_they_claim_are_refused(tmp_path, spectra):
    table = Table({"source_id": spectra.source_id})
    table.write(tmp_path / "a.vot", format="votable")
    text = (tmp_path / "a.vot").read_text().replace("<TABLE>", '<TABLE nrows="31">')
    (tmp_path / "a.vot").write_text(text)
    with pytest.raises(InputError, match="has 30 rows, and says that it has 31"):
        run(tmp_path / "a.vot", tmp_path / "b.vot", spectra)


class Wide(Mean):
    """One that gives intervals and takes a prior."""

    def predict(self, flux, flux_error=None, prior=None):
        found = super().predict(flux)
        shift = 0.0 if prior is None else 0.5
        lower, upper = found.redshift - 0.1, found.redshift + 0.1 + shift
        return SimpleNamespace(redshift=found.redshift, flags=None, lower=lower, upper=upper)


def test_intervals_are_added_even_where_no_row_has_any(tmp_path, archive, spectra, truth):
    ids = [int(i) for i in spectra.source_id[:2]]
    settings = {"settings": make_settings(archive)}
    names = ["redshift_cnn", "redshift_cnn_lower", "redshift_cnn_upper", "flags_cnn"]
    for number, rows in enumerate(([12345, FIRST_ID], [*ids, FIRST_ID])):
        (tmp_path / "a.csv").write_text("source_id\n" + "".join(f"{i}\n" for i in rows))
        for where in ({"archive": settings}, {"spectra": spectra}):
            target = tmp_path / f"{number}{len(where)}{'spectra' in where}.csv"
            options = {"model": Wide(), "prior": "flat"} | where
            enrich_catalogue(tmp_path / "a.csv", target, **options)
            table = Table.read(target, fill_values=("", "nan"))
            assert table.colnames == ["source_id", *names]
            got = np.ma.filled(np.ma.asarray(table["redshift_cnn_upper"]).astype(float), np.nan)
            expected = [truth[i] + 0.6 if i in truth else np.nan for i in rows]
            np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_what_fails_is_told_and_asked_again(tmp_path, archive):
    ids = archive.spectra.source_id
    (tmp_path / "a.csv").write_text("source_id\n" + "\n".join(map(str, ids[:15])) + "\n")
    settings = make_settings(archive, tries=1, parallel=1)
    archive.faults.append(Fault("status", skip=1, status=400))
    options = {"model": Mean(), "archive": {"settings": settings}}
    first = enrich_catalogue(tmp_path / "a.csv", tmp_path / "b.csv", **options)
    assert 0 < first.n_failed < 15
    again = enrich_catalogue(tmp_path / "a.csv", tmp_path / "b.csv", overwrite=True, **options)
    assert (again.n_failed, again.n_redshifts) == (0, 15)


# --- refusals, and length -------------------------------------------------------------------------


def test_refusals(tmp_path, spectra, catalogue):
    path = tmp_path / "a.csv"
    path.write_text("id,b\n1,2\n")
    for target, options, message in (
        ("b.csv", {}, "neither source ids nor positions"),
        ("b.csv", {"source_id": "nothing"}, "no column 'nothing'"),
        ("b.fits", {}, "own format"),
        ("b.doc", {}, "unknown ending"),
        ("a.csv", {}, "exists already"),
        ("none/b.csv", {}, "no folder"),
    ):
        with pytest.raises(InputError, match=message):
            run(path, tmp_path / target, spectra, **options)
    path.write_text("source_id,flags_cnn\n1,2\n")
    with pytest.raises(InputError, match="'flags_cnn' already"):
        run(path, tmp_path / "b.csv", spectra)
    path.write_text("source_id\n1.5\n")
    with pytest.raises(InputError, match="no source_id"):
        run(path, tmp_path / "b.csv", spectra)
    path.write_text("ra,dec\n1.5,2\n")
    with pytest.raises(InputError, match="no column of source ids"):
        run(path, tmp_path / "b.csv", spectra)
    (tmp_path / "x.fits").write_bytes(b"SIMPLE")
    with pytest.raises(InputError, match="FITS"):
        run(tmp_path / "x.fits", tmp_path / "b.fits", spectra)


LONG = """
import sys, numpy as np
from gaia_redshift.enrich import catalogue
def find_nothing(cells, **options):
    n = len(next(iter(cells.values())))
    return {"redshift_cnn": np.full(n, 0.1, np.float32), "flags_cnn": np.zeros(n, np.int32)}
catalogue.predict_from_archive = find_nothing
for name in sys.argv[1:]:
    catalogue.enrich_catalogue(name, name.replace("in_", "out_"), model="kiraleos2023")
    # Not ru_maxrss: that of a new process is never below its parent's.
    print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def write_long(path, n):
    """A catalogue of wide rows, written without building it as a document."""
    text = "x" * 200
    if path.suffix in (".csv", ".vot"):
        head, row, tail = {
            ".csv": ("source_id,name\n", "{},{}\n", ""),
            ".vot": (
                "<VOTABLE><RESOURCE><TABLE><FIELD name='source_id' datatype='long'/>"
                "<FIELD name='name' datatype='char' arraysize='*'/><DATA><TABLEDATA>\n",
                "<TR><TD>{}</TD><TD>{}</TD></TR>\n",
                "</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>",
            ),
        }[path.suffix]
        path.write_text(head + "".join(row.format(FIRST_ID + i, text) for i in range(n)) + tail)
        return
    table = Table({"source_id": np.arange(n) + FIRST_ID, "name": np.full(n, text.encode())})
    if path.suffix == ".xml":
        parts = [np.zeros(n, "u1"), table["source_id"].data.astype(">i8"), table["name"].data]
        rows = np.rec.fromarrays(parts).tobytes()
        head = (
            "<VOTABLE><RESOURCE><TABLE><FIELD name='source_id' datatype='long'/>"
            "<FIELD name='name' datatype='char' arraysize='200'/><DATA><BINARY2>"
            "<STREAM encoding='base64'>"
        )
        tail = b"</STREAM></BINARY2></DATA></TABLE></RESOURCE></VOTABLE>"
        path.write_bytes(head.encode() + base64.encodebytes(rows) + tail)
        return
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table(dict(table.items())), path)
        return
    table.write(path)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process its peak memory")
def test_memory_does_not_depend_on_the_length(tmp_path):
    """300,000 rows, 60 MB of them, need as much memory as 30,000 but for what allocators keep."""
    lengths = 30_000, 300_000  # in turn: what a format loads counts for both
    endings = ("fits", "parquet", "csv", "vot", "xml")
    files = [tmp_path / f"in_{n}.{ending}" for ending in endings for n in lengths]
    for path in files:
        write_long(path, int(path.stem[3:]))
    done = subprocess.run(
        [sys.executable, "-c", LONG, *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peaks = list(map(int, done.stdout.split()))
    grown = {ending: peaks[2 * i + 1] - peaks[2 * i] for i, ending in enumerate(endings)}
    assert max(grown.values()) < 25_000, grown  # kB; at most 9,000 seen
