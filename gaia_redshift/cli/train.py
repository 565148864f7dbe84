"""The command ``train``: its options, and the call of `train_model` or `search_networks`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift.cli.options import Command, add, add_option, take
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from gaia_redshift.train import TrainingConfig

__all__ = ["TRAIN"]


def _declare_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="training set of 'gaia-redshift dataset', or spectra with a column redshift_true"
        " (else: --simulate)",
    )
    add_option(parser, "--simulate N", "train on N galaxies simulated for it", type=int)
    add_option(
        parser,
        "--survey",
        "redshifts of simulated galaxies: as SDSS's (the default), flat, or both mixed",
        choices=["sdss", "flat", "mixed"],
        default="sdss",
    )
    add_option(
        parser,
        "--sky",
        "population of simulated galaxies: as SDSS targets (the default); wide, in which"
        " brightness and size say nothing of the redshift; mixed: wide, and SDSS's but for their"
        " brightness, undisturbed and disturbed, in three parts",
        choices=["sdss", "wide", "mixed"],
        default="sdss",
    )
    add_option(
        parser,
        "--contaminants SHARE",
        "stars, quasars, doubles ... simulated beside each galaxy, to learn what is none (0)",
        type=float,
        default=0.0,
    )
    add(parser, "--truth", help="column of DATA with true redshifts (redshift_true)")
    add_option(parser, "--config FILE", "options of the training, TOML or JSON")
    add(parser, "--seed", help="random seed (1)")
    add_option(parser, "--network NAME", "kiraleos2023 (the default) or residual")
    add_option(
        parser, "--epochs N", "passes through the data (20; residual: 8; --from: 20)", type=int
    )
    add_option(parser, "--batch-size N", "spectra per step (16; residual: 256)", type=int)
    add_option(
        parser,
        "--learning-rate RATE",
        "of the optimiser, at its highest (0.001; residual: 0.002; --from: 0.0003)",
        type=float,
    )
    add_option(
        parser,
        "--grid-jitter SHARE",
        "share of the galaxies to train on as sampled on moved grids, so that vectors sampled"
        " by others work (1 where no share is given)",
        type=float,
        nargs="?",
        const=1.0,
    )
    add_option(
        parser,
        "--from MODEL",
        "start from this model, by name or folder (fine-tuning)",
        dest="start",
    )
    add_option(
        parser,
        "--freeze LAYER",
        "layers of that model that stay as they are, by names or their beginnings:"
        " convolution, dense_1, ...",
        nargs="+",
    )
    add_option(
        parser,
        "--mix N",
        "simulated galaxies to put into the training part beside the given ones (none)",
        type=int,
    )
    add_option(
        parser,
        "--patience N",
        "stop after N epochs without a smaller validation loss and keep the best weights"
        " (never; --from: 4)",
        type=int,
    )
    add_option(
        parser,
        "--search TRIALS",
        "instead, try this number of configurations of the network; -o is the search's folder",
        type=int,
    )
    add_option(parser, "--name NAME", "name of the model (default: that of the folder)")
    add_option(parser, "--model-version X.Y", "version of the model (1.0)", dest="version")
    add(parser, "--output", metavar="DIR", required=True, help="the model's folder")
    add(parser, "--resume")
    add_option(parser, "--run-dir DIR", "folder of the checkpoints (default: beside the model's)")


def _run_train(arguments: argparse.Namespace) -> int:
    """Train, or search; print some lines on the result and return the exit code."""
    if (arguments.data is None) == (arguments.simulate is None):
        raise InputError("give either a file of spectra with true redshifts or --simulate N")
    from gaia_redshift.train import SimulatedGalaxies, train_model

    config = _make_config(arguments)
    source: Any = arguments.data
    if arguments.simulate is not None:
        source = SimulatedGalaxies(
            arguments.simulate, arguments.survey, config.seed, arguments.sky, arguments.contaminants
        )
    if arguments.search is not None:
        print(_search(source, arguments, config))
        return 0
    folder = train_model(
        source,
        output=arguments.output,
        config=config,
        start=arguments.start,
        run_dir=arguments.run_dir,
        truth=arguments.truth or "redshift_true",
        resume=arguments.resume,
        progress=not arguments.quiet,
        command=_write_command(arguments, config),
    )
    print(_summarise(folder))
    return 0


def _search(source: Any, arguments: argparse.Namespace, config: TrainingConfig) -> str:
    from gaia_redshift.train import search_networks

    if arguments.start is not None:
        raise InputError("--search tries networks from the beginning: it does not go with --from")
    if arguments.truth is not None:
        raise InputError("--truth does not go with --search: make a training set first (dataset)")
    folder = Path(arguments.output)
    search_networks(
        source,
        output=folder,
        trials=arguments.search,
        config=config,
        resume=arguments.resume,
        progress=not arguments.quiet,
    )
    return (
        f"{(folder / 'trials.md').read_text()}\nbest configuration: {folder / 'best.json'}"
        " (gaia-redshift train --config)"
    )


def _make_config(arguments: argparse.Namespace) -> TrainingConfig:
    """The network's recipe, over it the configuration file, over it the options given."""
    from gaia_redshift.datasets.file import is_dataset
    from gaia_redshift.train import TrainingConfig, make_fine_tuning_config
    from gaia_redshift.train.config import read_config
    from gaia_redshift.train.networks import get_recipe

    stored = read_config(arguments.config) if arguments.config else {}
    given = take(arguments, "network epochs batch_size learning_rate seed grid_jitter patience")
    given |= take(arguments, "freeze mix version")
    given = {key: value for key, value in given.items() if value is not None}
    given["name"] = arguments.name or Path(arguments.output).name
    if arguments.start is not None:
        return make_fine_tuning_config(arguments.start, **(stored | given))
    recipe = get_recipe(given.get("network", stored.get("network", "kiraleos2023")))
    if is_dataset(arguments.data):
        recipe["grid_jitter"] = 0.0  # vectors cannot be sampled again
    return TrainingConfig.from_dict(recipe | stored | given)


def _write_command(arguments: argparse.Namespace, config: TrainingConfig) -> str:
    """The command in full, paths without their folders, so that it can be repeated anywhere."""
    words = ["gaia-redshift", "train"]
    if arguments.simulate is not None:
        words += ["--simulate", str(arguments.simulate), "--survey", arguments.survey]
        words += ["--sky", arguments.sky, "--contaminants", f"{arguments.contaminants:g}"]
    else:
        words.append(Path(arguments.data).name)
    if arguments.truth is not None:
        words += ["--truth", arguments.truth]
    words += ["--seed", str(config.seed), "--network", config.network]
    words += ["--epochs", str(config.epochs), "--batch-size", str(config.batch_size)]
    if arguments.config:
        words += ["--config", Path(arguments.config).name]
    if arguments.learning_rate is not None:
        words += ["--learning-rate", f"{config.learning_rate:g}"]
    words += ["--grid-jitter", f"{config.grid_jitter:g}"]
    if arguments.start is not None:
        start = Path(arguments.start)
        words += ["--from", start.name if start.is_dir() else arguments.start]
        words += ["--mix", str(config.mix)]
    if config.freeze:
        words += ["--freeze", *config.freeze]
    if config.patience:
        words += ["--patience", str(config.patience)]
    if arguments.version:
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


TRAIN = Command(
    "train",
    "train a model",
    _declare_train,
    _run_train,
    """\
examples:
  gaia-redshift train --simulate 400000 --survey mixed --sky mixed --contaminants 0.4 \\
      --network residual -o models/mine
  gaia-redshift train --simulate 300000 --network kiraleos2023 --seed 1 -o models/mine
  gaia-redshift train galaxies.parquet --epochs 20 --batch-size 16 -o models/mine
  gaia-redshift train real.parquet --from default -o models/tuned
  gaia-redshift train galaxies.parquet --config mine.toml -o models/mine --resume
  gaia-redshift train --simulate 40000 --network residual --epochs 3 --search 14 -o search
  gaia-redshift predict XP_CONTINUOUS_RAW.csv --model models/mine

A configuration is a TOML or JSON table of options (network, epochs, batch_size, learning_rate,
...: see the documentation of TrainingConfig), or a model's manifest.json; options given here come
first. A training set made by "gaia-redshift dataset" brings its own split. With --from a training
starts from a model (fine-tuning): a few thousand real galaxies will do then. --search writes a
table of the configurations that it tried and the best as a file for --config. An interrupted
training or search goes on with --resume.""",
)
