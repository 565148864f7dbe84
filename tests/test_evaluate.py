"""Coverage, PIT and CRPS against closed forms; evaluations, comparisons, reports, the command."""

import json
import re

import numpy as np
import pytest
from astropy.table import Table
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy.stats import norm

from gaia_redshift.cli import main
from gaia_redshift.errors import InputError
from gaia_redshift.evaluate import (
    compare_predictions,
    compute_coverage,
    compute_crps,
    compute_crps_from_quantiles,
    compute_pit,
    evaluate_table,
    find_quantiles,
    write_report,
)
from gaia_redshift.evaluate.comparison import in_weak_range
from gaia_redshift.evaluate.figures import plot_bias, plot_coverage, plot_density, plot_pit
from gaia_redshift.metrics.distributions import bin_coverage, summarise_pit
from gaia_redshift.tables import write_table

GRID = np.linspace(-1.0, 1.6, 2601)


@pytest.fixture(scope="module")
def normals():
    """Normal distributions, with truths drawn from them."""
    rng = np.random.default_rng(0)
    mean, sigma = rng.uniform(0.1, 0.4, 300), rng.uniform(0.02, 0.06, 300)
    truth = mean + sigma * rng.normal(size=300)
    return mean, sigma, truth, norm.pdf(GRID, mean[:, None], sigma[:, None])


def crps_of_normal(mean, sigma, truth):
    """Closed form (Gneiting et al. 2005)."""
    w = (truth - mean) / sigma
    return sigma * (w * (2 * norm.cdf(w) - 1) + 2 * norm.pdf(w) - 1 / np.sqrt(np.pi))


def test_gridded_normal_distributions_give_the_closed_forms(normals):
    mean, sigma, truth, pdf = normals
    expected = crps_of_normal(mean, sigma, truth)
    assert compute_crps(truth, 3 * pdf, GRID) == pytest.approx(expected, abs=2e-6)
    assert compute_pit(truth, pdf, GRID) == pytest.approx(norm.cdf(truth, mean, sigma), abs=2e-4)
    levels = [0.025, 0.16, 0.5, 0.84]
    exact = mean[:, None] + sigma[:, None] * norm.ppf(levels)
    assert find_quantiles(pdf, GRID, levels) == pytest.approx(exact, abs=1e-4)


def test_bins_with_edges_are_exact_for_the_uniform_distribution():
    edges = np.linspace(0, 1, 5)
    truth = np.array([0.3, 0.0, 1.0, 1.5, -0.5])
    # integral of x^2 up to z and of (1 - x)^2 beyond; outside, the distance is added
    expected = [0.3**3 / 3 + 0.7**3 / 3, 1 / 3, 1 / 3, 1 / 3 + 0.5, 1 / 3 + 0.5]
    assert compute_crps(truth, np.ones((5, 4)), edges) == pytest.approx(expected)
    assert compute_crps(truth, np.ones((5, 5)), edges) == pytest.approx(expected)
    assert compute_pit(truth, np.ones((5, 4)), edges) == pytest.approx([0.3, 0, 1, 1, 0])
    two = find_quantiles([[1.0, 0.0, 0.0, 3.0]], edges, [0.125, 0.25, 0.625])
    assert two[0, [0, 2]] == pytest.approx([0.125, 0.875])
    # A single point's score is its absolute error.
    spike = np.zeros((1, 1000))
    spike[0, 500] = 1
    assert compute_crps([0.2], spike, np.linspace(0, 1, 1001)) == pytest.approx(0.3, abs=1e-3)


def test_scores_from_quantiles_approach_the_closed_form(normals):
    mean, sigma, truth, _ = normals
    expected = crps_of_normal(mean, sigma, truth)
    for k, tolerance in ((9, 0.06), (199, 0.002)):
        levels = (np.arange(k) + 0.5) / k
        quantiles = mean[:, None] + sigma[:, None] * norm.ppf(levels)
        found = compute_crps_from_quantiles(truth, quantiles, levels)
        assert found.mean() == pytest.approx(expected.mean(), rel=tolerance)
    with pytest.raises(InputError, match="levels"):
        compute_crps_from_quantiles(truth, quantiles, levels[::-1])
    with pytest.raises(InputError, match=r"quantiles have shape"):
        compute_crps_from_quantiles(truth, quantiles[:, :3], levels)


def test_unusable_distributions_are_nan_and_wrong_shapes_are_named():
    pdf = np.ma.masked_array(np.ones((5, 3)), mask=np.zeros((5, 3), dtype=bool))
    pdf[1] = 0
    pdf[2, 0] = -1
    pdf[3] = np.ma.masked
    for function in (compute_pit, compute_crps):
        found = function([0.5, 0.5, 0.5, 0.5, np.nan], pdf, [0.0, 0.5, 1.0])
        assert np.isfinite(found).tolist() == [True, False, False, False, False]
    with pytest.raises(InputError, match=r"edges of bins"):
        compute_pit([0.1], np.ones((1, 3)), np.linspace(0, 1, 8))
    with pytest.raises(InputError, match="rising"):
        compute_pit([0.1], np.ones((1, 3)), [1, 0.5, 0])


def test_coverage_of_right_and_of_half_as_wide_intervals():
    rng = np.random.default_rng(2)
    sigma, n = 0.03, 40_000
    mean = rng.uniform(0, 0.5, n)
    truth = mean + sigma * rng.normal(size=n)
    right = compute_coverage(truth, mean - sigma, mean + sigma, 0.68)
    assert right["coverage"] == pytest.approx(0.6827, abs=4 * right["coverage_error"])
    assert right["coverage_error"] == pytest.approx(np.sqrt(0.6827 * 0.3173 / n), rel=0.02)
    assert right["below"] == pytest.approx(0.1587, abs=0.008)
    assert right["width"] == pytest.approx(2 * sigma)
    half = compute_coverage(truth, mean - sigma / 2, mean + sigma / 2, 0.68)
    assert half["coverage"] == pytest.approx(0.3829, abs=0.01)
    lower = np.ma.masked_less(mean - sigma, 0.1)
    some = compute_coverage(truth, lower, mean + sigma, 0.68)
    assert some["n_masked"] == lower.mask.sum()
    assert some["n"] + some["n_masked"] == n
    binned = bin_coverage(truth, {0.68: (mean - sigma, mean + sigma)}, mean, [0, 0.25, 0.5])
    assert binned["n"].sum() == n


def test_pit_of_honest_and_of_too_narrow_distributions(normals):
    mean, sigma, truth, pdf = normals
    honest = summarise_pit(compute_pit(truth, pdf, GRID))
    assert honest["p_value"] > 0.01
    assert honest["variance"] == pytest.approx(1 / 12, rel=0.15)
    assert np.mean(honest["density"]) == pytest.approx(1)
    narrow = norm.pdf(GRID, mean[:, None], sigma[:, None] / 3)
    found = summarise_pit(compute_pit(truth, narrow, GRID))
    assert found["p_value"] < 1e-6
    assert found["density"][0] > 2
    assert found["density"][-1] > 2


def make_table(n=4000, *, pdf=False, simulated=False):
    rng = np.random.default_rng(1)
    z = np.clip(rng.gamma(3, 0.05, n), 0, 0.6)
    sigma = 0.01 + 0.03 * z
    predicted = z + sigma * rng.normal(size=n)
    first = 7 * 10**18 if simulated else 4 * 10**18
    table = Table(
        {
            "source_id": first + np.arange(n),
            "redshift_true": z,
            "redshift_cnn": np.ma.masked_array(predicted, np.arange(n) % 40 == 0),
            "redshift_cnn_lower": predicted - sigma,
            "redshift_cnn_upper": predicted + sigma,
            "redshift_ugc": np.ma.masked_array(
                z + 0.02 + 0.04 * rng.normal(size=n), np.arange(n) % 4 == 1
            ),
            "phot_g_mean_mag": rng.uniform(15, 20, n),
            "flags_cnn": np.where(np.arange(n) % 10 == 3, np.int32(128), np.int32(0)),
        }
    )
    if pdf:
        table["redshift_cnn_pdf"] = norm.pdf(GRID[::5], predicted[:, None], sigma[:, None])
        table["redshift_cnn_pdf"].info.meta = {"redshift_grid": GRID[::5]}
    return table


def test_an_evaluation_holds_everything_and_counts_every_row():
    table = make_table(pdf=True)
    found = evaluate_table(table)
    assert found.metrics["n_rows"] == 4000
    assert (found.metrics["n"], found.metrics["n_masked"]) == (3900, 100)
    assert not found.simulated
    assert found.brightness == "phot_g_mean_mag"
    for name in ("by_true", "by_brightness"):
        assert found.tables[name]["n"].sum() == 3900
        assert found.tables[name]["n_masked"].sum() == 100
    predicted = found.tables["by_predicted"]
    assert predicted["n"].sum() + predicted.meta["n_outside_compared"] == 3900
    assert predicted.meta["n_outside"] - predicted.meta["n_outside_compared"] == 100
    assert found.tables["by_flag"]["flag"].tolist() == ["(none)", "diagonal_flux_error"]
    coverage = dict(found.tables["coverage"]["nominal", "coverage"].iterrows())
    assert coverage == pytest.approx({0.68: 0.683, 0.95: 0.95}, abs=0.03)
    assert found.pit["n"] == 4000
    assert found.crps["crps"] == pytest.approx(
        np.mean(0.01 + 0.03 * table["redshift_true"]) / np.sqrt(np.pi), rel=0.05
    )
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["metrics"]["n_masked"] == 100
    assert len(content["tables"]["by_true"]["columns"]["n"]) == 12


def test_wrong_columns_are_named():
    table = make_table(50)
    with pytest.raises(InputError, match="no column 'z_spec'"):
        evaluate_table(table, truth="z_spec")
    with pytest.raises(InputError, match="both ends"):
        evaluate_table(table, lower="redshift_cnn_lower")
    table["words"] = "a"
    with pytest.raises(InputError, match="'words' does not hold one number"):
        evaluate_table(table, prediction="words")
    table["nothing"] = np.nan
    with pytest.raises(InputError, match="no row has both"):
        evaluate_table(table, prediction="nothing")
    table["redshift_cnn_pdf"] = np.ones((50, 4))
    with pytest.raises(InputError, match="grid"):
        evaluate_table(table)


def test_simulated_galaxies_are_called_so():
    found = evaluate_table(make_table(200, simulated=True))
    assert found.simulated
    assert "simulated" in plot_bias(found).get_xlabel()


def test_a_comparison_is_on_common_rows_with_paired_errors():
    table = make_table()
    found = compare_predictions(
        table, ["redshift_cnn", "redshift_ugc"], labels={"redshift_ugc": "UGC"}
    )
    both = ~table["redshift_cnn"].mask & ~table["redshift_ugc"].mask
    assert found.n_common == both.sum()
    assert [e.metrics["n"] for e in found.evaluations.values()] == [found.n_common] * 2
    first, second = found.summary
    assert (first["mae_ratio"], first["mae_ratio_error"]) == (1, 0)
    assert second["prediction"] == "UGC"
    assert second["mae_ratio"] == pytest.approx(second["mae"] / first["mae"])
    assert 0 < second["mae_ratio_error"] < 0.2
    assert second["n_own"] == 3000
    assert second["n_own_masked"] == 1000
    own = found.weak_ranges[found.weak_ranges["prediction"] == "UGC"]
    # 0.07 to 0.071 and the three others; each row of UGC in one of them or outside
    assert len(own) == 5
    assert own["n"].sum() == found.n_common
    assert in_weak_range(np.array([0.01, 0.0705, 0.29, 0.6, 0.1])).tolist() == [0, 1, 2, 3, -1]
    with pytest.raises(InputError, match="two columns"):
        compare_predictions(table, ["redshift_cnn"])
    table["late"] = np.where(both, np.nan, 0.1)
    with pytest.raises(InputError, match="no row has"):
        compare_predictions(table, ["redshift_cnn", "redshift_ugc", "late"])


def test_figures_take_and_return_axes_or_make_figures_of_pyplot():
    found = evaluate_table(make_table(pdf=True))
    for plot in (plot_density, plot_bias, plot_pit, plot_coverage):
        axes = Figure().add_subplot()
        drawn = plot(found, ax=axes)
        assert drawn is axes
    assert not pyplot.get_fignums()
    own = [plot_bias(found, "true")]
    line = own[0].lines[0].get_ydata()
    rows = found.tables["by_true"]
    assert line == pytest.approx(np.asarray(rows["bias"][rows["n"] > 0]))
    with pytest.raises(InputError, match="against"):
        plot_bias(found, "colour")
    without = evaluate_table(make_table()["source_id", "redshift_true", "redshift_cnn"])
    for plot in (plot_pit, plot_coverage):
        with pytest.raises(InputError, match="no "):
            plot(without)
    assert set(pyplot.get_fignums()) == {axes.figure.number for axes in own}
    pyplot.close("all")


def test_the_page_is_whole_escaped_and_needs_no_network(tmp_path):
    table = make_table(800, simulated=True)
    table.rename_column("redshift_ugc", "<b>&ugc")
    table.remove_column("phot_g_mean_mag")  # fewer figures
    result = compare_predictions(table, ["redshift_cnn", "<b>&ugc"])
    page = write_report(result, tmp_path / "out", title="a <script> & more")
    text = page.read_text()
    assert "<title>a &lt;script&gt; &amp; more</title>" in text
    assert "<b>" not in text
    assert "simulated galaxies" in text
    assert re.findall(r'href="#(part-\d)"', text) == re.findall(r'section id="(part-\d)"', text)
    assert not pyplot.get_fignums(), "pictures of files are not shown"
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:image/svg\+xml;base64,|#part-)", text)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    names = {path.name for path in page.parent.iterdir()}
    pictures = set(re.findall(r"\(([^()<>]+\.png)\)</figcaption>", text))
    assert text.count("<img ") == len(pictures)
    assert {"metrics.json", "summary.ecsv", "bias_predicted.png"} <= names
    content = json.loads((page.parent / "metrics.json").read_text())
    assert content["n_common"] == result.n_common
    with pytest.raises(InputError, match="report already"):
        write_report(result, tmp_path / "out")
    write_report(result, tmp_path / "out", overwrite=True)


def read_page(page):
    """Tables of a page: caption to rows of cells, as a reader sees them."""
    found = {}
    for table in re.findall(r"<table>.*?</table>", page.read_text(), re.DOTALL):
        caption = re.search(r"<caption>(.*?)</caption>", table)[1]
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
        found[caption] = [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]
    return found


def test_numbers_on_the_page_are_those_of_the_tables(tmp_path):
    result = evaluate_table(make_table(800))
    tables = read_page(write_report(result, tmp_path / "out"))
    signs = {"bias (mean dz)": "bias", "mean error": "mean_error"}
    for caption, name in (
        ("Per bin of predicted redshift", "by_predicted"),
        ("Per bin of brightness", "by_brightness"),
    ):
        shown, expected = tables[caption], result.tables[name]
        assert len(shown) == len(expected)
        for cells, row in zip(shown, expected, strict=True):
            if row["n"] < 2:
                continue
            assert cells["mean"] == f"{row['mean']:.4g}"
            assert cells["MAE"] == f"{row['mae']:.4f} \N{PLUS-MINUS SIGN} {row['mae_error']:.4f}"
            for word, key in signs.items():
                error = row[f"{key}_error"]
                assert cells[word] == f"{row[key]:+.4f} \N{PLUS-MINUS SIGN} {error:.4f}"


def test_a_column_called_like_a_path_stays_in_the_folder(tmp_path):
    table = make_table(300)
    table.remove_column("phot_g_mean_mag")
    table.rename_column("redshift_ugc", "../x")
    table["__x"] = table["../x"]
    write_table(table, tmp_path / "t.parquet")
    arguments = ["evaluate", str(tmp_path / "t.parquet"), "--against", "../x", "--against", "__x"]
    assert main([*arguments, "-o", str(tmp_path / "a" / "b")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet", "a"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert len(list((tmp_path / "a" / "b").glob("*_by_true.ecsv"))) == 3


def test_odd_flags_and_redshifts_are_read_or_refused(tmp_path):
    table = make_table(300)
    expected = evaluate_table(table).tables["by_flag"]["n_rows"].tolist()
    bits = table["flags_cnn"].astype(float)
    table["flags_cnn"] = bits
    assert evaluate_table(table).tables["by_flag"]["n_rows"].tolist() == expected
    for wrong in (["a"] * 300, bits + 0.5):
        table["flags_cnn"] = wrong
        with pytest.raises(InputError, match="'flags_cnn' does not hold whole numbers"):
            evaluate_table(table)
    table.remove_column("flags_cnn")
    table["redshift_true"][4] = 1e308
    for evaluate in (
        evaluate_table,
        lambda table: compare_predictions(table, ["redshift_cnn", "redshift_ugc"]),
    ):
        with pytest.raises(InputError, match=r"holds 1e\+308 in row 5, which is no redshift"):
            evaluate(table)


def test_command_on_a_table_beside_ugc(tmp_path, capsys):
    write_table(make_table(900), tmp_path / "t.fits")
    folder = tmp_path / "out"
    arguments = [
        "evaluate",
        str(tmp_path / "t.fits"),
        "--against",
        "redshift_ugc",
        "-o",
        str(folder),
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "redshift_ugc" in out
    assert "report.html" in out
    assert "where UGC is reported weak" in (folder / "report.html").read_text()
    assert main(arguments) == 1
    assert "report already" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_common"] > 0
    quiet = ["evaluate", str(tmp_path / "t.fits"), "-o", str(folder), "--overwrite", "-q"]
    assert main(quiet) == 0
    assert not capsys.readouterr().out
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["n_masked"] == 23


def test_command_says_what_is_wrong(tmp_path, capsys):
    write_table(make_table(100), tmp_path / "t.ecsv")
    table, folder = str(tmp_path / "t.ecsv"), str(tmp_path / "out")
    for arguments, message in (
        ([], "give a table or spectra"),
        ([table, "--truth", "z_spec"], "no column 'z_spec'"),
        ([table, "--seed", "3"], "--seed goes with --baselines"),
        ([table, "--baselines"], "--train FILE"),
        ([table, "--prediction", "redshift_ugc", "--model", "default"], "give one of them"),
        ([str(tmp_path / "no.ecsv")], "no such file"),
        (["--baselines", "--train", "3"], "50 galaxies or more"),
    ):
        assert main(["evaluate", *arguments, "-o", folder]) == 1, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
