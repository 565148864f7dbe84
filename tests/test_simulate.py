"""The simulator against what is known of real galaxies, and against GaiaXPy itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf, k1

from gaia_redshift import read_spectra, sample_spectra, simulate_spectra, write_spectra
from gaia_redshift.errors import InputError
from gaia_redshift.simulate import load_instrument, simulate_blocks
from gaia_redshift.simulate.galaxies import load_library
from gaia_redshift.simulate.noise import disturb_sources, draw_noise, triangle_indices
from gaia_redshift.simulate.profile import (
    HALF_WIDTH_PIXELS,
    displace_coefficients,
    sersic_kernel,
    shift_coefficients,
    smear_coefficients,
    take_background,
)
from gaia_redshift.simulate.redshifts import find_node, load_selection
from gaia_redshift.simulate.survey import Survey, draw_truth, load_parameters, widen_sky
from research.simulator.calibration import SHARES, compare_means, load_real_means
from research.simulator.photometry import BINS, PERCENTILES, half_width, load_photometry
from research.simulator.real_noise import BAND_SAMPLES, predict_errors, read_real_sources

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="module")
def galaxies():
    return simulate_spectra(320, seed=4)


@pytest.fixture(scope="module")
def population():
    """A thousand galaxies in each bin of real photometry, and what share of the survey they are."""
    parts = [
        Survey.resolve("sdss").restrict(row["z_low"], row["z_high"]) for row in load_photometry()
    ]

    def quantile(u):
        which = np.minimum((u * len(parts)).astype(int), len(parts) - 1)
        inside = u * len(parts) - which
        z = [part.quantile(inside) for part, _ in parts]
        return np.choose(which, z)

    spectra = simulate_spectra(7000, seed=4, survey=quantile, correlations=False)
    which = np.digitize(spectra.columns["redshift_true"], BINS) - 1
    return spectra, which, np.array([share for _, share in parts])[which]


def integrate(spectra):
    """Photometric fluxes: integrals over the whole window, e-/s."""
    instrument = load_instrument()
    return {
        band: getattr(spectra, band).coefficients @ getattr(instrument, band).integral
        for band in ("bp", "rp")
    }


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
    noisy, errors, correlations, factor = draw_noise(
        coefficients, np.full(n, 40.0), "rp", np.random.default_rng(1)
    )
    np.testing.assert_array_equal(factor, 1.0)
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


def test_published_errors_tell_of_the_scatter_between_transits(galaxies):
    """The scan angle moves the level of an extended source: errors rise, noise does not."""
    c, transits = galaxies.bp.coefficients[:200], np.full(200, 30.0)

    def draw(**options):
        return draw_noise(c, transits, "bp", np.random.default_rng(1), **options)

    noisy, errors, correlations, _ = draw()
    extended = draw(level_sigma=0.05)
    np.testing.assert_array_equal(extended[0], noisy)
    np.testing.assert_allclose(extended[1], errors * extended[3][:, None])
    np.testing.assert_array_equal(extended[2], correlations)
    assert np.all(extended[3] > 1)
    assert np.all(draw(level_sigma=0.1)[3] > extended[3])
    scattered = draw(error_scatter=0.1)[3]
    assert np.std(np.log(scattered)) == pytest.approx(0.1, rel=0.2)


def test_fluxes_and_colours_are_those_of_real_photometry(population):
    """Gaia photometry of galaxies with SDSS redshifts, bin by bin (real_photometry.json)."""
    spectra, which, _ = population
    flux = integrate(spectra)
    level = np.log10(flux["rp"])
    colour = np.log10(np.maximum(flux["bp"], 1e-3) / flux["rp"])
    for b, row in enumerate(load_photometry()):
        found = np.percentile(level[which == b], PERCENTILES)
        assert abs(found[2] - row["log_rp"][2]) < 0.04, row["z_low"]
        assert abs(half_width(found) / half_width(row["log_rp"]) - 1) < 0.2, row["z_low"]
        found = np.percentile(colour[which == b], PERCENTILES)
        assert abs(found[2] - row["log_bp_rp"][2]) < 0.025, row["z_low"]
        assert abs(half_width(found) / half_width(row["log_bp_rp"]) - 1) < 0.2, row["z_low"]


def test_means_and_kept_light_are_the_real_ones(population):
    """Mean spectra of Kiraleos (2023), and the part of the light that their samples hold."""
    spectra, _, share = population
    flux = sample_spectra(spectra, errors=False).flux
    bins = np.minimum((np.asarray(spectra.columns["redshift_true"]) / 0.1).astype(int), 3)
    means = [np.average(flux[bins == b], axis=0, weights=share[bins == b]) for b in range(4)]
    found = compare_means(np.array(means), load_real_means()[:4])
    assert np.all(np.abs(found.level - 1) < 0.1)
    assert np.all(found.rms < [0.018, 0.018, 0.018, 0.025])
    assert np.all(np.abs(found.colour - 1) < 0.035)
    for band, photometric in integrate(spectra).items():
        low, high = SHARES[band]
        for b in range(4):
            kept = flux[bins == b][:, BAND_SAMPLES[band]].sum() / photometric[bins == b].sum()
            assert low < kept < high + 0.005, (band, b)


def test_the_integral_of_a_spectrum_is_its_flux():
    plain = simulate_spectra(20, seed=2, correlations=False, noise=False)
    np.testing.assert_allclose(integrate(plain)["rp"], plain.columns["rp_flux"], rtol=1e-9)


def test_transits_are_as_many_as_galaxies_have(population):
    """Gaia DR3: median 34, 5 to 95 per cent 24 to 47, with a few far beyond."""
    transits = np.asarray(population[0].columns["transits_rp"])
    low, middle, high = np.percentile(transits, [5, 50, 95])
    assert low == pytest.approx(24, abs=2)
    assert middle == pytest.approx(34, abs=1)
    assert high == pytest.approx(47, abs=5)
    assert 6 <= transits.min() < 15
    assert 90 < transits.max() <= 150


def test_blue_galaxies_are_fainter_and_larger():
    n = 6000
    truth = draw_truth(n, np.random.default_rng(1), Survey.resolve([0.12, 0.12]))
    active = ~np.isin(truth["type"], ["passive", "green_valley", "post_burst"])
    assert 0.05 < active.mean() < 0.5
    ratio = np.median(truth["radius_sersic"][active]) / np.median(truth["radius_sersic"][~active])
    assert ratio == pytest.approx(np.exp(load_parameters().profile_active_radius), rel=0.07)
    assert truth["n_sersic"][active].mean() < truth["n_sersic"][~active].mean() - 0.3
    selection = load_selection(load_parameters(), load_library())
    blue = selection.excess[truth["galaxy"], find_node(truth["redshift_true"])]
    slope = np.polyfit(blue, np.log10(truth["rp_flux"]), 1)[0]
    assert slope == pytest.approx(load_parameters().brightness_colour_slope, abs=0.15)


def test_no_galaxy_is_older_than_the_universe():
    from astropy.cosmology import Planck18

    truth = draw_truth(3000, np.random.default_rng(1), Survey.resolve("flat"))
    age = load_library().parameters["age"][truth["galaxy"]]
    z = truth["redshift_true"]
    assert np.all(age <= Planck18.age(np.maximum(z - 0.007, 0)).value)  # weights hold at nodes


def test_the_wide_sky_tells_no_redshift_by_flux_or_size():
    wide = widen_sky(load_parameters())
    truth = draw_truth(6000, np.random.default_rng(1), Survey.resolve("flat"), parameters=wide)
    z = truth["redshift_true"]
    usual = draw_truth(6000, np.random.default_rng(1), Survey.resolve("flat"))
    for name in ("rp_flux", "radius_sersic", "n_sersic", "point_fraction"):
        # Types, and their sizes with them, change with redshift.
        assert abs(np.corrcoef(z, np.log(truth[name] + 1e-9))[0, 1]) < 0.04, name
        assert np.std(np.log10(truth["rp_flux"])) > 0.4
    assert np.corrcoef(z, np.log(usual["rp_flux"]))[0, 1] < -0.6


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


@pytest.mark.parametrize("model", ["bpC03_v375wi", "bpC03_v211w"])
def test_another_calibration_is_inverted_like_dr3s(model):
    """SED -> coefficients -> the same calibration as GaiaXPy applies it."""
    instrument = load_instrument(bp_model=model)
    band = instrument.bp
    wavelength = band.wavelength
    sed = 1e-17 * (wavelength / 600.0) ** -0.5
    sed *= 1 - 0.4 / (1 + np.exp((wavelength - 440.0) / 15.0))
    bp, rp = instrument.disperse(sed[None], np.full((1, instrument.rp.wavelength.size), 1e-17))
    found, _ = instrument.calibrate(bp, rp)
    bright = (wavelength > 350) & (wavelength < 650)
    assert np.sqrt(np.mean((found[0] / sed - 1)[bright] ** 2)) < 0.02
    with_model = simulate_spectra(3, seed=2, correlations=False, instrument=instrument)
    assert np.isfinite(sample_spectra(with_model).flux).all()


def test_a_spectrum_is_the_same_on_another_set_of_bases():
    usual = simulate_spectra(40, seed=3, noise=False)
    spline = simulate_spectra(
        40, seed=3, noise=False, instrument=load_instrument(basis_set="cycle4-bspline")
    )
    assert (spline.bp.coefficients.shape, spline.rp.coefficients.shape) == ((40, 48), (40, 44))
    assert spline.release is None
    assert usual.release == "DR3"
    a, b = sample_spectra(usual), sample_spectra(spline)
    assert not b.quality.any()
    difference = (a.flux - b.flux) / a.flux.max(axis=1, keepdims=True)
    assert np.sqrt(np.mean(difference**2)) < 0.003
    np.testing.assert_allclose(b.flux.sum(axis=1), a.flux.sum(axis=1), rtol=2e-3)
    assert np.median(b.flux_error / a.flux_error) == pytest.approx(1, abs=0.1)


def test_what_is_no_calibration_is_named(tmp_path):
    with pytest.raises(InputError, match="no calibration 'bpC99'"):
        load_instrument(bp_model="bpC99")
    with pytest.raises(InputError, match=r"mine_dispersion\.csv"):
        load_instrument(bp_model=str(tmp_path / "mine"))
    with pytest.raises(InputError, match="has 55 BP bases"):
        load_instrument(model_bases="cycle4-bspline")


# ---------------------------------------------------------------- light profiles


def fit_line(centre=30.0, width=1.6, band="rp"):
    """Coefficients (1, 55) of a Gaussian line in pseudo-wavelength, and its window's positions."""
    part = getattr(load_instrument(), band)
    u = part.position[part.inside]
    return part.fit(np.exp(-0.5 * ((u - centre) / width) ** 2)[None]), part.bases[:, part.inside], u


def measure_moments(curve, u):
    weight = curve / np.trapezoid(curve, u)
    mean = np.trapezoid(weight * u, u)
    return mean, np.trapezoid(weight * (u - mean) ** 2, u)


def test_profiles_are_those_of_closed_forms():
    edges = np.linspace(-40, 40, 401)
    x = 0.5 * (edges[1:] + edges[:-1])
    # n = 0.5 is a Gaussian of sigma Re / sqrt(2 ln 2); the window cuts it across the scan.
    for radius in (5.0, 25.0):
        sigma = radius / np.sqrt(2 * np.log(2))
        expected = np.diff(0.5 * erf(edges / sigma / np.sqrt(2)))
        expected *= erf(HALF_WIDTH_PIXELS / sigma / np.sqrt(2))
        found = sersic_kernel(radius, 0.5, edges)
        np.testing.assert_allclose(  # in pixels: rings leave ripples in finer steps
            found.reshape(-1, 5).sum(axis=1),
            expected.reshape(-1, 5).sum(axis=1),
            atol=0.02 * 5 * expected.max(),
        )
    # n = 1, well within the window: the exponential disc's projection holds a Bessel function.
    h = 2.0 / 1.6783
    expected = np.abs(x) * k1(np.abs(x) / h)
    found = sersic_kernel(2.0, 1.0, edges)
    assert found.sum() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(found, expected * 0.2 / (np.pi * h**2), atol=0.01 * found.max())


def test_smearing_is_the_convolution_with_the_profile():
    """A Gaussian line smeared by a Gaussian galaxy has the sum of their variances."""
    line, bases, u = fit_line()
    for radius in (2.0, 5.0):
        _, smeared = smear_coefficients(
            line, line, np.array([radius]), np.array([0.5]), np.array([0.0])
        )
        mean, variance = measure_moments((smeared @ bases)[0], u)
        assert mean == pytest.approx(30, abs=0.05)
        assert variance == pytest.approx(1.6**2 + radius**2 / (2 * np.log(2)), rel=0.08)
    point = smear_coefficients(line, line, np.array([5.0]), np.array([4.0]), np.array([1.0]))[1]
    np.testing.assert_allclose(point, line)


def test_a_local_background_takes_its_part_of_the_ends():
    part = load_instrument().rp
    u = part.position[part.inside]
    c = part.fit((1.0 + np.exp(-0.5 * ((u - 30) / 6.0) ** 2))[None])
    taken = take_background(c, np.array([0.4]), "rp")
    change = ((c - taken) @ part.bases[:, part.inside])[0]
    np.testing.assert_allclose(change[(u > 2) & (u < 58)], 0.4, rtol=0.07)


# ---------------------------------------------------------------- nuisances


def test_a_shift_moves_a_spectrum_along_the_scan():
    for band in ("bp", "rp"):
        line, bases, u = fit_line(band=band)
        for shift in (-2.5, 0.3, 4.0):
            moved = shift_coefficients(line, np.array([shift]), band)
            mean, _ = measure_moments((moved @ bases)[0], u)
            assert mean == pytest.approx(30 + shift, abs=0.03)


def test_a_neighbour_is_seen_under_all_scan_angles():
    line, bases, u = fit_line()
    for separation in (4.0, 9.5):
        seen = displace_coefficients(line, np.array([separation]), "rp")
        mean, variance = measure_moments((seen @ bases)[0], u)
        assert mean == pytest.approx(30, abs=0.05)
        assert variance == pytest.approx(1.6**2 + 0.5 * separation**2, rel=0.05)


def test_nuisances_do_what_they_say():
    p, instrument = load_parameters(), load_instrument()
    n = 8
    truth = draw_truth(n, np.random.default_rng(5), Survey.resolve([0.1, 0.1]))
    quiet = truth | {
        name: np.zeros(n)
        for name in (
            "shift", "blend_flux", "background_bp", "background_rp",
            "level_error_bp", "level_error_rp",
        )
    }  # fmt: skip
    plain = simulate_spectra(n, seed=5, correlations=False, noise=False)
    clean = {band: getattr(plain, band).coefficients for band in ("bp", "rp")}

    def disturb(**changes):
        return disturb_sources(clean, quiet | changes, p, instrument)

    u = instrument.bp.position[instrument.bp.inside]
    middle = (u > 2) & (u < 58)

    def curve(coefficients, band):
        part = getattr(instrument, band)
        return (coefficients[band] @ part.bases[:, part.inside])[:, middle]

    np.testing.assert_allclose(curve(disturb(), "bp"), curve(clean, "bp"), rtol=1e-3, atol=0.02)
    raised = disturb(background_bp=np.full(n, 0.7))
    np.testing.assert_allclose(curve(raised, "bp") - curve(disturb(), "bp"), 0.7, rtol=0.07)
    np.testing.assert_allclose(raised["rp"], disturb()["rp"])
    brighter = disturb(level_error_rp=np.full(n, 0.05))
    np.testing.assert_allclose(brighter["rp"], 1.05 * disturb()["rp"])
    np.testing.assert_allclose(brighter["bp"], disturb()["bp"])
    blended = disturb(
        rp_flux=plain.columns["rp_flux"],
        blend_flux=np.full(n, 0.1),
        blend_separation=np.full(n, 2.0),
    )
    added = (blended["rp"] - disturb()["rp"]) @ instrument.rp.integral
    np.testing.assert_allclose(added / plain.columns["rp_flux"], 0.1, rtol=0.02)
    moved = disturb(shift=np.full(n, 0.4))
    assert np.all(np.abs(moved["rp"] - disturb()["rp"]).max(axis=1) > 1e-3)


def test_nuisances_are_as_wide_as_the_survey_says(population):
    spectra, _, _ = population
    p = load_parameters()
    truth = draw_truth(5000, np.random.default_rng(3), Survey.resolve("sdss"))
    assert np.std(truth["shift"]) == pytest.approx(p.shift_scatter, rel=0.05)
    assert np.abs(truth["shift"]).max() <= p.shift_limit
    assert np.abs(truth["background_bp"]).max() <= p.background_residual_limit
    assert np.mean(truth["blend_flux"] > 0) == pytest.approx(p.blend_share, abs=0.01)
    assert truth["blend_flux"].max() <= p.blend_flux
    assert np.corrcoef(truth["level_error_bp"], truth["level_error_rp"])[0, 1] > 0.4
    # Photometric errors of real galaxies are 2 to 6 % (RP) and 3.5 to 13 % (BP).
    flux = integrate(spectra)["rp"] / np.asarray(spectra.columns["rp_flux"])
    low, high = np.percentile(flux[spectra.columns["blend_flux"] == 0], [16, 84])
    assert 0.01 < 0.5 * (high - low) < 0.06
