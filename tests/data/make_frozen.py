"""Work out a model's redshifts in plain NumPy, independently of Keras, and keep them for a test.

    python tests/data/make_frozen.py MODEL_FOLDER FROZEN_VECTORS.npz OUTPUT.npz

See README.md in this folder.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np


def read_parameters(weights: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(class, kernel, bias) of each layer of a .keras file, read with zipfile and h5py alone."""
    import h5py

    layers = []
    seen: dict[str, int] = {}
    with zipfile.ZipFile(weights) as archive:
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as stored:
            for layer in config["config"]["layers"]:
                if layer["class_name"] in ("Conv1D", "Dense"):
                    # Keras counts the layers of a class: dense, dense_1, dense_2, ...
                    key = layer["class_name"].lower()
                    number = seen.get(key, 0)
                    seen[key] = number + 1
                    group = stored[f"layers/{key}{f'_{number}' if number else ''}/vars"]
                    kernel, bias = (np.asarray(group[i], dtype=np.float64) for i in "01")
                    layers.append((layer["class_name"], kernel, bias))
                else:
                    layers.append((layer["class_name"], np.empty(0), np.empty(0)))
    return layers


def run_forward(layers: list[tuple[str, np.ndarray, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """Forward pass in float64: x (n, 186) scaled to (n,). ReLU but for the last layer."""
    last = len(layers) - 1
    x = np.asarray(x, dtype=np.float64)[:, :, None]
    for i, (kind, kernel, bias) in enumerate(layers):
        if kind == "Conv1D":
            length = x.shape[1] - kernel.shape[0] + 1
            x = sum(x[:, k : k + length] @ kernel[k] for k in range(kernel.shape[0])) + bias
        elif kind == "MaxPooling1D":
            half = x.shape[1] // 2
            x = np.maximum(x[:, 0 : 2 * half : 2], x[:, 1 : 2 * half : 2])
        elif kind == "Flatten":
            x = x.reshape(len(x), -1)
        elif kind == "Dense":
            x = x @ kernel + bias
        elif kind != "InputLayer":
            raise ValueError(f"layer {kind} is not known to this forward pass")
        if kind in ("Conv1D", "Dense") and i != last:
            x = np.maximum(x, 0)
    return x[:, 0]


def predict(folder: Path, flux: np.ndarray) -> np.ndarray:
    """Redshifts of a model folder for vectors (n, 186), scaled as scaler.json says."""
    scaler = json.loads((folder / "scaler.json").read_text())
    low, high = np.array(scaler["minimum"]), np.array(scaler["maximum"])
    return run_forward(read_parameters(folder / "weights.keras"), (flux - low) / (high - low))


def main(folder: str, vectors: str, output: str) -> None:
    with np.load(vectors) as content:
        source_id, flux = content["source_id"], content["flux"]
        theirs = content["redshift_cnn"]
    redshift = predict(Path(folder), flux)
    print(f"largest difference from Keras: {np.abs(redshift - theirs).max():.2e}")
    np.savez_compressed(output, source_id=source_id, flux=flux, redshift_numpy=redshift)


if __name__ == "__main__":
    main(*sys.argv[1:])
