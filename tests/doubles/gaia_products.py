"""DataLink products as the Gaia archive packs them: zips of FITS, csv or VOTable.

Names, columns, types and order are those of the genuine products that astroquery carries in its
own tests (``astroquery/gaia/tests/data/*.zip``); ``test_archive_double.py`` compares them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import numpy as np
from astropy.io import fits

__all__ = ["COLUMNS", "pack_spectra"]

_BAND = (
    ("basis_function_id", "I"),
    ("degrees_of_freedom", "I"),
    ("n_parameters", "I"),
    ("n_measurements", "I"),
    ("n_rejected_measurements", "I"),
    ("standard_deviation", "E"),
    ("chi_squared", "E"),
    ("coefficients", "PD"),
    ("coefficient_errors", "PE"),
    ("coefficient_correlations", "PE"),
    ("n_relevant_bases", "I"),
    ("relative_shrinking", "E"),
)
COLUMNS = [("source_id", "K"), ("solution_id", "K")] + [
    (f"{band}_{name}", kind) for band in ("bp", "rp") for name, kind in _BAND
]
_PLAIN = {"K": ">i8", "I": ">i2", "E": ">f4"}
_SOLUTION = 4545469030156206081
_CONSTANTS = {
    "degrees_of_freedom": 1687,
    "n_measurements": 1742,
    "n_rejected_measurements": 5,
    "standard_deviation": 1.05,
    "chi_squared": 1855.0,
    "n_relevant_bases": 12,
    "relative_shrinking": 1.0,
}
_FILE_A_SOURCE = ("INDIVIDUAL", "DATAMODEL_STANDARD")
_EXTENSIONS = {"votable": "xml", "votable_plain": "xml"}


def pack_spectra(spectra, structure: str, form: str, label: str, retrieval_type: str) -> bytes:
    """Return the zip that DataLink sends for these spectra, which may be none.

    Parameters
    ----------
    spectra : XPSpectra or None
    structure : {'RAW', 'INDIVIDUAL', 'DATAMODEL_GAIA', 'DATAMODEL_STANDARD'}
    form : {'fits', 'csv', 'votable'}
    label : str
        "Gaia DR3".
    retrieval_type : str
        "XP_CONTINUOUS".
    """
    extension = _EXTENSIONS.get(form, form)
    members: list[tuple[str, bytes]] = []
    if spectra is not None and len(spectra) and structure in _FILE_A_SOURCE:
        for i in range(len(spectra)):
            name = f"{retrieval_type}-{label} {spectra.source_id[i]}.{extension}"
            members.append((name, write_spectra(spectra[[i]], form)))
    elif spectra is not None and len(spectra):
        members.append((f"{retrieval_type}_{structure}.{extension}", write_spectra(spectra, form)))
    return pack_members(members)


def pack_members(members: Sequence[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def write_spectra(spectra, form: str) -> bytes:
    return {"fits": _write_fits, "csv": _write_csv, "votable": _write_votable}[form](spectra)


def _scalars(spectra, name: str) -> np.ndarray:
    n = len(spectra)
    if name == "source_id":
        return spectra.source_id
    if name == "solution_id":
        return np.full(n, _SOLUTION)
    band, quantity = getattr(spectra, name[:2]), name[3:]
    if quantity == "basis_function_id":
        return np.where(band.n_coefficients > 0, band.basis_id, 0)
    if quantity == "n_parameters":
        return band.n_coefficients
    return np.full(n, _CONSTANTS[quantity])


def _arrays(spectra, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return padded values and lengths."""
    band, quantity = getattr(spectra, name[:2]), name[3:]
    lengths = band.n_coefficients.astype(np.int64)
    values = {
        "coefficients": band.coefficients,
        "coefficient_errors": band.errors,
        "coefficient_correlations": band.correlations,
    }[quantity]
    if quantity == "coefficient_correlations":
        lengths = lengths * (lengths - 1) // 2
    return (np.zeros((len(lengths), 0)), 0 * lengths) if values is None else (values, lengths)


def _write_fits(spectra) -> bytes:
    """Write the binary table by hand: astropy is slow at arrays of variable length."""
    n = len(spectra)
    types = [(name, ">i4", (2,)) if len(k) == 2 else (name, _PLAIN[k]) for name, k in COLUMNS]
    rows = np.zeros(n, dtype=types)
    heap: list[bytes] = []
    size = 0
    widest = {}
    for name, kind in COLUMNS:
        if len(kind) == 1:
            rows[name] = _scalars(spectra, name)
            continue
        values, lengths = _arrays(spectra, name)
        item = np.dtype(">f8" if kind == "PD" else ">f4")
        inside = np.arange(values.shape[1]) < lengths[:, None]
        rows[name][:, 0] = lengths
        rows[name][:, 1] = size + np.concatenate([[0], np.cumsum(lengths)[:-1]]) * item.itemsize
        heap.append(values[inside].astype(item).tobytes())
        size += len(heap[-1])
        widest[name] = int(lengths.max(initial=0))
    header = fits.Header()
    header["XTENSION"] = "BINTABLE"
    header["BITPIX"], header["NAXIS"] = 8, 2
    header["NAXIS1"], header["NAXIS2"] = rows.dtype.itemsize, n
    header["PCOUNT"], header["GCOUNT"], header["TFIELDS"] = size, 1, len(COLUMNS)
    for number, (name, kind) in enumerate(COLUMNS, 1):
        header[f"TTYPE{number}"] = name
        header[f"TFORM{number}"] = f"{kind}({widest[name]})" if name in widest else kind
    content = rows.tobytes() + b"".join(heap)
    primary = fits.PrimaryHDU().header
    return (
        primary.tostring().encode("ascii")
        + header.tostring().encode("ascii")
        + content
        + bytes(-len(content) % 2880)
    )


def _cells(spectra, name: str, kind: str) -> list[str]:
    if len(kind) == 1:
        return [str(v) for v in _scalars(spectra, name).tolist()]
    values, lengths = _arrays(spectra, name)
    return [
        '"(' + ", ".join(map(repr, row[:k].tolist())) + ')"' if k else ""
        for row, k in zip(values.astype(float), lengths, strict=True)
    ]


def _write_csv(spectra) -> bytes:
    columns = [_cells(spectra, name, kind) for name, kind in COLUMNS]
    lines = [",".join(name for name, _ in COLUMNS)]
    lines += [",".join(row) for row in zip(*columns, strict=True)]
    return ("\n".join(lines) + "\n").encode()


def _write_votable(spectra) -> bytes:
    from astropy.io.votable.tree import Field, Resource, TableElement, VOTableFile

    names = {"K": "long", "I": "short", "E": "float", "PD": "double", "PE": "float"}
    tree = VOTableFile()
    resource = Resource(type="results")
    tree.resources.append(resource)
    table = TableElement(tree)
    resource.tables.append(table)
    for name, kind in COLUMNS:
        size = {"arraysize": "*"} if len(kind) == 2 else {}
        table.fields.append(Field(tree, name=name, datatype=names[kind], **size))
    table.create_arrays(len(spectra))
    for name, kind in COLUMNS:
        if len(kind) == 1:
            table.array[name] = _scalars(spectra, name)
            continue
        values, lengths = _arrays(spectra, name)
        for i, k in enumerate(lengths):
            table.array.data[name][i] = np.ma.MaskedArray(
                values[i, :k], mask=np.zeros(k, dtype=bool)
            )
    table.format = "binary2"
    stream = io.BytesIO()
    tree.to_xml(stream)
    return stream.getvalue()
