"""Figures show what they should, on axes given or their own."""

import re
import subprocess
import sys

import numpy as np
import pytest
from astropy.table import Table
from matplotlib import pyplot
from matplotlib.figure import Figure

from gaia_redshift import (
    QualityFlag,
    predict_table,
    sample_spectra,
    sample_wavelengths,
    simulate_spectra,
)
from gaia_redshift.errors import InputError
from gaia_redshift.grid import N_BP
from gaia_redshift.plot import (
    LINES,
    plot_pdf,
    plot_predictions,
    plot_redshift_cone,
    plot_redshift_map,
    plot_source,
    plot_spectrum,
    save_plot,
)
from gaia_redshift.plot.source import show_sources


@pytest.fixture(scope="module")
def spectra():
    return simulate_spectra(3, seed=4)


def texts(axes):
    return [t.get_text() for t in axes.texts]


def test_a_spectrum_with_its_lines(spectra, tmp_path):
    axes = Figure().add_subplot()
    drawn = plot_spectrum(spectra, 0.1, row=1, ax=axes)
    assert drawn is axes
    vectors = sample_spectra(spectra)
    wavelength = sample_wavelengths()
    bp, rp = axes.lines[:2]
    np.testing.assert_allclose(bp.get_ydata(), vectors.flux[1, :N_BP])
    np.testing.assert_allclose(rp.get_ydata(), vectors.flux[1, N_BP:])
    np.testing.assert_allclose(bp.get_xdata(), wavelength[:N_BP])
    assert len(axes.collections) == 2, "the errors of both bands"
    at = {t.get_text(): t.xy[0] for t in axes.texts}
    assert at["Hα"] == pytest.approx(656.5 * 1.1, abs=0.1)
    assert set(at) == set(LINES)
    assert f"{spectra.source_id[1]}, z = 0.1000" in axes.get_title()
    assert "nm" in axes.get_xlabel()
    save_plot(axes, tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 5000


def test_lines_beyond_the_spectrum_are_left_out(spectra):
    far = texts(plot_spectrum(spectra[0], 0.55))
    assert "Hα" not in far
    assert "[O II]" in far
    assert texts(plot_spectrum(spectra[0], np.ma.masked)) == []
    assert texts(plot_spectrum(spectra[0], float("nan"))) == []
    assert texts(plot_spectrum(spectra[0], 0.1, lines=False)) == []
    vectors = sample_spectra(spectra, errors=False)
    assert not plot_spectrum(vectors, row=2).collections


def test_spectra_that_cannot_be_drawn(spectra):
    with pytest.raises(InputError, match="no row 3: there are 3"):
        plot_spectrum(spectra, row=3)
    vectors = sample_spectra(spectra)
    vectors.flux[0, 3] = np.nan
    with pytest.raises(InputError, match="no fluxes to draw"):
        plot_spectrum(vectors)


def test_a_distribution_with_its_interval(tmp_path):
    grid = np.linspace(0, 0.6, 601)
    pdf = np.exp(-0.5 * ((grid - 0.2) / 0.02) ** 2) / 0.02 / np.sqrt(2 * np.pi)
    axes = plot_pdf(pdf, grid, truth=0.5)
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    # a normal distribution: 0.16 and 0.84 lie 0.99446 sigma from the mean
    assert labels == ["68 %: 0.1801 to 0.2199", "median: 0.2000", "true: 0.5000"]
    low, high = axes.get_xlim()
    assert low < 0.15
    assert high > 0.5, "the truth is in view"
    save_plot(axes, tmp_path / "p.svg")

    edges = np.array([0.0, 0.1, 0.2, 0.4])
    bins = plot_pdf([[5, 5, 0], [0, 5, 2.5]], edges, row=1)
    assert "median: 0.2000" in [t.get_text() for t in bins.get_legend().get_texts()]

    table = Table({"source_id": [7], "redshift_cnn_pdf": pdf[None], "z": [0.21]})
    table["redshift_cnn_pdf"].info.meta = {"redshift_grid": grid.tolist()}
    given = Figure().add_subplot()
    assert plot_pdf(table, truth="z", ax=given) is given
    assert given.get_title() == "source_id 7"
    assert "true: 0.2100" in [t.get_text() for t in given.get_legend().get_texts()]


def test_distributions_that_cannot_be_drawn():
    table = Table({"source_id": [7], "redshift_cnn_pdf": [[1.0, 1.0]]})
    with pytest.raises(InputError, match="grid="):
        plot_pdf(table)
    with pytest.raises(InputError, match="as many redshifts"):
        plot_pdf(table, [1, 2, 3, 4])
    with pytest.raises(InputError, match="pdf=True"):
        plot_pdf(Table({"source_id": [7]}))
    with pytest.raises(InputError, match="no column 'z'"):
        plot_pdf(table, [0, 1], truth="z")
    with pytest.raises(InputError, match="masked or NaN"):
        plot_pdf([np.nan, 1.0], [0, 1])
    with pytest.raises(InputError, match="no row 1"):
        plot_pdf([0.5, 1.0], [0, 1], row=1)


def test_a_map_shows_the_medians_where_the_sources_are():
    """Three sources in one cell by the pole, one far away, and rows that have no place."""
    table = Table(
        {
            "ra": [10.0, 10.1, 10.2, 200.0, np.nan, 5.0],
            "dec": [89.0, 89.0, 89.1, -30.0, 0.0, 0.0],
            "redshift_cnn": np.ma.MaskedArray([0.1, 0.2, 0.4, 0.3, 0.5, 0.6], [0, 0, 0, 0, 0, 1]),
        }
    )
    axes = plot_redshift_map(table, level=2)
    values = axes.collections[0].get_array()
    assert sorted(np.unique(values.compressed()).round(6)) == [0.2, 0.3]
    shown = np.ma.getmaskarray(values).reshape(720, 1440)
    assert not shown[-2].all()
    assert shown[360].all(), "nothing on the equator"
    columns = np.nonzero(~shown[:360])[1]
    assert np.all(columns > 720), "RA 200 is right of the middle"
    assert axes.get_title() == "4 sources"
    counts = plot_redshift_map(table, level=2, value="count").collections[0].get_array()
    assert sorted(np.unique(counts.compressed())) == [1, 3]
    plain = plot_redshift_map(table[3:4], ax=Figure().add_subplot())
    assert plain.get_xlabel() == "right ascension (deg)"
    assert plain.get_xlim()[0] > plain.get_xlim()[1]


def test_a_wedge_across_ra_zero():
    table = Table({"ra": [350.0, 359, 1, 20], "dec": [1.0, 2, 3, 4], "redshift_cnn": [0.1] * 4})
    axes = plot_redshift_cone(table)
    angle = np.degrees(axes.collections[0].get_offsets()[:, 0])
    np.testing.assert_allclose(np.diff(angle), [9, 2, 19])
    assert axes.get_thetamax() - axes.get_thetamin() < 40
    for drawn in (plot_redshift_cone, plot_redshift_map):
        with pytest.raises(InputError, match="no column 'z'"):
            drawn(table, redshift="z")
        with pytest.raises(InputError, match="no row has"):
            drawn(table[:0])
    with pytest.raises(InputError, match="polar"):
        plot_redshift_cone(table, ax=Figure().add_subplot())
    with pytest.raises(InputError, match="level"):
        plot_redshift_map(table, level=20)


def test_figures_of_their_own_are_pyplots_and_axes_given_leave_it_alone():
    grid = np.arange(5) / 10
    plot_pdf(np.ones(5), grid, ax=Figure().add_subplot())
    assert not pyplot.get_fignums()
    drawn = plot_pdf(np.ones(5), grid)
    assert pyplot.gcf() is drawn.figure, "a notebook shows it"


def test_importing_the_figures_needs_no_pyplot():
    script = "import sys, gaia_redshift.plot; assert 'matplotlib' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_by_its_source_id(spectra):
    chosen = int(spectra.source_id[2])
    title = plot_spectrum(spectra, source_id=chosen).get_title()
    assert title == f"source_id {chosen}"
    with pytest.raises(InputError, match="no source_id 5 among 3"):
        plot_spectrum(spectra, source_id=5)
    table = predict_table(spectra, pdf=True)
    assert plot_pdf(table, source_id=chosen).get_title() == f"source_id {chosen}"


def test_rows_that_are_not_usable_are_grey_and_not_counted():
    stars = simulate_spectra(30, seed=2, kind="star")
    table = predict_table(stars, keep="redshift_true")
    title = plot_predictions(table).get_title()
    kinds = QualityFlag.UNLIKE_TRAINING | QualityFlag.UNLIKELY_GALAXY
    n = int((table["flags_cnn"] & int(kinds) != 0).sum())
    assert title.startswith(f"{30 - n} of 30 usable"), title
    galaxies = predict_table(simulate_spectra(60, seed=4), keep="redshift_true")
    galaxies["flags_cnn"] = 0
    galaxies["flags_cnn"][:20] = int(QualityFlag.UNLIKE_TRAINING)
    axes = plot_predictions(galaxies, "redshift_true")
    assert [len(line.get_xdata()) for line in axes.lines[:2]] == [20, 40]
    assert axes.get_title().startswith("40 of 60 usable: the others unlike the training galaxies")
    galaxies["flags_cnn"] |= QualityFlag.UNLIKE_TRAINING
    assert plot_predictions(galaxies, "redshift_true").get_title() == (
        "0 of 60 usable: all unlike the training galaxies\nnone to compare"
    )


def test_one_figure_for_one_object(spectra, tmp_path):
    figure = plot_source(spectra, int(spectra.source_id[1]), columns="redshift_true")
    words = "\n".join(t.get_text() for t in figure.texts)
    assert f"source_id {spectra.source_id[1]}" in words
    assert "flags:" in words
    assert "redshift_true: " in words
    assert len(figure.axes) == 2
    assert pyplot.get_fignums() == [figure.number]
    assert plot_source(spectra, row=2, figure=figure) is figure
    assert f"source_id {spectra.source_id[2]}" in figure.texts[0].get_text()
    save_plot(figure, tmp_path / "one.svg")
    with pytest.raises(InputError, match="no spectra of these source ids"):
        plot_source(spectra, 5)


def test_pages_of_many_objects(spectra, tmp_path):
    assert show_sources(spectra, tmp_path / "pages.pdf") == 3
    content = (tmp_path / "pages.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b(?!s)", content)) == 3
    with pytest.raises(InputError, match="exists already"):
        show_sources(spectra, tmp_path / "pages.pdf")
    with pytest.raises(InputError, match=r"3 objects need a \.pdf"):
        show_sources(spectra, tmp_path / "pages.png")
    assert show_sources(spectra, tmp_path / "one.png", limit=1) == 1
