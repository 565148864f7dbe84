"""The page of `inspect_spectra`, driven in a browser as a person does: keys, slider, export."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet as parquet
import pytest
from astropy.table import Table

from gaia_redshift import inspect_spectra, simulate_spectra
from gaia_redshift.datasets import SkySplit, TrainingCuts, build_training_set
from gaia_redshift.spectra import XPSpectra


@pytest.fixture(scope="module")
def spectra():
    galaxies = simulate_spectra(5, seed=11)
    stars = simulate_spectra(1, seed=2, kind="star")
    both = XPSpectra.concatenate([galaxies, stars])
    columns = Table({
        "ra": np.linspace(10, 60, 6),
        "dec": np.linspace(-5, 5, 6),
        "note": ["<b>bold</b>", 'said "a, b"', "</script>", "", "é", "plain"],
    })  # fmt: skip
    return replace(both, columns=columns)


@pytest.fixture(scope="module")
def path(spectra, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspection")
    return inspect_spectra(spectra, folder / "vi.html", columns="all", n_simulated=300)


def read_redshift(page):
    return float(page.locator("#redshift").input_value())


def name_of(page):
    return page.locator("#name").inner_text().split()[-1]


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_draws(open_page, path, width, scheme):
    page = open_page(path, width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#rows tr").count() == 6
    for curve in ("bp", "rp", "near"):
        assert len(page.locator(f"#spectrum path.{curve}").first.get_attribute("d")) > 200
    assert page.locator("#spectrum path.band").count() == 2
    assert page.locator("#distribution path.pdf").count() == 1
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.locator("#theme").click()
    assert dark != (
        page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    )
    names = page.locator("#spectrum text.name")
    boxes = [names.nth(i).bounding_box() for i in range(names.count())]
    assert all(b["x"] >= a["x"] + a["width"] - 4 for a, b in pairwise(boxes))


def test_keys_go_through_the_objects_and_cells_are_text(open_page, path, spectra):
    page = open_page(path)
    ids = [str(i) for i in spectra.source_id]
    assert name_of(page) == ids[0]
    assert "<b>bold</b>" in page.locator("#facts").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("n")
    assert name_of(page) == ids[2]
    page.keyboard.press("p")
    assert name_of(page) == ids[1]
    for _ in range(9):
        page.keyboard.press("n")
    assert name_of(page) == ids[-1], "the last stays"
    assert "unlikely galaxy" in page.locator("#words").inner_text()
    page.reload()
    assert name_of(page) == ids[-1], "the address keeps the object"


def test_the_slider_moves_the_lines(open_page, path):
    page = open_page(path)

    def place_of_halpha():
        found = page.locator("#spectrum text.name", has_text="Hα").get_attribute("transform")
        return float(found.split("(")[1].split()[0])

    slider = page.locator("#slider")
    slider.fill("0.1")
    first = place_of_halpha()
    assert page.locator("#redshift").input_value() == "0.1000"
    slider.fill("0.2")
    second = place_of_halpha()
    # 656.5 nm moves by 65.65 nm for 0.1 in redshift, on an axis of 1,324 pixels or fewer
    low, high = page.evaluate("spectrum.range.x")
    pixels = page.evaluate("spectrum.size[0] - spectrum.margin.left - spectrum.margin.right")
    assert second - first == pytest.approx(65.65 * pixels / (high - low), abs=2)
    page.keyboard.press("ArrowRight")  # on the slider, arrows are the slider's
    assert read_redshift(page) == pytest.approx(0.2001)
    page.keyboard.press("f")
    rest = page.evaluate("spectrum.range.x")
    assert rest[1] == pytest.approx(high / 1.2001, rel=1e-3)
    assert "rest wavelength" in page.locator("#spectrum > svg").inner_html()
    page.keyboard.press("l")
    assert page.locator("#spectrum text.name").count() == 0


def test_the_lines_go_to_the_median_and_the_peaks(open_page, path):
    page = open_page(path)
    median = page.evaluate('column("redshift_cnn")[0]')
    assert read_redshift(page) == pytest.approx(median, abs=5e-5)
    places = page.evaluate("placesOf(0).map(([, z]) => z)")
    page.keyboard.press("m")
    assert read_redshift(page) == pytest.approx(places[1], abs=5e-5)
    odds = page.evaluate("data.peaks[0].map(([, p]) => p)")
    assert odds == sorted(odds, reverse=True)
    assert sum(odds) == pytest.approx(1, abs=0.05)
    page.keyboard.press("+")
    assert read_redshift(page) == pytest.approx(places[1] + 0.001, abs=1e-4)


def test_the_list_is_sorted_and_filtered(open_page, path):
    page = open_page(path)
    head = page.locator("#heads button").nth(1)

    def redshifts():
        return [
            float(t) for t in page.locator("#rows td:nth-child(2)").all_inner_texts() if t != "–"
        ]

    head.click()
    assert redshifts() == sorted(redshifts())
    head.click()
    assert redshifts() == sorted(redshifts(), reverse=True)
    page.locator("#filter-flag").select_option("usable")
    assert page.locator("#rows tr").count() == 5
    page.locator("#filter-flag").select_option("unlikely_galaxy")
    assert page.locator("#rows tr").count() == 1
    page.locator("#filter-clear").click()
    page.locator("#filter-column").select_option("ra")
    page.locator("#filter-low").fill("35")
    assert page.locator("#rows tr").count() == 3


def test_what_is_entered_is_kept_and_read_back(open_page, path, spectra, tmp_path):
    page = open_page(path)
    page.keyboard.press("1")
    page.locator("#slider").fill("0.1234")
    page.keyboard.press("a")
    page.keyboard.press("c")
    page.keyboard.type('a "good" one, n=1')  # in the field keys are letters
    page.keyboard.press("Enter")
    page.keyboard.press("n")
    page.keyboard.press("1")
    page.locator("#vi-redshift").fill("0.31")
    page.keyboard.press("Enter")
    page.keyboard.press("u")
    page.keyboard.press("2")
    assert page.locator("#progress").inner_text() == "3 of 6 looked at"
    page.reload()
    assert page.locator("#progress").inner_text() == "3 of 6 looked at"
    saved = {}
    for ending in ("csv", "ecsv"):
        with page.expect_download() as download:
            page.locator(f"#export-{ending}").click()
        assert download.value.suggested_filename == f"vi_inspected.{ending}"
        saved[ending] = tmp_path / f"vi.{ending}"
        download.value.save_as(saved[ending])
    for name in saved.values():
        table = Table.read(name)
        assert table["source_id"].dtype == np.int64
        assert table["source_id"].tolist() == spectra.source_id.tolist()
        found = table["redshift_vi"].filled(-1).tolist()
        assert found == [0.1234, 0.31, -1, -1, -1, -1]
        assert table["class_vi"].filled("").tolist()[:3] == ["galaxy", "galaxy", "star"]
        assert table["comment_vi"][0] == 'a "good" one, n=1'
        assert table["note"].filled("").tolist()[:3] == spectra.columns["note"].tolist()[:3]
    meta = Table.read(saved["ecsv"]).meta
    assert (
        meta["model_name"] == json.loads(page.locator("#data").inner_text())["meta"]["model_name"]
    )
    fresh = open_page(path)  # of another profile: nothing is kept there
    assert fresh.locator("#progress").inner_text() == "0 of 6 looked at"
    fresh.locator("#load").set_input_files(saved["csv"])
    fresh.wait_for_function("document.getElementById('progress').textContent.startsWith('3 of 6')")
    assert fresh.locator("#vi-comment").input_value() == 'a "good" one, n=1'


def test_an_inspected_sample_becomes_a_training_set(open_page, path, spectra, tmp_path):
    page = open_page(path)
    for z in ("0.1", "0.2", "0.3"):
        page.locator("#vi-redshift").fill(z)
        page.keyboard.press("Enter")
        page.keyboard.press("n")
    with page.expect_download() as download:
        page.keyboard.press("x")
    download.value.save_as(tmp_path / "vi.csv")
    # As `gaia-redshift dataset spectra.parquet --ids vi.csv --truth redshift_vi` does.
    build_training_set(
        tmp_path / "t.parquet",
        sources=tmp_path / "vi.csv",
        spectra=spectra,
        truth="redshift_vi",
        cuts=TrainingCuts(photometry=False),
        split=SkySplit(fractions=(0.34, 0.33, 0.33)),
    )
    built = parquet.read_table(tmp_path / "t.parquet", columns=["redshift"])
    assert sorted(np.round(built["redshift"].to_numpy(), 3)) == [0.1, 0.2, 0.3]
