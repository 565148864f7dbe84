"""Spectra in physical units, against GaiaXPy itself, and where they are drawn and read."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from gaia_redshift import (
    calibrate_spectra,
    predict_table,
    register_formats,
    sample_spectra,
    simulate_spectra,
    to_specutils,
    write_spectra,
)
from gaia_redshift._quiet import quiet_gaiaxpy
from gaia_redshift.bridges import to_table
from gaia_redshift.errors import InputError
from gaia_redshift.plot import plot_spectrum


@pytest.fixture(scope="module")
def spectra():
    return simulate_spectra(3, seed=8)


@pytest.fixture(scope="module")
def by_gaiaxpy(spectra):
    table = to_table(replace(spectra, columns=None))
    frame = {name: list(table[name]) for name in table.colnames}
    for band in ("bp", "rp"):
        frame[f"{band}_standard_deviation"] = [1.0] * 3
        frame[f"{band}_n_relevant_bases"] = [55] * 3
    with quiet_gaiaxpy():
        import pandas as pd
        from gaiaxpy import calibrate

        return calibrate(pd.DataFrame(frame), save_file=False)


def test_fluxes_and_errors_are_gaiaxpys(spectra, by_gaiaxpy):
    table, positions = by_gaiaxpy
    found = calibrate_spectra(spectra)
    assert found.source_id.tolist() == table["source_id"].tolist()
    np.testing.assert_array_equal(found.wavelength, positions)
    flux, error = np.stack(table["flux"]), np.stack(table["flux_error"])
    np.testing.assert_allclose(found.flux, flux, rtol=1e-6, atol=1e-6 * np.abs(flux).max())
    np.testing.assert_allclose(found.flux_error, error, rtol=1e-4)
    assert "343" in found._repr_html_()


def test_gaiaxpys_progress_bar_is_not_shown(spectra, capfd):
    calibrate_spectra(spectra[:1], np.arange(400.0, 410.0))
    assert capfd.readouterr() == ("", "")


def test_rows_that_cannot_be_calibrated_are_nan(spectra):
    broken = spectra[[0, 1, 2]]
    broken.rp.coefficients[1, 4] = np.nan
    broken.bp.basis_id[2] = 999
    found = calibrate_spectra(broken)
    assert np.isfinite(found.flux).all(axis=1).tolist() == [True, False, False]
    without = replace(spectra, bp=replace(spectra.bp, errors=None, correlations=None))
    assert np.isnan(calibrate_spectra(without).flux_error).all()
    with pytest.raises(InputError, match="of DR4"):
        calibrate_spectra(replace(spectra, release="DR4"))
    with pytest.raises(InputError, match="XPSpectra, not FluxVectors"):
        calibrate_spectra(sample_spectra(spectra))
    with pytest.raises(InputError, match="wavelengths cannot be used"):
        calibrate_spectra(spectra, [100.0, 200.0])


def test_drawn_in_physical_units(spectra):
    axes = plot_spectrum(spectra, row=2, calibrated=True)
    found = calibrate_spectra(spectra)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), found.flux[2], atol=1e-30)
    assert "W m" in axes.get_ylabel()
    with pytest.raises(InputError, match="cannot be calibrated"):
        plot_spectrum(sample_spectra(spectra), calibrated=True)


def test_astropy_and_specutils_read_xp_spectra(spectra, tmp_path):
    specutils = pytest.importorskip("specutils")
    write_spectra(spectra, tmp_path / "s.fits")
    assert register_formats() == ["astropy", "specutils"]
    table = Table.read(tmp_path / "s.fits", format="gaia-xp")
    np.testing.assert_allclose(table["bp_coefficients"], spectra.bp.coefficients)
    assert "redshift_true" in table.colnames
    expected = predict_table(spectra)["redshift_cnn"]
    np.testing.assert_allclose(predict_table(table)["redshift_cnn"], expected, atol=1e-6)
    bp, rp = specutils.SpectrumList.read(tmp_path / "s.fits", format="Gaia XP")
    assert (bp.flux.shape, rp.flux.shape) == ((3, 80), (3, 106))
    whole = specutils.Spectrum.read(tmp_path / "s.fits", format="Gaia XP")
    found = calibrate_spectra(spectra)
    np.testing.assert_allclose(whole.flux.to_value("W m-2 nm-1"), found.flux, rtol=1e-5, atol=1e-21)
    one = to_specutils(spectra, row=1, calibrated=True)
    assert one.meta["source_id"] == int(spectra.source_id[1])
    assert one.flux.shape == (343,)
