"""Redshift distributions, priors, and what is unlike the training set."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from gaia_redshift import decode_flags, predict_redshift, predict_table
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.model import load_model
from gaia_redshift.model.distribution import (
    RedshiftBins,
    compute_quantiles,
    parse_bins,
    smooth_density,
)
from gaia_redshift.model.novelty import Novelty, parse_novelty
from gaia_redshift.model.postprocess import flag_distributions
from gaia_redshift.model.scaler import NoiseScaler, parse_scaler
from gaia_redshift.readers.files import read_table
from gaia_redshift.sampling import sample_spectra
from gaia_redshift.simulate import simulate_spectra
from gaia_redshift.tables import write_table
from gaia_redshift.train.calibrate import fit_temperature

EDGES = np.linspace(0.0, 0.6, 301)
CENTERS = 0.5 * (EDGES[1:] + EDGES[:-1])


def make_bins(density=None, **options) -> RedshiftBins:
    values = np.ones(300) if density is None else density
    sdss = norm.pdf(CENTERS, 0.13, 0.07)
    return RedshiftBins(EDGES, values / values.sum(), {"sdss": sdss / sdss.sum()}, **options)


@pytest.fixture(scope="module")
def galaxies():
    return simulate_spectra(300, seed=4321)


@pytest.fixture(scope="module")
def vectors(galaxies):
    return sample_spectra(galaxies, errors=True)


# --- Bayes' theorem ---------------------------------------------------------------------------


def test_a_prior_takes_the_place_of_the_training_set():
    """Gaussian likelihood times Gaussian prior is the Gaussian of the textbooks."""
    trained = norm.pdf(CENTERS, 0.4, 0.2)
    bins = make_bins(trained)
    logits = (norm.logpdf(CENTERS, 0.3, 0.03) + np.log(trained))[None]
    _, prior = bins.resolve_prior(lambda z: norm.pdf(z, 0.2, 0.04))
    probability = bins.compute_probability(logits, np.array([True]), np.ones(1), prior)
    width = (0.03**-2 + 0.04**-2) ** -0.5
    mean = width**2 * (0.3 / 0.03**2 + 0.2 / 0.04**2)
    found = compute_quantiles(probability, EDGES, norm.cdf([-1, 0, 1]))[:, 0]
    np.testing.assert_allclose(found, mean + width * np.array([-1, 0, 1]), atol=2e-4)
    _, flat = bins.resolve_prior("flat")
    probability = bins.compute_probability(logits, np.array([True]), np.ones(1), flat)
    found = compute_quantiles(probability, EDGES, norm.cdf([-1, 0, 1]))[:, 0]
    np.testing.assert_allclose(found, [0.27, 0.3, 0.33], atol=2e-4)
    _, same = bins.resolve_prior("training")
    np.testing.assert_allclose(
        bins.compute_probability(logits, np.array([True]), np.ones(1), same)[0],
        np.exp(logits[0]) / np.exp(logits[0]).sum(),
        rtol=1e-9,
    )


def test_temperatures_widen_spectra_with_and_without_errors():
    bins = make_bins(temperature=(4.0, 1.0))
    logits = np.repeat(norm.logpdf(CENTERS, 0.3, 0.02)[None], 2, axis=0)
    _, flat = bins.resolve_prior("flat")
    probability = bins.compute_probability(logits, np.array([True, False]), np.ones(2), flat)
    low, high = compute_quantiles(probability, EDGES, norm.cdf([-1, 1]))
    np.testing.assert_allclose(high - low, [0.08, 0.04], rtol=1e-2)


def test_a_temperature_follows_the_brightness():
    """Twice as bright, 2 ** -0.5 as wide; beyond e ** 2 the typical one nothing changes."""
    bins = make_bins(temperature_slope=(-1.0, 0.0), typical_level=3.0)
    logits = np.repeat(norm.logpdf(CENTERS, 0.3, 0.02)[None], 5, axis=0)
    _, flat = bins.resolve_prior("flat")
    known = np.array([True, True, False, True, True])
    probability = bins.compute_probability(
        logits, known, 3 * np.array([1, 2, 2, np.exp(-2), 1e-4]), flat
    )
    low, high = compute_quantiles(probability, EDGES, norm.cdf([-1, 1]))
    expected = 0.04 * np.array([1, 2**-0.5, 1, np.e, np.e])
    np.testing.assert_allclose(high - low, expected, rtol=1e-2)


def test_calibration_finds_how_far_distributions_are_off():
    """Truths drawn from Gaussians of 0.02; logits of 0.01 at brightness 0, of 0.03 at 1."""
    rng = np.random.default_rng(3)
    centre, brightness = rng.uniform(0.2, 0.4, 4000), rng.uniform(-1, 1.5, 4000)
    true = rng.normal(centre, 0.02)
    width = 0.01 * 3**brightness
    logits = norm.logpdf(CENTERS, centre[:, None], width[:, None])
    cells = np.searchsorted(EDGES, true, side="right") - 1
    temperature, slope = fit_temperature(logits, cells, brightness)
    # The logits of a Gaussian go with the square of its width.
    assert temperature == pytest.approx(3.0, rel=0.1)  # 4 is beyond what is allowed
    assert slope == pytest.approx(-0.5, abs=0.01)  # -2 ln 3 likewise
    logits = norm.logpdf(CENTERS, centre[:, None], (0.016 * 1.1**brightness)[:, None])
    temperature, slope = fit_temperature(logits, cells, brightness)
    assert temperature == pytest.approx((0.02 / 0.016) ** 2, rel=0.05)
    assert slope == pytest.approx(-2 * np.log(1.1), abs=0.05)


def test_quantiles_are_even_within_a_bin():
    edges = np.array([0.0, 0.1, 0.4, 0.5])
    probability = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = compute_quantiles(probability, edges, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(found[:, 0], [0.05, 0.1, 0.4, 0.5])
    np.testing.assert_allclose(found[:, 1], [0.175, 0.25, 0.325, 0.4])
    np.testing.assert_allclose(found[:, 2], [0.425, 0.45, 0.475, 0.5])


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("lsst", "no prior named 'lsst'; known: flat, sdss, training"),
        (np.ones(7), r"one density for each of the model's 300 bins .* shape \(7,\)"),
        (np.zeros(300), "not all zero"),
        (-np.ones(300), "not negative"),
        (lambda z: z * np.nan, "finite"),
        (lambda z: 1 / 0, "gives no densities"),
    ],
)
def test_unusable_priors(prior, words):
    with pytest.raises(InputError, match=words):
        make_bins().resolve_prior(prior)


def test_smoothed_densities_add_to_one_and_have_no_holes():
    z = np.random.default_rng(1).normal(0.15, 0.02, 5000)
    density = smooth_density(z, EDGES)
    assert density.sum() == pytest.approx(1)
    assert density.min() > 0
    assert CENTERS @ density == pytest.approx(0.15, abs=0.002)


def test_bins_survive_their_file():
    bins = make_bins(norm.pdf(CENTERS, 0.3, 0.2), temperature=(1.25, 1.5), default_prior="sdss")
    again = parse_bins(bins.to_json(), "x")
    np.testing.assert_array_equal(again.density, bins.density)
    assert again.temperature == (1.25, 1.5)
    assert again.resolve_prior()[0] == "sdss"


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [0.0, 0.1]},
        {"temperature": [1.0, -1.0]},
        {"temperature": [1.0]},
        {"temperature_slope": [0.1, float("nan")]},
        {"typical_level": 0.0},
        {"density": [0.0] * 300},
        {"default_prior": "lsst"},
        {"priors": 3},
    ],
)
def test_damaged_bins(change):
    content = json.loads(make_bins().to_json()) | change
    with pytest.raises(ModelError, match=r"^x: "):
        parse_bins(json.dumps(content).encode(), "x")
    with pytest.raises(ModelError):
        parse_bins(b"nonsense", "x")


# --- flags ------------------------------------------------------------------------------------


def test_flags_tell_edges_widths_and_peaks():
    shapes = [
        norm.pdf(CENTERS, 0.3, 0.02),
        norm.pdf(CENTERS, 0.0, 0.02),
        norm.pdf(CENTERS, 0.6, 0.02),
        norm.pdf(CENTERS, 0.3, 0.10),
        norm.pdf(CENTERS, 0.2, 0.01) + norm.pdf(CENTERS, 0.28, 0.01),
        norm.pdf(CENTERS, 0.2, 0.01) + 0.05 * norm.pdf(CENTERS, 0.28, 0.01),
        norm.pdf(CENTERS, 0.2, 0.02) + norm.pdf(CENTERS, 0.22, 0.02),
        norm.pdf(CENTERS, 0.2, 0.004) + norm.pdf(CENTERS, 0.23, 0.004),
    ]
    probability = np.array([shape / shape.sum() for shape in shapes])
    quantiles = compute_quantiles(probability, EDGES, [0.16, 0.5, 0.84])
    found = decode_flags(flag_distributions(probability, EDGES, *quantiles))
    assert found == [
        [],
        ["redshift_at_edge"],
        ["redshift_at_edge"],
        ["wide_distribution"],
        ["multiple_peaks"],
        [],
        [],
        [],  # so near one another that the interval says it all
    ]


# --- inputs -----------------------------------------------------------------------------------


def test_shape_noise_and_brightness_are_told_apart(vectors):
    scaler = NoiseScaler.fit(vectors.flux, vectors.flux_error)
    plain = scaler.transform(vectors.flux, vectors.flux_error)
    brighter = scaler.transform(3 * vectors.flux, 3 * vectors.flux_error)
    np.testing.assert_allclose(brighter["flux"], plain["flux"], atol=2e-4)
    change = (brighter["context"] - plain["context"])[:, 0] * scaler.context_width[0]
    np.testing.assert_allclose(change, np.log(3), rtol=1e-4)
    noisier = scaler.transform(vectors.flux, 3 * vectors.flux_error)
    np.testing.assert_array_equal(noisier["flux"][..., 0], plain["flux"][..., 0])
    assert (noisier["context"][:, 1:3] > plain["context"][:, 1:3]).all()


def test_missing_errors_are_zeros_for_that_row_alone(vectors):
    scaler = NoiseScaler.fit(vectors.flux, vectors.flux_error)
    errors = vectors.flux_error.copy()
    errors[1, 5] = np.nan
    errors[2, 7] = 0.0
    some = scaler.transform(vectors.flux, errors)
    none = scaler.transform(vectors.flux)
    every = scaler.transform(vectors.flux, vectors.flux_error)
    for name in ("flux", "context"):
        np.testing.assert_array_equal(some[name][1:3], none[name][1:3])
        np.testing.assert_array_equal(some[name][3:], every[name][3:])
    assert not none["flux"][..., 1:].any()
    assert every["context"][:, 3].all()
    again = parse_scaler(scaler.to_json(), "x").transform(vectors.flux, errors)
    np.testing.assert_array_equal(again["flux"], some["flux"])


def test_brightness_beyond_the_training_part(vectors):
    scaler = NoiseScaler.fit(vectors.flux, vectors.flux_error)
    assert not scaler.measure_excess(vectors.flux).any()
    low, high = scaler.level_range
    factor = np.exp(0.5 * (high - low))
    brightest = vectors.flux[[vectors.flux.mean(axis=1).argmax()]]
    assert scaler.measure_excess(brightest * factor)[0] == pytest.approx(0.5, abs=1e-6)


# --- what is unlike the training set ------------------------------------------------------------


def test_one_gaussian_gives_its_own_density():
    """With one Gaussian and two components the density is that of the closed form."""
    rng = np.random.default_rng(3)
    components = np.linalg.qr(rng.normal(size=(186, 2)))[0].T
    covariance = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, 0.0], [0.1, 0.0, 0.5]])
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    log_weight = np.log(np.diagonal(root)).sum() - 1.5 * np.log(2 * np.pi)
    one = np.array([0.0])
    novelty = Novelty(
        np.full(186, 1.0),
        np.full(186, 0.5),
        components,
        np.array([[0.2, -0.1, 1.0]]),
        root[None],
        np.array([log_weight]),
        one,
        one,
        one + 1,
        one,
        one + 1,
    )
    flux = np.exp(rng.normal(1, 0.5, (5, 1))) * rng.uniform(0.5, 1.5, (5, 186))
    density, residual, level = novelty.measure(flux, 0.1 * flux)
    shape = (flux / flux.mean(axis=1, keepdims=True) - 1) / 0.5
    from scipy.stats import multivariate_normal

    points = np.column_stack([shape @ components.T, np.log(flux.mean(axis=1))])
    expected = -multivariate_normal([0.2, -0.1, 1.0], covariance).logpdf(points)
    np.testing.assert_allclose(density, expected, rtol=1e-9)
    np.testing.assert_allclose(level, np.log(flux.mean(axis=1)))
    assert np.isfinite(residual).all()
    assert np.isnan(novelty.measure(flux)[1]).all()
    again = parse_novelty(novelty.to_bytes(), "x")
    np.testing.assert_array_equal(again.measure(flux)[0], density)
    with pytest.raises(ModelError, match="unusable"):
        parse_novelty(replace(novelty, center=novelty.center[1:]).to_bytes(), "x")
    with pytest.raises(ModelError, match="damaged"):
        parse_novelty(novelty.to_bytes()[:-40], "x")


# --- the default model ------------------------------------------------------------------------


def test_the_table_holds_what_was_asked_for(galaxies):
    table = predict_table(galaxies, std=True, pdf=True)
    z, low, high = (np.asarray(table[f"redshift_cnn{s}"]) for s in ("", "_lower", "_upper"))
    assert ((low < z) & (z < high)).all()
    edges = np.asarray(table["redshift_cnn_pdf"].meta["redshift_grid"])
    pdf = np.asarray(table["redshift_cnn_pdf"])
    assert pdf.shape == (300, len(edges) - 1)
    widths, centers = np.diff(edges), 0.5 * (edges[1:] + edges[:-1])
    np.testing.assert_allclose(pdf @ widths, 1.0, atol=1e-5)
    mean = pdf @ (widths * centers)
    std = np.sqrt(pdf @ (widths * (centers**2 + widths**2 / 12)) - mean**2)
    np.testing.assert_allclose(table["redshift_cnn_std"], std, rtol=1e-3)
    # Half of the probability lies below the median, 68 % within the interval.
    for value, share in ((z, 0.5), (low, 0.16), (high, 0.84)):
        part = np.clip((value[:, None] - edges[:-1]) / widths, 0, 1)
        np.testing.assert_allclose((pdf * widths * part).sum(axis=1), share, atol=1e-3)
    assert table.meta["redshift_prior"] == "sdss"
    plain = predict_table(galaxies)
    assert "redshift_cnn_pdf" not in plain.colnames
    np.testing.assert_array_equal(plain["redshift_cnn"], table["redshift_cnn"])


def test_intervals_hold_what_they_say(galaxies):
    """300 simulated galaxies: 68 % give or take three standard errors of 2.7 %."""
    table = predict_table(galaxies)
    true = np.asarray(galaxies.columns["redshift_true"])
    inside = (true >= table["redshift_cnn_lower"]) & (true <= table["redshift_cnn_upper"])
    assert 0.60 < inside.mean() < 0.76
    assert np.abs(table["redshift_cnn"] - true).mean() < 0.025


def test_a_prior_moves_what_spectra_leave_open(galaxies):
    sdss, flat = (predict_table(galaxies, prior=prior) for prior in ("sdss", "flat"))
    near = predict_table(galaxies, prior=lambda z: np.where(z < 0.1, 1.0, 0.0))
    assert flat.meta["redshift_prior"] == "flat"
    far = np.asarray(galaxies.columns["redshift_true"]) > 0.3
    assert (flat["redshift_cnn"] - sdss["redshift_cnn"])[far].mean() > 0
    assert near["redshift_cnn"].max() < 0.1
    assert near.meta["redshift_prior"] == "user"


def test_spectra_without_errors_are_predicted_and_say_so(galaxies, vectors):
    table = predict_redshift(vectors.flux)
    assert all("no_flux_error" in words for words in decode_flags(table["flags_cnn"]))
    full = predict_table(galaxies)
    assert not any("no_flux_error" in words for words in decode_flags(full["flags_cnn"]))
    assert np.abs(table["redshift_cnn"] - full["redshift_cnn"]).mean() < 0.02
    true = np.asarray(galaxies.columns["redshift_true"])
    inside = (true >= table["redshift_cnn_lower"]) & (true <= table["redshift_cnn_upper"])
    assert 0.60 < inside.mean() < 0.76


def test_noisy_spectra_are_called_so(vectors):
    table = predict_redshift(vectors.flux, flux_error=vectors.flux_error * 100)
    assert all("low_signal_to_noise" in words for words in decode_flags(table["flags_cnn"]))


@pytest.mark.parametrize("option", [{"prior": "flat"}, {"std": True}, {"pdf": True}])
def test_the_network_of_2023_gives_no_distributions(galaxies, option):
    with pytest.raises(InputError, match="kiraleos2023 gives redshifts without distributions"):
        predict_table(galaxies[:3], model="kiraleos2023", **option)


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".parquet", ".vot"])
def test_distributions_survive_files(galaxies, tmp_path, suffix):
    table = predict_table(galaxies[:5], pdf=True)
    path = tmp_path / f"z{suffix}"
    write_table(table, path)
    again = read_table(path)
    np.testing.assert_array_equal(
        np.asarray(again["redshift_cnn_pdf"]), np.asarray(table["redshift_cnn_pdf"])
    )
    assert (
        again["redshift_cnn_pdf"].info.meta["redshift_grid"]
        == table["redshift_cnn_pdf"].info.meta["redshift_grid"]
    )


def test_the_default_model_serves_blocks_alike(galaxies):
    whole, blocks = (
        predict_table(galaxies, pdf=True),
        predict_table(galaxies, pdf=True, block_size=7),
    )
    np.testing.assert_allclose(whole["redshift_cnn"], blocks["redshift_cnn"], atol=1e-5)
    np.testing.assert_allclose(
        whole["redshift_cnn_pdf"], blocks["redshift_cnn_pdf"], rtol=1e-3, atol=1e-3
    )


def test_the_default_model_is_bundled_with_its_bins():
    model = load_model("default")
    assert model.name == "residual2"
    assert model.uses_errors
    assert model.bins is not None
    assert model.bins.edges[[0, -1]].tolist() == [0.0, 0.6]
