"""Search for a network's layout and training: `search_networks`.

The vectors are prepared once, for all trials. Each trial trains on the training part and is judged
by its smallest validation loss; the test part is not touched. Optuna's sampler (a tree-structured
Parzen estimator, Bergstra et al. 2011) chooses the next trial from those before.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.datasets.file import is_dataset
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid
from gaia_redshift.model.keras_engine import import_keras_for_training
from gaia_redshift.readers.sources import as_json, find_changes, read_request, write_request
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet, prepare_dataset
from gaia_redshift.train.fit import fit_network, read_checkpoint
from gaia_redshift.train.networks import freeze_layers, get_network, get_recipe
from gaia_redshift.train.sources import collect_vectors, find_grid, open_source

__all__ = ["SEARCH_SPACE", "search_networks"]

logger = logging.getLogger(__name__)

SEARCH_SPACE: dict[str, tuple[Any, ...]] = {
    "filters": (8, 16, 32, 64),
    "kernel": (5, 9, 13),
    "stride": (2, 3, 5),
    "units": (128, 256, 384, 512),
    "blocks": (1, 2, 3, 4),
    "dropout": (0.0, 0.1, 0.2, 0.3),
    "batch_size": (128, 256, 512),
    "learning_rate": (5e-4, 1e-3, 2e-3, 4e-3),
    "weight_decay": (1e-5, 1e-4, 1e-3, 1e-2),
}
"""Values that are tried, of the network's options and of `TrainingConfig`'s."""

_RANDOM_TRIALS = 6
"""Before the sampler goes by what it has seen."""
_JOURNAL, _STATE = "study.log", "search.json"
_RESULTS = ("validation_loss", "validation_mae", "parameters", "seconds")


@preserve_settings()
def search_networks(
    source: Any,
    *,
    output: str | os.PathLike[str],
    trials: int,
    config: TrainingConfig | None = None,
    space: Mapping[str, tuple[Any, ...]] = SEARCH_SPACE,
    truth: str = "redshift_true",
    grid: SamplingGrid = DEFAULT_GRID,
    resume: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Try configurations of a network, and write a table of them.

    The same source, configuration, space and machine give the same trials, also when the search
    was interrupted and resumed. The first trial is ``config`` itself.

    Parameters
    ----------
    source : path, table, XPSpectra, SimulatedGalaxies, GalaxyDataset, or (FluxVectors, redshifts)
        As for `train_model`.
    output : path
        Folder of the search: the study (Optuna's journal, a text file), ``trials.csv``,
        ``trials.md``, and ``best.json``, a configuration for ``gaia-redshift train --config``.
    trials : int
        How many configurations, those of a resumed search included.
    config : TrainingConfig, optional
        What is common to all trials; by default the recipe of the network ``"residual"``.
    space : mapping of str to tuple
        Values to choose from, by the name of an option of the network or of `TrainingConfig`.
    truth, grid
        As for `train_model`.
    resume : bool
        Go on with the search in ``output``, if there is one.
    progress : bool
        Show progress bars.

    Returns
    -------
    list of dict
        A record per trial, the best first: ``trial``, the values chosen, ``validation_loss``,
        ``validation_mae``, ``parameters``, ``seconds``.

    Raises
    ------
    InputError
        If the source, configuration or space cannot be used, or a search is already there.
    ModelError
        If what it needs (the extras ``search`` and ``train``) is not installed.
    """
    if config is None:
        recipe = get_recipe("residual")
        if find_grid(source) is not None or is_dataset(source):
            recipe["grid_jitter"] = 0.0  # vectors cannot be sampled again
        config = TrainingConfig.from_dict(recipe)
    _check_space(space, config)
    if trials < 1:
        raise InputError(f"a search needs at least one trial, not {trials}")
    optuna = _import_optuna()
    import_keras_for_training()
    folder = Path(output)
    study = _open_study(optuna, folder, config, space, resume)
    source = open_source(source, config.redshift_range)
    design = get_network(config.network)
    vectors = collect_vectors(
        source,
        folder,
        truth=truth,
        grid=find_grid(source) or grid,
        jitter_seed=config.seed if config.grid_jitter else None,
        errors=design.uses_errors,
        progress=progress,
    )
    dataset = prepare_dataset(vectors, config, design.scaler)
    complete = optuna.trial.TrialState.COMPLETE
    while (done := len(study.get_trials(deepcopy=False, states=(complete,)))) < trials:
        # Seeded by its number, so that a resumed search goes on as it would have.
        study.sampler = optuna.samplers.TPESampler(
            seed=config.seed + done, n_startup_trials=_RANDOM_TRIALS
        )
        if done == 0:
            study.enqueue_trial(_describe_start(space, config))
        trial = study.ask()
        chosen = {
            name: trial.suggest_categorical(name, list(values)) for name, values in space.items()
        }
        tried = _apply(config, chosen)
        words = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
        logger.info("trial %d of %d: %s", done + 1, trials, words)
        record = _try(dataset, tried, folder / f"trial_{done:03d}", progress)
        for name in _RESULTS:
            trial.set_user_attr(name, record[name])
        trial.set_user_attr("number", done + 1)
        study.tell(trial, record["validation_loss"])
        _write_tables(folder, _list_records(study, complete), config, dataset)
    records = _list_records(study, complete)
    _write_tables(folder, records, config, dataset)
    return records


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ModelError("a search needs optuna: pip install 'gaia-redshift[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _check_space(space: Mapping[str, tuple[Any, ...]], config: TrainingConfig) -> None:
    if not space:
        raise InputError("the search space is empty")
    fixed = {"name", "version", "network", "network_options", "split", "seed", "grid_jitter"}
    fixed |= {"bins", "redshift_range", "flux_tolerance", "description", "freeze", "mix", "repeat"}
    free = {field.name for field in dataclasses.fields(config)} - fixed
    options = get_network(config.network).options
    for name, values in space.items():
        if name not in free and name not in options:
            known = ", ".join([*options, *sorted(free)])
            raise InputError(f"{name!r} cannot be searched over; what can: {known}")
        if not values:
            raise InputError(f"no values of {name!r} are given")
        for value in values:
            tried = _apply(config, {name: value})
            get_network(config.network).check_options(tried.network_options)


def _apply(config: TrainingConfig, chosen: Mapping[str, Any]) -> TrainingConfig:
    options = get_network(config.network).options
    own = {name: value for name, value in chosen.items() if name in options}
    others = {name: value for name, value in chosen.items() if name not in options}
    return TrainingConfig.from_dict(
        config.to_dict() | others | {"network_options": config.network_options | own}
    )


def _describe_start(space: Mapping[str, tuple[Any, ...]], config: TrainingConfig) -> dict[str, Any]:
    """The configuration's own values, where they are among those to choose from."""
    own = get_network(config.network).defaults | config.network_options
    start = {name: own.get(name, getattr(config, name, None)) for name in space}
    return {name: value for name, value in start.items() if value in space[name]}


def _open_study(
    optuna: Any,
    folder: Path,
    config: TrainingConfig,
    space: Mapping[str, tuple[Any, ...]],
    resume: bool,
) -> Any:
    state = {"config": config.to_dict(), "space": {k: list(v) for k, v in space.items()}}
    path = folder / _STATE
    before = read_request(path)
    if before is not None:
        if not resume:
            raise InputError(f"{folder} holds a search: resume it (--resume) or choose another")
        if not before:
            raise InputError(f"{path}: damaged; delete the folder")
        if find_changes(before, as_json(state)):
            raise InputError(f"{folder}: this search was begun with another configuration or space")
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no search; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_request(path, state)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / _JOURNAL))
    )
    study = optuna.create_study(
        storage=storage, study_name="search", direction="minimize", load_if_exists=True
    )
    # What was under way when the search was interrupted is done again, under a new number.
    states = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
    for trial in study.get_trials(deepcopy=False, states=(states.WAITING,)):
        study.ask()
        study.tell(trial.number, state=states.FAIL)
    return study


def _try(
    dataset: TrainingSet, config: TrainingConfig, folder: Path, progress: bool
) -> dict[str, float]:
    """Train one configuration; an interrupted one goes on from its last epoch."""
    design = get_network(config.network)
    design.check_options(config.network_options)
    folder.mkdir(exist_ok=True)
    start = time.perf_counter()
    network = design.build(config.seed, config.bins, **config.network_options)
    freeze_layers(network, config.freeze)
    history = fit_network(
        network,
        dataset,
        config,
        design.make_objective(config, bool(len(dataset.others["train"]))),
        folder=folder,
        found=read_checkpoint(folder),
        progress=progress,
    )
    shutil.rmtree(folder)
    best = min(history, key=lambda record: record["validation_loss"])
    return {
        "validation_loss": best["validation_loss"],
        "validation_mae": best["validation_mae"],
        "parameters": int(network.count_params()),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _list_records(study: Any, complete: Any) -> list[dict[str, Any]]:
    records = [
        {"trial": trial.user_attrs["number"], **trial.params}
        | {name: trial.user_attrs[name] for name in _RESULTS}
        for trial in study.get_trials(deepcopy=False, states=(complete,))
    ]
    return sorted(records, key=lambda record: (record["validation_loss"], record["trial"]))


def _write_tables(
    folder: Path, records: list[dict[str, Any]], config: TrainingConfig, dataset: TrainingSet
) -> None:
    names = list(records[0])
    with (folder / "trials.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(records)
    what = "simulated galaxies" if dataset.vectors.description["simulated"] else "galaxies"
    sizes = {part: len(rows) for part, rows in dataset.rows.items()}
    several = "s" * (len(records) > 1)
    lines = [
        f"{len(records)} configuration{several} of the network `{config.network}`, {config.epochs}"
        f" epochs each, trained on {sizes['train']:,} and judged on {sizes['validation']:,} {what};"
        " the smallest validation loss first.",
        "",
        "| " + " | ".join(name.replace("_", " ") for name in names) + " |",
        "|" + "---|" * len(names),
    ]
    lines += ["| " + " | ".join(_show(record[name]) for name in names) + " |" for record in records]
    (folder / "trials.md").write_text("\n".join(lines) + "\n")
    chosen = {name: value for name, value in records[0].items() if name not in (*_RESULTS, "trial")}
    best = _apply(config, chosen).to_dict()
    (folder / "best.json").write_text(json.dumps(best, indent=1) + "\n")


def _show(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else f"{value:,}"
