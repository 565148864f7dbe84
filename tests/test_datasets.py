"""Training sets: from redshifts, ids and spectra to one file without leaks, and what is refused."""

import contextlib
import gc
import json
import re
import shutil
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from archive_samples import make_settings, make_sources, make_spectra
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from doubles.gaia_archive import Fault, GaiaArchiveDouble
from doubles.xmatch import CdsDouble
from pyarrow import parquet
from sky import make_specobj, shift, to_sdss16

from gaia_redshift import SamplingGrid, load_model, read_spectra, sample_spectra, write_spectra
from gaia_redshift.cli import main
from gaia_redshift.datasets import (
    GalaxyDataset,
    SkySplit,
    TrainingCuts,
    build_training_set,
    check_dataset,
    check_separate,
    find_regions,
    is_dataset,
    pieces,
    read_dataset,
    split_regions,
)
from gaia_redshift.errors import ArchiveError, GaiaRedshiftWarning, InputError
from gaia_redshift.spectra import FluxVectors

PARTS = ["train", "validation", "test"]
N = 240


@pytest.fixture(scope="module")
def spectra():
    made = make_spectra(N, k=55)
    for band in (made.bp, made.rp):
        band.coefficients[:, 0] = np.linspace(3e4, 9e4, N)
        band.correlations[:] *= 0.01
    return replace(made, release="DR3")


@pytest.fixture(scope="module")
def sources(spectra):
    """Gaia sources with photometry, ten of them without spectrum, two without a colour."""
    table = make_sources(spectra, n_without=10)
    table["phot_bp_mean_mag"] = np.where(np.arange(len(table)) < 2, np.nan, 17.0)
    table["phot_rp_mean_mag"] = 16.0
    return table


@pytest.fixture(scope="module")
def specobj(sources):
    """SDSS's spectra of all sources, some of stars, some doubtful, some too far away."""
    rng = np.random.default_rng(2)
    n = len(sources)
    ra, dec = shift(sources["ra"].data, sources["dec"].data, *rng.normal(0, 0.05, (2, n)))
    table = make_specobj(np.arange(n), ra, dec)
    table["z"] = 0.05 + 0.002 * np.arange(n)  # to 0.55
    table["zWarning"][10:14] = 4
    table["class"][14:17] = "STAR"
    table["z"][17:20] = 0.61
    table["z"][20] = -0.001
    return table[np.arange(n) != 21]


@pytest.fixture
def archive(spectra, sources, tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.delenv("GAIA_REDSHIFT_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with GaiaArchiveDouble(spectra, sources) as double:
        yield double


def build(tmp_path, archive, name="t.parquet", settings=None, **options):
    settings = settings or make_settings(archive, chunk_size=50)
    return build_training_set(tmp_path / name, archive={"settings": settings}, **options)


QUERY = (
    "SELECT source_id, ra, dec, phot_g_mean_mag, phot_bp_mean_mag, phot_rp_mean_mag"
    " FROM gaiadr3.gaia_source"
)


# --- building ------------------------------------------------------------------------------------


def test_from_query_crossmatch_and_archive(tmp_path, archive, spectra, sources, specobj):
    manifest = build(tmp_path, archive, sources=QUERY, catalogue=specobj, piece_rows=100)
    removed = {line["cut"]: line["removed"] for line in manifest["counts"]}
    assert removed == {
        "given": 0,
        "repeated": 0,
        "matched": 1,
        "good_redshift": 7,
        "clean_match": 0,
        "redshift_range": 4,
        "photometry": 2,
        "spectrum": 10,
        "usable_spectrum": 0,
    }
    left = N + 10 - 24
    assert manifest["counts"][-1]["left"] == manifest["galaxies"] == left
    assert manifest["sources"]["query"] == QUERY
    assert manifest["labels"]["survey"] == "sdss"
    assert manifest["release"] == "DR3"
    assert not manifest["simulated"]

    found = read_dataset(tmp_path / "t.parquet")
    assert len(found) == left
    row_of = {int(i): row for row, i in enumerate(sources["source_id"])}
    rows = np.array([row_of[int(i)] for i in found.vectors.source_id])
    assert not set(rows) & {0, 1, *range(10, 22), *range(N, N + 10)}
    np.testing.assert_allclose(found.redshift, 0.05 + 0.002 * rows)
    np.testing.assert_allclose(found.redshift_error, 1e-5)
    np.testing.assert_array_equal(found.ra, sources["ra"][rows])
    assert found.vectors.grid == load_model("default").grid
    direct = sample_spectra(spectra[rows], grid=found.vectors.grid)
    np.testing.assert_allclose(found.vectors.flux, direct.flux, rtol=1e-6)
    np.testing.assert_allclose(found.vectors.flux_error, direct.flux_error, rtol=1e-6)

    beside = json.loads((tmp_path / "t.parquet.json").read_text())
    assert beside == json.loads(json.dumps(manifest))
    assert {k: v for k, v in beside.items() if k != "sha256"} == found.manifest
    kept = read_dataset(tmp_path / "t.parquet", keep=["phot_g_mean_mag", "class_sdss"])
    np.testing.assert_array_equal(
        kept.vectors.columns["phot_g_mean_mag"], sources["phot_g_mean_mag"][rows]
    )
    assert set(kept.vectors.columns["class_sdss"]) == {"GALAXY"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "t.parquet", "t.parquet.json"]


def test_redshifts_from_a_service(tmp_path, archive, specobj):
    with CdsDouble(to_sdss16(specobj)) as cds:
        settings = make_settings(archive, chunk_size=250, xmatch_url=cds.xmatch_url)
        manifest = build(tmp_path, archive, sources=QUERY, settings=settings)
    assert manifest["galaxies"] == N + 10 - 24
    assert "XMatch" in manifest["labels"]["origin"]


def test_from_files_with_sources_and_a_column(tmp_path, archive, spectra, sources):
    """Two files in another order than the sources; one in neither; a source given twice."""
    folder = tmp_path / "bulk"
    folder.mkdir()
    write_spectra(spectra[100:], folder / "a.parquet")
    write_spectra(spectra[:80], folder / "b.csv")
    table = sources["source_id", "ra", "dec"][:N]
    table["z_mine"] = np.linspace(0.01, 0.59, N)
    table["size"] = np.where(np.arange(N) % 10 == 0, -1.0, 2.0)
    table = table[np.r_[np.arange(N), 5]]
    table.write(tmp_path / "mine.fits")
    manifest = build(
        tmp_path,
        archive,
        spectra=folder,
        sources=tmp_path / "mine.fits",
        truth="z_mine",
        cuts=TrainingCuts(required=("size",)),
    )
    removed = {line["cut"]: line["removed"] for line in manifest["counts"]}
    assert (removed["repeated"], removed["required"], removed["spectrum"]) == (1, 24, 18)
    found = read_dataset(tmp_path / "t.parquet")
    rows = [*range(100, N), *range(80)]
    ids = [int(spectra.source_id[i]) for i in rows if i % 10]
    assert found.vectors.source_id.tolist() == ids
    assert archive.requests == []


def test_bulk_files_of_other_parts_of_the_sky_are_not_opened(tmp_path, archive, spectra, sources):
    cell = int(spectra.source_id[0]) >> 43
    folder = tmp_path / "bulk"
    folder.mkdir()
    (folder / f"XpContinuousMeanSpectrum_{cell + 1:06d}-{cell + 9:06d}.csv").write_text("broken")
    near = f"XpContinuousMeanSpectrum_{cell - 3:06d}-{cell:06d}.csv"
    write_spectra(spectra, folder / near)
    table = sources["source_id", "ra", "dec"][:N]
    table["z"] = 0.1
    manifest = build(tmp_path, archive, spectra=folder, sources=table, truth="z")
    assert manifest["galaxies"] == N
    assert manifest["spectra"]["inputs"] == [near]


def test_spectra_with_redshifts_of_their_own(tmp_path, spectra):
    columns = Table({"z": np.linspace(-0.05, 0.65, N), "ra": np.linspace(0, 359, N)})
    columns["dec"] = 10.0
    own = replace(spectra, columns=columns)
    grid = SamplingGrid(bp=(330, 670), rp=(620, 1040))
    target = tmp_path / "t.parquet"
    options = {"truth": "z", "coefficients": True, "grid": grid}
    manifest = build_training_set(target, spectra=own, **options)
    good = (columns["z"] >= 0) & (columns["z"] <= 0.6)
    assert manifest["galaxies"] == good.sum()
    found = read_dataset(tmp_path / "t.parquet")
    np.testing.assert_array_equal(found.redshift, columns["z"][good])
    assert found.vectors.grid == grid
    # With coefficients the file is one of spectra as well: training may sample them elsewhere.
    again = read_spectra(tmp_path / "t.parquet", keep=["redshift"])
    np.testing.assert_array_equal(again.bp.coefficients, spectra.bp.coefficients[good])
    np.testing.assert_array_equal(again.columns["redshift"], found.redshift)


def test_simulated_galaxies(tmp_path, capsys):
    target = tmp_path / "s.parquet"
    assert main(["dataset", "--simulate", "150", "--seed", "3", "-o", str(target)]) == 0
    said = capsys.readouterr().out
    assert "all galaxies are simulated" in said
    assert "150             galaxies given" in said
    found = check_dataset(target)
    assert found.simulated
    assert len(found) == 150
    from gaia_redshift import simulate_spectra

    truth = simulate_spectra(150, seed=3, correlations=False)
    np.testing.assert_array_equal(found.redshift, truth.columns["redshift_true"])
    assert np.isnan(found.ra).all()
    assert main(["dataset", "--check", str(target)]) == 0
    assert "no leaks, sha256 as in the manifest" in capsys.readouterr().out
    with target.open("r+b") as stream:
        stream.seek(200)
        stream.write(b"\0\1\2")
    assert main(["dataset", "--check", str(target)]) == 1


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["sources", "labels", "spectra"])
@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_table_corrected_during_an_interruption_is_told(
    tmp_path, spectra, monkeypatch, what, where
):
    def make(wrong):
        z = np.round(np.linspace(0.1, 0.3, N), 3)
        rows = {"source_id": spectra.source_id, "ra": np.arange(N) + 0.5, "dec": np.zeros(N)}
        made = {
            "sources": Table({**rows, "z": z}),
            "labels": Table({**rows, "z": z}),
            "spectra": replace(spectra, columns=Table({"z": z})),
        }
        if wrong:  # one digit of one row
            table = made[what].columns if what == "spectra" else made[what]
            table["z"][7] = round(table["z"][7] + 0.001, 3)
        if where == "file":
            for name, table in made.items():
                path = tmp_path / f"{name}.csv"
                if name == "spectra":
                    write_spectra(table, path, overwrite=True)
                else:
                    table.write(path, overwrite=True)
                made[name] = str(path)
        options = {"spectra": made["spectra"], "truth": "z"}
        if what == "labels":
            columns = {"ra": "ra", "dec": "dec", "redshift": "z"}
            options |= {"truth": None, "catalogue": made["labels"], "survey": "x"}
            options |= {"columns": columns, "sources": made["sources"]}
            options |= {"cuts": TrainingCuts(zwarning=None, classes=None)}
        elif what == "sources":
            options["sources"] = made["sources"]
        return options

    def interrupt(self, piece):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pieces.PieceWriter, "make", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build_training_set(tmp_path / "t.parquet", **make(True))
    with pytest.raises(InputError, match=f"unfinished build with other {what} lies there"):
        build_training_set(tmp_path / "t.parquet", **make(False))


def test_an_interrupted_build_goes_on(tmp_path, archive, specobj, monkeypatch):
    options = {"sources": QUERY, "catalogue": specobj, "piece_rows": 60}
    whole = build(tmp_path, archive, name="whole.parquet", **options)
    shutil.rmtree(tmp_path / "cache" / "gaia_redshift")

    def count_queries():
        return sum(r.fields.get("QUERY") == QUERY for r in archive.of("tap-server/tap/async$"))

    assert count_queries() == 1
    made = []
    real = pieces.PieceWriter.make

    def stop_at_third(self, piece):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(piece.name)
        return real(self, piece)

    with monkeypatch.context() as patch:
        patch.setattr(pieces.PieceWriter, "make", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, archive, **options)
    assert not (tmp_path / "t.parquet").exists()
    assert count_queries() == 2
    archive.requests.clear()

    with pytest.raises(InputError, match=r"unfinished build with other cuts lies there"):
        build(tmp_path, archive, **options, cuts=TrainingCuts(zwarning=None))
    again = build(tmp_path, archive, **options)
    assert count_queries() == 0, "the query is not asked again"
    fetched = set(archive.asked)
    first = read_dataset(tmp_path / "t.parquet").vectors.source_id[:100]
    assert not fetched & set(first.tolist())
    assert again["counts"] == whole["counts"]
    a, b = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("t", "whole"))
    assert a.equals(b)


def test_spectra_that_fail_stop_the_build_and_are_asked_again(tmp_path, archive, specobj):
    settings = make_settings(archive, chunk_size=50, tries=2, parallel=1)
    options = {"settings": settings, "sources": QUERY, "catalogue": specobj}
    archive.faults.append(Fault("status", skip=1, status=400, times=1))
    with pytest.raises(ArchiveError, match=r"\d+ of the spectra could not be fetched; the same"):
        build(tmp_path, archive, **options)
    assert not (tmp_path / "t.parquet").exists()
    assert build(tmp_path, archive, **options)["galaxies"] == N + 10 - 24


def test_memory_does_not_hold_the_spectra(tmp_path, spectra):
    """Files of 30 times 240 galaxies more need less than their vectors, 1.5 kB a galaxy."""
    columns = Table({"z": np.full(N, 0.1), "dec": np.full(N, 1.0), "ra": np.linspace(0, 350, N)})
    peaks = []
    for n in (2, 2, 32):
        gc.collect()
        parts = [
            replace(spectra, source_id=spectra.source_id + 2 * N * i, columns=columns)
            for i in range(n)
        ]
        target = tmp_path / f"{len(peaks)}.parquet"
        tracemalloc.start()
        build_training_set(target, spectra=parts, truth="z")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - max(peaks[:2]) < 30 * N * 800, peaks


# --- splits --------------------------------------------------------------------------------------


def test_regions_are_healpix_cells_of_the_id_or_the_position():
    """Against astropy's own way from positions, which knows nothing of source ids."""
    from astropy_healpix import HEALPix

    rng = np.random.default_rng(0)
    cell12 = rng.integers(0, 12 * 4**12, 500)
    ids = (cell12 << 35) + rng.integers(0, 2**35, 500)
    centre = HEALPix(4096, order="nested", frame="icrs").healpix_to_skycoord(cell12)
    nothing = np.full(500, np.nan)
    by_id = find_regions(ids, nothing, nothing)
    by_place = find_regions(ids, centre.ra.deg, centre.dec.deg, together=0)
    np.testing.assert_array_equal(by_id, by_place)
    coarse = HEALPix(32, order="nested", frame="icrs").skycoord_to_healpix(centre)
    np.testing.assert_array_equal(by_place, coarse)


def test_twins_across_a_border_and_repeated_ids_stay_together():
    from astropy_healpix import HEALPix

    pix = HEALPix(32, order="nested", frame="icrs")
    corner = pix.boundaries_skycoord(1000, 1)[0][0]
    around = corner.directional_offset_by(np.arange(8) * 45 * u.deg, 1 * u.arcsec)
    ra, dec = around.ra.deg, around.dec.deg
    assert len(set(pix.skycoord_to_healpix(around))) > 1
    ids = np.arange(10, dtype=np.int64) + 1
    far = SkyCoord(120 * u.deg, -40 * u.deg)
    ids[9] = 1  # the first once more, seen elsewhere
    ra, dec = np.r_[ra, far.ra.deg, 200.0], np.r_[dec, far.dec.deg, 10.0]
    region = find_regions(ids, ra, dec)
    assert len(set(region[[*range(8), 9]])) == 1
    assert region[8] != region[0]
    apart = find_regions(ids[:8], ra[:8], dec[:8], together=0)
    assert len(set(apart)) > 1


def test_splits_have_their_fractions_and_do_not_depend_on_the_order():
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    ids = np.arange(20_000) + 1
    region = find_regions(ids, ra, dec)
    part = split_regions(region)
    for name, fraction in zip(PARTS, (0.63, 0.27, 0.10), strict=True):
        assert abs((part == name).mean() - fraction) < 0.005
    parts_of = {}
    for cell, name in zip(region.tolist(), part.tolist(), strict=True):
        parts_of.setdefault(cell, set()).add(name)
    assert all(len(names) == 1 for names in parts_of.values())
    order = rng.permutation(20_000)
    np.testing.assert_array_equal(split_regions(region[order]), part[order])
    assert (split_regions(region, seed=2) != part).mean() > 0.3
    # A larger set of the same seed moves few galaxies between the parts.
    fewer = split_regions(region[:10_000])
    assert (fewer == part[:10_000]).mean() > 0.97


def test_too_few_regions():
    with pytest.raises(InputError, match="2 regions of the sky, too few"):
        split_regions(np.array([1, 1, 2]))
    region = np.repeat(np.arange(10), [40, 40, 3, 3, 3, 3, 3, 3, 1, 1])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for seed in range(20):
            with contextlib.suppress(InputError):
                part = split_regions(region, seed=seed)
    assert told
    for one in told:
        assert one.category is GaiaRedshiftWarning
        assert re.match(r"the \w+ part has [0-9.]+ % .* instead of \d+ %", str(one.message))
    assert set(part) == set(PARTS)
    wrong = {"fractions": (0.5, 0.5, 0.5), "healpix_order": 13, "seed": -1, "together": -1.0}
    for name, value in wrong.items():
        with pytest.raises(InputError, match=name):
            SkySplit(**{name: value})


# --- what is refused ------------------------------------------------------------------------------


def make_dataset(n=200, **changes):
    rng = np.random.default_rng(0)
    vectors = FluxVectors(np.arange(n) + 1, rng.random((n, 186)))
    content = {
        "redshift": np.linspace(0, 0.6, n),
        "split": np.array(PARTS)[np.arange(n) % 3],
        "region": np.arange(n) % 30,
        "ra": rng.uniform(0, 360, n),
        "dec": np.linspace(-60, 60, n),
    }
    content.update(changes)
    return GalaxyDataset(vectors, **content)


def change(name, rows, value):
    values = np.array(getattr(make_dataset(), name))
    values[rows] = value
    return {name: values}


REFUSALS = [
    (change("redshift", 7, np.nan), r"1 of 200 rows \(the first is row 8\) have no redshift"),
    (change("redshift", [3, 4], 0.7), r"2 of 200 rows .*outside 0 to 0.6 \(they reach .* to 0.7\)"),
    (change("redshift", 0, -0.01), r"1 of 200 rows .*outside 0 to 0.6"),
    (change("split", 5, "trian"), "'split' holds 'trian'"),
    (change("split", slice(None), "train"), "the validation part is empty"),
    (change("region", 1, 0), r"leak: 1 times the same region .*\(region 0 in train and validation"),
    ({"ra": np.r_[10, 10.0001, np.full(198, np.nan)], "dec": np.zeros(200)}, "leak: .*2 arcsec"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS)
def test_bad_sets_are_refused_in_one_line(changes, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        check_dataset(make_dataset(**changes))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        read_dataset(write(tmp_path / "bad.parquet", make_dataset(**changes)))


def test_good_sets_pass(tmp_path):
    good = make_dataset()
    assert check_dataset(good) is good
    found = read_dataset(write(tmp_path / "good.parquet", good))
    assert repr(found) == repr(good)
    np.testing.assert_allclose(found.vectors.flux, good.vectors.flux, rtol=1e-6)
    assert found.vectors.flux.dtype == np.float32
    assert found.vectors.flux_error is None
    test = read_dataset(tmp_path / "good.parquet", part="test")
    assert set(test.split) == {"test"}
    np.testing.assert_array_equal(test.vectors.flux, found.part("test").vectors.flux)
    assert sorted(np.concatenate(list(found.rows.values()))) == list(range(200))
    assert is_dataset(tmp_path / "good.parquet")


def test_leaks_by_source_small_sets_and_bad_fluxes():
    repeated = make_dataset()
    repeated.vectors.source_id[:] = np.r_[1, 1, np.arange(198) + 5]
    with pytest.raises(InputError, match=r"the same source .*\(source_id 1 in train and valid"):
        check_dataset(repeated)
    with pytest.raises(InputError, match="holds 50 galaxies; a training needs at least 100"):
        check_dataset(make_dataset(50, region=np.arange(50) % 3))
    assert check_dataset(make_dataset(51, region=np.arange(51) % 3), minimum=50)
    bad = make_dataset()
    bad.vectors.flux[3, 4] = np.inf
    with pytest.raises(InputError, match=r"1 of 200 rows .*row 4\) have fluxes"):
        check_dataset(bad)
    assert check_dataset(make_dataset(**change("redshift", 0, 0.9)), redshift_range=(0, 1))


def write(path, dataset, leave_out=(), **columns):
    content = {
        "source_id": dataset.vectors.source_id,
        **{name: getattr(dataset, name) for name in ("ra", "dec", "redshift", "split", "region")},
        "flux": pa.array(dataset.vectors.flux.tolist()),
        **columns,
    }
    parquet.write_table(pa.table({k: v for k, v in content.items() if k not in leave_out}), path)
    return path


@pytest.mark.parametrize("name", ["source_id", "redshift", "split", "flux"])
def test_missing_columns_are_named(tmp_path, name):
    path = write(tmp_path / "a.parquet", make_dataset(), leave_out=[name])
    with pytest.raises(InputError, match=f"has no column '{name}'") as caught:
        read_dataset(path)
    assert "\n" not in str(caught.value)


def test_columns_of_the_wrong_kind(tmp_path):
    good = make_dataset()
    for columns, message in (
        ({"source_id": good.vectors.source_id.astype(float)}, "not integers"),
        ({"redshift": ["x"] * 200}, "does not hold numbers"),
        ({"flux": pa.array([[1.0, 2.0]] * 200)}, "186 numbers a row"),
        ({"flux": good.redshift}, "186 numbers a row"),
        ({"redshift": pa.array([None] + [0.1] * 199)}, "have no redshift"),
        ({"flux": pa.array([None, *good.vectors.flux[1:].tolist()])}, r"row 1\) have fluxes"),
    ):
        with pytest.raises(InputError, match=message):
            read_dataset(write(tmp_path / "a.parquet", good, **columns))
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no Parquet file"):
        read_dataset(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no such file"):
        read_dataset(tmp_path / "c.parquet")
    assert not is_dataset(tmp_path / "b.parquet")


def test_training_and_test_sets_that_share_sources(tmp_path):
    first, second = make_dataset(), make_dataset()
    second.vectors.source_id[:] += 1000
    check_separate(first, second)
    second.vectors.source_id[7] = 9
    path = write(tmp_path / "b.parquet", second)
    with pytest.raises(InputError, match=r"share 1 source \(source_id 9\)"):
        check_separate(first, path)


def test_builds_that_cannot_work(tmp_path, spectra, sources):
    target = tmp_path / "t.parquet"
    table = sources["source_id", "ra", "dec"][:5]
    table["z"] = 0.9
    for options, message in (
        ({"spectra": spectra}, "where do redshifts come from"),
        ({"truth": "z"}, "need sources"),
        ({"spectra": spectra, "truth": "z"}, "no column 'z' of redshifts"),
        ({"spectra": spectra, "sources": table, "truth": "y"}, "no column 'y' of redshifts"),
        (
            {"spectra": spectra, "sources": table, "truth": "z"},
            "no galaxy is left.*removes 5",
        ),
        ({"spectra": spectra, "sources": {"x": [1]}, "truth": "z"}, "no column 'source_id'"),
        ({"spectra": spectra, "sources": tmp_path / "none.fits"}, "no such file"),
        ({"spectra": spectra, "sources": table["source_id",]}, r"no columns ra and dec.*--truth"),
    ):
        with pytest.raises(InputError, match=message):
            build_training_set(target, **options)
        shutil.rmtree(tmp_path / "t.parquet.parts", ignore_errors=True)
    with pytest.raises(InputError, match=r"end its name in \.parquet"):
        build_training_set(tmp_path / "t.fits", spectra=spectra, truth="z")
    dr4 = replace(spectra, release="DR4", columns=Table({"z": np.full(N, 0.1)}))
    with pytest.raises(InputError, match="the spectra are of DR4, not of DR3"):
        build_training_set(target, spectra=dr4, truth="z")
    with pytest.raises(InputError, match="rising numbers"):
        TrainingCuts(redshift_range=(0.6, 0.0))


def test_the_command(tmp_path, archive, spectra, sources, specobj, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_spectra(spectra, "spectra.parquet")
    sources.write("sources.csv")
    specobj.write("specobj.fits")
    command = ["dataset", "spectra.parquet", "--ids", "sources.csv", "-o", "t.parquet"]
    assert main([*command, "--catalogue", "specobj.fits", "--redshifts", "0.1,0.5"]) == 0
    said = capsys.readouterr().out
    assert "training set: t.parquet" in said
    assert "the redshift lies in the range" in said
    assert read_dataset("t.parquet").redshift.min() >= 0.1
    for arguments, message in (
        (["dataset"], "give -o FILE"),
        (["dataset", "-o", "x.parquet"], "give files of spectra"),
        (["dataset", "--check", "spectra.parquet"], "has no column 'redshift'"),
        (["dataset", "--check", "t.parquet", "-o", "x.parquet"], "makes none"),
        ([*command, "--redshifts", "0.1"], "takes 2 numbers"),
        (command, "exists already"),
    ):
        assert main(arguments) == 1
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
