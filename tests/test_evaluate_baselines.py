"""Baselines and the limit, on a few simulated galaxies."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

import gaia_redshift.model.registry as registry
import research.benchmark.limit as limit
from gaia_redshift import simulate_spectra
from gaia_redshift.cli import main
from gaia_redshift.errors import InputError
from gaia_redshift.evaluate import compute_pit
from gaia_redshift.evaluate.evaluation import find_training_seed
from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid
from gaia_redshift.metrics.distributions import summarise_pit
from gaia_redshift.simulate.instrument import N_BASES, load_instrument
from gaia_redshift.simulate.noise import disturb_sources
from gaia_redshift.simulate.observation import point_source_coefficients
from gaia_redshift.simulate.survey import (
    Survey,
    draw_brightness,
    draw_nuisances,
    draw_truth,
    interpolate_flux,
    load_parameters,
)
from research.benchmark import run_benchmark, write_benchmark
from research.benchmark.baselines import fit_baseline

pytest.importorskip("sklearn")


@dataclass
class Model:
    """Says 0.1 and an interval."""

    name: str = "fake"
    version: str = "7"
    sha256: str = "cd" * 32
    seed: int = 1
    manifest: dict = field(default_factory=dict)
    grid: SamplingGrid = DEFAULT_GRID
    uses_errors: bool = False

    def __post_init__(self):
        data = {"kind": "simulated", "seed": self.seed, "n": 100}
        self.manifest = {"trained_on": "simulated galaxies", "training": {"data": data}}

    def predict(self, flux, flux_error=None, **_):
        z = np.full(len(flux), 0.1) + np.arange(len(flux)) * 1e-6
        return SimpleNamespace(
            redshift=z, flags=np.zeros(len(z), dtype=np.int32), lower=z - 0.1, upper=z + 0.1
        )


@pytest.fixture(scope="module")
def galaxies():
    return simulate_spectra(250, seed=1001)


def test_baselines_learn_and_state_their_recipe():
    rng = np.random.default_rng(0)
    z = rng.uniform(0, 0.5, 1200)
    place = np.linspace(0, 1, 186)
    # A line that moves with redshift; the median cannot see it.
    flux = 2 + np.exp(-(((place - z[:, None] - 0.2) / 0.1) ** 2)) + rng.normal(0, 0.02, (1200, 186))
    learn, test = slice(0, 1000), slice(1000, None)
    for name, largest in (("median", 0.2), ("svr", 0.01), ("neighbours", 0.02), ("boosting", 0.02)):
        baseline = fit_baseline(name, flux[learn], z[learn], seed=1)
        error = np.abs(baseline.predict(flux[test]) - z[test]).mean()
        assert error < largest, name
        assert baseline.recipe
    assert np.median(z[learn]) == pytest.approx(
        fit_baseline("median", flux[learn], z[learn]).predict(flux[:1])[0]
    )
    again = fit_baseline("svr", flux[learn], z[learn], seed=1)
    same = fit_baseline("svr", flux[learn], z[learn], seed=1)
    assert np.array_equal(again.predict(flux[test]), same.predict(flux[test]))
    assert "1,000 training spectra" in again.recipe
    with pytest.raises(InputError, match="no baseline 'forest'"):
        fit_baseline("forest", flux, z)
    with pytest.raises(InputError, match="50 spectra"):
        fit_baseline("median", flux[:3], z[:3])


def test_marginal_likelihood_agrees_with_an_integral_over_brightness():
    rng = np.random.default_rng(1)
    p, z = load_parameters(), np.array([0.1, 0.3])
    shapes = rng.uniform(0.5, 1.5, (2, 6))
    root = rng.normal(0, 0.02, (6, 6)) + 0.1 * np.eye(6)
    precision = np.linalg.inv(root @ root.T)
    data = 4.0 * shapes[0] + root @ rng.normal(size=6)
    fit = (
        np.einsum("ti,ij,tj->t", shapes, precision, shapes)[None],
        (shapes @ precision @ data)[None],
        np.array([data @ precision @ data]),
    )
    expected = np.log10([3.5, 5.0])  # the templates' median fluxes
    found = limit._marginalise(fit, z, expected, p)[0]
    alone = limit._marginalise(fit, z, None, p)[0]
    flux = np.geomspace(0.5, 30, 40_001)
    for t in range(2):
        residual = data - flux[:, None] * shapes[t]
        fit = -0.5 * np.einsum("fi,ij,fj->f", residual, precision, residual)
        largest = fit.max()

        def integrate(prior, fit=fit, largest=largest):
            return np.log(np.trapezoid(np.exp(fit - largest + prior), flux)) + largest

        prior = limit._log_brightness(np.log10(flux) - expected[t], z[t], p)
        exact = integrate(prior - np.log(flux))
        assert found[t] + 0.5 * np.log(2 * np.pi) == pytest.approx(exact, abs=0.05)
        exact = integrate(-np.log(flux))
        assert alone[t] + 0.5 * np.log(2 * np.pi) == pytest.approx(exact, abs=0.05)


def test_brightness_and_calibration_error_are_those_of_the_simulator():
    """They are written down a second time for the limit: these must not part ways."""
    p, rng = load_parameters(), np.random.default_rng(3)
    for z in (0.05, 0.35):
        drawn = np.log10(draw_brightness(np.full(50_000, z), rng, p))
        counts, edges = np.histogram(drawn, bins=40, range=np.percentile(drawn, [0.5, 99]))
        middles = 0.5 * (edges[1:] + edges[:-1])
        excess = middles - np.log10(interpolate_flux(np.array([z]), p))
        expected = np.exp(limit._log_brightness(excess, np.full(40, z), p))
        expected *= np.diff(edges) * len(drawn)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max())

    instrument = load_instrument()
    truth = draw_truth(1, np.random.default_rng(4), Survey.resolve("sdss"))
    many = {name: np.repeat(values, 800) for name, values in truth.items()}
    clean, noisy = (point_source_coefficients(many, p, r) for r in (None, rng))
    stacked = [np.concatenate([c["bp"], c["rp"]], axis=1) for c in (clean, noisy)]
    difference = stacked[1] - stacked[0]
    every = limit._error_modes(stacked[0][:1], p)[0]
    modes = np.delete(every, [8, 17, 18, 19], axis=0)  # backgrounds, level and shift
    # Along the directions in which the spectrum itself is large, BP and RP.
    for band in (slice(0, N_BASES), slice(N_BASES, None)):
        along = np.zeros(2 * N_BASES)
        along[band] = stacked[0][0, band]
        along /= np.linalg.norm(along)
        assert np.std(difference @ along) == pytest.approx(np.linalg.norm(modes @ along), rel=0.1)
    total = np.sqrt((difference**2).sum(axis=1).mean())
    assert total == pytest.approx(np.sqrt((modes**2).sum()), rel=0.1)
    moved = truth | {name: np.repeat(values, 800) for name, values in truth.items()}
    moved |= draw_nuisances(800, rng, p)
    for name in ("blend_flux", "background_bp", "level_error_bp", "level_error_rp"):
        moved[name] = np.zeros(800)
    disturbed = disturb_sources(clean, moved | {"background_rp": np.zeros(800)}, p, instrument)
    difference = np.concatenate([disturbed["bp"], disturbed["rp"]], axis=1) - stacked[0]
    shifts = np.sqrt((difference**2).sum(axis=1).mean())
    assert shifts == pytest.approx(np.sqrt((every[19] ** 2).sum()), rel=0.15)
    moved["shift"] = np.zeros(800)
    disturbed = disturb_sources(clean, moved, p, instrument)
    difference = np.concatenate([disturbed["bp"], disturbed["rp"]], axis=1) - stacked[0]
    background = np.sqrt((difference**2).sum(axis=1).mean())
    assert background == pytest.approx(np.sqrt((every[17] ** 2).sum()), rel=0.1)


def test_the_limit_is_calibrated_and_better_than_the_prior(galaxies):
    true = np.asarray(galaxies.columns["redshift_true"])
    found = limit.estimate_limit(galaxies, n_templates=6000, seed=5)
    assert found.pdf.shape == (250, len(found.edges) - 1)
    assert (found.pdf @ np.diff(found.edges)) == pytest.approx(np.ones(250))
    assert list(found.part_means) == [375, 750, 1500, 3000, 6000]
    trusted = found.sample_size > 10
    assert 0.2 < trusted.mean() < 1
    error = np.abs(found.mean - true)
    assert error.mean() < 0.55 * np.abs(true - np.median(true)).mean()
    # Those with enough templates behind them know their own uncertainty.
    pit = summarise_pit(compute_pit(true, found.pdf, found.edges)[trusted])
    assert pit["p_value"] > 1e-3
    middles = 0.5 * (found.edges[1:] + found.edges[:-1])
    variance = (found.pdf * np.diff(found.edges)) @ middles**2 - found.mean**2
    claimed = np.sqrt(variance[trusted].mean())
    assert np.sqrt((error[trusted] ** 2).mean()) == pytest.approx(claimed, rel=0.25)
    again = limit.estimate_limit(galaxies[:20], n_templates=500, seed=5)
    assert np.array_equal(
        again.mean, limit.estimate_limit(galaxies[:20], n_templates=500, seed=5).mean
    )


def test_the_limit_needs_errors_and_correlations():
    spectra = simulate_spectra(20, seed=1001, correlations=False)
    with pytest.raises(InputError, match="correlations"):
        limit.estimate_limit(spectra, n_templates=100)


def test_benchmark_and_its_report(tmp_path):
    found = run_benchmark(
        300, 120, seed=3, models=[Model()], baselines=["median", "boosting"],
        n_templates=1500, n_limit=60,
    )  # fmt: skip
    assert len(found.table) == 120
    assert list(found.recipes) == ["median", "boosting", "fake", "limit"]
    summary = {row["prediction"]: row for row in found.comparison.summary}
    assert summary["fake"]["mae_ratio"] == 1
    assert summary["boosting"]["mae"] < summary["median"]["mae"]
    assert found.limit_comparison.n_common == 60
    assert found.limit["n_templates"] == 1500
    assert not found.limit["reliable"]
    if found.trusted_comparison is not None:
        enough = found.table["sample_size_limit"][:60] >= 30
        assert found.trusted_comparison.n_common == enough.sum()
    fake = found.comparison.evaluations["redshift_fake"]
    assert fake.simulated
    assert "coverage" in fake.tables
    page = write_benchmark(found, tmp_path)
    text = page.read_text()
    assert "simulated galaxies, survey sdss, seed 1003" in text
    assert "Not reliable as a limit" in text
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["limit"]["n"] == 60


def test_galaxies_of_the_training_are_refused(galaxies):
    with pytest.raises(InputError, match="trained on the simulated galaxies of seed 1001"):
        run_benchmark(100, 100, seed=1, models=[Model(seed=1001)], baselines=["median"])
    with pytest.raises(InputError, match="share 250 sources"):
        run_benchmark(galaxies, galaxies, models=[Model()], baselines=["median"], n_templates=0)
    assert find_training_seed(galaxies.source_id, Model(seed=1001).manifest) == 1001
    assert find_training_seed(galaxies.source_id, Model(seed=1).manifest) is None
    assert find_training_seed(np.array([4 * 10**18]), Model().manifest) is None


def test_command_predicts_spectra_and_compares_baselines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        registry, "load_model", lambda name="default", device="auto": Model(seed=11)
    )
    monkeypatch.setattr(registry, "available_models", lambda: ["fake"])
    spectra = str(tmp_path / "s.parquet")
    assert main(["simulate", "-n", "60", "--seed", "11", "-o", spectra, "-q"]) == 0
    assert main(["evaluate", spectra, "-o", str(tmp_path / "one")]) == 0
    done = capsys.readouterr()
    assert "n 60" in done.out
    assert "(simulated galaxies)" in done.out
    assert "trained on simulated galaxies of seed 11" in done.err
    arguments = ["evaluate", "--baselines", "--train", "200", "--seed", "3", "--templates", "0"]
    assert main([*arguments, "--test", spectra, "-o", str(tmp_path / "two")]) == 1
    assert "choose another seed" in capsys.readouterr().err
    assert main([*arguments, "--test", "80", "-o", str(tmp_path / "two"), "--overwrite"]) == 0
    out = capsys.readouterr().out
    assert "80 test galaxies (simulated galaxies)" in out
    assert "svr" in out
