"""What notebooks show: objects as tables, redshifts with four decimals, Jupyter's bars."""

import sys

import numpy as np

from gaia_redshift import (
    load_model,
    predict_table,
    read_table,
    sample_spectra,
    simulate_spectra,
    write_table,
)
from gaia_redshift._display import open_bar
from gaia_redshift.spectra import XPSpectra


def test_objects_show_themselves_as_escaped_tables():
    spectra = simulate_spectra(5, seed=1)
    spectra = XPSpectra(
        spectra.source_id, spectra.bp, spectra.rp, meta={"inputs": ["<b>.fits"] * 5}
    )
    shown = spectra._repr_html_()
    assert "errors and correlations" in shown
    assert "&lt;b&gt;.fits, &lt;b&gt;.fits, &lt;b&gt;.fits and 2 more" in shown
    assert "<b>.fits" not in shown
    vectors = sample_spectra(spectra)
    vectors.quality[2] = 2
    assert "missing_rp 1" in vectors._repr_html_()
    model = load_model()
    assert model.sha256[:16] in model._repr_html_()
    assert "distributions" in model._repr_html_()


def test_redshifts_have_four_decimals_as_shown_and_all_in_files(tmp_path):
    table = predict_table(simulate_spectra(3, seed=1), std=True)
    first = str(table["redshift_cnn"].pformat(show_name=False)[-1])
    assert len(first.strip().split(".")[1]) == 4
    for name in ("z.ecsv", "z.csv", "z.fits"):
        write_table(table, tmp_path / name)
        again = read_table(tmp_path / name)
        np.testing.assert_array_equal(again["redshift_cnn"], table["redshift_cnn"])
        assert again["redshift_cnn"].info.format == ".4f"


def test_bars_are_asked_for_only_where_they_are_shown(capsys):
    sys.modules.pop("tqdm.auto", None)
    assert list(open_bar(range(3), disable=True)) == [0, 1, 2]
    assert "tqdm.auto" not in sys.modules
    assert list(open_bar(range(3), desc="work")) == [0, 1, 2]
    assert "work" in capsys.readouterr().err
