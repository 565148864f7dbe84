"""The scripts in ``catalogs`` run, offline on the demo data and against a double of the archive."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archive_samples import make_sources, make_spectra
from astropy.table import Table
from doubles.gaia_archive import GaiaArchiveDouble
from pyarrow import parquet

from gaia_redshift import predict_table, read_table, write_table
from gaia_redshift.cli import main
from gaia_redshift.datasets import read_dataset

FOLDER = Path(__file__).parents[1] / "catalogs"
DEMO = FOLDER / "demo_galaxies.parquet"
SCRIPTS = sorted(p.stem for p in FOLDER.glob("*.py"))

pytestmark = pytest.mark.skipif(not DEMO.exists(), reason="the catalogs are in the repository")


def load(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def predicted():
    return predict_table(DEMO, keep=["redshift_true"])


@pytest.fixture
def archive(tmp_path, monkeypatch):
    made = replace(make_spectra(30, k=55), release="DR3")
    for band in (made.bp, made.rp):
        band.coefficients[:, 0] = np.linspace(3e4, 9e4, 30)
    sources = make_sources(made, n_without=4)
    sources["phot_bp_mean_mag"], sources["phot_rp_mean_mag"] = 17.0, 16.0
    sources["ra"], sources["dec"] = 10 + np.arange(34) / 100, 5.0
    sources["phot_g_mean_mag"] = 17.0
    ugc = Table({"source_id": sources["source_id"]})
    for name in ("redshift_ugc", "redshift_ugc_lower", "redshift_ugc_upper"):
        ugc[name] = 0.1 + np.arange(34) / 1000
    ugc["radius_sersic"] = 1.0
    ugc["classlabel_dsc_joint"], ugc["vari_best_class_name"] = "galaxy", ""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tables = {"gaiadr3.galaxy_candidates": ugc}
    with GaiaArchiveDouble(made, sources, tables) as double:
        monkeypatch.setenv("GAIA_REDSHIFT_TAP_URL", double.tap_url)
        monkeypatch.setenv("GAIA_REDSHIFT_DATA_URL", double.data_url)
        yield double


def test_there_are_the_scripts():
    assert set(SCRIPTS) >= {
        "build_sdss_training_set",
        "enrich_ugc_field",
        "plot_redshift_map",
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, capsys):
    if name == "make_demo_catalogue":
        script = [sys.executable, str(FOLDER / f"{name}.py"), "--help"]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert "usage" in done.stdout
        return
    with pytest.raises(SystemExit) as stop:
        load(name).main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert f"python catalogs/{name}.py" in shown, "an example to copy"


def test_a_script_runs_as_one(tmp_path):
    script = [sys.executable, str(FOLDER / "plot_redshift_map.py"), "none.ecsv", "-o", "m.png"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_enrich_the_demo_catalogue(tmp_path, capsys, predicted):
    target = tmp_path / "e.parquet"
    command = ["enrich", str(DEMO), "--spectra", str(DEMO), "-o", str(target)]
    assert main(command) == 0
    assert "500 rows, 500 with a redshift" in capsys.readouterr().out
    before, after = parquet.read_table(DEMO), parquet.read_table(target)
    assert after.select(before.column_names).equals(before)
    np.testing.assert_allclose(after["redshift_cnn"], predicted["redshift_cnn"], rtol=1e-5)
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err


def test_enrich_from_the_archive(tmp_path, capsys, archive):
    ids = [*archive.spectra.source_id[:3].tolist(), 12345]
    (tmp_path / "a.csv").write_text("source_id,n\n" + "".join(f"{i},x\n" for i in ids))
    command = [
        "enrich",
        str(tmp_path / "a.csv"),
        "-o",
        str(tmp_path / "b.csv"),
        "--suffix",
        "_mine",
    ]
    assert main(command) == 0
    assert "4 rows, 3 with a redshift; flags: " in capsys.readouterr().out
    table = Table.read(tmp_path / "b.csv")
    assert table.colnames[:3] == ["source_id", "n", "redshift_cnn_mine"]
    assert archive.of("data-server/data")


def test_a_ugc_field(tmp_path, capsys, archive):
    target = tmp_path / "f.ecsv"
    command = ["--cone", "10.2", "5", "1", "-o", str(target), "--plot", str(tmp_path / "f.png")]
    assert load("enrich_ugc_field").main(command) == 0
    said = capsys.readouterr().out
    assert "30 galaxies, 30 with both redshifts" in said
    assert "without UGC's weak ranges (30)" in said
    table = read_table(target)
    row = {int(i): z for i, z in zip(table["source_id"], table["redshift_ugc"], strict=True)}
    assert row[int(archive.spectra.source_id[3])] == pytest.approx(0.103)
    assert (tmp_path / "f.png").stat().st_size > 5000


def test_a_ugc_field_offline(tmp_path, capsys, predicted):
    galaxies = Table({"source_id": predicted["source_id"][[7, 3, 5]]})
    galaxies["redshift_ugc"] = [0.1, 0.07, 0.29]
    galaxies.add_row([42, 0.2])
    galaxies.write(tmp_path / "g.csv")
    target = tmp_path / "f.fits"
    command = ["--galaxies", str(tmp_path / "g.csv"), "--spectra", str(DEMO), "-o", str(target)]
    assert load("enrich_ugc_field").main(command) == 0
    said = capsys.readouterr().out
    assert "4 galaxies, 3 with both redshifts" in said
    assert "weak ranges (1)" in said
    table = read_table(target)
    assert table["source_id"].tolist() == galaxies["source_id"].tolist()
    np.testing.assert_allclose(
        table["redshift_cnn"][:3], predicted["redshift_cnn"][[7, 3, 5]], rtol=1e-5
    )
    assert table["redshift_cnn"].mask.tolist() == [False] * 3 + [True]
    assert table["flags_cnn"][3] == 3


def test_build_the_demo_training_set(tmp_path, capsys):
    target = tmp_path / "t.parquet"
    assert load("build_sdss_training_set").main(["--demo", "-o", str(target)]) == 0
    assert "all galaxies are simulated" in capsys.readouterr().out
    assert len(read_dataset(target)) == 500


def test_build_from_the_archive(tmp_path, capsys, archive):
    place = archive.database.query("SELECT source_id, ra, dec FROM gaiadr3.gaia_source")
    sdss = Table({"RA_ICRS": place["ra"], "DE_ICRS": place["dec"], "zsp": place["ra"] / 50})
    sdss["f_zsp"], sdss["spCl"] = 0, "GALAXY"
    sdss.write(tmp_path / "sdss.fits")
    target = tmp_path / "t.parquet"
    command = ["-o", str(target), "--catalogue", str(tmp_path / "sdss.fits"), "--level", "12"]
    assert load("build_sdss_training_set").main(command) == 0
    assert "30             the spectrum gives 186 finite fluxes" in capsys.readouterr().out
    found = read_dataset(target, minimum=10)
    np.testing.assert_allclose(found.redshift, found.ra / 50)


def test_maps(tmp_path, capsys, predicted):
    write_table(predicted, tmp_path / "z.ecsv")
    script = load("plot_redshift_map")
    for kind in ("map", "count", "cone"):
        target = tmp_path / f"{kind}.png"
        command = [str(tmp_path / "z.ecsv"), "--kind", kind, "-o", str(target)]
        assert script.main([*command, "--made-up-positions"]) == 0
        assert target.stat().st_size > 10_000
        assert script.main(command) == 1
        assert "no column 'ra'" in capsys.readouterr().err
