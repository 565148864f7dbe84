"""What a model does when the sky differs from the one that it was trained for.

    python benchmarks/shifts.py [--galaxies 2000] [--model NAME ...] [--real FILE ...]
        [--limit 0] [--templates 200000] [-o FILE]

Everything but ``--real`` is simulated. One thing at a time is changed in simulated galaxies of the
survey "sdss": flux, size, background, neighbours, centring, noise, transits, calibration. For each
row: bias (mean of predicted less true redshift), mean absolute error, how many 68 % intervals hold,
how many rows are dropped by flags, and how many of those that are wrong by more than two sigma are.
Then: which redshift a model follows where flux or size are those of a galaxy at another; what it
says of sources that are no galaxies; galaxies of other generators (extra ``eval``). With
``--limit``, of so many galaxies a row also what the posterior under the simulator itself says: the
best answer for the sky that was thought to be.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from model_checks import tell
from numpy.typing import NDArray
from templates import simulate_others

from gaia_redshift import load_model, read_spectra
from gaia_redshift.flags import QualityFlag
from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid
from gaia_redshift.metrics.distributions import find_quantiles
from gaia_redshift.sampling import sample_spectra, sample_wavelengths
from gaia_redshift.simulate import simulate_spectra
from gaia_redshift.simulate.generate import TRUTH_COLUMNS
from gaia_redshift.simulate.noise import draw_noise, observe_sources
from gaia_redshift.simulate.observation import (
    give_source_ids,
    point_source_coefficients,
    smear_sources,
)
from gaia_redshift.simulate.redshifts import Survey
from gaia_redshift.simulate.survey import (
    SurveyParameters,
    draw_brightness,
    draw_profiles,
    draw_truth,
    load_parameters,
)
from gaia_redshift.spectra import FluxVectors, XPSpectra

Array = NDArray[Any]
Truth = dict[str, Array]

IGNORED = (
    QualityFlag.NO_FLUX_ERROR
    | QualityFlag.DIAGONAL_FLUX_ERROR
    | QualityFlag.BAD_FLUX_ERROR
    | QualityFlag.DUPLICATE_SOURCE_ID
)
"""Flags that say nothing against a redshift."""
PER_SAMPLE = 0.35
"""Width of a sample in pseudo-wavelength."""
COMMON = ["redshift_true", "bp_standard_deviation", "rp_standard_deviation"]
FAINT = (97.0, 365.0)
"""RP flux (e-/s) of sources with 0.8 to 3 e-/s per sample."""


def simulate(
    n: int,
    seed: int,
    parameters: SurveyParameters,
    change: Callable[[Truth, np.random.Generator], None] | None = None,
) -> XPSpectra:
    """Simulate galaxies whose drawn properties are changed before they are observed."""
    rng = np.random.default_rng([seed, 0])
    truth = draw_truth(n, rng, Survey.resolve("sdss"), parameters=parameters)
    if change is not None:
        change(truth, np.random.default_rng([seed, 1]))
    columns = {**TRUTH_COLUMNS}
    if "redshift_other" in truth:
        columns["redshift_other"] = ("", "redshift whose flux or size it has")
    return observe_sources(
        smear_sources(point_source_coefficients(truth, parameters, rng), truth),
        truth,
        rng,
        parameters,
        columns=columns,
        source_id=give_source_ids("galaxy", seed, 0, len(truth["rp_flux"])),
        label="simulated galaxies",
    )


def set_values(**values: float) -> Callable[[Truth, np.random.Generator], None]:
    """Make a change that sets properties of all galaxies, or adds to them (``add_NAME``)."""

    def change(truth: Truth, rng: np.random.Generator) -> None:
        for name, value in values.items():
            if name.startswith("add_"):
                truth[name[4:]] = truth[name[4:]] + value
            elif name.startswith("times_"):
                truth[name[6:]] = truth[name[6:]] * value
            else:
                truth[name] = np.full(len(truth["redshift_true"]), float(value))

    return change


def take_flux_of_another(truth: Truth, rng: np.random.Generator) -> None:
    """Give galaxies the flux of galaxies at other redshifts."""
    truth["redshift_other"] = rng.permutation(truth["redshift_true"])
    truth["rp_flux"] = draw_brightness(truth["redshift_other"], rng, load_parameters())


def take_size_of_another(truth: Truth, rng: np.random.Generator) -> None:
    """Give galaxies the light profiles of galaxies at other redshifts."""
    truth["redshift_other"] = rng.permutation(truth["redshift_true"])
    quiescent = rng.uniform(size=len(truth["type"])) < 0.8
    truth |= draw_profiles(truth["redshift_other"], quiescent, rng, load_parameters())


def add_noise(spectra: XPSpectra, factor: float, seed: int) -> XPSpectra:
    """Make the noise so many times larger, and leave the errors."""
    rng = np.random.default_rng(seed)
    bands = {}
    for band in ("bp", "rp"):
        part = getattr(spectra, band)
        c = np.asarray(part.coefficients)
        transits = np.asarray(spectra.columns[f"transits_{band}"], float)
        noise = draw_noise(c, transits, band, rng, correlations=False)[0] - c
        bands[band] = dataclasses.replace(part, coefficients=c + np.sqrt(factor**2 - 1) * noise)
    return dataclasses.replace(spectra, **bands)


def make_skies(n: int, seed: int) -> dict[str, XPSpectra]:
    """Return the spectra of the table's rows whose galaxies or observation are changed."""
    p = load_parameters()

    def change(**values: Any) -> SurveyParameters:
        return dataclasses.replace(p, **values)

    def background(size: float) -> Any:
        return set_values(**{f"add_background_{band}": size / PER_SAMPLE for band in ("bp", "rp")})

    skies: dict[str, tuple[SurveyParameters, Any]] = {"none": (p, None)}
    for dex in (-0.2, -0.1, 0.1):
        skies[f"flux {dex:+} dex"] = (p, set_values(times_rp_flux=10**dex))
    for dex in (0.1, 0.2):
        wider = np.hypot(p.brightness_scatter, dex)
        skies[f"flux scatter + {dex} dex"] = (change(brightness_scatter=wider), None)
    for scatter in (0.2, 0.35):
        wide = float(np.hypot(p.profile_radius_scatter, scatter))
        skies[f"ln size scatter + {scatter}"] = (change(profile_radius_scatter=wide), None)
    for factor in (0.7, 1.4):
        skies[f"size x {factor}"] = (p, set_values(times_radius_sersic=factor))
    for size in (-0.3, 0.3):
        skies[f"background {size:+} e-/s a sample"] = (p, background(size))
    for words, place in (("at the same place", 0.0), ("1 arcsec away", 17.0)):
        star = set_values(blend_flux=0.1, blend_separation=place)
        skies[f"star of 10 % {words}"] = (p, star)
    for shift in (-1.0, 1.0):
        skies[f"shifted by {shift:+.0f} pixel"] = (p, set_values(shift=shift))
    few = change(transits_range=(6, 10))
    skies |= {
        "6 to 10 transits": (few, None),
        "E(B-V) 0.15": (p, set_values(ebv=0.15)),
        "Sersic n 1-4": (change(profile_index=np.full(6, 2.5), profile_index_scatter=0.8), None),
    }
    plain = simulate(n, seed, p)
    spectra = {
        name: plain if name == "none" else simulate(n, seed, parameters, alter)
        for name, (parameters, alter) in skies.items()
    }
    for percent in (-5, 5):
        factor = np.float32(1 + percent / 100)
        bp = dataclasses.replace(
            plain.bp, coefficients=plain.bp.coefficients * factor, errors=plain.bp.errors * factor
        )
        spectra[f"BP/RP {percent:+} %"] = dataclasses.replace(plain, bp=bp)
    return spectra | simulate_others(n, mixing=seed + 5, seed=seed + 5)


def change_vectors(plain: XPSpectra, seed: int) -> dict[str, FluxVectors]:
    """Return the vectors of the table's rows whose noise, grid or calibration is changed."""
    base = sample_spectra(plain)
    rows = {"noise x 1.3 untold": sample_spectra(add_noise(plain, 1.3, seed))}
    for factor in (0.7, 1.3):
        told = dataclasses.replace(base, flux_error=base.flux_error * factor)
        rows[f"noise told as {factor} of it"] = told
    rows["noise not told"] = dataclasses.replace(base, flux_error=None)
    for move in (-3.0, 3.0):
        grid = SamplingGrid(
            *(tuple(v + move for v in getattr(DEFAULT_GRID, band)) for band in ("bp", "rp"))
        )
        moved = sample_spectra(plain, grid=grid)
        rows[f"wavelength {move:+.0f} nm"] = dataclasses.replace(moved, grid=DEFAULT_GRID)
    wavelength = sample_wavelengths(DEFAULT_GRID)
    tilt = 1 + 0.02 * (wavelength - wavelength.mean()) / (0.5 * np.ptp(wavelength))
    rows["tilt 2 %"] = scale(base, tilt)
    return rows


def scale(vectors: FluxVectors, ratio: Any) -> FluxVectors:
    """Multiply fluxes and errors."""
    assert vectors.flux_error is not None
    return dataclasses.replace(
        vectors, flux=vectors.flux * ratio, flux_error=vectors.flux_error * ratio
    )


def predict(model: Any, vectors: FluxVectors) -> Any:
    """Ask a model, for the shape alone too where it tells."""
    asked = {"shape": True} if model.bins is not None else {}
    error = vectors.flux_error if model.uses_errors else None
    return model.predict(vectors.flux, error, **asked)


def is_dropped(found: Any) -> Array:
    """Which rows carry a flag that says something against them."""
    return np.asarray((found.flags & ~int(IGNORED)) != 0)


def describe(name: str, found: Any, true: Array) -> dict[str, Any]:
    """One row of the table."""
    dropped = is_dropped(found)
    kept = ~dropped
    error = found.redshift - true
    row: dict[str, Any] = {
        "change": name,
        "bias": float(error[kept].mean()),
        "MAE": float(np.abs(error[kept]).mean()),
    }
    if found.lower is not None:
        inside = (true >= found.lower) & (true <= found.upper)
        sigma = np.where(error > 0, found.redshift - found.lower, found.upper - found.redshift)
        wrong = np.abs(error) > 2 * sigma
        row |= {
            "68 % holds": float(inside[kept].mean()),
            "wrong > 2 sigma": float(wrong.mean()),
            "of them flagged": float(dropped[wrong].mean()) if wrong.any() else 1.0,
        }
        if found.shape is not None:
            row["MAE shape"] = float(np.abs(found.shape - true)[kept].mean())
    row["dropped"] = float(dropped.mean())
    return row


def change_owners(n: int, seed: int) -> dict[str, XPSpectra]:
    """Return galaxies with the flux, or the light profile, of galaxies at other redshifts."""
    changes = {"flux": take_flux_of_another, "size": take_size_of_another}
    return {name: simulate(n, seed, load_parameters(), f) for name, f in changes.items()}


def fit_slopes(spectra: XPSpectra, z: Array) -> dict[str, float]:
    """Fit redshifts by a galaxy's own and by that whose flux or size it has."""
    own, other = (
        np.asarray(spectra.columns[c], float) for c in ("redshift_true", "redshift_other")
    )
    slopes = np.linalg.lstsq(np.column_stack([own, other, np.ones(len(z))]), z, rcond=None)[0]
    return {
        "slope on its own": float(slopes[0]),
        "slope on the other": float(slopes[1]),
        "MAE": float(np.abs(z - own).mean()),
    }


def follow_others(model: Any, owners: dict[str, XPSpectra]) -> list[dict[str, Any]]:
    """Which redshift is followed where flux or size belong to another."""
    rows = []
    for name, spectra in owners.items():
        found = predict(model, sample_spectra(spectra))
        answers = {"with prior": found.redshift}
        if found.shape is not None:
            answers["shape alone"] = found.shape
        conflict = (found.flags & int(QualityFlag.PRIOR_CONFLICT)) != 0
        own = np.asarray(spectra.columns["redshift_true"], float)
        for words, z in answers.items():
            far = np.abs(z - own) > 0.1
            rows.append(
                {
                    "flux or size of another redshift": f"{name}, {words}",
                    **fit_slopes(spectra, z),
                    "conflicts": float(conflict.mean()),
                    "off by > 0.1": float(far.mean()),
                    "of them dropped": float(is_dropped(found)[far].mean()) if far.any() else 1.0,
                }
            )
    return rows


def follow_limit(owners: dict[str, XPSpectra], n: int, templates: int) -> list[dict[str, Any]]:
    """Which redshift the best observer of the unchanged sky follows."""
    some = {name: spectra[:n] for name, spectra in owners.items()}
    rows = []
    for words, survey in (("with prior", "sdss"), ("shape alone", "flat")):
        found = find_limit(some, templates, survey=survey, brightness=survey == "sdss")
        for i, (name, spectra) in enumerate(some.items()):
            z = found.median[i * n : (i + 1) * n]
            rows.append(
                {
                    "flux or size of another redshift": f"{name}, {words}",
                    **fit_slopes(spectra, z),
                }
            )
    return rows


def scale_one(model: Any, base: FluxVectors) -> list[dict[str, Any]]:
    """Multiply the flux of each spectrum, with its errors."""
    before = predict(model, base)
    rows = []
    for factor in (0.63, 1.6):
        after = predict(model, scale(base, factor))
        row: dict[str, Any] = {"flux x": factor}
        row["median change"] = float(np.median(after.redshift - before.redshift))
        if after.shape is not None:
            change = after.shape - before.shape
            row["median change, shape"] = float(np.median(change))
            row["median size of change, shape"] = float(np.median(np.abs(change)))
        rows.append(row)
    return rows


def judge_others(
    model: Any, base: FluxVectors, n: int, seed: int, real: list[Path]
) -> list[dict[str, Any]]:
    """How many sources that are no galaxies pass."""
    faint = np.random.default_rng(seed).uniform(np.log(FAINT[0]), np.log(FAINT[1]), n)
    samples: dict[str, Any] = {
        "star": simulate_spectra(n, kind="star", seed=seed),
        "faint star": simulate_spectra(n, kind="star", seed=seed + 1, brightness=np.exp(faint)),
    }
    for kind in ("double_star", "smeared_star", "star_galaxy", "quasar"):
        samples[kind] = simulate_spectra(n, kind=kind, seed=seed)
    for path in real:
        samples[f"real: {path.name}"] = read_spectra(path)
    rows = []
    for name, vectors in {"galaxy": base, **samples}.items():
        v = vectors if isinstance(vectors, FluxVectors) else sample_spectra(vectors)
        found = predict(model, v)
        some = np.isfinite(found.redshift)
        kinds = int(QualityFlag.UNLIKE_TRAINING | QualityFlag.UNLIKELY_GALAXY)
        row: dict[str, Any] = {
            "source": name,
            "n": int(some.sum()),
            "called no galaxy": float(((found.flags & kinds) != 0)[some].mean()),
            "dropped": float(is_dropped(found)[some].mean()),
            "pass": float((~is_dropped(found))[some].mean()),
        }
        if found.probability_galaxy is not None:
            row["median p(galaxy)"] = float(np.median(found.probability_galaxy[some]))
        rows.append(row)
    return rows


def find_limit(some: dict[str, XPSpectra], templates: int, **options: Any) -> Any:
    """Return the posterior of spectra, one after another, under the simulator."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # research/ is not installed
    from research.benchmark.limit import estimate_limit

    bare = [dataclasses.replace(s, columns=s.columns[COMMON]) for s in some.values()]
    joined = XPSpectra.concatenate(bare)
    return estimate_limit(joined, n_templates=templates, seed=77, progress=True, **options)


def ask_limit(skies: dict[str, XPSpectra], n: int, templates: int) -> list[dict[str, Any]]:
    """Ask the best observer of the sky without changes, who knows the simulator itself.

    What is wrong of the posterior that the simulator gives, when it is given another sky, is wrong
    of any estimate that is near it on its own.
    """
    some = {name: spectra[:n] for name, spectra in skies.items()}
    found = find_limit(some, templates)
    lower, median, upper = find_quantiles(found.pdf, found.edges, [0.16, 0.5, 0.84]).T
    rows = []
    for i, (name, spectra) in enumerate(some.items()):
        here = slice(i * n, (i + 1) * n)
        true = np.asarray(spectra.columns["redshift_true"], float)
        rows.append(
            {
                "change": name,
                "bias": float((median[here] - true).mean()),
                "MAE": float(np.abs(median[here] - true).mean()),
                "68 % holds": float(((lower[here] <= true) & (true <= upper[here])).mean()),
                "templates": float(np.median(found.sample_size[here])),
            }
        )
    return rows


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=2000)
    parser.add_argument("--others", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=4001)
    parser.add_argument("--model", nargs="+", default=["default"], help="names or folders")
    parser.add_argument("--real", type=Path, nargs="+", default=[], help="real other sources")
    parser.add_argument("--limit", type=int, default=0, help="galaxies a row for the best observer")
    parser.add_argument("--templates", type=int, default=200_000, help="that observer's templates")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of all numbers")
    args = parser.parse_args()
    skies = make_skies(args.galaxies, args.seed)
    rows = {name: sample_spectra(spectra) for name, spectra in skies.items()}
    rows |= change_vectors(skies["none"], args.seed)
    base = rows["none"]
    owners = change_owners(args.galaxies, args.seed + 2)
    result: dict[str, Any] = {}
    if args.limit:
        result["limit"] = ask_limit(skies, args.limit, args.templates)
        tell("posterior under the simulator: one thing changed unknown to it", result["limit"])
        result["limit_follows"] = follow_limit(owners, args.limit, args.templates)
        tell("posterior under the simulator: whose redshift", result["limit_follows"])
    for name in args.model:
        model = load_model(name)
        tables = result[model.name] = {}
        tables["shifts"] = [
            describe(change, predict(model, v), np.asarray(v.columns["redshift_true"], float))
            for change, v in rows.items()
        ]
        tell(f"{model.name}: simulated galaxies, one thing changed", tables["shifts"])
        tables["follows"] = follow_others(model, owners)
        tell(f"{model.name}: whose redshift", tables["follows"])
        tables["scaled"] = scale_one(model, base)
        tell(f"{model.name}: flux multiplied", tables["scaled"])
        tables["others"] = judge_others(model, base, args.others, args.seed + 3, args.real)
        tell(f"{model.name}: no galaxies", tables["others"])
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
