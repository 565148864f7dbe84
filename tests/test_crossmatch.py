"""Cross-matches with catalogues at hand, whose truth is known."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.votable.ucd import check_ucd
from astropy.table import MaskedColumn, QTable, Table
from sky import FIELDS, distance, make_field, make_specobj, read_numbers, shift

from gaia_redshift import crossmatch_catalogue, crossmatch_sdss, read_table, write_table
from gaia_redshift.cli import main
from gaia_redshift.crossmatch import MatchFlag
from gaia_redshift.errors import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def make_pair(rng, centre, n=400, spacing=1.2, in_gaia=1.0, in_sdss=1.0):
    """A field of galaxies, those that Gaia has and those that SDSS has, and the true partners."""
    ra, dec = make_field(centre, n, spacing, rng)
    apart = distance(ra[:, None], dec[:, None], ra[None], dec[None])
    alone = ~(np.triu(apart < 0.4, 1).any(axis=0))  # SDSS resolves nothing nearer than that
    ra, dec = ra[alone], dec[alone]
    n = len(ra)
    number = np.arange(n)
    gaia, sdss = rng.random(n) < in_gaia, rng.random(n) < in_sdss
    gaia_ra, gaia_dec = shift(ra, dec, *rng.normal(0, 0.002, (2, n)))
    sdss_ra, sdss_dec = shift(ra, dec, *rng.normal(0, 0.06, (2, n)))
    table = Table({"source_id": number[gaia] + 1, "ra": gaia_ra[gaia], "dec": gaia_dec[gaia]})
    catalogue = make_specobj(number[sdss], sdss_ra[sdss], sdss_dec[sdss])
    truth = np.where(sdss, number, -1)[gaia]
    return table, catalogue, truth


@pytest.mark.parametrize("centre", FIELDS.values(), ids=FIELDS)
def test_every_galaxy_of_a_sparse_field_is_found(rng, centre):
    table, catalogue, truth = make_pair(rng, centre, spacing=60.0, in_gaia=0.8, in_sdss=0.8)
    matched = crossmatch_sdss(table, local=catalogue)
    assert (read_numbers(matched) == truth).all()
    assert (matched["match_flag_sdss"] == 0).all()
    assert (matched["source_id"] == table["source_id"]).all()
    both = truth >= 0
    place = {int(i): row for row, i in enumerate(np.round((catalogue["z"] - 0.01) * 1e4))}
    rows = [place[i] for i in truth[both]]
    expected = distance(
        table["ra"][both], table["dec"][both], catalogue["ra"][rows], catalogue["dec"][rows]
    )
    np.testing.assert_allclose(matched["separation_sdss"][both], expected, atol=1e-6)
    assert matched["separation_sdss"].unit == u.arcsec


@pytest.mark.parametrize("centre", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize(("in_gaia", "in_sdss"), [(1.0, 0.6), (0.6, 1.0), (1.0, 1.0)])
def test_in_a_crowded_field_every_wrong_pair_is_flagged(rng, centre, in_gaia, in_sdss):
    """Galaxies 1.2 arcsec apart, matched within 1 arcsec: many have several neighbours."""
    table, catalogue, truth = make_pair(rng, centre, n=1500, in_gaia=in_gaia, in_sdss=in_sdss)
    matched = crossmatch_sdss(table, local=catalogue)
    found = read_numbers(matched)
    flags = np.asarray(matched["match_flag_sdss"])
    clean = (found >= 0) & (flags == 0)
    assert clean.sum() > 30
    assert (found[clean] == truth[clean]).all()
    wrong = (found >= 0) & (found != truth)
    assert (flags[wrong] & MatchFlag.AMBIGUOUS).all()
    given = found[found >= 0]
    assert len(np.unique(given)) == len(given)  # no object is given twice
    # What is ambiguous by the definition, found by comparing everything with everything.
    apart = distance(
        table["ra"][:, None], table["dec"][:, None], catalogue["ra"][None], catalogue["dec"][None]
    )
    several = (apart <= 1.0).sum(axis=1) > 1
    assert (flags[several & (found >= 0)] & MatchFlag.AMBIGUOUS).all()


def test_an_object_goes_to_the_nearest_of_two_sources():
    table = Table({"source_id": [1, 2], "ra": [10.0, 10.0], "dec": [0.0, 0.6 / 3600]})
    catalogue = make_specobj([7], [10.0], [0.1 / 3600])
    matched = crossmatch_sdss(table, local=catalogue)
    assert read_numbers(matched).tolist() == [7, -1]
    assert matched["match_flag_sdss"].tolist() == [MatchFlag.AMBIGUOUS, MatchFlag.TAKEN]
    assert matched["separation_sdss"].mask.tolist() == [False, True]


def test_a_second_object_just_outside_the_radius_makes_a_distant_match_ambiguous():
    table = Table({"ra": [10.0], "dec": [0.0]})
    catalogue = make_specobj([1, 2], [10.0, 10.0], [0.9 / 3600, -1.1 / 3600])
    assert crossmatch_sdss(table, local=catalogue)["match_flag_sdss"][0] == MatchFlag.AMBIGUOUS
    near = make_specobj([1, 2], [10.0, 10.0], [0.1 / 3600, -1.1 / 3600])
    assert crossmatch_sdss(table, local=near)["match_flag_sdss"][0] == 0


def test_duplicates_of_the_input_get_the_same_answer_in_the_order_asked(rng):
    table, catalogue, truth = make_pair(rng, (0.0, 0.0), n=50, spacing=300.0)
    order = rng.integers(0, len(table), 200)
    repeated = table[order]
    # Rounded positions of the same source_id are still the same source.
    repeated["ra"][100:] = np.round(repeated["ra"][100:], 6)
    matched = crossmatch_sdss(repeated, local=catalogue)
    assert (read_numbers(matched) == truth[order]).all()
    assert (matched["match_flag_sdss"] == 0).all()
    by_position = crossmatch_sdss({"ra": [0.0, 0.0], "dec": [60, 60]}, local=_one(0.0, 60.0))
    assert read_numbers(by_position).tolist() == [3, 3]
    assert by_position["match_flag_sdss"].tolist() == [0, 0]


def test_rows_without_an_id_are_not_one_source():
    """Positions without a Gaia source carry the id 0."""
    table = Table({"source_id": [0, 0], "ra": [1.0, 2.0], "dec": [0.0, 0.0]})
    matched = crossmatch_sdss(table, local=make_specobj([4, 5], [1.0, 2.0], [0.0, 0.0]))
    assert read_numbers(matched).tolist() == [4, 5]


def _one(ra, dec, **columns):
    return make_specobj([3], [ra], [dec], **columns)


def test_repeated_spectra_of_one_object_are_one_object():
    table = {"ra": [10.0], "dec": [20.0]}
    catalogue = make_specobj([1, 1, 1], [10.0] * 3, [20.0, 20.0 + 0.05 / 3600, 20.0])
    catalogue["zErr"] = [3e-5, 1e-5, 2e-5]
    catalogue["z"] = [0.1, 0.1002, 0.0999]
    catalogue["zWarning"] = [0, 4, 0]
    matched = crossmatch_sdss(table, local=catalogue)
    assert matched["redshift_sdss"][0] == 0.0999  # the best without a warning
    assert matched["match_flag_sdss"][0] == 0
    catalogue["z"][0] = 0.3
    assert crossmatch_sdss(table, local=catalogue)["match_flag_sdss"][0] == MatchFlag.CONFLICT
    catalogue["sciencePrimary"] = [1, 0, 0]
    assert crossmatch_sdss(table, local=catalogue)["redshift_sdss"][0] == 0.3


def test_cuts_come_after_the_pairing():
    """The star that the source is must not be replaced by the galaxy beside it."""
    catalogue = make_specobj([1, 2], [10.0, 10.0], [0.0, 0.8 / 3600])
    catalogue["class"] = ["STAR", "GALAXY"]
    matched = crossmatch_sdss({"ra": [10.0], "dec": [0.0]}, local=catalogue)
    assert read_numbers(matched).tolist() == [-1]
    assert matched["class_sdss"][0] == "STAR"
    assert matched["match_flag_sdss"][0] == MatchFlag.AMBIGUOUS | MatchFlag.REJECTED
    matched = crossmatch_sdss({"ra": [10.0], "dec": [0.0]}, local=catalogue, classes=None)
    assert read_numbers(matched).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, -1, -1, -1, -1]),
        ({"zwarning": 16}, [0, 1, -1, -1, -1]),
        ({"zwarning": None}, [0, 1, 2, -1, -1]),
        ({"classes": ("GALAXY", "qso")}, [0, -1, -1, 3, -1]),
        ({"classes": "STAR"}, [-1, -1, -1, -1, 4]),
        ({"zwarning": None, "classes": None}, [0, 1, 2, 3, 4]),
    ],
)
def test_cuts_in_zwarning_and_class(options, expected):
    ra = np.arange(5) * 1.0
    catalogue = make_specobj(np.arange(5), ra, np.zeros(5))
    catalogue["zWarning"] = [0, 16, 20, 0, 0]
    catalogue["class"] = ["GALAXY", "GALAXY", "GALAXY", "QSO", "STAR"]
    matched = crossmatch_sdss({"ra": ra, "dec": np.zeros(5)}, local=catalogue, **options)
    assert read_numbers(matched).tolist() == expected
    rejected = np.array(expected) < 0
    assert (matched["match_flag_sdss"][rejected] == MatchFlag.REJECTED).all()
    assert not matched["zwarning_sdss"].mask.any()


def test_rows_without_a_position_are_flagged_and_kept():
    ra = MaskedColumn([10.0, 10.0, 10.0, np.nan], mask=[False, True, False, False])
    table = Table({"ra": ra, "dec": [0.0, 0.0, 95.0, 0.0]})
    matched = crossmatch_sdss(table, local=_one(10.0, 0.0))
    assert read_numbers(matched).tolist() == [3, -1, -1, -1]
    assert matched["match_flag_sdss"].tolist() == [0, 32, 32, 32]


@pytest.mark.parametrize("kind", ["Table", "QTable", "dict", "pandas", "radians", "names"])
def test_any_kind_of_table_is_taken_and_left_as_it_was(kind):
    plain = Table({"source_id": [2**62 + 1, 5], "ra": [10.0, 30.0], "dec": [0.0, 0.0]})
    options = {}
    if kind == "QTable":
        table = QTable(plain)
        table["ra"], table["dec"] = table["ra"] * u.deg, table["dec"] * u.deg
    elif kind == "dict":
        table = {name: plain[name].tolist() for name in plain.colnames}
    elif kind == "pandas":
        table = plain.to_pandas()
    elif kind == "radians":
        table = plain.copy()
        for name in ("ra", "dec"):
            table[name] = np.radians(table[name])
            table[name].unit = "rad"
    elif kind == "names":
        table = plain.copy()
        table.rename_columns(["ra", "dec"], ["alpha", "delta"])
        options = {"ra": "alpha", "dec": "delta"}
    else:
        table = plain
    before = list(getattr(table, "colnames", table))
    matched = crossmatch_sdss(table, 1 * u.arcsec, local=_one(10.0, 0.0), **options)
    assert read_numbers(matched).tolist() == [3, -1]
    assert int(matched["source_id"][0]) == 2**62 + 1
    assert list(getattr(table, "colnames", table)) == before


def test_columns_have_meanings_and_survive_a_file(tmp_path):
    matched = crossmatch_sdss({"ra": [10.0, 11.0], "dec": [0.0, 0.0]}, local=_one(10.0, 0.0))
    for name in matched.colnames[2:]:
        assert check_ucd(matched[name].info.meta["ucd"], check_controlled_vocabulary=True)
        assert matched[name].info.description
    assert matched["id_sdss"][0] == str(1237648720142532813 + 3)
    for name in ("a.ecsv", "a.fits", "a.vot", "a.parquet"):
        write_table(matched, tmp_path / name)
        again = read_table(tmp_path / name)
        assert again["redshift_sdss"].mask.tolist() == [False, True]
        assert again["match_flag_sdss"].tolist() == [0, 0]
        assert again["class_sdss"][0] == "GALAXY"
        assert again.meta["sdss_radius_arcsec"] == 1.0
        assert again.meta["sdss_classes"] == "GALAXY"


def test_the_users_own_column_of_the_same_name_is_kept():
    table = {"ra": [10.0], "dec": [0.0], "redshift_sdss": [9.0]}
    matched = crossmatch_sdss(table, local=_one(10.0, 0.0))
    assert matched["redshift_sdss_in"][0] == 9.0
    assert read_numbers(matched).tolist() == [3]


def test_no_sources_no_objects_nothing_near():
    empty = crossmatch_sdss({"ra": [1.0], "dec": [2.0]}, local=_one(1.0, 2.0)[:0])
    assert read_numbers(empty).tolist() == [-1]
    assert empty["class_sdss"].mask.all()
    far = crossmatch_sdss({"ra": [1.0], "dec": [2.0]}, local=_one(100.0, 2.0))
    assert far["match_flag_sdss"].tolist() == [0]
    table = Table({"ra": np.zeros(0), "dec": np.zeros(0)})
    assert len(crossmatch_sdss(table, local=_one(1.0, 2.0))) == 0


def make_desi(rng, n=3000):
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    ra[:100], dec[:100] = make_field((0.0, 5.0), 100, 100.0, rng)
    return Table(
        {
            "TARGETID": 39627000000000000 + np.arange(n),
            "TARGET_RA": ra,
            "TARGET_DEC": dec,
            "Z": 0.01 + 1e-4 * np.arange(n),
            "ZERR": np.full(n, 1e-5),
            "ZWARN": np.zeros(n, dtype=np.int64),
            "SPECTYPE": np.full(n, "GALAXY"),
            "ZCAT_PRIMARY": np.ones(n, dtype=bool),
            "unused": rng.random(n),
        }
    )


def write_hats(table, folder, collection=False):
    """Cells of the sky in files of a HATS catalogue's names and properties."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    inner = folder / "desi" if collection else folder
    if collection:
        folder.mkdir()
        text = "#HATS Collection\nobs_collection=desi\nhats_primary_table_url=desi\n"
        (folder / "collection.properties").write_text(text)
    frame = pa.table({name.lower(): np.asarray(table[name]) for name in table.colnames})
    cell = (np.asarray(table["TARGET_RA"]) // 45).astype(int)
    for pixel in np.unique(cell):
        part = inner / "dataset" / "Norder=0" / "Dir=0"
        part.mkdir(parents=True, exist_ok=True)
        pq.write_table(frame.filter(cell == pixel), part / f"Npix={pixel}.parquet")
    (inner / "hats.properties").write_text("hats_col_ra=target_ra\nhats_col_dec=target_dec\n")
    (inner / "dataset" / "_metadata").write_bytes(b"not for us")
    return folder


@pytest.mark.parametrize("form", ["table", "parquet", "fits", "ecsv", "hats", "collection"])
def test_desi_in_any_form_gives_the_same(rng, tmp_path, form):
    desi = make_desi(rng)
    rows = np.r_[rng.permutation(100)[:60], rng.permutation(2900)[:200] + 100]
    ra, dec = shift(
        desi["TARGET_RA"][rows], desi["TARGET_DEC"][rows], *rng.normal(0, 0.05, (2, 260))
    )
    catalogue = desi
    if form in ("hats", "collection"):
        catalogue = write_hats(desi, tmp_path / "hats", form == "collection")
    elif form != "table":
        catalogue = tmp_path / f"zall.{form}"
        desi.write(catalogue)
    matched = crossmatch_catalogue({"ra": ra, "dec": dec}, catalogue, survey="desi")
    assert (read_numbers(matched, "desi") == rows).all()
    assert (matched["match_flag_desi"] == 0).all()
    assert matched["id_desi"][0] == str(desi["TARGETID"][rows[0]])
    assert matched["class_desi"][0] == "GALAXY"


def test_only_the_cells_of_a_hats_catalogue_that_matter_are_read(rng, tmp_path, monkeypatch):
    from gaia_redshift.crossmatch import catalogues

    folder = write_hats(make_desi(rng), tmp_path / "hats")
    read = []
    judge = catalogues._may_matter

    def watch(group, *about):
        answer = judge(group, *about)
        read.extend([group.path] * answer)
        return answer

    monkeypatch.setattr(catalogues, "_may_matter", watch)
    crossmatch_catalogue({"ra": [100.0], "dec": [3.0]}, folder, survey="desi")
    assert len(read) == 1
    assert "Npix=2" in read[0]
    read.clear()  # a source at RA 0 may have its partner on the other side
    crossmatch_catalogue({"ra": [0.0], "dec": [3.0]}, folder, survey="desi")
    assert {path[-9] for path in read} == {"0", "7"}


def test_another_survey_by_its_own_column_names():
    catalogue = {"alpha": [10.0], "delta": [0.0], "cz": [0.05]}
    columns = {"ra": "alpha", "dec": "delta", "redshift": "cz"}
    matched = crossmatch_catalogue(
        {"ra": [10.0], "dec": [0.0]},
        catalogue,
        survey="mine",
        columns=columns,
        zwarning=None,
        classes=None,
    )
    assert matched["redshift_mine"][0] == 0.05
    assert matched["redshift_mine_error"].mask[0]
    assert matched["class_mine"].mask[0]


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (({"ra": [1.0]},), {"local": _one(1, 2)}, "no column dec"),
        (({"ra": ["1h"], "dec": ["2d"]},), {"local": _one(1, 2)}, "degrees as numbers"),
        ((3,), {"local": _one(1, 2)}, "is no table"),
        (({"ra": [1.0], "dec": [2.0]}, 0), {"local": _one(1, 2)}, "radius must be more than 0"),
        (({"ra": [1.0], "dec": [2.0]}, 1 * u.kg), {"local": _one(1, 2)}, "radius must be an angle"),
        (({"ra": [1.0], "dec": [2.0]}, 100), {"local": _one(1, 2)}, "at most 60 arcsec"),
        (({"ra": [1.0], "dec": [2.0]},), {"local": "/no/such.fits"}, "no such file"),
        (({"ra": [1.0], "dec": [2.0]},), {"local": {"ra": [1.0], "dec": [2.0]}}, "for redshift"),
        (({"ra": [1.0], "dec": [2.0]},), {"local": 5}, "no table of redshifts"),
        (({"ra": [1.0], "dec": [2.0]},), {"service": "nowhere"}, "no service 'nowhere'"),
        (({"ra": [1.0], "dec": [2.0]},), {"columns": {}}, "goes with local"),
        (
            ({"ra": [1.0], "dec": [2.0]},),
            {"local": {"ra": [1.0], "dec": [2.0], "z": [0.1]}},
            "zwarning=None",
        ),
        (
            ({"ra": [1.0], "dec": [2.0]},),
            {"local": _one(1, 2), "columns": {"redshift": "zz"}},
            "no column 'zz'",
        ),
        (
            ({"ra": [1.0], "dec": [2.0]},),
            {"local": _one(1, 2), "columns": {"colour": "z"}},
            "'colour' is none of",
        ),
        (({"ra": [1.0], "dec": [2.0]},), {"local": _one(1, 2), "zwarning": -1}, "zwarning"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(arguments, options, words):
    with pytest.raises(InputError, match=words) as error:
        crossmatch_sdss(*arguments, **options)
    assert "\n" not in str(error.value)


def test_an_unknown_survey_must_name_its_columns():
    with pytest.raises(InputError, match="columns of 'lamost' are not known"):
        crossmatch_catalogue({"ra": [1.0], "dec": [2.0]}, _one(1, 2), survey="lamost")


def test_the_separation_agrees_with_astropy(rng):
    table, catalogue, truth = make_pair(rng, (0.0, 89.999), n=30, spacing=60.0)
    matched = crossmatch_sdss(table, local=catalogue)
    here = SkyCoord(table["ra"], table["dec"], unit="deg")
    there = SkyCoord(catalogue["ra"], catalogue["dec"], unit="deg")[truth]
    expected = here.separation(there).arcsec
    np.testing.assert_allclose(matched["separation_sdss"], expected, rtol=1e-6)


def test_command(tmp_path, capsys):
    table = Table({"source_id": [1, 2], "ra": [10.0, 20.0], "dec": [0.0, 0.0]})
    table.write(tmp_path / "in.ecsv")
    _one(10.0, 0.0).write(tmp_path / "spec.fits")
    command = ["crossmatch", str(tmp_path / "in.ecsv"), "-o", str(tmp_path / "out.ecsv")]
    command += ["--catalogue", str(tmp_path / "spec.fits")]
    assert main(command) == 0
    assert "2 rows: 1 redshifts" in capsys.readouterr().out
    assert read_numbers(read_table(tmp_path / "out.ecsv")).tolist() == [3, -1]
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
    columns = ["--survey", "mine", "--columns", "redshift=z,ra=ra,dec=dec", "--overwrite"]
    assert main([*command, *columns, "--zwarning", "any", "--classes", "any"]) == 0
    assert "redshift_mine" in read_table(tmp_path / "out.ecsv").colnames
    capsys.readouterr()
    assert main([*command, "--overwrite", "--service", "xmatch"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
