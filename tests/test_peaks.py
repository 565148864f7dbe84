"""Peaks of distributions: where they are, how probable, and how many there are."""

import numpy as np
import pytest

from gaia_redshift import predict_table, simulate_spectra
from gaia_redshift.errors import InputError
from gaia_redshift.peaks import find_peaks

EDGES = np.linspace(0, 0.6, 601)
Z = 0.5 * (EDGES[1:] + EDGES[:-1])


def bell(mean, width):
    return np.exp(-0.5 * ((Z - mean) / width) ** 2) / width / np.sqrt(2 * np.pi)


def test_two_bells_with_their_odds():
    pdf = 0.3 * bell(0.1234, 0.01) + 0.7 * bell(0.35, 0.02)
    redshift, odds = find_peaks(pdf, EDGES, n=3)
    np.testing.assert_allclose(redshift[0, :2], [0.35, 0.1234], atol=1e-4)
    np.testing.assert_allclose(odds[0, :2], [0.7, 0.3], atol=1e-3)
    assert np.isnan([redshift[0, 2], odds[0, 2]]).all(), "there is no third"


def test_the_most_probable_peak_need_not_be_the_highest():
    redshift, odds = find_peaks(0.4 * bell(0.1, 0.004) + 0.6 * bell(0.4, 0.03), EDGES)
    np.testing.assert_allclose(redshift[0], [0.4, 0.1], atol=1e-3)
    assert odds[0, 0] > odds[0, 1]


def test_shoulders_ripples_and_crumbs_are_no_peaks():
    ripple = bell(0.2, 0.03) * (1 + 0.2 * np.sin(Z / 0.003))
    crumb = bell(0.2, 0.01) + 0.001 * bell(0.5, 0.01)
    for pdf in (ripple, crumb, bell(0.2, 0.02) + 0.8 * bell(0.24, 0.02)):
        redshift, odds = find_peaks(pdf, EDGES)
        assert np.isfinite(redshift).tolist() == [[True, False]]
        assert odds[0, 0] == pytest.approx(1)


def test_at_the_ends_and_without_distribution():
    first, last = np.zeros((2, 6))
    first[0], last[-1] = 2, 2
    flat = np.ones(6)
    redshift, odds = find_peaks([first, last, flat, np.full(6, np.nan), np.zeros(6)], np.arange(7))
    assert redshift[:2, 0].tolist() == [0.5, 5.5]
    np.testing.assert_allclose(odds[:3, 0], 1)
    assert np.isnan(redshift[3:]).all()


def test_a_table_of_predictions():
    table = predict_table(simulate_spectra(20, seed=3), pdf=True)
    _, odds = find_peaks(table, n=20)
    np.testing.assert_allclose(np.nansum(odds, axis=1), 1, atol=0.02)
    assert (np.diff(np.nan_to_num(odds), axis=1) <= 0).all()
    del table["redshift_cnn_pdf"]
    with pytest.raises(InputError, match="pdf=True"):
        find_peaks(table)
    with pytest.raises(InputError, match="601 rising edges"):
        find_peaks(Z, Z)
