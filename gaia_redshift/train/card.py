"""The model card: what a model is, what it was trained on, how good it is, and what is unknown."""

from __future__ import annotations

from typing import Any

__all__ = ["write_card"]

_CARD = """\
# {name} {version}

{warning}

## What it is
A convolutional neural network (`{network}`, {parameters:,} parameters) that maps a vector of
{n_flux} BP/RP fluxes (80 BP and 106 RP samples, e-/s, min-max scaled per column) to a redshift.
Flux errors are {errors}. Sampling grid: {grid}.

## Data
- {trained_on_sentence}
- {n_train:,} galaxies for training, {n_validation:,} for validation, {n_test:,} for the test;
  redshifts from {low:g} to {high:g}. {unusable}
- The scaler was fitted on the training part alone.{description}

## Training
Adamax, learning rate {learning_rate:g}; Huber loss, delta {huber_delta:g}; batches of
{batch_size}; {epochs} epochs, weights after the last; seed {seed}. {date}, gaia_redshift
{package_version}, Keras {keras}, TensorFlow {tensorflow}.
{command}
## Metrics on the test part ({n_test:,} galaxies, not used in training{same})
dz = (z_predicted - z_true) / (1 + z_true).

| metric | value |
|---|---|
{metrics}

| true redshift | galaxies | mean error | scatter |
|---|---|---|---|
{bins}

Error is z_predicted - z_true, scatter its standard deviation.

## Intended use
Redshifts of unresolved galaxies with Gaia XP spectra on the grid above, z = {low:g} to {high:g}.
Not for stars or quasars: the network returns a redshift for whatever it is given.

## Limits
- {real_limit}
- Predictions are drawn towards the redshifts that were frequent in training; see the mean error
  per bin.
- There is no interval with the redshift.
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
}


def write_card(manifest: dict[str, Any], n_parameters: int) -> str:
    """Fill in the card (Markdown) from a manifest's content."""
    training, metrics = manifest["training"], manifest["metrics"]
    config, data, packages = training["config"], training["data"], training["packages"]
    simulated = data["simulated"]
    command = training["command"]
    return _CARD.format(
        **{key: config[key] for key in ("learning_rate", "huber_delta", "batch_size", "epochs")},
        **{key: manifest[key] for key in ("name", "version", "network", "n_flux")},
        flux_tolerance=manifest["flux_tolerance"],
        seed=config["seed"],
        parameters=n_parameters,
        low=manifest["redshift_range"][0],
        high=manifest["redshift_range"][1],
        errors="used" if manifest["uses_errors"] else "not used",
        grid=_describe_grid(manifest["grid"]),
        warning=_WARNING[simulated],
        trained_on_sentence=_describe_data(data),
        unusable=(
            f"{data['n_unusable']:,} of {data['n_given']:,} spectra could not be sampled and were"
            " left out."
        ),
        description=f"\n- {config['description']}" if config["description"] else "",
        same=", simulated in the same way" if simulated else "",
        **{f"n_{part}": n for part, n in training["n_galaxies"].items()},
        date=training["date"][:10],
        package_version=packages["gaia_redshift"],
        keras=packages["keras"],
        tensorflow=packages["tensorflow"],
        command=f"\n```\n{command}\n```\n" if command else "",
        metrics="\n".join(
            f"| {text} | {metrics['test'][key]:.4f} |" for key, text in _METRICS.items()
        ),
        bins="\n".join(
            f"| {row['low']:.2f}-{row['high']:.2f} | {row['n']:,} | {row['mean_error']:+.4f}"
            f" | {row['scatter']:.4f} |"
            for row in metrics["test_bins"]
        ),
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


def _describe_data(data: dict[str, Any]) -> str:
    if data["kind"] == "simulated":
        return (
            f"{data['n']:,} galaxies simulated by `gaia_redshift.simulate` (survey"
            f" `{data['survey']}`, seed {data['seed']}); none is real."
        )
    names = [str(part.get("file") or part.get("table")) for part in data.get("parts", [])]
    named = f" from {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
    kind = "simulated galaxies (none is real)" if data["simulated"] else "galaxies"
    return f"{data['n_given']:,} {kind}{named}."


def _describe_grid(grid: dict[str, list[float]]) -> str:
    return ", ".join(
        f"{band.upper()} {nm[0]:g}-{nm[-1]:g} nm"
        + (" (uniform in pseudo-wavelength)" if len(nm) == 2 else f" ({len(nm)} wavelengths)")
        for band, nm in grid.items()
    )
