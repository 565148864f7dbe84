"""Sampled fluxes and errors against GaiaXPy's converter, closed forms and damaged rows."""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import eval_hermite

from gaia_redshift._quiet import quiet_gaiaxpy
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import QualityFlag, decode_flags
from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid
from gaia_redshift.readers import read_spectra
from gaia_redshift.sampling import bases, sample_spectra
from gaia_redshift.sampling.bases import (
    basis_sets,
    compute_design_matrices,
    register_basis_set,
    sample_pseudo_wavelengths,
    sample_wavelengths,
)
from gaia_redshift.spectra import BandSpectra, FluxVectors, XPSpectra

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real spectra are not here")


def make_band(n, k, basis_id=-1, seed=0):
    """Make n made-up spectra with proper correlation matrices and a positive total flux."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, k, k + 5))
    correlation = factors @ factors.transpose(0, 2, 1)
    scale = np.sqrt(np.einsum("nii->ni", correlation))
    correlation /= scale[:, :, None] * scale[:, None, :]
    row, column = np.tril_indices(k, -1)
    coefficients = rng.normal(size=(n, k))
    coefficients += 8.0 if k < 55 else 100.0 * np.eye(k)[0]  # splines, Hermite functions
    return BandSpectra(
        coefficients=coefficients,
        errors=rng.uniform(0.05, 2.0, size=(n, k)),
        correlations=correlation[:, row, column],
        basis_id=np.full(n, basis_id),
    )


def make_spectra(n=6, n_bp=55, n_rp=55, ids=(56, 57), **changes):
    parts = {
        "source_id": 10**18 + np.arange(n),
        "bp": make_band(n, n_bp, ids[0], seed=1),
        "rp": make_band(n, n_rp, ids[1], seed=2),
    }
    return XPSpectra(**(parts | changes))


def change_band(band, **changes):
    names = ("coefficients", "errors", "correlations", "n_coefficients", "basis_id")
    parts = {
        name: None if getattr(band, name) is None else getattr(band, name).copy() for name in names
    }
    return BandSpectra(**(parts | changes))


def convert_with_gaiaxpy(spectra, config_file=None, grid=DEFAULT_GRID):
    """Fluxes and errors per sample: values of GaiaXPy's own converter times the samples' widths."""
    rows = []
    for i in range(len(spectra)):
        row = {"source_id": int(spectra.source_id[i])}
        for band in ("bp", "rp"):
            data = getattr(spectra, band)
            row |= {
                f"{band}_n_parameters": int(data.n_coefficients[i]),
                f"{band}_standard_deviation": 1.3,
                f"{band}_coefficients": np.array(data.coefficients[i]),
                f"{band}_coefficient_errors": np.array(data.errors[i], dtype=float),
                f"{band}_coefficient_correlations": np.array(data.correlations[i], dtype=float),
            }
        rows.append(row)
    fluxes, errors = [], []
    with quiet_gaiaxpy():
        from gaiaxpy.config.paths import hermite_bases_file
        from gaiaxpy.converter.converter import _convert
        from gaiaxpy.core.dispersion_function import wl_to_pwl

        for band, (low, high) in (("bp", (34, 114)), ("rp", (4, 110))):
            where = np.asarray(wl_to_pwl(band, np.array(getattr(grid, band))), dtype=float)
            if where.size == 2:
                where = np.linspace(*where, 120)
            step = 1 if where[0] < where[-1] else -1  # GaiaXPy wants them to rise
            table, _ = _convert(
                pd.DataFrame(rows),
                sampling=where[::step],
                save_file=False,
                disable_info=True,
                config_file=config_file or hermite_bases_file,
            )
            table = table[table["xp"] == band.upper()]
            half = 0.5 * np.abs(where[2:] - where[:-2])  # to the middle of both gaps
            width = half[low - 1 : high - 1]  # none of the kept samples is at an end
            fluxes.append(np.stack(table["flux"])[:, ::step][:, low:high] * width)
            errors.append(np.stack(table["flux_error"])[:, ::step][:, low:high] * width)
    return np.hstack(fluxes), np.hstack(errors)


def assert_equals_gaiaxpy(vectors, flux, flux_error):
    scale = np.abs(flux).max(axis=1, keepdims=True)  # a flux may cross zero
    assert np.all(np.abs(vectors.flux - flux) <= 1e-9 * np.maximum(np.abs(flux), 1e-3 * scale))
    np.testing.assert_allclose(vectors.flux_error, flux_error, rtol=1e-6)


def test_fluxes_and_errors_equal_gaiaxpy_on_made_up_spectra():
    spectra = make_spectra()
    vectors = sample_spectra(spectra)
    assert_equals_gaiaxpy(vectors, *convert_with_gaiaxpy(spectra))
    assert not vectors.quality.any()
    assert vectors.source_id.tolist() == spectra.source_id.tolist()


def test_spline_set_equals_gaiaxpy_and_is_found_by_its_lengths():
    with quiet_gaiaxpy():
        from gaiaxpy.config.paths import spline_bases_file
    spectra = make_spectra(n_bp=48, n_rp=44, ids=(0, -1))
    vectors = sample_spectra(spectra)
    flux, flux_error = convert_with_gaiaxpy(spectra, spline_bases_file)
    assert_equals_gaiaxpy(vectors, flux, flux_error)


GRIDS = {
    "default": DEFAULT_GRID,
    "moved": SamplingGrid(bp=(325.0, 680.0), rp=(616.0, 1050.0)),
    # Even in wavelength, so uneven in pseudo-wavelength: each sample has a width of its own.
    "table": SamplingGrid(
        bp=tuple(np.linspace(332.0, 668.0, 120)), rp=tuple(np.linspace(628.0, 1040.0, 120))
    ),
}


@pytest.fixture(scope="module")
def real_sources():
    table = pd.read_csv(SHARED / "xp_continuous_616_dr3_sources.csv.gz", nrows=12)

    def column(name):
        return np.stack([np.array(text.strip("()[]").split(","), float) for text in table[name]])

    bands = {
        band: BandSpectra(
            column(f"{band}_coefficients"),
            column(f"{band}_coefficient_errors"),
            column(f"{band}_coefficient_correlations"),
            basis_id=table[f"{band}_basis_function_id"].to_numpy(),
        )
        for band in ("bp", "rp")
    }
    return XPSpectra(table["source_id"].to_numpy(), **bands)


@needs_shared
@pytest.mark.parametrize("name", GRIDS)
def test_fluxes_and_errors_equal_gaiaxpy_on_real_sources(real_sources, name):
    vectors = sample_spectra(real_sources, grid=GRIDS[name])
    assert not vectors.quality.any()
    assert_equals_gaiaxpy(vectors, *convert_with_gaiaxpy(real_sources, grid=GRIDS[name]))


def test_samples_add_up_to_the_photometric_flux_of_a_star():
    """Published magnitudes, with DR3's zero points, of 30 stars: the unit is theirs."""
    path = SHARED.parent / "reference" / "stars_xp_and_photometry.parquet"
    if not path.exists():
        pytest.skip("needs the real spectra and magnitudes")
    table = pd.read_parquet(path)
    where = np.linspace(0.0, 60.0, 1201)
    bases_there = bases.evaluate_bases("dr3-hermite", {"bp": where, "rp": where})
    for band, zero_point, most in (("bp", 25.3385, 0.01), ("rp", 24.7479, 0.03)):
        magnitude = table[f"phot_{band}_mean_mag"].to_numpy(dtype=float)
        photometric = 10 ** (0.4 * (zero_point - magnitude))
        coefficients = np.stack(table[f"{band}_coefficients"]).astype(float)
        integral = np.trapezoid(coefficients @ bases_there[band], where, axis=1)
        assert abs(np.median(integral / photometric) - 1) < most
    spectra = read_spectra(path)
    flux = sample_spectra(spectra, errors=False).flux
    for band, samples, zero_point in (
        ("bp", slice(None, 80), 25.3385),
        ("rp", slice(80, None), 24.7479),
    ):
        magnitude = table[f"phot_{band}_mean_mag"].to_numpy(dtype=float)
        kept = flux[:, samples].sum(axis=1) / 10 ** (0.4 * (zero_point - magnitude))
        # What the trimmed samples hold is missing, and nothing else: no factor of 2.8.
        assert np.all((kept > 0.7) & (kept < 1.05)), band


@needs_shared
def test_real_spline_source_equals_its_published_converter_result():
    """GaiaXPy's file has 0..60 in 600 samples; a grid of 120 of those positions is compared."""
    import fastavro

    folder = SHARED / "gaiaxpy_examples"
    with open(folder / "C04_regular_single_source.avro", "rb") as stream:
        record = next(iter(fastavro.reader(stream)))
    expected = pd.read_csv(folder / "C04_regular_single_source_converter.csv").set_index("xp")

    bands, wavelengths, wanted = {}, {}, {}
    for band in ("bp", "rp"):
        solution = record[f"{band}Spec"]["solution"]
        k = solution["numberOfParameters"]
        covariance = np.zeros((k, k))
        row, column = np.tril_indices(k)
        covariance[row, column] = covariance[column, row] = solution["covariance"]
        sigma = np.sqrt(np.diag(covariance))
        row, column = np.tril_indices(k, -1)
        bands[band] = BandSpectra(
            [solution["parameters"]],
            [sigma * solution["standardDeviation"]],
            [(covariance / np.outer(sigma, sigma))[row, column]],
            basis_id=[0],
        )
        with quiet_gaiaxpy():
            from gaiaxpy.core.dispersion_function import pwl_to_wl

            index = np.arange(130, 250)  # pseudo-wavelengths 13 to 25
            wavelength = np.asarray(pwl_to_wl(band, np.linspace(0, 60, 600)[index]))
        index = index[np.argsort(wavelength)]
        wavelengths[band] = tuple(np.sort(wavelength))
        low, high = {"bp": (34, 114), "rp": (4, 110)}[band]
        wanted[band] = [
            np.array(expected.loc[band.upper(), name].strip("()").split(","), float)[index][
                low:high
            ]
            for name in ("flux", "flux_error")
        ]
    vectors = sample_spectra(XPSpectra([1027], **bands), grid=SamplingGrid(**wavelengths))
    width = 60 / 599  # all samples are as far apart
    flux, flux_error = (width * np.hstack([wanted["bp"][i], wanted["rp"][i]]) for i in (0, 1))
    np.testing.assert_allclose(vectors.flux[0], flux, rtol=1e-9)
    np.testing.assert_allclose(vectors.flux_error[0], flux_error, rtol=1e-6)


def test_untransformed_bases_are_hermite_functions(tmp_path):
    """With the identity as rotation matrix GaiaXPy's set are orthonormal Hermite functions."""
    config = tmp_path / "bases.xml"
    config.write_text(
        '<config:b xmlns:config="urn:x">\n<hermiteFunction>\n'
        + "".join(
            f'<{band}Config>\n<dimension>6</dimension><range from="0.0" to="60.0"/>'
            f'<normalizedRange from="-6.0" to="6.0"/><uniqueId>{number}</uniqueId>'
            "<transformedSetDimension>6</transformedSetDimension>\n<transformationMatrix>\n"
            + "".join(f"<value>{value}</value>\n" for value in np.eye(6).ravel())
            + "</transformationMatrix>"
            f"</{band}Config>\n"
            for band, number in (("bp", 901), ("rp", 902))
        )
        + "</hermiteFunction></config:b>"
    )
    new = register_basis_set("plain", config, release="TEST")
    try:
        assert (new.n_bp, new.n_rp, new.bp_basis_id, new.rp_basis_id) == (6, 6, 901, 902)
        matrices = compute_design_matrices(basis_set="plain")
        for band, where in sample_pseudo_wavelengths().items():
            x = where / 5 - 6
            for order in range(6):
                norm = math.sqrt(2.0**order * math.factorial(order) * math.sqrt(math.pi))
                expected = eval_hermite(order, x) * np.exp(-(x**2) / 2) / norm
                expected *= np.abs(where[1] - where[0])  # per sample
                np.testing.assert_allclose(matrices[band][order], expected, rtol=1e-10, atol=1e-12)
        spectra = make_spectra(n_bp=6, n_rp=6, ids=(901, 902))
        assert not (sample_spectra(spectra).quality & QualityFlag.UNKNOWN_BASIS).any()
    finally:
        bases._SETS.pop("plain")


def test_wavelengths_rise_and_span_the_stated_range():
    wavelength = sample_wavelengths()
    assert wavelength.shape == (186,)
    assert np.all(np.diff(wavelength[:80]) > 0)
    assert np.all(np.diff(wavelength[80:]) > 0)
    # The dissertation states 366 to 996 nm, of a table that we do not have.
    assert wavelength[0] == pytest.approx(366, abs=9)
    assert wavelength[-1] == pytest.approx(996, abs=16)


def test_a_table_of_120_wavelengths_is_used_as_it_stands():
    full = {"bp": np.linspace(330, 670, 120), "rp": np.linspace(630, 1040, 120)}
    grid = SamplingGrid(bp=tuple(full["bp"]), rp=tuple(full["rp"]))
    expected = np.concatenate([full["bp"][34:114], full["rp"][4:110]])
    np.testing.assert_allclose(sample_wavelengths(grid), expected, rtol=1e-6)
    spectra = make_spectra(n=2)
    assert not np.allclose(sample_spectra(spectra, grid=grid).flux, sample_spectra(spectra).flux)


def test_without_correlations_errors_are_diagonal_and_say_so():
    spectra = make_spectra()
    plain = make_spectra(
        bp=change_band(spectra.bp, correlations=None), rp=change_band(spectra.rp, correlations=None)
    )
    vectors = sample_spectra(plain)
    matrix = compute_design_matrices()["bp"]
    expected = np.sqrt(spectra.bp.errors**2 @ matrix**2)
    np.testing.assert_allclose(vectors.flux_error[:, :80], expected, rtol=1e-12)
    assert set(vectors.quality) == {QualityFlag.DIAGONAL_FLUX_ERROR}
    np.testing.assert_array_equal(vectors.flux, sample_spectra(spectra).flux)


def test_rows_with_and_without_correlations_are_told_apart():
    spectra = make_spectra()
    correlations = spectra.bp.correlations.copy()
    correlations[2] = np.nan
    mixed = make_spectra(bp=change_band(spectra.bp, correlations=correlations))
    vectors = sample_spectra(mixed)
    full = sample_spectra(spectra)
    assert vectors.quality.tolist() == [0, 0, QualityFlag.DIAGONAL_FLUX_ERROR, 0, 0, 0]
    others = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(vectors.flux_error[others], full.flux_error[others], rtol=1e-12)
    assert not np.allclose(vectors.flux_error[2, :80], full.flux_error[2, :80])


def test_errors_can_be_left_out():
    vectors = sample_spectra(make_spectra(), errors=False)
    assert vectors.flux_error is None
    assert not vectors.quality.any()
    bare = make_spectra()
    bare = make_spectra(bp=change_band(bare.bp, errors=None, correlations=None))
    vectors = sample_spectra(bare)
    assert vectors.flux_error is None
    assert set(vectors.quality) == {QualityFlag.NO_FLUX_ERROR}
    assert np.isfinite(vectors.flux).all()


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("errors", 3, -1.0),
        ("errors", 3, np.nan),
        ("errors", slice(None), 0.0),
        ("correlations", 5, 1.5),
        ("correlations", 5, np.nan),
        ("correlations", slice(None), -1.0),  # no covariance matrix: a variance is negative
    ],
)
def test_unusable_errors_cost_the_errors_and_not_the_fluxes(name, column, value):
    spectra = make_spectra()
    array = getattr(spectra.bp, name).copy()
    array[1, column] = value
    vectors = sample_spectra(make_spectra(bp=change_band(spectra.bp, **{name: array})))
    assert vectors.quality.tolist() == [0, QualityFlag.BAD_FLUX_ERROR, 0, 0, 0, 0]
    assert np.isnan(vectors.flux_error[1]).all()
    assert np.isfinite(vectors.flux_error[[0, 2, 3, 4, 5]]).all()
    assert np.isfinite(vectors.flux).all()


def test_a_row_without_errors_among_others():
    spectra = make_spectra()
    errors = spectra.rp.errors.copy()
    errors[4] = np.nan
    vectors = sample_spectra(make_spectra(rp=change_band(spectra.rp, errors=errors)))
    assert vectors.quality.tolist() == [0, 0, 0, 0, QualityFlag.NO_FLUX_ERROR, 0]
    assert np.isnan(vectors.flux_error[4]).all()


def test_bad_rows_are_flagged_and_masked_and_the_others_unharmed():
    spectra = make_spectra(n=8)
    bp, rp = change_band(spectra.bp), change_band(spectra.rp)
    bp.n_coefficients[0] = 0
    rp.n_coefficients[1] = 0
    bp.coefficients[2, 7] = np.nan
    rp.coefficients[3, 7] = np.inf
    bp.coefficients[4], rp.coefficients[4] = 0.0, 0.0
    bp.coefficients[5] *= -1
    rp.coefficients[5] *= -1
    bp.n_coefficients[6] = 54  # the id says 56: the set of 55
    flags = np.zeros(8, dtype=np.int32)
    flags[6] = QualityFlag.DUPLICATE_SOURCE_ID  # found by an earlier stage, kept
    vectors = sample_spectra(make_spectra(n=8, bp=bp, rp=rp, flags=flags))
    assert decode_flags(vectors.quality) == [
        ["missing_bp"],
        ["missing_rp"],
        ["non_finite_flux"],
        ["non_finite_flux"],
        ["non_positive_flux"],
        ["non_positive_flux"],
        ["bad_coefficient_count", "duplicate_source_id"],
        [],
    ]
    assert np.isnan(vectors.flux[:7]).all()
    assert np.isnan(vectors.flux_error[:7]).all()
    np.testing.assert_allclose(vectors.flux[7], sample_spectra(spectra).flux[7], rtol=1e-12)


@pytest.mark.parametrize(
    ("lengths", "ids", "words"),
    [
        ((51, 55), (0, 0), "51 BP \\+ 55 RP"),
        ((54, 55), (-1, -1), "54 BP \\+ 55 RP"),
        ((55, 55), (56, 999), "ids 56 and 999"),
    ],
)
def test_unknown_sets_are_flagged_and_named(lengths, ids, words):
    spectra = make_spectra(3, *lengths, ids=ids)
    with pytest.warns(GaiaRedshiftWarning, match=words):
        vectors = sample_spectra(spectra)
    assert set(vectors.quality) == {QualityFlag.UNKNOWN_BASIS}
    assert np.isnan(vectors.flux).all()


def test_mixed_sets_in_one_call_give_what_each_gives_alone():
    hermite, spline = make_spectra(3), make_spectra(2, 48, 44, ids=(0, 0))
    joined = XPSpectra.concatenate([hermite, spline])[np.array([3, 0, 4, 1, 2])]
    vectors = sample_spectra(joined)
    alone = [sample_spectra(hermite), sample_spectra(spline)]
    order = [3, 0, 4, 1, 2]
    for name in ("flux", "flux_error"):
        expected = np.vstack([getattr(a, name) for a in alone])[order]
        np.testing.assert_allclose(getattr(vectors, name), expected, rtol=1e-12)


def test_the_user_can_register_a_function():
    def flat(band, where):
        return np.ones((51 if band == "bp" else 55, len(where)))

    register_basis_set("flat", flat)
    try:
        vectors = sample_spectra(make_spectra(2, 51, 55, ids=(0, 0)))
        assert not vectors.quality.any()
        assert np.ptp(vectors.flux[0, :80]) < 1e-9
        assert "flat" in [s.name for s in basis_sets()]
    finally:
        bases._SETS.pop("flat")


def test_wrong_bases_raise_one_clear_line(tmp_path):
    (tmp_path / "no.xml").write_text("<a/>")
    with pytest.raises(InputError, match=r"no\.xml"):
        register_basis_set("no", tmp_path / "no.xml")
    with pytest.raises(InputError, match=r"missing\.xml"):
        register_basis_set("no", tmp_path / "missing.xml")
    with pytest.raises(InputError, match="shape"):
        register_basis_set("no", lambda band, where: np.ones(3))
    with pytest.raises(InputError, match="dr3-hermite"):
        compute_design_matrices(basis_set="nonsense")


def test_a_set_that_a_newer_gaiaxpy_ships_is_found(monkeypatch):
    with quiet_gaiaxpy():
        from gaiaxpy.config import paths
    shipped = dict(bases._SETS)
    monkeypatch.setattr(paths, "dr4_bases_file", paths.spline_bases_file, raising=False)
    monkeypatch.setattr(bases, "_SETS", {"dr3-hermite": shipped["dr3-hermite"]})
    bases._register_shipped_sets.cache_clear()
    try:
        found = bases.find_basis_set(48, 44)
        assert found is not None
        assert found.source in ("gaiaxpy:dr4_bases_file", "gaiaxpy:spline_bases_file")
    finally:
        bases._register_shipped_sets.cache_clear()


def test_other_types_are_told_to_be_read_first():
    with pytest.raises(InputError, match="read_spectra"):
        sample_spectra("file.csv")


def test_no_rows_and_many_rows():
    empty = sample_spectra(make_spectra()[:0])
    assert empty.flux.shape == (0, 186)
    spectra = make_spectra()
    many = spectra[np.arange(600) % 6]  # more than one block of errors
    vectors, few = sample_spectra(many), sample_spectra(spectra)
    np.testing.assert_allclose(vectors.flux_error, few.flux_error[np.arange(600) % 6], rtol=1e-12)


def test_settings_of_the_process_are_left_alone():
    filters, options = list(warnings.filters), np.get_printoptions()
    sample_spectra(make_spectra(1))
    sample_wavelengths(SamplingGrid(bp=(326.0, 680.0)))
    assert warnings.filters == filters
    assert np.get_printoptions() == options


def test_errors_that_the_reader_refused_are_bad_and_not_absent():
    spectra = make_spectra(2)
    errors = spectra.bp.errors.copy()
    errors[0] = -1
    columns = {"source_id": spectra.source_id}
    for name, band in (("bp", spectra.bp), ("rp", spectra.rp)):
        columns[f"{name}_coefficients"] = band.coefficients
        columns[f"{name}_coefficient_errors"] = band.errors
        columns[f"{name}_coefficient_correlations"] = band.correlations
    columns["bp_coefficient_errors"] = errors
    vectors = sample_spectra(read_spectra(columns))
    assert vectors.quality.tolist() == [QualityFlag.BAD_FLUX_ERROR, 0]
    assert np.isnan(vectors.flux_error[0]).all()
    assert np.isfinite(vectors.flux_error[1]).all()


def test_one_row_can_be_taken_by_its_number():
    spectra = make_spectra(3)
    vectors = sample_spectra(spectra)
    assert spectra[1].source_id.tolist() == spectra.source_id[1:2].tolist()
    assert np.array_equal(vectors[-1].flux, vectors.flux[2:])
    assert len(spectra[[]]) == 0
    assert [len(one) for one in spectra] == [1, 1, 1]
    with pytest.raises(InputError, match="floats lose digits"):
        FluxVectors(vectors.source_id.astype(float), vectors.flux)


# --- the table of DR3's bases ----------------------------------------------------------------


def test_the_table_of_bases_holds_what_gaiaxpy_says(tmp_path):
    from research.tabulated_bases import write_table

    known = compute_design_matrices(tabulated=False)
    table = bases.read_tabulated(DEFAULT_GRID, bases.get_basis_set("dr3-hermite"))
    assert table is not None
    for band, k in (("bp", 80), ("rp", 106)):
        assert table[band].shape == (55, k)
        np.testing.assert_allclose(table[band], known[band], rtol=0, atol=1e-14)
    write_table(tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as again:
        np.testing.assert_array_equal(again["bp"], known["bp"])


def test_other_grids_and_bases_are_not_in_the_table():

    moved = SamplingGrid(bp=(321.0, 678.0))
    dr3, other = bases.get_basis_set("dr3-hermite"), bases.get_basis_set("cycle4-bspline")
    assert bases.read_tabulated(moved, dr3) is None
    assert bases.read_tabulated(DEFAULT_GRID, other) is None
    assert bases.read_tabulated(DEFAULT_GRID, replace(dr3, source="my_bases.xml")) is None
    assert not np.allclose(
        compute_design_matrices(moved)["bp"], compute_design_matrices()["bp"], atol=1e-6
    )
