"""The simulator against what is known of real galaxies, and against GaiaXPy itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gaia_redshift import read_spectra, sample_spectra, simulate_spectra, write_spectra
from gaia_redshift.errors import InputError
from gaia_redshift.grid import SamplingGrid
from gaia_redshift.simulate import simulate_blocks
from gaia_redshift.simulate.calibration import compare_means
from gaia_redshift.simulate.instrument import load_instrument
from gaia_redshift.simulate.noise import draw_noise, triangle_indices
from gaia_redshift.simulate.profile import SCALES, load_profile_maps, smear_coefficients
from gaia_redshift.simulate.real_noise import BAND_SAMPLES, predict_errors, read_real_sources
from gaia_redshift.simulate.survey import Survey, load_parameters

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="module")
def galaxies():
    return simulate_spectra(1200, seed=4)


def test_same_seed_same_galaxies_whatever_the_length_and_blocks(galaxies):
    again = list(simulate_blocks(300, seed=4, block_size=130))
    assert [len(block) for block in again] == [130, 130, 40]
    coefficients = np.concatenate([block.bp.coefficients for block in again])
    np.testing.assert_array_equal(coefficients, galaxies.bp.coefficients[:300])
    other = simulate_spectra(10, seed=5)
    assert not np.array_equal(other.source_id, galaxies.source_id[:10])
    assert not np.allclose(other.rp.coefficients, galaxies.rp.coefficients[:10])


def test_simulated_ids_cannot_be_taken_for_real_ones(galaxies):
    largest_real = 12 * 4**12 * 2**35  # HEALPix level 12 in the upper bits of a source_id
    assert galaxies.source_id.min() > largest_real
    assert len(np.unique(galaxies.source_id)) == len(galaxies)


@pytest.mark.parametrize("extension", ["csv", "fits"])
def test_written_and_read_back_gives_the_same_vectors(galaxies, extension, tmp_path):
    path = tmp_path / f"simulated.{extension}"
    write_spectra(galaxies[:20], path)
    direct = sample_spectra(galaxies[:20])
    read = sample_spectra(read_spectra(path, keep=["redshift_true"]))
    np.testing.assert_allclose(read.flux, direct.flux, rtol=1e-12)
    np.testing.assert_allclose(read.flux_error, direct.flux_error, rtol=1e-6)
    np.testing.assert_array_equal(
        read.columns["redshift_true"], galaxies.columns["redshift_true"][:20]
    )


def test_redshifts_follow_the_dissertation():
    # Kiraleos (2023): percentiles of 520,393 SDSS redshifts.
    percentiles = [1, 5, 10, 25, 50, 75, 90, 95, 99]
    published = [0.0256, 0.0446, 0.0596, 0.0843, 0.1257, 0.1811, 0.2586, 0.3023, 0.3694]
    drawn = Survey.resolve("sdss").quantile((np.arange(100_000) + 0.5) / 100_000)
    np.testing.assert_allclose(np.percentile(drawn, percentiles), published, atol=0.002)
    flat = simulate_spectra(500, seed=1, survey="flat", correlations=False)
    assert abs(np.mean(flat.columns["redshift_true"]) - 0.3) < 0.03


def test_a_sample_of_redshifts_is_followed():
    wanted = np.linspace(0.2, 0.25, 50)
    found = simulate_spectra(200, seed=1, survey=wanted, correlations=False, noise=False)
    assert found.columns["redshift_true"].min() >= 0.2
    assert found.columns["redshift_true"].max() <= 0.25


def test_wrong_requests_are_refused():
    with pytest.raises(InputError, match="choose from sdss, flat"):
        simulate_spectra(5, seed=1, survey="desi")
    with pytest.raises(InputError, match="must be positive"):
        simulate_spectra(0, seed=1)
    with pytest.raises(InputError, match="between 0"):
        simulate_spectra(5, seed=1, survey=[0.1, 0.9])


def test_noise_has_the_stated_covariance(galaxies):
    """Many draws for one galaxy: their scatter is what the archive's columns say."""
    n = 4000
    coefficients = np.repeat(galaxies.rp.coefficients[:1], n, axis=0)
    noisy, errors, correlations = draw_noise(
        coefficients, np.full(n, 40.0), "rp", np.random.default_rng(1)
    )
    deviation = (noisy - coefficients) / errors
    np.testing.assert_allclose(deviation.std(axis=0), 1.0, atol=0.05)
    row, column = triangle_indices()
    measured = np.corrcoef(deviation.T)[row, column]
    assert np.abs(measured - correlations[0]).max() < 6 / np.sqrt(n)
    assert np.abs(correlations[0]).max() > 0.05


def test_errors_fall_with_transits(galaxies):
    few, many = (
        draw_noise(
            galaxies.bp.coefficients[:3], np.full(3, transits), "bp", np.random.default_rng(1)
        )[1]
        for transits in (10.0, 40.0)
    )
    np.testing.assert_allclose(few, 2 * many, rtol=1e-9)


def test_real_noise_is_matched_where_galaxies_lie():
    """Published errors of 616 real sources, those with fluxes of bright galaxies and less."""
    path = SHARED / "data" / "xp_continuous_616_dr3_sources.csv.gz"
    if not path.exists():
        pytest.skip("needs the real spectra in shared/")
    real = read_real_sources(path)
    measured, predicted = sample_spectra(real), sample_spectra(predict_errors(real))
    instrument = load_instrument()
    for name, samples in BAND_SAMPLES.items():
        part = getattr(instrument, name)
        inside = (part.position >= 0) & (part.position <= 60)
        flux = (getattr(real, name).coefficients @ part.bases[:, inside]).mean(axis=1)
        rows = (flux > 0) & (flux < 30)
        ratio = predicted.flux_error[rows, samples] / measured.flux_error[rows, samples]
        low, middle, high = np.percentile(ratio, [16, 50, 84])
        assert 0.9 < middle < 1.1
        assert low > 0.75
        assert high < 1.3


def test_means_match_the_real_ones():
    """Mean spectra of Kiraleos (2023) on the grid that the calibration found."""
    ends = load_parameters().grid_end_points
    grid = SamplingGrid(bp=ends["bp"], rp=ends["rp"])
    spectra = simulate_spectra(16_000, seed=8, correlations=False, noise=False)
    flux = sample_spectra(spectra, grid=grid, errors=False).flux
    bins = np.minimum((np.asarray(spectra.columns["redshift_true"]) / 0.1).astype(int), 5)
    found = compare_means(np.array([flux[bins == b].mean(axis=0) for b in range(6)]))
    assert np.all(np.abs(found.level[:3] - 1) < 0.1)
    assert np.all(found.rms[:3] < 0.016)
    assert np.all(np.abs(found.colour[:3] - 1) < 0.03)


def test_compare_means_measures_level_shape_and_colour():
    real = np.ones((6, 186))
    means = np.full((6, 186), 1.2)
    means[0, :80] *= 1.1
    found = compare_means(means, real)
    assert found.level[1] == pytest.approx(1.2)
    assert found.rms[1] == pytest.approx(0, abs=1e-12)
    assert found.colour[0] == pytest.approx(1.1)
    assert re.search(r"0\.1-0\.2 +1\.200 +0\.00 +1\.000", str(found))


def test_gaiaxpy_calibrate_gives_the_spectrum_back():
    """SED -> coefficients -> GaiaXPy's own external calibration."""
    import pandas as pd

    from gaia_redshift._quiet import quiet_gaiaxpy

    instrument = load_instrument()

    def sed(wavelength):  # smooth, with a break and a broad line: W m-2 nm-1
        slope = (wavelength / 600.0) ** -0.5
        break_ = 1 - 0.4 / (1 + np.exp((wavelength - 440.0) / 15.0))
        line = 1 + 0.3 * np.exp(-0.5 * ((wavelength - 720.0) / 15.0) ** 2)
        return 1e-17 * slope * break_ * line

    bp, rp = instrument.disperse(
        sed(instrument.bp.wavelength)[None], sed(instrument.rp.wavelength)[None]
    )
    n = 55
    frame = pd.DataFrame({"source_id": [1]})
    for name, c in (("bp", bp), ("rp", rp)):
        frame[f"{name}_coefficients"] = [c[0]]
        frame[f"{name}_coefficient_errors"] = [np.full(n, 0.1)]
        frame[f"{name}_coefficient_correlations"] = [np.zeros(n * (n - 1) // 2)]
        frame[f"{name}_n_parameters"] = n
        frame[f"{name}_standard_deviation"] = 1.0
        frame[f"{name}_n_relevant_bases"] = n
    sampling = np.arange(345.0, 1000.0, 2.0)
    with quiet_gaiaxpy():
        import gaiaxpy

        calibrated, _ = gaiaxpy.calibrate(frame, sampling=sampling, save_file=False)
    found = np.asarray(calibrated["flux"].iloc[0])
    response = np.maximum(
        np.interp(sampling, instrument.bp.wavelength, instrument.bp.response, right=0),
        np.interp(sampling, instrument.rp.wavelength, instrument.rp.response, left=0),
    )
    ratio = (found / sed(sampling))[response > 0.1 * response.max()]
    assert np.sqrt(np.mean((ratio - 1) ** 2)) < 0.02


def test_smearing_is_the_convolution_with_the_profile():
    """A narrow line, smeared, falls off as exp(-|x| / h) from its centre."""
    part = load_instrument().rp
    inside = (part.position >= 0) & (part.position <= 60)
    line = np.exp(-0.5 * ((part.position - 30) / 2.0) ** 2)
    c = np.linalg.lstsq(part.bases[:, inside].T, line[inside], rcond=None)[0][None]
    scale = SCALES[8]
    _, smeared = smear_coefficients(c, c, np.array([scale]), np.array([0.0]))
    flux = (smeared @ part.bases)[0]
    kernel = np.exp(-np.abs(part.position - 30) / scale) / (2 * scale)
    step = part.position[1] - part.position[0]
    expected = np.convolve(kernel, line, mode="same")
    expected = np.interp(part.position, part.position, expected) * step
    centre = (part.position > 10) & (part.position < 50)
    shift = np.argmax(flux[centre]) - np.argmax(expected[centre])
    expected = np.roll(expected, shift)
    assert np.abs(flux - expected)[centre].max() < 0.02 * expected.max()
    unsmeared = smear_coefficients(c, c, np.array([scale]), np.array([1.0]))[1]
    np.testing.assert_allclose(unsmeared, c)
    assert load_profile_maps().bp.shape == (SCALES.size, 55, 55)
