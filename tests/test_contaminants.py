"""Stars, quasars and spectra of the user's through the simulator."""

from __future__ import annotations

import numpy as np
import pytest

from gaia_redshift import read_spectra, sample_spectra, sample_wavelengths, simulate_spectra
from gaia_redshift.cli import main
from gaia_redshift.errors import InputError
from gaia_redshift.simulate import (
    load_instrument,
    simulate_blocks,
    simulate_seds,
)
from gaia_redshift.simulate.contaminants import (
    CONTAMINANTS,
    LINES,
    draw_quasars,
    quasar_fluxes,
    star_fluxes,
)
from gaia_redshift.simulate.galaxies import load_library
from gaia_redshift.simulate.observation import FIRST_SOURCE_ID


@pytest.fixture(scope="module")
def stars():
    return simulate_spectra(1000, kind="star", seed=3, correlations=False)


@pytest.fixture(scope="module")
def quasars():
    return simulate_spectra(1000, kind="quasar", seed=3, correlations=False)


def band_mean(flux, low, high):
    wave = sample_wavelengths()
    inside = np.zeros(186, dtype=bool)
    inside[80:] = (wave[80:] > low) & (wave[80:] < high)
    return flux[:, inside].mean(axis=1)


def test_every_source_is_complete_and_tells_what_it_is(stars, quasars):
    for spectra, kind in ((stars, "star"), (quasars, "quasar")):
        vectors = sample_spectra(spectra, errors=False)
        assert np.isfinite(vectors.flux).all()
        assert (spectra.source_id > FIRST_SOURCE_ID).all()
        assert set(spectra.columns["type"]) == {kind}
    assert np.all(stars.columns["redshift_true"] == 0)
    assert stars.columns["teff"].min() >= 2800
    assert stars.columns["teff"].max() <= 30_000
    assert 0.53 < np.mean(stars.columns["teff"] < 5300) < 0.63  # cool dwarfs are most stars
    assert stars.columns["ebv"].max() <= 1.3
    assert quasars.columns["redshift_true"].max() > 3.5
    assert quasars.columns["redshift_true"].min() < 0.3
    assert np.isnan(quasars.columns["teff"]).all()


def test_no_id_is_used_twice(stars, quasars):
    galaxies = simulate_spectra(10, seed=3, correlations=False)
    ids = np.concatenate([stars.source_id, quasars.source_id, galaxies.source_id])
    assert len(np.unique(ids)) == len(ids)


def test_brightness_is_that_of_galaxies_or_the_users(stars):
    galaxies = simulate_spectra(1000, seed=9, correlations=False)
    np.testing.assert_allclose(
        np.percentile(stars.columns["rp_flux"], [16, 50, 84]),
        np.percentile(galaxies.columns["rp_flux"], [16, 50, 84]),
        rtol=0.12,
    )
    bright = simulate_spectra(
        50, kind="star", seed=1, brightness=[1000.0, 1100.0], correlations=False, noise=False
    )
    assert 1000 <= bright.columns["rp_flux"].min() <= bright.columns["rp_flux"].max() <= 1100
    band = load_instrument().rp
    np.testing.assert_allclose(
        bright.rp.coefficients @ band.integral, bright.columns["rp_flux"], rtol=1e-9
    )
    # Nearly all of it lies in the kept samples, as a point's light does.
    kept = sample_spectra(bright, errors=False).flux[:, 80:].sum(axis=1)
    assert np.all((kept > 850) & (kept < 1100))


def test_stars_are_as_bright_as_the_survey_whose_galaxies_they_stand_among():
    options = {"kind": "star", "seed": 3, "correlations": False, "noise": False}
    near, far = (
        np.median(simulate_spectra(300, survey=[z, z], **options).columns["rp_flux"])
        for z in (0.05, 0.4)
    )
    assert near > 1.5 * far


@pytest.mark.parametrize("kind", CONTAMINANTS)
def test_every_kind_goes_down_to_the_faintest_galaxies(kind):
    found = simulate_spectra(200, kind=kind, seed=5, brightness=[100.0, 300.0], correlations=False)
    vectors = sample_spectra(found)
    assert np.isfinite(vectors.flux).all()
    assert np.isfinite(vectors.flux_error).all()
    assert set(found.columns["type"]) == {kind}
    flux = found.rp.coefficients @ load_instrument().rp.integral
    assert np.median(flux / found.columns["rp_flux"]) == pytest.approx(1, abs=0.03)
    assert 60 < flux.min() < flux.max() < 400


def test_kinds_differ_in_how_far_their_light_spreads():
    """The red end of RP falls steeply: light beyond it comes from off the centre."""
    band = load_instrument().rp
    u = band.position[band.inside]
    beyond = (u < 8) | (u > 54)
    spread = {}
    for kind in CONTAMINANTS:
        found = simulate_spectra(400, kind=kind, seed=6, correlations=False, noise=False)
        curve = np.abs(found.rp.coefficients @ band.bases[:, band.inside])
        spread[kind] = np.median(curve[:, beyond].sum(axis=1) / curve.sum(axis=1))
    assert spread["star"] < 0.75 * spread["double_star"]
    assert spread["double_star"] < spread["smeared_star"]
    assert spread["star"] < 0.75 * spread["star_galaxy"]


def test_cool_stars_are_red_and_hot_ones_blue(stars):
    flux = sample_spectra(stars, errors=False).flux
    colour = flux[:, :80].sum(axis=1) / flux[:, 80:].sum(axis=1)
    little = stars.columns["ebv"] < 0.2
    medians = [
        np.median(colour[little & (stars.columns["teff"] > a) & (stars.columns["teff"] < b)])
        for a, b in ((2800, 3500), (4000, 5000), (5500, 6500), (7500, 30_000))
    ]
    assert np.all(np.diff(medians) > 0.05)


def test_lines_of_stars_lie_where_they_should():
    wave = np.arange(330.0, 1080.0)
    hot, sun, cool = star_fluxes(np.array([9500.0, 5800.0, 3000.0]), np.ones(3), wave)

    def depth(flux, line, away):
        at = [np.interp(w, wave, flux) for w in (line - away, line, line + away)]
        return 1 - 2 * at[1] / (at[0] + at[2])

    assert depth(hot, 486.27, 8) > 0.25
    assert depth(cool, 486.27, 3) < 0.1
    assert depth(sun, 393.5, 5) > 0.1
    assert depth(cool, 589.3, 5) > 0.05
    # Balmer jump of an A star; titanium oxide of an M star beyond its head at 705.4 nm.
    assert np.interp(355, wave, hot) < 0.6 * np.interp(400, wave, hot)
    assert np.interp(708, wave, cool) < 0.6 * np.interp(703, wave, cool)
    assert np.interp(708, wave, sun) == pytest.approx(np.interp(703, wave, sun), rel=0.02)


def test_lines_of_quasars_move_with_redshift_and_keep_their_equivalent_width():
    quasars = draw_quasars(1, np.random.default_rng(1))
    quasars |= {"absorption": np.zeros(1), "line_strength": np.ones(1), "line_width": np.ones(1)}
    edges = np.arange(500.0, 1080.0, 0.5)
    wave = 0.5 * (edges[1:] + edges[:-1])
    width = next(ew for line, ew, _ in LINES if line == 6564.9)  # H alpha
    for z in (0.1, 0.3):
        quasars["redshift"] = np.array([z])
        flux = quasar_fluxes(quasars, edges)[0]
        centre = 656.49 * (1 + z)
        near = np.abs(wave - centre) < 30
        assert wave[near][np.argmax(flux[near])] == pytest.approx(centre, abs=1)
        sides = (np.abs(wave - centre) > 28) & (np.abs(wave - centre) < 38)
        level = np.polyval(np.polyfit(wave[sides], flux[sides], 1), wave[near])
        found = ((flux[near] - level) / level).sum() * 5.0 / (1 + z)  # A in the rest frame
        assert found == pytest.approx(width, rel=0.05)


def test_the_forest_dims_distant_quasars():
    quasars = draw_quasars(2, np.random.default_rng(1))
    quasars |= {name: np.zeros(2) for name in ("absorption", "line_strength", "iron")}
    quasars |= {"redshift": np.array([2.5, 4.0]), "blue_slope": np.full(2, -1.56)}
    edges = np.array([[1100.0, 1105.0], [1300.0, 1305.0]])
    ratios = []
    for i, z in enumerate((2.5, 4.0)):
        one = {name: value[i : i + 1] for name, value in quasars.items()}
        below, above = (quasar_fluxes(one, e * (1 + z) / 10)[0, 0] for e in edges)
        ratios.append(below / above)
    # Mean transmission 0.82 at z = 2.2, 0.48 at 3.5 (Press et al. 1993), beside the continuum.
    assert ratios[1] / ratios[0] == pytest.approx(0.48 / 0.82, abs=0.05)


def test_runs_are_repeatable_whatever_their_length(stars):
    blocks = list(simulate_blocks(300, kind="star", seed=3, block_size=120, correlations=False))
    assert [len(block) for block in blocks] == [120, 120, 60]
    again = np.concatenate([block.rp.coefficients for block in blocks])
    np.testing.assert_array_equal(again, stars.rp.coefficients[:300])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "planet"}, "choose from galaxy, star, quasar"),
        ({"n": 0}, "must be positive"),
        ({"brightness": "stars"}, "unknown brightness"),
        ({"brightness": [1.0, -1.0]}, "positive numbers"),
        ({"brightness": []}, "empty"),
        ({"kind": "galaxy", "brightness": [100.0]}, "that of the survey"),
    ],
)
def test_wrong_requests_are_refused(options, words):
    n = options.pop("n", 5)
    with pytest.raises(InputError, match=words):
        simulate_spectra(n, **{"kind": "star", "seed": 1} | options)


def make_seds():
    wave = np.arange(1800.0, 11500.0, 2.0)
    line = np.exp(-0.5 * ((wave - 6564.0) / 10.0) ** 2)
    return wave, np.array([1 + 30 * line, 1 + 0 * line])


def test_given_spectra_become_galaxies():
    wave, seds = make_seds()
    found = simulate_seds(
        wave, seds, 400, seed=2, survey=[0.1, 0.1], correlations=False, noise=False
    )
    which = np.asarray(found.columns["sed"])
    assert 0.4 < which.mean() < 0.6
    flux = sample_spectra(found, errors=False).flux
    # H alpha at 722 nm, smeared by the light profile.
    ratio = band_mean(flux, 700, 745) / band_mean(flux, 800, 900)
    assert np.median(ratio[which == 0]) > 1.2 * np.median(ratio[which == 1])
    assert set(found.columns["type"]) == {"sed"}


def test_the_library_given_as_spectra_gives_the_librarys_galaxies():
    library = load_library()
    rows = np.flatnonzero(library.types == "passive")[:50]
    seds = library.spectra(rows)
    found = simulate_seds(
        library.wavelengths, seds, 20, seed=2, survey=[0.2, 0.2], correlations=False, noise=False
    )
    assert np.isfinite(sample_spectra(found, errors=False).flux).all()


def test_given_spectra_have_the_light_profiles_of_the_surveys_galaxies():
    options = {"survey": [0.12, 0.12], "correlations": False, "noise": False}
    given = simulate_seds(*make_seds(), 2000, seed=2, **options).columns
    own = simulate_spectra(2000, seed=3, **options).columns
    for name in ("radius_sersic", "n_sersic"):
        # As if all were active, they would be 10 % larger and 0.6 less concentrated.
        assert np.mean(given[name]) == pytest.approx(np.mean(own[name]), rel=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w, f: (w, f[:, :-1]), "shape"),
        (lambda w, f: (w[::-1], f), "rise"),
        (lambda w, f: (w, -f), "negative"),
        (lambda w, f: (w / 2, f), "rest frame"),
        (lambda w, f: (w[:3000], f[:, :3000]), "covers"),
        (lambda w, f: (w, 0 * f), "no flux"),
    ],
)
def test_unusable_spectra_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        simulate_seds(*change(*make_seds()), 5, seed=1)


def test_command_makes_stars_that_read_back(tmp_path, capsys):
    path = tmp_path / "stars.fits"
    command = ["simulate", "-n", "5", "--seed", "3", "--kind", "star", "-o", str(path)]
    assert main(command) == 0
    assert "5 simulated stars (not observed ones)" in capsys.readouterr().out
    read = read_spectra(path, keep=["teff", "type"])
    direct = simulate_spectra(5, kind="star", seed=3)
    np.testing.assert_allclose(read.bp.coefficients, direct.bp.coefficients, rtol=1e-12)
    np.testing.assert_allclose(read.columns["teff"], direct.columns["teff"])
    path = tmp_path / "doubles.fits"
    assert main([*command[:-3], "double_star", "-o", str(path)]) == 0
    assert "5 simulated double stars (not observed ones)" in capsys.readouterr().out
    assert main([*command[:-2], "--survey", "flat", "-o", str(tmp_path / "b.fits")]) == 1
    assert "for galaxies" in capsys.readouterr().err
