"""Spectra of different data releases are never mixed up, whatever their files say of themselves."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

import gaia_redshift.sampling.bases as bases
from gaia_redshift import (
    predict_redshift,
    predict_table,
    read_spectra,
    register_basis_set,
    sample_spectra,
)
from gaia_redshift._quiet import quiet_gaiaxpy
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.spectra import BandSpectra, XPSpectra
from gaia_redshift.writers import write_spectra


@pytest.fixture
def no_sets_left(monkeypatch):
    monkeypatch.setattr(bases, "_SETS", dict(bases._SETS))
    bases._cached_design_matrices.cache_clear()
    bases._read_config.cache_clear()
    yield
    bases._cached_design_matrices.cache_clear()
    bases._read_config.cache_clear()


def make_spectra(n_bp=51, n_rp=55, ids=(-1, -1), n=4):
    rng = np.random.default_rng(1)

    def make(k, basis_id):
        values = rng.normal(0, 100, (n, k))
        values[:, 0] = 1e5
        return BandSpectra(values, basis_id=np.full(n, basis_id, dtype=np.int16))

    return XPSpectra(np.arange(1, n + 1) + 10**18, make(n_bp, ids[0]), make(n_rp, ids[1]))


def register(release=None):
    def evaluate(band, where):
        return 1 + np.outer(np.arange(51 if band == "bp" else 55), where) / 1e4

    return register_basis_set("new-set", evaluate, release=release)


@pytest.mark.parametrize("name", ["spectra.parquet", "XP_CONTINUOUS_RAW.csv", "Gaia DR3 x.fits"])
@pytest.mark.parametrize("ids", [(-1, -1), (156, 157)])
def test_a_file_of_another_set_gets_no_redshift_of_dr3(name, ids, tmp_path, no_sets_left):
    write_spectra(make_spectra(ids=ids), tmp_path / name)
    assert read_spectra(tmp_path / name).release is None
    with pytest.warns(GaiaRedshiftWarning, match="set of bases"):
        table = predict_table(tmp_path / name)
    assert table["redshift_cnn"].mask.all()
    assert (table["flags_cnn"] & QualityFlag.UNKNOWN_BASIS).all()

    new = register()
    if max(ids) > 0:
        bases._SETS["new-set"] = replace(new, bp_basis_id=ids[0], rp_basis_id=ids[1])
    with pytest.raises(InputError, match=r"for spectra of DR3.*new-set.*--any-release"):
        predict_table(tmp_path / name)
    vectors = sample_spectra(read_spectra(tmp_path / name))
    with pytest.raises(InputError, match=r"for spectra of DR3.*new-set.*--any-release"):
        predict_redshift(vectors)
    assert len(predict_table(tmp_path / name, any_release=True)) == 4


@pytest.mark.parametrize(
    ("name", "shape", "ids", "release"),
    [
        ("MEAN_SPECTRUM_XP_RAW.csv", (51, 55), (-1, -1), "DR4"),
        ("MEAN_SPECTRUM_XP_DATAMODEL_GAIA.csv", (55, 55), (56, 57), "DR4"),
        ("MEAN_SPECTRUM_XP-Gaia DR4 77.csv", (51, 55), (-1, -1), "DR4"),
        ("gaiadr4_galaxies.csv", (51, 55), (-1, -1), "DR4"),
        ("XP_CONTINUOUS_RAW.csv", (55, 55), (56, 57), "DR3"),
        ("XP_CONTINUOUS_DATAMODEL_GAIA.csv", (55, 55), (-1, -1), "DR3"),
        ("XP_CONTINUOUS-Gaia DR3 77.csv", (55, 55), (-1, -1), "DR3"),
        ("XP_CONTINUOUS-Gaia DR3 77.csv", (51, 55), (-1, -1), None),
        ("mine.csv", (55, 55), (56, 57), "DR3"),
        ("mine.csv", (55, 55), (-1, -1), None),
        ("mine.csv", (55, 55), (56, 157), None),
    ],
)
def test_what_files_say_of_their_release(name, shape, ids, release, tmp_path):
    write_spectra(make_spectra(*shape, ids=ids), tmp_path / name)
    assert read_spectra(tmp_path / name).release == release


def test_a_registered_set_says_its_release(tmp_path, no_sets_left):
    register(release="DR4")
    vectors = sample_spectra(make_spectra())
    with pytest.raises(InputError, match=r"of DR3.*new-set \(of DR4\)"):
        predict_redshift(vectors)


def test_a_model_of_dr4_takes_bases_that_nobody_has_named(no_sets_left):
    from types import SimpleNamespace

    from gaia_redshift.grid import DEFAULT_GRID

    class OfDr4:
        name, version, sha256, grid, uses_errors = "new", "1", "0" * 64, DEFAULT_GRID, False
        manifest = {"trained_on": "nothing", "data_release": "DR4"}  # noqa: RUF012

        def predict(self, flux, flux_error=None, **_):
            return SimpleNamespace(redshift=flux[:, 0] * 0, flags=None, lower=None, upper=None)

    register()
    assert len(predict_redshift(sample_spectra(make_spectra()), model=OfDr4())) == 4
    with pytest.raises(InputError, match=r"for spectra of DR4.*dr3-hermite \(of DR3\)"):
        predict_redshift(sample_spectra(make_spectra(55, 55)), model=OfDr4())


def test_gaiaxpy_with_other_bases_under_the_old_name_is_refused(
    tmp_path, monkeypatch, no_sets_left
):
    with quiet_gaiaxpy():
        from gaiaxpy.config import paths
    path = tmp_path / "bases.xml"
    shutil.copy(paths.hermite_bases_file, path)
    text = path.read_text()
    assert text.count("56") > 0
    path.write_text(text.replace(">56<", ">156<").replace(">57<", ">157<"))
    monkeypatch.setattr(paths, "hermite_bases_file", str(path))
    words = r"GaiaXPy .* ids 156 and 157 .*, not 56 and 57 .*; install gaiaxpy"
    with pytest.raises(InputError, match=words) as caught:
        bases.compute_design_matrices(tabulated=False)
    assert "\n" not in str(caught.value)
    from gaia_redshift.simulate.instrument import _load_band

    with pytest.raises(InputError, match=words):
        _load_band("bp", "bpC03_v375wi", "dr3-hermite", "dr3-hermite")


def test_gaiaxpy_with_longer_bases_is_refused(monkeypatch, no_sets_left):
    wrong = {**bases._SETS, "dr3-hermite": replace(bases._SETS["dr3-hermite"], n_bp=51)}
    monkeypatch.setattr(bases, "_SETS", wrong)
    with pytest.raises(InputError, match=r"with 55 \+ 55 functions, not 56 and 57 with 51 \+ 55"):
        bases.compute_design_matrices(tabulated=False)


def test_tables_in_memory_are_held_apart_too(no_sets_left):
    register()
    spectra = make_spectra()
    table = Table(
        {
            "source_id": spectra.source_id,
            "bp_coefficients": spectra.bp.coefficients,
            "rp_coefficients": spectra.rp.coefficients,
        }
    )
    with pytest.raises(InputError, match="new-set"):
        predict_table(table)
