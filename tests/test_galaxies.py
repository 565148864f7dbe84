"""The galaxy library: what is shipped, how it is redshifted, how it is rebuilt."""

import io
import sys
import warnings

import numpy as np
import pytest

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.galaxies import (
    GalaxyLibrary,
    load_library,
    read_library,
    redshift_spectra,
)
from research.simulator import library as build
from research.simulator.nuclei import add_agn
from research.simulator.populations import FRACTIONS, PARAMETERS, draw_parameters

C_KMS = 299792.458


def make_library(spectra, first=2000.0, step=5.0):
    spectra = np.atleast_2d(np.asarray(spectra, dtype=np.float32))
    n, m = spectra.shape
    return GalaxyLibrary(
        edges=first + step * np.arange(m + 1),
        types=np.array(["passive"] * n),
        parameters={},
        provenance={},
        mean=np.zeros(m, np.float32),
        components=spectra,
        coefficients=np.eye(n, dtype=np.float32),
    )


def band(library, spectra, low, high):
    centre = library.wavelengths
    return spectra[:, (centre > low) & (centre < high)].mean(axis=1)


# ---------------------------------------------------------------- what is shipped


def test_the_shipped_library_is_complete():
    library = load_library()
    assert library is load_library()
    assert library.n >= 5000
    assert set(library.types) == set(FRACTIONS)
    assert set(library.parameters) == set(PARAMETERS)
    for name, values in library.parameters.items():
        assert values.shape == (library.n,), name
        assert np.all(np.isfinite(values)), name
    assert library.edges[0] <= 1950
    assert library.edges[-1] >= 10950
    assert library.provenance["accuracy"]["rms_median"] < 0.005
    assert library.provenance["accuracy"]["rms_99_percent"] < 0.02


def test_every_spectrum_is_physical():
    library = load_library()
    spectra = library.spectra()
    assert spectra.shape == (library.n, len(library.edges) - 1)
    assert np.all(np.isfinite(spectra))
    assert spectra.min() >= 0
    np.testing.assert_allclose(band(library, spectra, 5900, 6100), 1.0, rtol=2e-3)
    assert band(library, spectra, 3400, 3600).min() > 0.01


def test_the_parameters_describe_the_spectra():
    library = load_library()
    spectra, p, kinds = library.spectra(), library.parameters, library.types
    square = library.wavelengths**2
    d4000 = band(library, spectra * square, 4000, 4100) / band(
        library, spectra * square, 3850, 3950
    )
    np.testing.assert_allclose(d4000, p["d4000"], rtol=0.01)
    # H alpha and its neighbours [N II] rise above the continuum by at least H alpha's own width.
    excess = 100.0 * (
        band(library, spectra, 6515, 6615)
        / (0.5 * (band(library, spectra, 6440, 6500) + band(library, spectra, 6620, 6680)))
        - 1.0
    )
    lined = (p["ha_ew"] > 30) & (p["agn_fwhm"] == 0)
    assert np.all(excess[lined] > 0.85 * p["ha_ew"][lined])
    assert np.median(np.abs(excess[kinds == "passive"])) < 5
    assert np.all(p["age"] < 13.7)
    assert np.all(p["mass_weighted_age"] < p["age"])
    # Enough of every main kind is young enough for the Universe at z = 0.6 (7.9 Gyr).
    for kind in ("passive", "green_valley", "star_forming", "dusty"):
        assert np.sum((kinds == kind) & (p["age"] < 7.9)) > 100
    middle = {kind: np.median(p["d4000"][kinds == kind]) for kind in FRACTIONS}
    assert middle["passive"] > middle["green_valley"] > middle["star_forming"] > middle["starburst"]
    assert np.median(p["log_ssfr"][kinds == "passive"]) < -12
    assert np.all((p["agn_fraction"] > 0) == np.char.startswith(kinds, "agn"))
    assert np.all((p["agn_fwhm"] > 0) == (kinds == "agn_broad"))


def test_lines_stand_at_their_wavelengths():
    library = load_library()
    spectra = library.spectra(library.types == "starburst")
    mean = spectra.mean(axis=0)
    for line in (3727.4, 4861.3, 5006.8, 6562.8, 9530.6):
        near = np.flatnonzero(np.abs(library.wavelengths - line) < 40)
        peak = library.wavelengths[near[np.argmax(mean[near])]]
        assert abs(peak - line) <= 5.0


# ---------------------------------------------------------------- selecting


def test_spectra_come_in_the_order_asked_for():
    library = load_library()
    index = np.array([7, 3, 7, library.n - 1])
    some = library.spectra(index)
    np.testing.assert_array_equal(some[0], some[2])
    np.testing.assert_allclose(some, library.spectra()[index], rtol=1e-4, atol=1e-5)
    assert library.spectra(np.zeros(0, int)).shape == (0, len(library.edges) - 1)
    assert len(library.spectra(library.types == "dusty")) == np.sum(library.types == "dusty")


def test_cumulative_is_the_integral():
    library = load_library()
    cumulative = library.cumulative([5, 17])
    assert cumulative.shape == (2, len(library.edges))
    assert np.all(cumulative[:, 0] == 0)
    np.testing.assert_allclose(
        np.diff(cumulative, axis=1), library.spectra([5, 17]) * 5.0, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("index", [[-1], [10**6], [0.5], np.array([True, False])])
def test_a_wrong_index_is_refused(index):
    with pytest.raises(InputError):
        load_library().spectra(index)


# ---------------------------------------------------------------- redshifting


def test_a_power_law_redshifts_to_its_closed_form():
    centre = 2000.0 + 5.0 * (np.arange(1800) + 0.5)
    library = make_library([centre / 6000.0, np.ones(1800)])
    edges = np.linspace(330.0, 1080.0, 101)
    z = np.array([0.0, 0.137, 0.6, 0.31])
    result = redshift_spectra(library, [0, 0, 0, 1], z, edges)
    observed = 5.0 * (edges[1:] + edges[:-1])
    expected = observed / (1 + z[:3, None]) / 6000.0
    np.testing.assert_allclose(result[:3], expected, rtol=1e-3)
    np.testing.assert_allclose(result[3], 1.0, rtol=1e-6)


def test_a_line_keeps_its_flux_and_moves_with_redshift():
    spectrum = np.zeros(1800)
    spectrum[912] = 2.0  # 6560-6565 A, 10 units of flux
    library = make_library(spectrum)
    for edges in (np.linspace(400.0, 1070.0, 671), np.geomspace(400.0, 1070.0, 97)):
        for z in (0.0, 0.0731, 0.5, 0.6):
            result = redshift_spectra(library, [0], z, edges)[0].astype(float)
            flux = result * np.diff(edges) * 10.0
            # f_lambda is not dimmed, so the observed line is (1 + z) times as wide.
            np.testing.assert_allclose(flux.sum(), 10.0 * (1 + z), rtol=1e-6)
            place = np.flatnonzero(result > 0)
            assert edges[place[0]] <= 656.0 * (1 + z) + 1e-6
            assert edges[place[-1] + 1] >= 656.5 * (1 + z) - 1e-6
            assert len(place) <= 3


def test_finer_bins_average_to_coarser_ones():
    library = load_library()
    fine = np.linspace(330.0, 1080.0, 1501)
    many = np.arange(0, library.n, 37)
    z = np.linspace(0.0, 0.6, len(many))
    narrow = redshift_spectra(library, many, z, fine)
    wide = redshift_spectra(library, many, z, fine[::10])
    np.testing.assert_allclose(
        narrow.reshape(len(many), -1, 10).mean(axis=2), wide, rtol=1e-4, atol=1e-6
    )


def test_rows_do_not_depend_on_each_other():
    library = load_library()
    edges = np.linspace(330.0, 1080.0, 50)
    index, z = np.arange(200), np.linspace(0.0, 0.6, 200)
    together = redshift_spectra(library, index, z, edges)
    alone = redshift_spectra(library, [137], z[137], edges)
    np.testing.assert_array_equal(together[137], alone[0])


@pytest.mark.parametrize(
    ("z", "edges", "words"),
    [
        (2.0, [330.0, 1000.0], "rest frame"),
        (0.0, [330.0, 1300.0], "rest frame"),
        (np.nan, [330.0, 1000.0], "finite"),
        (0.1, [1000.0, 330.0], "rising"),
        (0.1, [400.0], "rising"),
    ],
)
def test_what_cannot_be_redshifted_is_refused(z, edges, words):
    with pytest.raises(InputError, match=words):
        redshift_spectra(load_library(), [0], z, edges)


# ---------------------------------------------------------------- damaged files


def test_damaged_library_files_are_refused(tmp_path):
    missing = tmp_path / "none.npz"
    with pytest.raises(InputError, match="cannot read"):
        read_library(missing)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(InputError, match="cannot read"):
        read_library(broken)
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, flux=np.zeros(3))
    with pytest.raises(InputError, match="not a galaxy library"):
        read_library(foreign)
    partial = tmp_path / "partial.npz"
    np.savez(partial, format_version=1, edges=[1900.0, 2000.0, 20])
    with pytest.raises(InputError, match="incomplete"):
        read_library(partial)
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, format_version=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="cannot read"):
        read_library(pickled)


# ---------------------------------------------------------------- building


def test_draws_are_seeded_and_shared_out():
    types, first = draw_parameters(600, 5)
    _, again = draw_parameters(600, 5)
    _, other = draw_parameters(600, 6)
    assert len(types) == 600
    for kind, share in FRACTIONS.items():
        assert abs(np.sum(types == kind) - 600 * share) <= 1
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["age"], other["age"])
    with pytest.raises(InputError, match="at least"):
        draw_parameters(3, 1)


def test_an_agn_has_the_drawn_continuum_and_lines():
    types, drawn = draw_parameters(600, 1)
    centre = 0.5 * (build.EDGES_A[1:] + build.EDGES_A[:-1])
    host = np.ones(len(centre))

    def window(low, high):
        return (centre > low) & (centre < high)

    for kind in ("agn_narrow", "agn_broad"):
        for i in np.flatnonzero(types == kind)[:10]:
            p = {key: float(values[i]) for key, values in drawn.items()}
            spectrum, ha_flux = add_agn(build.EDGES_A, host, p)
            at_5100 = spectrum[window(5080, 5120)].mean()
            assert 1 - 1 / at_5100 == pytest.approx(p["agn_fraction"], abs=0.02)
            if kind == "agn_broad":
                continue
            quiet, _ = add_agn(build.EDGES_A, host, {**p, "oiii_ew": 0.0})
            line = ((spectrum - quiet)[window(4985, 5035)].sum() * 5.0) / at_5100
            assert line == pytest.approx(p["oiii_ew"], rel=0.03)
            decrement = 3.0 * 10 ** (
                -0.4 * p["narrow_av"] * ((6562.8 / 5500) ** -1.2 - (4861.3 / 5500) ** -1.2)
            )
            hb = (spectrum - quiet)[window(4835, 4890)].sum() * 5.0
            assert ha_flux / hb == pytest.approx(decrement, rel=0.03)


def test_a_broad_line_has_the_drawn_width():
    types, drawn = draw_parameters(600, 1)
    i = np.flatnonzero(types == "agn_broad")[0]
    p = {key: float(values[i]) for key, values in drawn.items()}
    p.update(oiii_ew=0.0, agn_fwhm=5000.0)
    centre = 0.5 * (build.EDGES_A[1:] + build.EDGES_A[:-1])
    with_lines, _ = add_agn(build.EDGES_A, np.ones(len(centre)), p)
    without, _ = add_agn(build.EDGES_A, np.ones(len(centre)), {**p, "agn_fwhm": 0.0})
    line = np.where(np.abs(centre - 6562.8) < 300, with_lines - without, 0.0)
    above = centre[line > 0.5 * line.max()]
    assert (np.ptp(above) + 5) / 6562.8 * C_KMS == pytest.approx(5000, abs=500)


def test_compression_keeps_spectra_and_reports_its_error():
    rng = np.random.default_rng(3)
    m = len(build.EDGES_A) - 1
    shapes = 1.0 + 0.3 * np.sin(np.outer(np.arange(1, 9), np.linspace(0, 6, m)))
    spectra = (rng.uniform(0.5, 1.5, (300, 8)) @ shapes / 8).astype(np.float32)
    arrays, accuracy = build.compress_spectra(spectra, 10)
    assert arrays["coefficients"].dtype == np.int16
    rebuilt = (
        arrays["mean"]
        + (arrays["coefficients"] * arrays["coefficient_step"]) @ (arrays["components"])
    )
    np.testing.assert_allclose(rebuilt, spectra, rtol=1e-3)
    assert accuracy["rms_largest"] < 1e-3
    _, coarse = build.compress_spectra(spectra, 3)
    assert coarse["rms_median"] > 10 * accuracy["rms_median"]


def test_without_bagpipes_the_build_says_what_to_install(monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(sys.modules, "bagpipes", None)
    with pytest.raises(InputError, match=r"gaia-redshift\[sim\]"):
        build.build_library(tmp_path / "a.npz", n=200)
    assert build.main(["--n", "200", "-o", str(tmp_path / "a.npz")]) == 1
    assert not list(tmp_path.iterdir())


def test_impossible_builds_are_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match="components"):
        build.build_library(tmp_path / "a.npz", n=50)
    with pytest.raises(InputError, match="folder"):
        build.build_library(tmp_path / "none" / "a.npz")


def test_bagpipes_still_makes_the_shipped_spectra(monkeypatch):
    """The recorded command and the shipped file belong together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr("sys.stdout", io.StringIO())
        pytest.importorskip("bagpipes")
        monkeypatch.undo()
        library = load_library()
        words = library.provenance["command"].split()
        seed, n = (int(words[words.index(name) + 1]) for name in ("--seed", "--n"))
        types, drawn = draw_parameters(n, seed)
        np.testing.assert_array_equal(types, library.types)
        kinds = ("passive", "starburst", "agn_broad")
        index = [int(np.flatnonzero(types == kind)[4]) for kind in kinds]
        rows = [{key: float(values[i]) for key, values in drawn.items()} for i in index]
        spectra, measured = build._compute_chunk(rows)
    optical = (library.wavelengths > 3400) & (library.wavelengths < 10000)
    np.testing.assert_allclose(
        library.spectra(index)[:, optical], spectra[:, optical], rtol=0.02, atol=2e-3
    )
    for i, values in zip(index, measured, strict=True):
        assert values["d4000"] == pytest.approx(library.parameters["d4000"][i], rel=1e-4)
