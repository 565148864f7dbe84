"""Work out a model's redshifts in plain NumPy, independently of the package, for a test.

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


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """Convolution with padding "same" of x (n, length, channels)."""
    length = -(-x.shape[1] // stride)
    missing = max((length - 1) * stride + len(kernel) - x.shape[1], 0)
    x = np.pad(x, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)))
    last = (length - 1) * stride + 1
    return sum(x[:, k : k + last : stride] @ kernel[k] for k in range(len(kernel))) + bias


def read_named(weights: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each layer with weights, by its name."""
    with zipfile.ZipFile(weights) as archive:
        config = json.loads(archive.read("config.json"))["config"]["layers"]
    kinds = [layer["class_name"] for layer in config]
    names = [layer["config"]["name"] for layer in config if layer["class_name"] in kinds]
    layers = read_parameters(weights)
    return {
        name: (kernel, bias)
        for name, (kind, kernel, bias) in zip(names, layers, strict=True)
        if kind in ("Conv1D", "Dense")
    }


def run_residual(weights: Path, flux: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Logits (n, bins) of the residual network, in float64."""
    layer = read_named(weights)
    x = convolve(flux, *layer["convolution"], 3)
    y = convolve(np.maximum(x, 0), *layer["convolution_a"], 1)
    x = x + convolve(np.maximum(y, 0), *layer["convolution_b"], 1)
    x = np.concatenate([context, np.maximum(x, 0).reshape(len(x), -1)], axis=1)
    kernel, bias = layer["dense"]
    x = x @ kernel + bias
    for i in (1, 2, 3):
        (first, shift), (second, offset) = layer[f"dense_{i}a"], layer[f"dense_{i}b"]
        x = x + np.maximum(np.maximum(x, 0) @ first + shift, 0) @ second + offset
    kernel, bias = layer["logits"]
    return np.maximum(x, 0) @ kernel + bias


def read_prior(stored: dict, rp_flux: np.ndarray) -> np.ndarray:
    """p(z | RP flux) in the bins, (n, m): linear in log flux, with 0.2 % spread evenly."""
    table = np.array(stored["probability"])
    table /= table.sum(axis=1, keepdims=True)
    table = 0.998 * table + 0.002 / table.shape[1]
    log_flux = np.log10(rp_flux)
    columns = [np.interp(log_flux, stored["log_flux"], column) for column in table.T]
    return np.stack(columns, axis=1)


def predict_median(folder: Path, flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Medians of a residual network under its default prior, for vectors with errors."""
    scaler = {k: np.array(v) for k, v in json.loads((folder / "scaler.json").read_text()).items()}
    level = flux.mean(axis=1, keepdims=True)
    shape = flux / level - scaler["center"]
    noise = np.log(error / level)
    bands = np.stack([noise[:, :80].mean(axis=1), noise[:, 80:].mean(axis=1)], axis=1)
    scale = np.repeat(3 * np.exp(bands), (80, 106), axis=1)
    inputs = np.stack([(shape / scaler["width"]).clip(-10, 10), np.arcsinh(shape / scale)], axis=2)
    numbers = np.concatenate([np.log(level), bands], axis=1)
    context = (numbers - scaler["context_center"]) / scaler["context_width"]
    context = np.concatenate([context.clip(-10, 10), np.ones_like(level)], axis=1)
    logits = run_residual(folder / "weights.keras", inputs, context)[:, :-1]
    content = json.loads((folder / "redshift_bins.json").read_text())
    edges, density = np.array(content["edges"]), np.array(content["density"])
    prior = read_prior(content["priors"][content["default_prior"]], flux[:, 80:].sum(axis=1) / 0.87)
    reach = np.log(level / content["typical_level"]).clip(-2, 2)
    temperature = content["temperature"][0] * np.exp(content["temperature_slope"][0] * reach)
    mass = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    mass *= prior / density
    below = np.concatenate([np.zeros_like(level), np.cumsum(mass, axis=1)], axis=1)
    return np.array([np.interp(0.5 * total[-1], total, edges) for total in below])


def main(folder: str, vectors: str, output: str) -> None:
    with np.load(vectors) as content:
        arrays = {key: content[key] for key in content.files}
    flux, source_id = arrays["flux"], arrays["source_id"]
    if "flux_error" in arrays:
        error = arrays["flux_error"]
        redshift = predict_median(Path(folder), flux.astype(float), error.astype(float))
        np.savez_compressed(
            output, source_id=source_id, flux=flux, flux_error=error, redshift_numpy=redshift
        )
        return
    redshift = predict(Path(folder), flux)
    print(f"largest difference from Keras: {np.abs(redshift - arrays['redshift_cnn']).max():.2e}")
    np.savez_compressed(output, source_id=source_id, flux=flux, redshift_numpy=redshift)


if __name__ == "__main__":
    main(*sys.argv[1:])
