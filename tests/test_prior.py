"""Brightness as a prior beside the network, and galaxies told from other sources."""

import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import norm

from gaia_redshift import (
    MagnitudePrior,
    load_model,
    predict_redshift,
    predict_table,
    write_spectra,
)
from gaia_redshift.cli import main
from gaia_redshift.errors import InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.model.distribution import RedshiftBins, parse_bins
from gaia_redshift.model.postprocess import measure_overlap
from gaia_redshift.model.prior import KEPT_RP, measure_rp_flux
from gaia_redshift.predict.journal import compare_plans
from gaia_redshift.predict.settings import describe_plan, make_settings
from gaia_redshift.sampling import sample_spectra
from gaia_redshift.simulate import simulate_spectra

EDGES = np.linspace(0.0, 0.6, 301)
CENTERS = 0.5 * (EDGES[1:] + EDGES[:-1])


@pytest.fixture(scope="module")
def survey():
    """Galaxies whose redshift is a Gaussian about a line in log flux."""
    rng = np.random.default_rng(1)
    log_flux = rng.normal(2.8, 0.3, 20_000)
    return rng.normal(0.9 - 0.25 * log_flux, 0.04), 10**log_flux


@pytest.fixture(scope="module")
def vectors():
    return sample_spectra(simulate_spectra(400, seed=515))


def test_a_prior_follows_the_sample_it_was_measured_on(survey):
    prior = MagnitudePrior.from_sample(*survey, edges=EDGES)
    for log_flux in (2.4, 2.8, 3.2):
        (p,) = prior.at(np.array([10**log_flux]), EDGES)
        mean = p @ CENTERS
        assert p.sum() == pytest.approx(1)
        assert mean == pytest.approx(0.9 - 0.25 * log_flux, abs=0.008)
        assert np.sqrt(p @ (CENTERS - mean) ** 2) == pytest.approx(0.045, abs=0.012)
        assert p.min() > 0


def test_other_bins_hold_the_same_probability(survey):
    prior = MagnitudePrior.from_sample(*survey, edges=EDGES)
    coarse = np.linspace(0.0, 0.6, 61)
    fine = prior.at(np.array([500.0]), EDGES)[0]
    np.testing.assert_allclose(
        prior.at(np.array([500.0]), coarse)[0], fine.reshape(60, 5).sum(axis=1), atol=1e-6
    )


def test_beyond_the_sample_the_ends_hold(survey):
    prior = MagnitudePrior.from_sample(*survey)
    ends = prior.at(np.array([1.0, 10 ** prior.log_flux[0]]), EDGES)
    np.testing.assert_allclose(ends[0], ends[1])


@pytest.mark.parametrize(
    ("redshift", "flux", "words"),
    [
        (np.full(10, 0.1), np.full(10, 100.0), "at least 50 galaxies"),
        (np.full(100, 0.9), np.full(100, 100.0), "these are 0"),
        (np.full(100, 0.1), np.full(99, 100.0), "100 redshifts for 99"),
    ],
)
def test_samples_that_do_not_do(redshift, flux, words):
    with pytest.raises(InputError, match=words):
        MagnitudePrior.from_sample(redshift, flux)


def test_a_table_of_another_shape_is_refused():
    with pytest.raises(InputError, match="k rising log fluxes"):
        MagnitudePrior([2.0, 1.0], EDGES, np.ones((2, 300)))


def test_priors_survive_the_file_of_bins(survey):
    prior = MagnitudePrior.from_sample(*survey, edges=EDGES)
    flat = np.full(300, 1 / 300)
    bins = RedshiftBins(
        EDGES, flat, {"sdss": prior}, "sdss", blind_to_flux=True, galaxy_threshold=0.5
    )
    again = parse_bins(bins.to_json(), "bins.json")
    np.testing.assert_allclose(
        again.resolve_prior()[1].at(np.array([300.0]), EDGES),
        prior.at(np.array([300.0]), EDGES),
        rtol=1e-3,
    )
    assert again.blind_to_flux
    assert again.galaxy_threshold == 0.5


def test_a_prior_in_the_flat_ones_place_is_as_if_begun_with(survey):
    """Also of a spectrum that the prior contradicts: the result is exact to 32 bits."""
    prior = MagnitudePrior.from_sample(*survey, edges=EDGES)
    bins = RedshiftBins(EDGES, np.full(300, 1 / 300), {"sdss": prior}, "sdss", blind_to_flux=True)
    means, width = np.array([0.05, 0.2, 0.58]), 0.004
    logits = (-0.5 * ((CENTERS - means[:, None]) / width) ** 2).astype(np.float32)
    rest = np.zeros(3, dtype=bool), np.ones(3)
    flux = np.tile(10 ** np.array([[2.4], [2.8], [3.2]]) * KEPT_RP / 106, (1, 186))
    given = bins.spread_prior(prior, flux)
    shape = bins.compute_probability(logits, *rest, bins.resolve_prior("flat")[1])
    expected = bins.compute_probability(logits.astype(np.float64), *rest, given)
    np.testing.assert_allclose(bins.replace_flat(shape, given), expected, atol=1e-6)


def test_overlap_of_gaussians_is_that_of_the_closed_form():
    """Bhattacharyya: exp(-d^2 / 8 s^2) for two Gaussians of one width."""
    step = CENTERS[1] - CENTERS[0]
    a, b = (norm.pdf(CENTERS, mean, 0.03)[None] * step for mean in (0.2, 0.3))
    assert measure_overlap(a, b)[0] == pytest.approx(np.exp(-(0.1**2) / (8 * 0.03**2)), abs=1e-3)


def test_the_rp_flux_is_read_from_the_vector():
    galaxies = simulate_spectra(200, seed=8, noise=False)
    found = measure_rp_flux(sample_spectra(galaxies, errors=False).flux)
    ratio = found / np.asarray(galaxies.columns["rp_flux"])
    assert np.percentile(ratio, [5, 95]) == pytest.approx([1, 1], abs=0.12)
    assert 0.74 < KEPT_RP < 0.90


def test_a_survey_of_ones_own_moves_the_redshifts(vectors):
    near = MagnitudePrior.from_sample(
        np.random.default_rng(2).uniform(0.02, 0.06, 200), np.full(200, 500.0)
    )
    own = predict_redshift(vectors, prior=near)
    assert own.meta["redshift_prior"] == "user"
    assert np.median(np.asarray(own["redshift_cnn"])) < 0.07
    usual = predict_redshift(vectors)
    assert usual.meta["redshift_prior"] == "sdss"
    assert np.median(np.asarray(usual["redshift_cnn"])) > 0.09


def test_the_shape_alone_does_not_follow_the_flux(vectors):
    model = load_model()
    before, after = (
        model.predict(vectors.flux * k, vectors.flux_error * k, shape=True) for k in (1.0, 1.6)
    )
    assert abs(np.median(after.shape - before.shape)) < 0.003
    assert np.median(after.redshift - before.redshift) < 0


def test_spectrum_and_brightness_that_contradict_each_other_are_flagged(vectors):
    model = load_model()
    usual = model.predict(vectors.flux, vectors.flux_error)
    far = simulate_spectra(200, seed=9, survey=np.linspace(0.32, 0.42, 20))
    bright = sample_spectra(far)
    # As bright as galaxies at z = 0.05.
    found = model.predict(bright.flux * 10, bright.flux_error * 10)
    conflict = [(p.flags & int(QualityFlag.PRIOR_CONFLICT)) != 0 for p in (usual, found)]
    assert conflict[0].mean() < 0.04
    assert conflict[1].mean() > 0.3


def test_only_models_that_are_blind_to_flux_take_a_magnitude_prior(survey):
    bins = RedshiftBins(EDGES, np.full(300, 1 / 300), {}, "flat")
    with pytest.raises(InputError, match="count it twice"):
        bins.resolve_prior(MagnitudePrior.from_sample(*survey))


def test_galaxies_are_told_from_other_sources(vectors):
    table = predict_redshift(vectors)
    no_galaxy = QualityFlag.UNLIKELY_GALAXY | QualityFlag.UNLIKE_TRAINING
    assert ((table["flags_cnn"] & no_galaxy) != 0).mean() < 0.04
    assert np.median(np.asarray(table["probability_galaxy"])) > 0.9
    for kind in ("star", "quasar", "double_star", "star_galaxy"):
        other = predict_table(simulate_spectra(150, seed=77, kind=kind))
        assert ((other["flags_cnn"] & no_galaxy) != 0).mean() > 0.9, kind
        assert np.median(np.asarray(other["probability_galaxy"])) < 0.1, kind


def test_a_resumed_run_knows_another_magnitude_prior(survey):
    prior = MagnitudePrior.from_sample(*survey, edges=EDGES)
    changed = prior.probability.copy()
    changed[len(changed) // 2, 150] *= 3  # in the middle, where the text of an array has dots
    others = prior, MagnitudePrior(prior.log_flux, prior.edges, changed)
    same, other = (describe_plan([], make_settings("default", prior=p)) for p in others)
    assert compare_plans(same, describe_plan([], make_settings("default", prior=prior))) is None
    assert compare_plans(same, other) == "other options (prior)"


@pytest.mark.parametrize("brightness", ["phot_rp_mean_flux", "phot_rp_mean_mag"])
def test_the_command_takes_a_prior_from_a_file_of_galaxies(survey, brightness, tmp_path, capsys):
    z, flux = (values[:400] for values in survey)
    values = flux if brightness.endswith("flux") else 24.7479 - 2.5 * np.log10(flux)
    Table({"Z": z, brightness: values}).write(tmp_path / "survey.csv")
    spectra = simulate_spectra(6, seed=8)
    write_spectra(spectra, tmp_path / "spectra.parquet")
    files = [str(tmp_path / name) for name in ("spectra.parquet", "survey.csv", "out.ecsv")]
    assert main(["predict", files[0], "--prior", files[1], "-o", files[2]]) == 0
    found = Table.read(files[2])
    expected = predict_table(spectra, prior=MagnitudePrior.from_sample(z, flux))
    np.testing.assert_allclose(found["redshift_cnn"], expected["redshift_cnn"], atol=2e-5)
    assert not np.allclose(found["redshift_cnn"], predict_table(spectra)["redshift_cnn"], atol=1e-4)
    assert found.meta["redshift_prior"] == "user"
    Table({"Z": z, "g": flux}).write(tmp_path / "bad.csv")
    capsys.readouterr()
    assert main(["predict", files[0], "--prior", str(tmp_path / "bad.csv")]) == 1
    assert "a magnitude prior needs columns of redshift" in capsys.readouterr().err
