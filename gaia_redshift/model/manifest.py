"""What a model folder must hold, and the checks that it passes before anything is used.

A folder holds ``manifest.json`` and the files that it lists with their sha256: the network's graph,
which predictions run, its weights in Keras's format, scaler and model card. Nothing in a folder is
ever executed or unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from gaia_redshift.errors import InputError, ModelError, ModelIntegrityError
from gaia_redshift.grid import N_FLUX, SamplingGrid

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "OPTIONAL_ROLES",
    "ROLES",
    "check_links",
    "check_weights",
    "hash_bytes",
    "parse_manifest",
    "read_files",
    "read_manifest",
]

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1
"""Version of the folder's layout; a folder with a higher one comes from a newer package."""
ROLES = ("graph", "weights", "scaler", "card")
"""The files that every model has, by what they are for."""
OPTIONAL_ROLES = ("bins", "novelty")
"""Files of models that give distributions: their bins of redshift, and what is unlike the training
set."""

_MAX_MANIFEST_BYTES = 1_000_000
_MAX_FILE_BYTES = 64_000_000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "format_version": int,
    "name": str,
    "version": str,
    "network": str,
    "engine": str,
    "files": dict,
    "grid": dict,
    "n_flux": int,
    "uses_errors": bool,
    "redshift_range": list,
    "flux_tolerance": (int, float),
    "trained_on": str,
    "training": dict,
    "metrics": dict,
}
_OPTIONAL_FIELDS: dict[str, type | tuple[type, ...]] = {"data_release": str}

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_MAX_CONFIG_BYTES = 1_000_000
_LAYERS = (
    "Activation",
    "Add",
    "Concatenate",
    "Conv1D",
    "Dense",
    "Dropout",
    "Flatten",
    "InputLayer",
    "MaxPooling1D",
)
_KNOWN_CLASSES = {
    (None, "__keras_tensor__"),
    ("keras", "DTypePolicy"),
    ("keras", "Sequential"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
    *(("keras.layers", name) for name in _LAYERS),
}
"""All that a network's configuration may name: Keras's own classes that our networks use."""
_FUNCTIONAL = ("keras.src.models.functional", "Functional", "Functional")
"""How Keras names its functional networks, the one of its classes with a registered name."""


def hash_bytes(data: bytes) -> str:
    """Return the sha256 of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """Read and check a folder's manifest; return it and the sha256 of its file.

    Raises `ModelError` if there is none, or if it is not one that this version understands.
    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ModelError(f"{path}: larger than a manifest can be")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: not a model folder, it holds no {MANIFEST_NAME} (train_model makes one)"
        ) from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: not valid JSON; the file is damaged") from None
    return parse_manifest(content, path), hash_bytes(data)


def parse_manifest(content: Any, path: Path) -> dict[str, Any]:
    """Check a manifest's content; ``path`` is for the messages.

    A `ModelError` names file, field and what is wrong with it, in a line.
    """
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a manifest is a JSON object, not a {type(content).__name__}")
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelError(
            f"{path}: format version {version} is newer than this gaia_redshift reads"
            f" ({FORMAT_VERSION}); update the package"
        )
    if version != FORMAT_VERSION:
        raise ModelError(f"{path}: unknown format version {version!r} (known: {FORMAT_VERSION})")
    unknown = sorted(set(content) - set(_FIELDS) - set(_OPTIONAL_FIELDS))
    if unknown:
        raise ModelError(
            f"{path}: unknown field {unknown[0]!r}; the model may come from a newer"
            " gaia_redshift: update the package"
        )
    for field, expected in (_FIELDS | _OPTIONAL_FIELDS).items():
        if field not in content:
            if field in _OPTIONAL_FIELDS:
                continue
            raise ModelError(f"{path}: the field {field!r} is missing")
        value = content[field]
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            raise ModelError(f"{path}: the field {field!r} has a value of the wrong kind")
    if content["engine"] != "onnx":
        raise ModelError(
            f"{path}: unknown engine {content['engine']!r}; the model may come from a newer"
            " gaia_redshift: update the package"
        )
    _check_files(content["files"], path)
    _check_numbers(content, path)
    return content


def _check_files(files: dict[str, Any], path: Path) -> None:
    missing = [role for role in ROLES if role not in files]
    if missing:
        raise ModelError(f"{path}: no file is listed for {missing[0]!r}")
    for role, entry in files.items():
        if role not in ROLES + OPTIONAL_ROLES:
            raise ModelError(
                f"{path}: unknown kind of file {role!r}; the model may come from a newer"
                " gaia_redshift: update the package"
            )
        if not isinstance(entry, dict) or set(entry) != {"name", "sha256", "size"}:
            raise ModelError(f"{path}: the entry for {role!r} needs name, sha256 and size")
        name = entry["name"]
        # A plain name cannot leave the folder; separators of every system are excluded.
        if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
            raise ModelError(
                f"{path}: {name!r} is not a plain file name inside the model folder; refused"
            )
        if not isinstance(entry["sha256"], str) or not re.fullmatch(
            r"[0-9a-f]{64}", entry["sha256"]
        ):
            raise ModelError(f"{path}: the sha256 of {name} is not 64 hexadecimal digits")
        if not isinstance(entry["size"], int) or isinstance(entry["size"], bool):
            raise ModelError(f"{path}: the size of {name} is not a number of bytes")
        if entry["size"] > _MAX_FILE_BYTES:
            raise ModelError(f"{path}: {name} is larger than a file of a model can be; refused")


def _check_numbers(content: dict[str, Any], path: Path) -> None:
    if content["n_flux"] != N_FLUX:
        raise ModelError(f"{path}: made for {content['n_flux']} fluxes, vectors have {N_FLUX}")
    limits = content["redshift_range"]
    if (
        len(limits) != 2
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in limits)
        or not limits[0] < limits[1]
    ):
        raise ModelError(f"{path}: redshift_range must be two rising numbers")
    if not content["flux_tolerance"] >= 0:
        raise ModelError(f"{path}: flux_tolerance must not be negative")
    try:
        if set(content["grid"]) != {"bp", "rp"}:
            raise InputError("it needs bp and rp, and nothing else")
        SamplingGrid(**{band: tuple(values) for band, values in content["grid"].items()})
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: unusable grid: {error}") from None


def read_files(folder: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    """Read every file that the manifest lists, each against its size and sha256.

    The bytes that were checked are the bytes that are used: nothing is read twice. `ModelError` if
    a file cannot be read, `ModelIntegrityError` if it differs from what the manifest records.
    """
    contents = {}
    for role, entry in manifest["files"].items():
        path = folder / entry["name"]
        try:
            if not path.is_file() and path.exists():
                raise ModelError(f"{path}: is no regular file; refused")
            found = path.stat().st_size
            data = path.read_bytes() if found == entry["size"] else b""
        except FileNotFoundError:
            raise ModelError(f"{path}: the file is missing from the model folder") from None
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
        if found != entry["size"]:
            raise ModelIntegrityError(
                f"{path}: {found} bytes where the manifest records {entry['size']}; the file is"
                " damaged or was changed: install or train the model anew"
            )
        digest = hash_bytes(data)
        if digest != entry["sha256"]:
            raise ModelIntegrityError(
                f"{path}: its sha256 {digest[:12]}... is not the {entry['sha256'][:12]}... that"
                " the manifest records; the file is damaged or was changed: install or train the"
                " model anew"
            )
        contents[role] = data
    return contents


def check_weights(data: bytes, name: str) -> None:
    """Refuse archives that name anything but Keras layers that we use, with a `ModelError`.

    Keras's safe mode is on as well; this check is independent of it and comes first.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: info.file_size for info in archive.infolist()}
            if set(members) != _MEMBERS or len(archive.infolist()) != len(_MEMBERS):
                raise ModelError(
                    f"{name}: a Keras archive of ours holds {', '.join(sorted(_MEMBERS))} and"
                    " nothing else; refused"
                )
            if sum(members.values()) > 10 * len(data) + _MAX_CONFIG_BYTES:
                raise ModelError(f"{name}: unpacks to far more than it holds; refused")
            if members["config.json"] > _MAX_CONFIG_BYTES:
                raise ModelError(f"{name}: the network's configuration is too large; refused")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, ValueError, RecursionError, NotImplementedError, RuntimeError):
        raise ModelError(f"{name}: not a readable Keras 3 archive (.keras)") from None
    _check_config(config, name)


def _check_config(node: Any, name: str) -> None:
    if isinstance(node, list):
        for value in node:
            _check_config(value, name)
    elif isinstance(node, dict):
        if "class_name" in node or "module" in node:
            found = (node.get("module"), node.get("class_name"))
            registered = node.get("registered_name")
            known = found in _KNOWN_CLASSES and registered is None
            if not known and (*found, registered) != _FUNCTIONAL:
                shown = registered or ".".join(str(part) for part in found)
                raise ModelError(
                    f"{name}: the network names {shown!r}, which is not one of the Keras layers"
                    " that models of this package use; refused"
                )
        for value in node.values():
            _check_config(value, name)


def check_links(data: bytes, name: str) -> None:
    """Refuse HDF5 weights that point to other files or places."""
    import h5py

    def visit(group: Any) -> None:
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ModelError(f"{name}: the weights hold a link ({key!r}); refused")
            item = group[key]
            if isinstance(item, h5py.Group):
                visit(item)
            elif item.external or item.is_virtual:
                raise ModelError(f"{name}: the weights lie outside the file ({key!r}); refused")

    try:
        with (
            zipfile.ZipFile(io.BytesIO(data)) as archive,
            h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights,
        ):
            visit(weights)
    except (OSError, zipfile.BadZipFile, RecursionError, RuntimeError):
        raise ModelError(f"{name}: the network's weights cannot be read") from None
