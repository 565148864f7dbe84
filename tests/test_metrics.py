"""Metrics against closed forms, and the plots."""

import sys

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.figure import Figure

from gaia_redshift.errors import InputError
from gaia_redshift.evaluate import bin_metrics, compute_metrics
from gaia_redshift.plot import plot_predictions, save_plot
from gaia_redshift.tables import build_table


def test_metrics_of_a_few_numbers_worked_out_by_hand():
    true = np.array([0.0, 0.0, 0.0, 1.0])
    predicted = np.array([0.01, 0.02, 0.06, 1.4])  # dz: 0.01, 0.02, 0.06, 0.2
    found = compute_metrics(predicted, true)
    assert found["n"] == 4
    assert found["bias"] == pytest.approx(0.29 / 4)
    # median dz 0.04; distances 0.03, 0.02, 0.02, 0.16: median 0.025
    assert found["sigma_nmad"] == pytest.approx(1.4826 * 0.025)
    assert found["mae"] == pytest.approx((0.01 + 0.02 + 0.06 + 0.4) / 4)
    assert found["outliers_05"] == 0.5
    assert found["outliers_15"] == 0.25


def test_sigma_nmad_is_the_sigma_of_a_normal_distribution():
    rng = np.random.default_rng(3)
    true = rng.uniform(0, 0.5, 200_000)
    predicted = true + (1 + true) * rng.normal(0.01, 0.02, 200_000)
    found = compute_metrics(predicted, true)
    assert found["sigma_nmad"] == pytest.approx(0.02, rel=0.01)
    assert found["bias"] == pytest.approx(0.01, abs=2e-4)
    assert found["outliers_05"] == pytest.approx(0.0228 + 0.0013, abs=1e-3)  # > 2 and < -3 sigma


def test_masked_and_nan_pairs_are_left_out():
    predicted = np.ma.masked_array([0.1, 9.0, 0.3, 0.2], mask=[False, True, False, False])
    found = compute_metrics(predicted, [0.1, 0.1, 0.3, np.nan])
    assert found["n"] == 2
    assert found["mae"] == 0
    empty = compute_metrics([np.nan], [0.1])
    assert empty["n"] == 0
    assert np.isnan(empty["bias"])
    with pytest.raises(InputError, match="shapes"):
        compute_metrics([0.1], [0.1, 0.2])


def test_plot_against_truth_shows_the_points_and_labels(tmp_path):
    table = build_table([1, 2, 3], [0.1, np.nan, 0.3], [0, 1, 0])
    table["redshift_true"] = [0.11, 0.2, 0.29]
    axes = plot_predictions(table, "redshift_true")
    assert axes.get_xlabel() == "true redshift"
    assert axes.get_ylabel() == "predicted redshift"
    points = axes.lines[0].get_xydata()
    assert points == pytest.approx(np.array([[0.11, 0.1], [0.29, 0.3]]))
    save_plot(axes, tmp_path / "z.png")
    assert (tmp_path / "z.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="cannot write the plot"):
        save_plot(axes, tmp_path / "z.nonsense")


def test_many_sources_are_drawn_as_density():
    z = np.random.default_rng(0).uniform(0, 0.5, 5000)
    axes = plot_predictions(build_table(np.arange(5000), z, np.zeros(5000)), z)
    assert axes.collections


def test_without_truth_a_histogram_on_given_axes_and_no_pyplot_figure():
    axes = Figure().add_subplot()
    table = build_table([1, 2, 3], [0.1, np.nan, 0.3], [0, 1, 0])
    assert plot_predictions(table, ax=axes) is axes
    assert sum(patch.get_height() for patch in axes.patches) == 2
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_nothing_predicted_still_draws_and_wrong_truth_is_named():
    table = build_table([1], [np.nan], [1])
    plot_predictions(table)
    plot_predictions(table, [0.1])
    with pytest.raises(InputError, match="'z_spec'"):
        plot_predictions(table, "z_spec")
    with pytest.raises(InputError, match="shape"):
        plot_predictions(Table(table), [0.1, 0.2])


def test_masked_predictions_and_missing_truths_are_counted():
    predicted = np.ma.masked_array([0.1, 9.0, np.nan, 0.2, 0.5], mask=[0, 1, 0, 0, 0])
    found = compute_metrics(predicted, [0.1, 0.1, 0.3, np.nan, np.inf])
    assert (found["n"], found["n_masked"], found["n_without_truth"]) == (1, 2, 2)


def test_standard_errors_match_the_scatter_of_many_samples():
    rng = np.random.default_rng(5)
    n, sigma = 2000, 0.03
    true = np.full(n, 0.1)
    metrics = [
        compute_metrics(true + 1.1 * rng.normal(0, sigma, n), true, errors=i == 0)
        for i in range(400)
    ]
    # Closed forms for normal dz: scatter of the mean and of |dz|; 1.1664 sigma / sqrt(n) for the
    # median absolute deviation (Rousseeuw & Croux 1993: efficiency 0.3675).
    assert metrics[0]["bias_error"] == pytest.approx(sigma / np.sqrt(n), rel=0.06)
    assert metrics[0]["mean_error_error"] == pytest.approx(1.1 * sigma / np.sqrt(n), rel=0.06)
    half_normal = 1.1 * sigma * np.sqrt(1 - 2 / np.pi)
    assert metrics[0]["mae_error"] == pytest.approx(half_normal / np.sqrt(n), rel=0.06)
    closed = sigma / np.sqrt(2 * 0.3675 * n)
    assert metrics[0]["sigma_nmad_error"] == pytest.approx(closed, rel=0.25)
    for name in ("sigma_nmad", "outliers_05"):
        scatter = np.std([m[name] for m in metrics])
        assert metrics[0][f"{name}_error"] == pytest.approx(scatter, rel=0.25)
    # No outlier was found: that does not make the fraction certain.
    assert metrics[0]["outliers_15"] == 0
    assert 0 < metrics[0]["outliers_15_error"] < 1 / n


def test_bins_hold_their_edges_and_count_the_rest():
    values = np.ma.masked_array([0.0, 0.1, 0.2, 0.2, 0.25, -0.1, np.nan, 0.15], mask=[0] * 7 + [1])
    true = np.full(8, 0.1)
    table = bin_metrics(true + 0.01, true, values, [0.0, 0.1, 0.2])
    assert table["n"].tolist() == [1, 3]  # [0, 0.1), [0.1, 0.2]
    assert table.meta["n_outside"] == 4
    assert table["mean"][1] == pytest.approx((0.1 + 0.2 + 0.2) / 3)
    assert table["mae"][0] == pytest.approx(0.01)
    masked = bin_metrics([np.nan, 0.1], [0.1, 0.1], [0.1, 0.1], [0.0, 1.0])
    assert (masked["n"][0], masked["n_masked"][0]) == (1, 1)
    with pytest.raises(InputError, match="rising"):
        bin_metrics(true, true, true, [0.2, 0.1])
