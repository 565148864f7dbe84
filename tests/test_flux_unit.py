"""Vectors in another unit than e-/s per sample are told, alone where possible, surely in a file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from gaia_redshift import (
    FluxVectors,
    predict_table,
    predict_to_file,
    read_table,
    sample_spectra,
    simulate_spectra,
    write_spectra,
)
from gaia_redshift.errors import GaiaRedshiftWarning
from gaia_redshift.flags import QualityFlag, decode_flags
from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid
from gaia_redshift.simulate import load_instrument
from gaia_redshift.vectors import flag_unit, measure_roughness, warn_of_unit


@pytest.fixture(scope="module")
def galaxies():
    return simulate_spectra(1500, seed=8, correlations=False)


@pytest.fixture(scope="module")
def vectors(galaxies):
    return sample_spectra(galaxies, errors=False)


@pytest.fixture(scope="module")
def photometry(galaxies):
    """Fluxes as the archive publishes them: integrals of the spectra."""
    instrument = load_instrument()
    return Table(
        {
            f"phot_{band}_mean_flux": getattr(galaxies, band).coefficients
            @ getattr(instrument, band).integral
            for band in ("bp", "rp")
        }
    )


def scale_to_one(flux):
    low, high = flux.min(axis=0), flux.max(axis=0)
    return (flux - low) / (high - low)


WRONG = {
    "values of gaiaxpy.convert": (lambda flux: 2.8 * flux, 2.8),
    "per sample twice": (lambda flux: flux / 2.8, 1 / 2.8),
    "columns scaled to 0..1": (scale_to_one, None),
    "rows scaled to 0..1": (lambda flux: flux / flux.max(axis=1, keepdims=True), None),
}


@pytest.mark.parametrize("with_photometry", [False, True])
def test_the_right_unit_is_not_flagged(vectors, photometry, with_photometry):
    flags, factor = flag_unit(vectors, photometry if with_photometry else None)
    assert np.mean(flags != 0) < 0.01
    assert factor is None


@pytest.mark.parametrize("with_photometry", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_a_file_in_another_unit_is_flagged(vectors, photometry, name, with_photometry):
    change, expected = WRONG[name]
    wrong = replace(vectors, flux=change(vectors.flux))
    flags, factor = flag_unit(wrong, photometry if with_photometry else None)
    assert np.mean(flags == QualityFlag.DOUBTFUL_UNIT) >= 0.95
    assert factor is not None
    if expected is not None:  # galaxies lose a part of their light outside the samples
        assert factor == pytest.approx(expected, rel=0.25)


def test_one_vector_far_off_is_flagged_by_itself(vectors):
    for change in (scale_to_one, lambda flux: flux / 30):
        wrong = change(vectors.flux)
        alone = [flag_unit(FluxVectors(np.array([1]), row[None]))[0][0] for row in wrong[:100]]
        assert np.mean(np.array(alone) != 0) > 0.9
    alone = [flag_unit(vectors[i : i + 1])[0][0] for i in range(100)]
    assert not np.any(alone)


def test_photometry_tells_a_single_row(vectors, photometry):
    flux = vectors.flux.copy()
    flux[3] *= 2.8
    flags, factor = flag_unit(replace(vectors, flux=flux), photometry)
    assert decode_flags(flags[3]) == ["doubtful_unit"]
    assert np.mean(flags != 0) < 0.01
    assert factor is None


def test_photometry_that_cannot_be_used_is_passed_over(vectors, photometry):
    broken = photometry.copy()
    broken["phot_bp_mean_flux"][:] = np.nan
    assert not flag_unit(vectors, broken)[0].any()
    words = Table({name: ["bright"] * len(vectors) for name in photometry.colnames})
    assert not flag_unit(vectors, words)[0].any()


def test_bright_spectra_and_rows_without_flux_are_not_judged(vectors):
    flux = np.full((12, 186), 1000.0) * (1 + 0.3 * np.sin(np.arange(186) / 3))
    assert not flag_unit(FluxVectors(np.arange(12), flux))[0].any()
    lost = replace(
        vectors[:12],
        flux=np.full((12, 186), np.nan),
        quality=np.full(12, QualityFlag.MISSING_BP, dtype=np.int32),
    )
    assert not flag_unit(lost)[0].any()


def test_roughness_is_the_rms_of_white_noise_that_a_smooth_curve_does_not_change():
    rng = np.random.default_rng(1)
    x = np.linspace(-1, 1, 186)
    smooth = 50 + 20 * x - 10 * x**2 + 4 * x**3
    noise = rng.normal(0, 0.2, (400, 186))
    np.testing.assert_allclose(
        measure_roughness(smooth + noise), measure_roughness(noise), atol=1e-6
    )
    # scipy's filter leaves the same residual.
    from scipy.signal import savgol_filter

    parts = [noise[:, :80], noise[:, 80:]]
    rest = [(p - savgol_filter(p, 15, 3, axis=1))[:, 7:-7] for p in parts]
    expected = 0.5 * np.log(sum(r.var(axis=1) for r in rest))
    np.testing.assert_allclose(measure_roughness(noise), expected, rtol=1e-6)


def test_the_warning_says_what_to_do():
    with pytest.warns(GaiaRedshiftWarning, match=r"2\.8 times too large.*sample_spectra"):
        warn_of_unit([2.8, 2.79], stacklevel=2)
    with pytest.warns(GaiaRedshiftWarning, match=r"2\.8 times too small"):
        warn_of_unit([1 / 2.8], stacklevel=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unit([], stacklevel=2)


@dataclass
class AnyModel:
    """Says 0.1 of everything."""

    name: str = "any"
    version: str = "1"
    sha256: str = "ab" * 32
    manifest: dict = field(default_factory=dict)
    grid: SamplingGrid = DEFAULT_GRID
    uses_errors: bool = False

    def predict(self, flux, flux_error=None, **_):
        return SimpleNamespace(redshift=np.full(len(flux), 0.1), lower=None, upper=None, flags=None)


def scale(spectra, factor):
    bands = {
        band: replace(
            getattr(spectra, band), coefficients=factor * getattr(spectra, band).coefficients
        )
        for band in ("bp", "rp")
    }
    return replace(spectra, **bands)


def test_a_file_in_another_unit_is_flagged_row_by_row_and_warned_of_once(galaxies, tmp_path):
    path = tmp_path / "large.parquet"
    write_spectra(scale(galaxies[:300], 2.8), path)
    with pytest.warns(GaiaRedshiftWarning, match="too large for e-/s per sample") as caught:
        table = predict_table(path, model=AnyModel(), block_size=60)
    assert len([w for w in caught if w.category is GaiaRedshiftWarning]) == 1
    assert np.mean(table["flags_cnn"] & QualityFlag.DOUBTFUL_UNIT != 0) >= 0.95
    with warnings.catch_warnings():
        warnings.simplefilter("error", GaiaRedshiftWarning)
        table = predict_table(galaxies[:300], model=AnyModel(), block_size=60)
    assert not np.any(table["flags_cnn"])


def test_photometry_among_the_columns_of_a_file_is_used(galaxies, photometry, tmp_path):
    spectra = scale(galaxies[:50], 1.6)  # noise alone would not tell
    for name in photometry.colnames:
        spectra.columns[name] = photometry[name][:50]
    path = tmp_path / "photometry.parquet"
    write_spectra(spectra, path)
    with pytest.warns(GaiaRedshiftWarning, match="photometry"):
        table = predict_table(path, model=AnyModel(), keep=photometry.colnames)
    assert np.mean(table["flags_cnn"] & QualityFlag.DOUBTFUL_UNIT != 0) >= 0.95
    assert table.colnames[-2:] == photometry.colnames


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_photometry_of_a_file_is_looked_at_without_being_kept(tmp_path, suffix):
    galaxies = simulate_spectra(12, seed=5, correlations=False)
    vectors = sample_spectra(galaxies, errors=False)
    for band, samples in (("bp", slice(0, 80)), ("rp", slice(80, None))):
        galaxies.columns[f"phot_{band}_mean_flux"] = vectors.flux[:, samples].sum(axis=1) / 2.8
    file = tmp_path / f"spectra{suffix}"
    write_spectra(galaxies, file)
    with pytest.warns(GaiaRedshiftWarning, match="2.8 times too large"):
        table = predict_table(file, flux_errors=False)
    assert "phot_bp_mean_flux" not in table.colnames
    assert all("doubtful_unit" in words for words in decode_flags(table["flags_cnn"]))
    with pytest.warns(GaiaRedshiftWarning, match="2.8 times too large"):
        predict_to_file(file, tmp_path / "z.parquet")
    written = read_table(tmp_path / "z.parquet")
    assert "phot_bp_mean_flux" not in written.colnames
    assert all("doubtful_unit" in words for words in decode_flags(written["flags_cnn"]))
