"""From spectra in any form to the output table, with a model of our own making."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.table import Table
from fake_model import ShareModel

from gaia_redshift.errors import GaiaRedshiftWarning, InputError, ModelError
from gaia_redshift.flags import QualityFlag, decode_flags
from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid
from gaia_redshift.predict import join_predictions, predict_redshift, predict_table
from gaia_redshift.sampling import sample_spectra
from gaia_redshift.spectra import BandSpectra, FluxVectors, XPSpectra

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real spectra are not here")


@dataclass
class FakeModel(ShareModel):
    """Notes its calls, and gives intervals if it is to."""

    manifest: dict = field(default_factory=lambda: {"trained_on": "nothing"})
    interval: bool = False
    calls: list = field(default_factory=list)

    def predict(self, flux, flux_error=None, *, batch_size=None, progress=False):
        assert np.isfinite(flux).all()
        self.calls.append((len(flux), flux_error is not None))
        found = super().predict(flux, flux_error)
        found.flags[found.redshift > 0.9] |= QualityFlag.REDSHIFT_OUT_OF_RANGE
        if self.interval:
            found.lower, found.upper = found.redshift - 0.1, found.redshift + 0.1
        return found


def make_columns(n=5, seed=0):
    """Columns of the archive for n made-up sources on DR3's bases."""
    rng = np.random.default_rng(seed)
    columns = {"source_id": 4 * 10**18 + np.arange(n), "ra": np.arange(n) + 0.5}
    for band, number in (("bp", 56), ("rp", 57)):
        coefficients = 100 * rng.normal(size=(n, 55))  # bright: the unit is not judged
        coefficients[:, 0] += 10_000
        columns |= {
            f"{band}_basis_function_id": np.full(n, number),
            f"{band}_n_parameters": np.full(n, 55),
            f"{band}_coefficients": list(coefficients),
            f"{band}_coefficient_errors": list(rng.uniform(0.1, 1, size=(n, 55))),
            f"{band}_coefficient_correlations": list(np.zeros((n, 1485))),
        }
    return columns


def make_spectra(n=5):
    columns = make_columns(n)
    bands = {
        band: BandSpectra(
            np.stack(columns[f"{band}_coefficients"]),
            np.stack(columns[f"{band}_coefficient_errors"]),
            np.stack(columns[f"{band}_coefficient_correlations"]),
            basis_id=columns[f"{band}_basis_function_id"],
        )
        for band in ("bp", "rp")
    }
    return XPSpectra(columns["source_id"], **bands, release="DR3")


def expected_redshift(spectra):
    flux = sample_spectra(spectra).flux
    return flux[:, 80:].sum(axis=1) / flux.sum(axis=1)


def test_one_row_per_source_in_order_with_provenance():
    spectra = make_spectra()
    table = predict_table(spectra, model=FakeModel())
    assert table.colnames == ["source_id", "redshift_cnn", "flags_cnn"]
    assert table["source_id"].tolist() == spectra.source_id.tolist()
    np.testing.assert_allclose(table["redshift_cnn"], expected_redshift(spectra), rtol=1e-6)
    assert not np.ma.getmaskarray(table["redshift_cnn"]).any()
    meta = table.meta
    assert (meta["model_name"], meta["model_version"], meta["model_sha256"]) == (
        "fake",
        "7",
        "cd" * 32,
    )
    assert meta["data_release"] == "DR3"
    assert meta["grid_bp_nm"] == list(DEFAULT_GRID.bp)
    assert meta["model_trained_on"] == "nothing"
    assert meta["created_utc"].endswith("Z")


def test_forms_of_input_and_block_sizes_do_not_matter(tmp_path):
    columns = make_columns(7)
    frame = pd.DataFrame(columns)
    frame.to_parquet(tmp_path / "spectra.parquet")
    tables = [
        predict_table(frame, model=FakeModel()),
        predict_table(columns, model=FakeModel(), block_size=3),
        predict_table(tmp_path / "spectra.parquet", model=FakeModel(), block_size=2),
        predict_table(str(tmp_path / "spectra.parquet"), model=FakeModel()),
    ]
    expected = expected_redshift(make_spectra(7))
    for table in tables:
        assert table["source_id"].tolist() == columns["source_id"].tolist()
        np.testing.assert_allclose(table["redshift_cnn"], expected, rtol=1e-6)
        assert not table["flags_cnn"].any()


def test_memory_is_bounded_by_blocks():
    model = FakeModel()
    predict_table(make_spectra(7), model=model, block_size=3)
    assert [n for n, _ in model.calls] == [3, 3, 1]


def test_bad_rows_are_masked_and_never_reach_the_model():
    columns = make_columns(4)
    columns["bp_coefficients"][1] = np.full(55, np.nan)
    columns["rp_coefficients"][3] = -columns["rp_coefficients"][3] * 50
    table = predict_table(columns, model=FakeModel())
    assert table["redshift_cnn"].mask.tolist() == [False, True, False, True]
    assert table["flags_cnn"][0] == table["flags_cnn"][2] == 0
    assert decode_flags(table["flags_cnn"])[3] == ["non_positive_flux"]
    assert table["flags_cnn"][1] != 0
    everything_bad = make_columns(2)
    everything_bad["bp_coefficients"] = [np.full(55, np.nan)] * 2
    table = predict_table(everything_bad, model=FakeModel(interval=True))
    assert table["redshift_cnn"].mask.all()


def test_flags_of_the_model_and_duplicates_across_blocks():
    columns = make_columns(6)
    columns["source_id"][5] = columns["source_id"][0]
    columns["rp_coefficients"][2] = columns["rp_coefficients"][2] * 50
    table = predict_table(columns, model=FakeModel(), block_size=2)
    words = decode_flags(table["flags_cnn"])
    assert words[0] == words[5] == ["duplicate_source_id"]
    assert words[2] == ["redshift_out_of_range"]
    assert not table["redshift_cnn"].mask.any()
    assert words[1] == words[3] == words[4] == []


def test_columns_are_kept_on_request_only():
    columns = make_columns() | {"name": list("abcde")}
    assert "ra" not in predict_table(columns, model=FakeModel()).colnames
    table = predict_table(columns, model=FakeModel(), keep=["name", "ra"], block_size=2)
    assert table.colnames == ["source_id", "redshift_cnn", "flags_cnn", "name", "ra"]
    assert table["ra"].tolist() == columns["ra"].tolist()
    assert table["name"].tolist() == list("abcde")
    assert "ra" in predict_table(columns, model=FakeModel(), keep="all").colnames
    assert predict_table(columns, model=FakeModel(), keep="ra")["ra"][1] == 1.5
    with pytest.raises(InputError, match="'dec'"):
        predict_table(columns, model=FakeModel(), keep=["dec"])


def test_intervals_come_out_where_the_model_gives_them():
    columns = make_columns(4)
    columns["bp_coefficients"][0] = np.full(55, np.nan)  # a first block without any prediction
    table = predict_table(columns, model=FakeModel(interval=True), block_size=1)
    assert table["redshift_cnn_lower"].mask.tolist() == [True, False, False, False]
    assert np.all(table["redshift_cnn_lower"][1:] < table["redshift_cnn"][1:])
    assert np.all(table["redshift_cnn_upper"][1:] > table["redshift_cnn"][1:])


def test_errors_are_used_and_flagged_only_when_asked_for():
    columns = make_columns()
    for band in ("bp", "rp"):
        del columns[f"{band}_coefficient_correlations"]
    model = FakeModel()
    assert not predict_table(columns, model=model)["flags_cnn"].any()
    assert model.calls == [(5, False)]
    model = FakeModel(uses_errors=True)
    table = predict_table(columns, model=model)
    assert model.calls == [(5, True)]
    assert set(table["flags_cnn"]) == {QualityFlag.DIAGONAL_FLUX_ERROR}
    table = predict_table(columns, model=FakeModel(), flux_errors=True)
    assert set(table["flags_cnn"]) == {QualityFlag.DIAGONAL_FLUX_ERROR}


def test_another_grid_than_the_models_is_used_with_a_warning(tmp_path):
    grid = SamplingGrid(rp=(610.0, 1050.0))
    with pytest.warns(GaiaRedshiftWarning, match="fake was trained on another grid"):
        table = predict_table(make_spectra(), model=FakeModel(), grid=grid)
    assert table.meta["grid_rp_nm"] == [610.0, 1050.0]
    own = predict_table(make_spectra(), model=FakeModel(grid=grid))
    assert own["redshift_cnn"].tolist() == table["redshift_cnn"].tolist()
    Table({"bp": np.linspace(330, 670, 120), "rp": np.linspace(620, 1040, 120)}).write(
        tmp_path / "grid.ecsv"
    )
    with pytest.warns(GaiaRedshiftWarning):
        table = predict_table(make_spectra(), model=FakeModel(), grid=tmp_path / "grid.ecsv")
    assert len(table.meta["grid_bp_nm"]) == 120


def test_an_unknown_set_of_bases_is_one_warning_however_many_blocks():
    columns = make_columns(4)
    for i in range(4):
        columns["bp_coefficients"][i] = np.ones(51)
        columns["bp_coefficient_errors"][i] = np.ones(51)
        columns["bp_coefficient_correlations"][i] = np.zeros(51 * 25)
    for band, length in (("bp", 51), ("rp", 55)):
        columns[f"{band}_basis_function_id"] = np.zeros(4, dtype=int)
        columns[f"{band}_n_parameters"] = np.full(4, length)
    with pytest.warns(GaiaRedshiftWarning, match=r"51 BP \+ 55 RP") as caught:
        table = predict_table(columns, model=FakeModel(), block_size=1)
    assert len(caught) == 1
    assert set(table["flags_cnn"]) == {QualityFlag.UNKNOWN_BASIS}
    assert table["redshift_cnn"].mask.all()


def test_predict_redshift_takes_vectors_and_gives_the_same_table():
    spectra = make_spectra()
    vectors = sample_spectra(spectra)
    table = predict_redshift(vectors, model=FakeModel())
    whole = predict_table(spectra, model=FakeModel())
    assert table.colnames == whole.colnames
    for name in table.colnames:
        assert table[name].tolist() == whole[name].tolist()
    arrays = predict_redshift(vectors.flux, model=FakeModel(), source_id=spectra.source_id)
    assert arrays["redshift_cnn"].tolist() == whole["redshift_cnn"].tolist()
    assert arrays["source_id"].tolist() == spectra.source_id.tolist()


def test_predict_redshift_takes_plain_arrays_and_flags_bad_ones():
    flux = np.ones((5, 186))
    flux[1, 3] = np.nan
    flux[2] = 0
    flux[3, :] = -1
    table = predict_redshift(flux, model=FakeModel())
    assert table["source_id"].tolist() == [0, 1, 2, 3, 4]
    assert decode_flags(table["flags_cnn"]) == [
        [],
        ["non_finite_flux"],
        ["non_positive_flux"],
        ["non_positive_flux"],
        [],
    ]
    assert table["redshift_cnn"].mask.tolist() == [False, True, True, True, False]
    assert table["redshift_cnn"][0] == pytest.approx(106 / 186)
    assert len(predict_redshift(np.ones(186), model=FakeModel())) == 1
    masked = np.ma.masked_array(np.ones((1, 186)), mask=np.arange(186)[None] == 4)
    assert predict_redshift(masked, model=FakeModel())["redshift_cnn"].mask.all()


def test_flux_errors_of_plain_arrays():
    flux, errors = np.ones((3, 186)), np.ones((3, 186))
    errors[1] = np.nan
    errors[2, 5] = -1
    model = FakeModel(uses_errors=True)
    table = predict_redshift(flux, model=model, flux_error=errors)
    words = decode_flags(table["flags_cnn"])
    assert words == [[], ["no_flux_error"], ["bad_flux_error"]]
    assert model.calls == [(3, True)]
    table = predict_redshift(flux, model=FakeModel(uses_errors=True))
    assert set(table["flags_cnn"]) == {QualityFlag.NO_FLUX_ERROR}
    assert not predict_redshift(flux, model=FakeModel())["flags_cnn"].any()


def test_vectors_keep_their_columns_on_request():
    columns = Table({"ra": [1.0, 2.0]})
    vectors = FluxVectors([1, 2], np.ones((2, 186)), columns=columns)
    assert predict_redshift(vectors, model=FakeModel()).colnames[-1] == "flags_cnn"
    assert predict_redshift(vectors, model=FakeModel(), keep="ra")["ra"].tolist() == [1, 2]
    with pytest.raises(InputError, match="there are: ra"):
        predict_redshift(vectors, model=FakeModel(), keep=["dec"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: predict_redshift(np.ones((2, 185)), model=FakeModel()), r"\(n, 186\)"),
        (lambda: predict_redshift("a.csv", model=FakeModel()), "predict_table"),
        (
            lambda: predict_redshift(np.ones((2, 186)), model=FakeModel(), source_id=[1.0, 2.0]),
            "int64",
        ),
        (
            lambda: predict_redshift(np.ones((2, 186)), model=FakeModel(), source_id=[1]),
            "source_id has 1 rows",
        ),
        (
            lambda: predict_redshift(
                np.ones((2, 186)), model=FakeModel(), flux_error=np.ones((1, 186))
            ),
            "errors have shape",
        ),
        (lambda: predict_table(make_spectra(), model=3), "model must be"),
        (lambda: predict_table(make_spectra(), model=FakeModel(), grid=3), "grid must be"),
        (lambda: predict_table(make_spectra(), model=FakeModel(), block_size=0), "block_size"),
        (lambda: predict_table("no_such_file.csv", model=FakeModel()), "no_such_file"),
    ],
)
def test_calls_that_cannot_work_say_why_in_one_line(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_an_error_before_anything_is_read():
    with pytest.raises(ModelError, match="no_such_model"):
        predict_table("no_such_file.csv", model="no_such_model")


def test_joined_tables_flag_sources_that_several_hold():
    first = predict_table(make_columns(3) | {"tag": [1, 2, 3]}, model=FakeModel(), keep="tag")
    second = predict_table(
        make_columns(4) | {"tag": ["a", "b", "c", "d"]}, model=FakeModel(), keep="tag"
    )
    joined = join_predictions([first, second])
    assert joined["source_id"].tolist() == [*first["source_id"], *second["source_id"]]
    words = decode_flags(joined["flags_cnn"])
    assert words == [["duplicate_source_id"]] * 6 + [[]]
    assert joined["tag"].tolist() == ["1", "2", "3", "a", "b", "c", "d"]
    assert joined.meta["model_name"] == "fake"
    assert joined["redshift_cnn"].info.meta["ucd"] == "src.redshift"


def test_all_columns_are_kept_of_inputs_that_have_some_and_others_that_have_none():
    bare, more = make_columns(3), make_columns(4) | {"tag": [1, 2, 3, 4]}
    table = predict_table([bare, more], model=FakeModel(), keep="all", block_size=3)
    assert table["tag"].tolist() == [None, None, None, 1, 2, 3, 4]
    assert table.colnames.count("source_id") == 1


def test_settings_of_the_process_are_left_alone():
    filters, options = list(warnings.filters), np.get_printoptions()
    predict_table(make_spectra(), model=FakeModel())
    predict_redshift(np.ones((1, 186)), model=FakeModel())
    assert warnings.filters == filters
    assert np.get_printoptions() == options


@needs_shared
def test_the_same_real_sources_agree_in_every_format():
    folder = SHARED / "gaiaxpy_examples"
    names = ["csv", "ecsv", "fits", "xml"]
    tables = [
        predict_table(folder / f"XP_CONTINUOUS_RAW.{name}", model=FakeModel()) for name in names
    ]
    tables.append(predict_table(folder / "XP_CONTINUOUS_RAW_plain.xml", model=FakeModel()))
    for table in tables[1:]:
        assert table["source_id"].tolist() == tables[0]["source_id"].tolist()
        np.testing.assert_allclose(table["redshift_cnn"], tables[0]["redshift_cnn"], atol=1e-6)
        assert table["flags_cnn"].tolist() == tables[0]["flags_cnn"].tolist()
    assert not tables[0]["redshift_cnn"].mask.any()


@needs_shared
def test_a_real_source_without_bp_is_masked_and_said_so():
    path = SHARED / "gaiaxpy_examples" / "XP_CONTINUOUS_RAW_with_missing_BP.csv"
    table = predict_table(path, model=FakeModel())
    missing = [words == ["missing_bp"] for words in decode_flags(table["flags_cnn"])]
    assert sum(missing) == 1
    assert table["redshift_cnn"].mask.tolist() == missing


def test_quantities_are_taken_in_electrons_per_second_alone():
    fluxes = np.ones((2, 186))
    table = predict_redshift(fluxes * 60 * units.electron / units.min, model=FakeModel())
    bare = predict_redshift(fluxes, model=FakeModel())
    assert np.allclose(table["redshift_cnn"], bare["redshift_cnn"])
    with pytest.raises(InputError, match="electrons per second"):
        predict_redshift(fluxes * units.W / units.m**2 / units.nm, model=FakeModel())


def test_a_warning_points_at_the_callers_line():
    columns = make_columns(2) | {"bp_basis_function_id": np.array([901, 902])}
    with pytest.warns(GaiaRedshiftWarning, match="basis ids 901 and 57.*902 and 57") as caught:
        predict_table(columns, model=FakeModel(), block_size=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
