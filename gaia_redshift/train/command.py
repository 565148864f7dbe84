"""The command ``gaia-redshift train``: its arguments turned into a call of `train_model`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from gaia_redshift.errors import InputError
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.fit import train_model
from gaia_redshift.train.sources import SimulatedGalaxies

__all__ = ["run_training"]


def run_training(arguments: Any, *, progress: bool = True) -> str:
    """Train as the parsed command line says.

    Parameters
    ----------
    arguments : argparse.Namespace
        With ``data`` or ``simulate`` (and ``survey``), ``seed``, ``network``, ``epochs``,
        ``batch_size``, ``grid_jitter``, ``name``, ``output``, ``resume`` and, optionally,
        ``run_dir``.
    progress : bool
        Show progress bars.

    Returns
    -------
    str
        Some lines on the result, to be printed.
    """
    if (arguments.data is None) == (arguments.simulate is None):
        raise InputError("give either a file of spectra with true redshifts or --simulate N")
    source: Any = arguments.data
    if arguments.simulate is not None:
        source = SimulatedGalaxies(arguments.simulate, arguments.survey, arguments.seed)
    options = {
        key: getattr(arguments, key)
        for key in ("network", "epochs", "batch_size", "seed", "grid_jitter")
        if getattr(arguments, key, None) is not None
    }
    config = TrainingConfig(name=arguments.name or Path(arguments.output).name, **options)
    folder = train_model(
        source,
        output=arguments.output,
        config=config,
        run_dir=getattr(arguments, "run_dir", None),
        resume=arguments.resume,
        progress=progress,
        command=_write_command(arguments, config),
    )
    return _summarise(folder)


def _write_command(arguments: Any, config: TrainingConfig) -> str:
    """The command in full, paths without their folders, so that it can be repeated anywhere."""
    words = ["gaia-redshift", "train"]
    if arguments.simulate is not None:
        words += ["--simulate", str(arguments.simulate), "--survey", str(arguments.survey)]
    else:
        words.append(Path(arguments.data).name)
    words += ["--seed", str(config.seed), "--network", config.network]
    words += ["--epochs", str(config.epochs), "--batch-size", str(config.batch_size)]
    if config.grid_jitter:
        words.append("--grid-jitter")
    words += ["--name", config.name, "-o", Path(arguments.output).name]
    return shlex.join(words)


def _summarise(folder: Path) -> str:
    from gaia_redshift.model.registry import load_model

    model = load_model(folder)
    test = model.manifest["metrics"]["test"]
    return (
        f"{model.name} {model.version}, trained on {model.manifest['trained_on']}: {folder}\n"
        f"test part ({test['n']:,} galaxies): MAE {test['mae']:.4f}, bias {test['bias']:+.4f},"
        f" sigma_NMAD {test['sigma_nmad']:.4f}, |dz| > 0.05 {100 * test['outliers_05']:.1f} %"
    )
