"""The model card: what a model is, what it was trained on, how good it is, and what is unknown."""

from __future__ import annotations

from typing import Any

__all__ = ["write_card"]

_CARD = """\
# {name} {version}

{warning}

## What it is
A convolutional neural network (`{network}`, {parameters:,} parameters) that maps a vector of
{n_flux} BP/RP fluxes (80 BP and 106 RP samples, e-/s per sample) to {output}.
{errors} Sampling grid: {grid}.
Predictions run its graph (`network.onnx`, float32) with ONNX Runtime; `weights.keras` is the same
network for Keras, the reference and the start of further training.

## Data
- {trained_on_sentence}
- {n_train:,} galaxies for training, {n_validation:,} for validation, {n_test:,} for the test;
  redshifts from {low:g} to {high:g}. {unusable}
- The scaler was fitted on the training part alone.{description}

## Training
{optimizer}, learning rate {learning_rate:g} ({schedule}); {loss}; batches of
{batch_size}; {epochs} epochs, {weights}; seed {seed}. {date}, gaia_redshift
{package_version}, Keras {keras}, TensorFlow {tensorflow}.{moved}{parent}
{command}
## Metrics on the test part ({n_measured:,} galaxies, not used in training{same})
{prior}dz = (z_predicted - z_true) / (1 + z_true).

| metric | value |
|---|---|
{metrics}

| true redshift | galaxies | mean error | scatter |
|---|---|---|---|
{bins}

Error is z_predicted - z_true, scatter its standard deviation.
{honesty}
## Intended use
Redshifts of unresolved galaxies with Gaia XP spectra on the grid above, z = {low:g} to {high:g}.
Not for stars or quasars: the network returns a redshift for whatever it is given.{unlike}

## Limits
- {real_limit}
- Predictions are drawn towards the redshifts that were frequent in training; see the mean error
  per bin.
- {interval}
- `REDSHIFT_OUT_OF_RANGE`: predicted redshift outside {low:g} to {high:g}. `FLUX_OUT_OF_RANGE`: a
  flux beyond the extremes of the training part by more than {flux_tolerance:g} of the distance
  between them, in its column; the network then extrapolates.

## Training it again
{retrain}
"""

_METRICS = {
    "mae": "MAE, mean of abs(z_predicted - z_true)",
    "bias": "bias, mean dz",
    "sigma_nmad": "sigma_NMAD, 1.4826 median of abs(dz - median dz)",
    "outliers_05": "fraction with abs(dz) > 0.05",
    "outliers_15": "fraction with abs(dz) > 0.15",
    "crps": "mean CRPS",
    "coverage_68": "true redshifts between the 16th and 84th percentile",
    "coverage_95": "true redshifts between the 2.5th and 97.5th percentile",
}


def write_card(manifest: dict[str, Any], n_parameters: int) -> str:
    """Fill in the card (Markdown) from a manifest's content."""
    training, metrics = manifest["training"], manifest["metrics"]
    config, data, packages = training["config"], training["data"], training["packages"]
    simulated = data["simulated"]
    command = training["command"]
    distribution = "bins" in manifest["files"] or "coverage_68" in metrics["test"]
    return _CARD.format(
        **{key: config[key] for key in ("learning_rate", "batch_size", "epochs", "schedule")},
        **_describe_method(config, distribution),
        **{key: manifest[key] for key in ("name", "version", "network", "n_flux")},
        flux_tolerance=manifest["flux_tolerance"],
        seed=config["seed"],
        parameters=n_parameters,
        low=manifest["redshift_range"][0],
        high=manifest["redshift_range"][1],
        errors=(
            "Flux errors are used where there are any; without them distributions are wider."
            if manifest["uses_errors"]
            else "Flux errors are not used."
        ),
        grid=_describe_grid(manifest["grid"]),
        warning=_WARNING[simulated],
        trained_on_sentence=_describe_data(data),
        unusable=(
            f"{data['n_unusable']:,} of {data['n_given']:,} spectra could not be sampled and were"
            " left out."
        ),
        parent=_describe_parent(training.get("parent"), config, data),
        description=f"\n- {config['description']}" if config["description"] else "",
        same=", simulated in the same way" if simulated else "",
        **{f"n_{part}": n for part, n in training["n_galaxies"].items()},
        date=training["date"][:10],
        package_version=packages["gaia_redshift"],
        keras=packages["keras"],
        tensorflow=packages["tensorflow"],
        command=f"\n```\n{command}\n```\n" if command else "",
        metrics="\n".join(
            f"| {text} | {metrics['test'][key]:.4f} |"
            for key, text in _METRICS.items()
            if key in metrics["test"]
        ),
        bins="\n".join(
            f"| {row['low']:.2f}-{row['high']:.2f} | {row['n']:,} | {row['mean_error']:+.4f}"
            f" | {row['scatter']:.4f} |"
            for row in metrics["test_bins"]
        ),
        n_measured=metrics["test"].get("n", training["n_galaxies"]["test"]),
        prior=_describe_prior(
            metrics, training["n_galaxies"]["test"], data.get("sky", "sdss") != "sdss"
        ),
        honesty=_tabulate_honesty(metrics["test"]) + _describe_passing(metrics.get("galaxies")),
        real_limit=_REAL_LIMIT[simulated],
        retrain=(f"```\n{command}\n```\n" if command else "")
        + "`gaia_redshift.train.train_model` with the configuration in `manifest.json`; with real"
        " spectra and redshifts,\n`gaia-redshift train FILE -o FOLDER`, where FILE holds XP"
        " spectra and a column `redshift_true`.",
    )


_WARNING = {
    True: (
        "**Trained on SIMULATED galaxies.** Its performance on real galaxies is unknown until it"
        " can be measured\non real spectra (Gaia DR4). The metrics below hold for simulated"
        " galaxies only."
    ),
    False: "**Trained on galaxies that its maker supplied**; the metrics below hold for such ones.",
}
_REAL_LIMIT = {
    True: (
        "Real galaxies differ from simulated ones in ways that cannot be tested without real"
        " spectra:\n  the error on them may be larger and biased."
    ),
    False: "Galaxies unlike those of its training may have larger and biased errors.",
}


def _describe_method(config: dict[str, Any], distribution: bool) -> dict[str, str]:
    average = config.get("weight_average", 0.0)
    jitter = float(config.get("grid_jitter", 0.0))
    common = {
        "optimizer": {"adamax": "Adamax", "adamw": "AdamW"}[config.get("optimizer", "adamax")],
        "weights": f"weights averaged with factor {average:g}"
        if average
        else "weights of the last",
        "moved": (
            f"\n{100 * jitter:g} % of the training galaxies were sampled on grids with moved end"
            " points."
            if jitter
            else ""
        ),
    }
    if not distribution:
        return common | {
            "output": "a redshift. Fluxes are min-max scaled per column",
            "loss": f"Huber loss, delta {config['huber_delta']:g}",
            "interval": "There is no interval with the redshift.",
            "unlike": "",
        }
    return common | {
        "output": (
            f"a redshift distribution over {config['bins']} bins and a probability of being a"
            " galaxy"
        ),
        "loss": (
            f"cross-entropy; the errors of {100 * config['error_dropout']:g} % of the spectra were"
            " hidden"
        ),
        "interval": (
            "The distributions hold for galaxies of the prior's redshifts. The prior is chosen at"
            "\n  prediction."
        ),
        "unlike": (
            "\n`UNLIKE_TRAINING` marks what differs from the training galaxies; 1 % of held-out"
            " galaxies are\nmarked as well."
        ),
    }


def _describe_prior(metrics: dict[str, Any], n_test: int, sky: bool) -> str:
    name = metrics.get("prior")
    if name is None or name == "training":
        return ""
    if sky:
        return (
            f"With the prior `{name}`, p(z | RP flux), on freshly simulated galaxies as SDSS's.\n"
        )
    return (
        f"With the prior `{name}`, for those of the {n_test:,} that were drawn to follow its"
        " redshifts.\n"
    )


def _describe_parent(
    parent: dict[str, str] | None, config: dict[str, Any], data: dict[str, Any]
) -> str:
    text = ""
    if parent is not None:
        kept = ", ".join(config.get("freeze", ())) or "none"
        text = (
            f"\nStarted from {parent['name']} {parent['version']} (sha256 of its weights"
            f" {parent['sha256'][:12]}...), whose scaler and bins were kept; frozen layers: {kept}."
        )
    if "mixed_with" in data:
        text += (
            f"\nThe training part holds {data['mixed_with']['n']:,} simulated galaxies beside the"
            f" given ones, each of which an epoch shows {config['repeat']} times."
        )
    return text


def _tabulate_honesty(test: dict[str, Any]) -> str:
    """Write coverage by predicted redshift and by brightness, and the PIT."""
    if "by_prediction" not in test:
        return ""
    parts = []
    for key, words, form in (
        ("by_prediction", "predicted redshift", "{:.2f}-{:.2f}"),
        ("by_brightness", "mean flux (e-/s per sample)", "{:.3g} to {:.3g}"),
    ):
        parts.append(
            f"\n| {words} | galaxies | mean error | MAE | within 68 % | within 95 % |\n"
            "|---|---|---|---|---|---|"
        )
        parts += [
            f"| {form.format(row['low'], row['high'])} | {row['n']:,} | {row['mean_error']:+.4f}"
            f" | {row['mae']:.4f} | {row['coverage_68']:.3f} | {row['coverage_95']:.3f} |"
            for row in test[key]
        ]
    tenths = ", ".join(f"{value:.2f}" for value in test["pit"])
    parts.append(
        f"\nThe probability integral transform's histogram in tenths, 1 where flat: {tenths}.\n"
    )
    return "\n".join(parts)


def _describe_passing(found: dict[str, Any] | None) -> str:
    """Say how well galaxies are told from other sources."""
    if found is None:
        return ""
    return (
        "\n`probability_galaxy`: at the threshold of `UNLIKELY_GALAXY`"
        f" {100 * found['kept']:.1f} % of"
        f" {found['n']:,} galaxies pass, and {100 * found['others_kept']:.1f} % of\n"
        f"{found['n_others']:,} other sources, a fifth of them stars smeared like galaxies.\n"
    )


def _describe_data(data: dict[str, Any]) -> str:
    if data["kind"] == "simulated":
        text = (
            f"{data['n']:,} galaxies simulated by `gaia_redshift.simulate` (survey"
            f" `{data['survey']}`, sky `{data.get('sky', 'sdss')}`, seed {data['seed']}); none is"
            " real."
        )
        if data.get("sky", "sdss") != "sdss":
            text += (
                " Their\n  brightness says nothing of the redshift: what it says is left to the"
                " prior."
            )
        if data.get("contaminants"):
            text += (
                f"\n- {round(data['n'] * data['contaminants']):,} simulated stars, quasars, double"
                " stars, stars beside galaxies and stars smeared\n  like galaxies, of which the"
                " network learned to tell galaxies."
            )
        return text
    names = [str(part.get("file") or part.get("table")) for part in data.get("parts", [])]
    named = f" from {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
    what = "simulated galaxies (none is real)" if data["simulated"] else "galaxies"
    return f"{data['n_given']:,} {what}{named}."


def _describe_grid(grid: dict[str, list[float]]) -> str:
    return ", ".join(
        f"{band.upper()} {nm[0]:g}-{nm[-1]:g} nm"
        + (" (uniform in pseudo-wavelength)" if len(nm) == 2 else f" ({len(nm)} wavelengths)")
        for band, nm in grid.items()
    )
