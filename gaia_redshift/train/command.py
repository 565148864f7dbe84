"""The command ``gaia-redshift train``: its arguments turned into a call of `train_model`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from gaia_redshift.datasets.file import is_dataset
from gaia_redshift.errors import InputError
from gaia_redshift.simulate.generate import SimulatedGalaxies
from gaia_redshift.train.config import TrainingConfig, get_recipe, read_config
from gaia_redshift.train.fine_tuning import make_fine_tuning_config
from gaia_redshift.train.fit import train_model

__all__ = ["run_training"]

_OPTIONS = (
    "network",
    "epochs",
    "batch_size",
    "learning_rate",
    "seed",
    "grid_jitter",
    "patience",
    "freeze",
    "mix",
    "version",
)
"""Options of a training that have one of the command."""


def run_training(arguments: Any, *, progress: bool = True) -> str:
    """Train as the parsed command line says; return some lines on the result, to be printed."""
    if (arguments.data is None) == (arguments.simulate is None):
        raise InputError("give either a file of spectra with true redshifts or --simulate N")
    config = _make_config(arguments)
    source: Any = arguments.data
    start = getattr(arguments, "start", None)
    if arguments.simulate is not None:
        source = SimulatedGalaxies(
            arguments.simulate,
            arguments.survey,
            config.seed,
            arguments.sky,
            arguments.contaminants,
        )
    if getattr(arguments, "search", None) is not None:
        return _search(source, arguments, config, progress)
    folder = train_model(
        source,
        output=arguments.output,
        config=config,
        start=start,
        run_dir=getattr(arguments, "run_dir", None),
        truth=getattr(arguments, "truth", None) or "redshift_true",
        resume=arguments.resume,
        progress=progress,
        command=_write_command(arguments, config),
    )
    return _summarise(folder)


def _search(source: Any, arguments: Any, config: TrainingConfig, progress: bool) -> str:
    from gaia_redshift.train.search import search_networks

    if getattr(arguments, "start", None) is not None:
        raise InputError("--search tries networks from the beginning: it does not go with --from")
    if getattr(arguments, "truth", None) is not None:
        raise InputError("--truth does not go with --search: make a training set first (dataset)")
    folder = Path(arguments.output)
    search_networks(
        source,
        output=folder,
        trials=arguments.search,
        config=config,
        resume=arguments.resume,
        progress=progress,
    )
    return (
        f"{(folder / 'trials.md').read_text()}\nbest configuration: {folder / 'best.json'}"
        " (gaia-redshift train --config)"
    )


def _make_config(arguments: Any) -> TrainingConfig:
    """The network's recipe, over it the configuration file, over it the options given."""
    path = getattr(arguments, "config", None)
    stored = read_config(path) if path else {}
    given = {
        key: getattr(arguments, key)
        for key in _OPTIONS
        if getattr(arguments, key, None) is not None
    }
    name = arguments.name or Path(arguments.output).name
    start = getattr(arguments, "start", None)
    if start is not None:
        return make_fine_tuning_config(start, **(stored | given | {"name": name}))
    network = given.get("network", stored.get("network", "kiraleos2023"))
    recipe = get_recipe(network)
    if is_dataset(arguments.data):
        recipe["grid_jitter"] = 0.0  # vectors cannot be sampled again
    return TrainingConfig.from_dict(recipe | stored | given | {"name": name})


def _write_command(arguments: Any, config: TrainingConfig) -> str:
    """The command in full, paths without their folders, so that it can be repeated anywhere."""
    words = ["gaia-redshift", "train"]
    if arguments.simulate is not None:
        words += ["--simulate", str(arguments.simulate), "--survey", str(arguments.survey)]
        words += ["--sky", arguments.sky, "--contaminants", f"{arguments.contaminants:g}"]
    else:
        words.append(Path(arguments.data).name)
    if getattr(arguments, "truth", None) is not None:
        words += ["--truth", arguments.truth]
    words += ["--seed", str(config.seed), "--network", config.network]
    words += ["--epochs", str(config.epochs), "--batch-size", str(config.batch_size)]
    if getattr(arguments, "config", None):
        words += ["--config", Path(arguments.config).name]
    if getattr(arguments, "learning_rate", None) is not None:
        words += ["--learning-rate", f"{config.learning_rate:g}"]
    words += ["--grid-jitter", f"{config.grid_jitter:g}"]
    if getattr(arguments, "start", None) is not None:
        start = Path(arguments.start)
        words += ["--from", start.name if start.is_dir() else str(arguments.start)]
        words += ["--mix", str(config.mix)]
    if config.freeze:
        words += ["--freeze", *config.freeze]
    if config.patience:
        words += ["--patience", str(config.patience)]
    if getattr(arguments, "version", None):
        words += ["--model-version", config.version]
    words += ["--name", config.name, "-o", Path(arguments.output).name]
    return shlex.join(words)


def _summarise(folder: Path) -> str:
    from gaia_redshift.model.registry import load_model

    model = load_model(folder.resolve())  # never the bundled model of that name
    metrics, training = model.manifest["metrics"], model.manifest["training"]
    lines = [f"{model.name} {model.version}, trained on {model.manifest['trained_on']}: {folder}"]
    drawn = metrics["test"]
    if "prior" in metrics:
        lines.append(
            f"{drawn['n']:,} galaxies of the test part that follow the prior {metrics['prior']}:"
            f" {_tell(drawn)}, {100 * drawn['coverage_68']:.0f} % within their 68 % interval"
        )
    whole = metrics.get("test_all", drawn)
    lines.append(f"test part ({whole['n']:,} galaxies): {_tell(whole)}")
    if "test_all_parent" in metrics:
        lines.append(
            f"its parent {training['parent']['name']}: {_tell(metrics['test_all_parent'])}"
        )
    return "\n".join(lines)


def _tell(metrics: dict[str, Any]) -> str:
    return (
        f"MAE {metrics['mae']:.4f}, bias {metrics['bias']:+.4f}, sigma_NMAD"
        f" {metrics['sigma_nmad']:.4f}, |dz| > 0.05 {100 * metrics['outliers_05']:.1f} %"
    )
