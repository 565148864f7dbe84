"""What a page of objects holds, and what is refused; tests/browser opens such pages."""

import json
import re

import numpy as np
import pytest
from astropy.table import Table

from gaia_redshift import (
    inspect_spectra,
    predict_table,
    read_spectra,
    sample_spectra,
    simulate_spectra,
    write_spectra,
    write_table,
)
from gaia_redshift.cli import main
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.inspect import LARGEST, gather_objects
from gaia_redshift.inspect.content import find_nearest
from gaia_redshift.spectra import XPSpectra


@pytest.fixture(scope="module")
def spectra():
    return simulate_spectra(8, seed=21)


@pytest.fixture
def file(spectra, tmp_path):
    path = tmp_path / "galaxies.parquet"
    write_spectra(spectra, path)
    return path


def read_data(page):
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def test_a_page_is_one_file_without_network(file, tmp_path):
    page = inspect_spectra(file, tmp_path / "vi.html", n_simulated=0)
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text, "the browser itself forbids it"
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", text)
    assert "@" not in re.sub(r"@media|@DATA@", "", text[: text.index('id="data"')])
    data = read_data(page)
    assert data["ids"] == [str(i) for i in read_spectra(file).source_id], "exact, as text"
    assert data["near"] is None
    assert page.stat().st_size < 200_000
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_what_is_shown_is_what_is_predicted(spectra, file, tmp_path):
    expected = predict_table(file, keep="redshift_true")
    page = inspect_spectra(file, tmp_path / "vi.html", columns=["type", "ebv"], n_simulated=200)
    columns = {one["name"]: one["values"] for one in read_data(page)["columns"]}
    for name in ("redshift_cnn", "redshift_cnn_lower", "redshift_true"):
        np.testing.assert_allclose(columns[name], expected[name], rtol=1e-6)
    assert columns["type"] == [str(t) for t in spectra.columns["type"]]
    assert set(columns) >= {"ebv", "flags_cnn"}
    flat = predict_table(file, prior="flat", pdf=True)["redshift_cnn_pdf"]
    found = gather_objects(file, n_simulated=0)
    np.testing.assert_allclose(found.flat_pdf, flat, rtol=1e-5)
    assert all(0.6 < sum(p for _, p in peaks) < 1.02 for peaks in found.peaks)


def test_the_prior_is_worked_out_from_the_distributions(file):
    table = predict_table(file, pdf=True)
    edges = np.array(table["redshift_cnn_pdf"].info.meta["redshift_grid"])
    middle = 0.5 * (edges[1:] + edges[:-1])
    found = gather_objects(file, n_simulated=0, prior=lambda z: np.exp(-z / 0.2))
    one = np.atleast_2d(found.prior)
    expected = np.exp(-middle / 0.2) / np.exp(-middle[0] / 0.2)
    for row in one:
        held = row > 0
        np.testing.assert_allclose(
            row[held] / row[held][0], expected[held] / expected[held][0], rtol=0.02
        )


def test_a_chosen_sample_in_its_order_with_its_columns(spectra, file, tmp_path):
    table = predict_table(file)
    chosen = table[[5, 2]]
    chosen["priority"] = [2, 1]
    write_table(chosen, tmp_path / "chosen.ecsv")
    page = inspect_spectra(
        file, tmp_path / "vi.html", ids=tmp_path / "chosen.ecsv", columns=["priority", "type"],
        n_simulated=0,
    )  # fmt: skip
    data = read_data(page)
    assert data["ids"] == [str(table["source_id"][i]) for i in (5, 2)]
    columns = {one["name"]: one["values"] for one in data["columns"]}
    assert columns["priority"] == [2, 1]
    assert columns["type"] == [str(spectra.columns["type"][i]) for i in (5, 2)]
    with pytest.warns(GaiaRedshiftWarning, match="1 of 2 source ids are not in the input"):
        found = gather_objects(file, ids=[17, int(table["source_id"][0])], n_simulated=0)
    assert len(found) == 1


def test_only_the_clean_and_only_the_first(spectra):
    flags = np.asarray(predict_table(spectra)["flags_cnn"])
    assert len(gather_objects(spectra, limit=3, n_simulated=0)) == 3
    broken = XPSpectra.concatenate([spectra[:2], spectra[2:4]])
    broken.bp.coefficients[1, 5] = np.nan
    found = gather_objects(broken, clean="usable", n_simulated=0)
    assert len(found) == 4 - 1 - int(((flags[[0, 2, 3]] & (1 << 20)) != 0).sum())
    every = gather_objects(broken, n_simulated=10)
    assert every.table["redshift_cnn"].mask.tolist() == [False, True, False, False]
    assert every.peaks[1] == []
    assert np.isnan(every.nearest.redshift[1])


def test_the_nearest_simulated_galaxy_of_one_is_itself():
    galaxies = simulate_spectra(40, seed=20261, survey="flat", noise=False)
    vectors = sample_spectra(galaxies)
    vectors = type(vectors)(vectors.source_id, 3.0 * vectors.flux, vectors.flux_error)
    found = find_nearest(vectors, 40)
    np.testing.assert_allclose(found.redshift, galaxies.columns["redshift_true"])
    np.testing.assert_allclose(found.flux, vectors.flux, rtol=1e-4, atol=1e-3)
    assert found.deviation.max() < 1e-3
    without = find_nearest(type(vectors)(vectors.source_id, vectors.flux), 40)
    np.testing.assert_allclose(without.redshift, found.redshift)


def test_what_cannot_be_a_page(file, tmp_path):
    page = inspect_spectra(file, tmp_path / "vi.html", n_simulated=0)
    with pytest.raises(InputError, match="exists already"):
        inspect_spectra(file, page)
    with pytest.raises(InputError, match=r"in \.html"):
        inspect_spectra(file, tmp_path / "vi.pdf")
    with pytest.raises(InputError, match="no folder"):
        inspect_spectra(file, tmp_path / "none" / "vi.html")
    with pytest.raises(InputError, match="no spectra of these source ids"):
        inspect_spectra(file, tmp_path / "x.html", ids=[3])
    with pytest.raises(InputError, match="no column source_id"):
        inspect_spectra(file, tmp_path / "x.html", ids=Table({"a": [1]}))
    with pytest.raises(InputError, match="no column 'colour'"):
        inspect_spectra(file, tmp_path / "x.html", columns="colour")
    with pytest.raises(InputError, match="limit must be"):
        inspect_spectra(file, tmp_path / "x.html", limit=0)
    many = simulate_spectra(1, seed=1, correlations=False)[np.zeros(LARGEST + 1, dtype=int)]
    with pytest.raises(InputError, match=r"too many for a page.*--limit"):
        inspect_spectra(many, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_a_model_without_distributions(spectra, tmp_path):
    page = inspect_spectra(spectra, tmp_path / "vi.html", model="kiraleos2023", n_simulated=0)
    data = read_data(page)
    assert data["pdf"] is None
    assert data["peaks"] == [[]] * 8


def test_the_commands(file, tmp_path, capsys):
    ids = [str(i) for i in read_spectra(file).source_id]
    page, figure = tmp_path / "vi.html", tmp_path / "one.png"
    assert main(["inspect", str(file), ids[3], ids[1], "-o", str(page), "--simulated", "0"]) == 0
    assert read_data(page)["ids"] == [ids[3], ids[1]]
    assert main(["show", str(file), ids[2], "-o", str(figure)]) == 0
    assert figure.stat().st_size > 20_000
    assert main(["inspect", "-o", str(tmp_path / "x.html")]) == 1
    assert "give files of spectra" in capsys.readouterr().err
    assert main(["inspect", str(file), "--clean", "pure", "-o", str(page)]) == 2
