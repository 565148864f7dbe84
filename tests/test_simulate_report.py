"""The report on the simulator: its numbers, its files, and what it says of wrong requests."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gaia_redshift import simulate_spectra, write_spectra
from gaia_redshift.cli import main
from gaia_redshift.errors import InputError
from gaia_redshift.grid import DEFAULT_GRID
from gaia_redshift.simulate.survey import Survey
from research.simulator.calibration import load_real_means
from research.simulator.figures import ErrorHistogram
from research.simulator.photometry import load_photometry
from research.simulator.real_noise import (
    compare_noise,
    compute_autocorrelation,
    predict_errors,
    read_real_sources,
)
from research.simulator.report import measure_means, report_simulation

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Simulated galaxies in the form of real sources, standard deviations of the fits included."""
    spectra = simulate_spectra(40, seed=6)
    assert np.std(spectra.columns["bp_standard_deviation"]) > 0.02
    path = tmp_path_factory.mktemp("sources") / "sources.parquet"
    write_spectra(spectra, path)
    return path


@pytest.fixture(scope="module")
def report(sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new"
    report_simulation(1200, 5, "sdss", folder, noise_sources=sources, per_bin=1000)
    return folder


def test_the_survey_is_cut_to_a_range_of_redshifts():
    part, share = Survey.resolve("sdss").restrict(0.1, 0.2)
    z = part.quantile(np.linspace(0, 1, 1001)[:-1])
    assert 0.1 <= z.min() < z.max() < 0.2
    # Kiraleos (2023): 28.99 % of the galaxies at 0.10 to 0.15, 16.61 % at 0.15 to 0.20.
    assert share == pytest.approx(0.2899 + 0.1661, abs=0.01)
    assert np.mean(z < 0.15) == pytest.approx(0.2899 / 0.4560, abs=0.02)
    whole, share = Survey.resolve("flat").restrict(0.5, 0.6)
    assert share == pytest.approx(1 / 6)
    assert np.mean(whole.quantile(np.linspace(0, 1, 101)[:-1])) == pytest.approx(0.55, abs=0.001)
    with pytest.raises(InputError, match=r"no galaxies at z = 0\.3 to 0\.4"):
        Survey.resolve([0.1, 0.2]).restrict(0.3, 0.4)


def test_means_look_like_the_real_ones(report):
    found = json.loads((report / "report.json").read_text())["means"]
    assert [b["n"] for b in found["bins"]] == [1000] * 6
    for b in found["bins"][:3]:
        assert abs(b["level"] - 1) < 0.1
        assert b["rms"] < 0.03
        assert abs(b["bp_rp"] - 1) < 0.05
        assert 0.005 < b["level_error"] < 0.06
    assert found["grid_nm"] == DEFAULT_GRID.to_dict()


def test_bins_without_galaxies_are_left_out():
    means, result = measure_means([0.05, 0.05], 1, per_bin=100)
    assert [b["z_low"] for b in result["bins"]] == [0.0]
    assert np.isfinite(means[0]).all()
    assert np.isnan(means[1:]).all()


def test_report_can_be_read_and_says_what_is_simulated(report):
    text = (report / "report.md").read_text()
    assert "1,200 **simulated** galaxies" in text
    assert "expected means" in text
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 5
    for name in pictures:
        assert (report / name).read_bytes().startswith(b"\x89PNG")
    content = json.loads((report / "report.json").read_text())
    assert content["simulated"] is True
    level = content["means"]["bins"][0]["level"]
    assert f"| 0.0-0.1 | 1,000 | {level:.3f} +-" in text


def test_photometry_stands_beside_the_real_one(report):
    content = json.loads((report / "report.json").read_text())["photometry"]
    real = load_photometry()
    by_bin = {b["z_low"]: b for b in content["bins"]}
    assert {0.05, 0.1, 0.15, 0.2} <= set(by_bin)
    for row in real[1:3]:
        b = by_bin[row["z_low"]]
        assert b["log_rp_real"] == row["log_rp"][2]
        assert abs(b["log_rp"] - b["log_rp_real"]) < 0.08
        assert abs(b["log_bp_rp"] - b["log_bp_rp_real"]) < 0.03
        assert b["log_rp_scatter"] == pytest.approx(b["log_rp_scatter_real"], rel=0.35)
        assert 0.6 < b["kept_bp"] < 0.7 < b["kept_rp"] < 0.9
    line = f"| 0.10-0.15 | {by_bin[0.1]['n']} | 178 | {by_bin[0.1]['log_rp']:.3f} +-"
    assert line in (report / "report.md").read_text()


def test_high_frequency_noise_falls_with_transits(report):
    rows = json.loads((report / "report.json").read_text())["residuals"]
    assert [(r["band"], r["window"]) for r in rows[::2]] == [
        (band, window) for band in ("bp", "rp") for window in (9, 15)
    ]
    for row in rows:
        assert sum(row["n"]) > 50
        known = [(v, n) for v, n in zip(row["rms"], row["n"], strict=True) if n >= 30]
        assert known[0][0] > known[-1][0] > 0.02
    with_both = {(r["band"], r["window"], r["level"][0]): r["rms"][3] for r in rows}
    assert with_both["rp", 15, 2.0] > with_both["rp", 9, 2.0]
    assert with_both["rp", 15, 4.0] > with_both["rp", 15, 2.0]


def test_noise_that_follows_the_model_is_found_to_follow_it(report):
    noise = json.loads((report / "report.json").read_text())["noise"]
    for band in ("bp", "rp"):
        # Errors were predicted without noise and for fluxes with it: alike to per cents.
        assert noise[band]["all"]["n"] == 40
        np.testing.assert_allclose(noise[band]["galaxy_range"]["ratio_16_50_84"], 1, atol=0.03)
        np.testing.assert_allclose(
            noise[band]["autocorrelation_real"],
            noise[band]["autocorrelation_predicted"],
            atol=0.01,
        )


def test_wrong_noise_is_found(sources):
    spectra = read_real_sources(sources)
    doubled = replace(spectra, rp=replace(spectra.rp, errors=2 * spectra.rp.errors))
    ranges = {"bp": (0.0, 1e3), "rp": (0.0, 1e3)}
    found = compare_noise(doubled, ranges)
    assert found["bp"]["all"]["ratio_16_50_84"][1] == pytest.approx(1, abs=0.03)
    assert found["rp"]["all"]["ratio_16_50_84"][1] == pytest.approx(0.5, abs=0.02)
    nothing = compare_noise(spectra, {"bp": (1e8, 1e9), "rp": (1e8, 1e9)})
    assert nothing["bp"]["galaxy_range"]["n"] == 0


def test_autocorrelation_is_that_of_noise_drawn():
    """Independent route: many noisy spectra of one galaxy, sampled and correlated."""
    from gaia_redshift import sample_spectra
    from gaia_redshift.simulate.noise import draw_noise

    galaxy = simulate_spectra(1, seed=2)
    n = 3000
    rows = galaxy[np.zeros(n, dtype=int)]
    noisy, _, _, _ = draw_noise(
        rows.rp.coefficients,
        np.full(n, 38.0),
        "rp",
        np.random.default_rng(3),
        correlations=False,
    )
    flux = sample_spectra(replace(rows, rp=replace(rows.rp, coefficients=noisy)), errors=False).flux
    matrix = np.corrcoef(flux[:, 80:].T)
    drawn = [np.diagonal(matrix, lag).mean() for lag in range(1, 9)]
    np.testing.assert_allclose(compute_autocorrelation(galaxy, "rp")[0], drawn, atol=0.03)


def test_sources_without_what_is_needed_are_named(tmp_path):
    spectra = simulate_spectra(3, seed=1)
    incomplete = replace(spectra, columns=spectra.columns.copy())
    incomplete.columns.remove_column("bp_standard_deviation")
    write_spectra(incomplete, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="standard_deviation"):
        read_real_sources(tmp_path / "a.parquet")
    bare = replace(
        spectra,
        bp=replace(spectra.bp, correlations=None),
        rp=replace(spectra.rp, correlations=None),
    )
    write_spectra(bare, tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no errors or correlations"):
        read_real_sources(tmp_path / "b.parquet")


def test_real_sources_are_read_and_predicted():
    path = SHARED / "data" / "xp_continuous_616_dr3_sources.csv.gz"
    if not path.exists():
        pytest.skip("needs the real spectra in shared/")
    real = read_real_sources(path)
    assert len(real) == 616
    found = compare_noise(real, {"bp": (0.3, 30.0), "rp": (0.3, 30.0)})
    for band in ("bp", "rp"):
        assert found[band]["galaxy_range"]["n"] > 10
        assert 0.9 < found[band]["galaxy_range"]["ratio_16_50_84"][1] < 1.1
        np.testing.assert_allclose(
            found[band]["autocorrelation_predicted"], found[band]["autocorrelation_real"], atol=0.05
        )
    faint = real[:5]
    assert not np.allclose(predict_errors(faint).bp.errors, faint.bp.errors)


def test_percentiles_of_a_histogram():
    histogram = ErrorHistogram()
    rng = np.random.default_rng(1)
    error = 10 ** rng.normal(-0.5, 0.1, (500, 100))
    histogram.add(np.full((500, 100), 10.5), error)
    histogram.add(np.full((1, 10), -1.0), np.ones((1, 10)))
    flux, found = histogram.percentiles()
    assert flux.size == 1
    assert flux[0] == pytest.approx(10.5, rel=0.15)
    np.testing.assert_allclose(found[0], np.percentile(error, [16, 50, 84]), rtol=0.02)


def test_command_writes_a_report(tmp_path, capsys, monkeypatch):
    import research.simulator.report as module

    calls = []
    monkeypatch.setattr(module, "report_simulation", lambda *a, **k: calls.append((a, k)))
    folder = str(tmp_path / "report")
    assert main(["simulate", "-n", "30", "--seed", "1", "--report", folder]) == 0
    assert "report.md" in capsys.readouterr().out
    assert calls[0][0] == (30, 1, "sdss", folder)
    for wrong in (
        [],
        ["--kind", "star", "--report", folder],
        ["--noise-sources", "x", "-o", "y.fits"],
    ):
        assert main(["simulate", "-n", "30", "--seed", "1", *wrong]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(calls) == 1


def test_real_means_are_there_to_compare_with():
    assert load_real_means().shape == (6, 186)


def test_an_installed_package_says_where_the_report_is_to_be_had(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "research.simulator", None)  # as if it were not there
    monkeypatch.delitem(sys.modules, "research.simulator.report", raising=False)
    spectra = tmp_path / "galaxies.csv"
    command = ["simulate", "-n", "3", "--seed", "1", "-o", str(spectra), "--report", str(tmp_path)]
    assert main(command) == 1
    assert "in a checkout of its source" in capsys.readouterr().err
    assert not spectra.exists()
