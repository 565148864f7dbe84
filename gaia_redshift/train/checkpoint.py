"""The state of a run after an epoch: written at once, read without pickle."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import written_whole
from gaia_redshift.errors import InputError
from gaia_redshift.train.config import TrainingConfig

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]

_NAME = "checkpoint.npz"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights, optimiser state and history after the last complete epoch."""

    path: Path
    network: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    config: dict[str, Any]
    history: list[dict[str, float]]
    best: list[NDArray[Any]] | None = None

    def restore(self, network: Any, optimizer: Any) -> None:
        """Put the state into a network and optimiser of the same configuration.

        Raises `InputError` if they are built otherwise.
        """
        for variables, values in (
            (network.variables, self.network),
            (optimizer.variables, self.optimizer),
        ):
            if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
                raise InputError(f"{self.path}: this checkpoint is of another network; start anew")
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


def write_checkpoint(
    folder: Path,
    network: Any,
    optimizer: Any,
    config: TrainingConfig,
    history: list[dict[str, float]],
    *,
    best: list[NDArray[Any]] | None = None,
) -> None:
    """Write the state and ``history.csv``; an interruption leaves the older state intact.

    ``best`` are the network's weights after the epoch with the smallest validation loss.
    """
    arrays: dict[str, Any] = {
        "state": np.array(json.dumps({"config": config.to_dict(), "history": history}))
    }
    arrays |= {f"network_{i:03d}": np.asarray(v) for i, v in enumerate(network.variables)}
    arrays |= {f"optimizer_{i:03d}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
    arrays |= {f"best_{i:03d}": value for i, value in enumerate(best or [])}
    with written_whole(folder / _NAME) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)
    with (folder / "history.csv").open("w", newline="") as text:
        writer = csv.DictWriter(text, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the state in a run's folder; None if there is none.

    Raises `InputError` if the file is damaged.
    """
    path = folder / _NAME
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            state = json.loads(str(content["state"]))
            groups = {
                group: [content[key] for key in sorted(content.files) if key.startswith(group)]
                for group in ("network_", "optimizer_", "best_")
            }
        return Checkpoint(
            path,
            groups["network_"],
            groups["optimizer_"],
            state["config"],
            state["history"],
            groups["best_"] or None,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: the checkpoint is damaged; delete the run folder") from None
