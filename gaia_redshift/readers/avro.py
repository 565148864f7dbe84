"""DPAC's internal avro files, whose records nest a band's solution and hold its covariances.

What the archive publishes as errors is ``standardDeviation sqrt(diag(covariance))``, and as
correlations the covariance scaled to unit diagonal (found by comparing both forms of a source;
GaiaXPy multiplies flux errors by the same standard deviation).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.readers.arrays import Ragged, to_ragged
from gaia_redshift.readers.columns import Block, ReadOptions, find_layout
from gaia_redshift.readers.content import Content

__all__ = ["iter_avro_blocks"]

BLOCK_ROWS = 1024
_BANDS = {"bpSpec": "bp", "rpSpec": "rp"}
_SOLUTION = {
    "numberOfParameters": "n_parameters",
    "numberOfMeasurements": "n_measurements",
    "numberOfRejectedMeasurements": "n_rejected_measurements",
    "degreesOfFreedom": "degrees_of_freedom",
    "chiSquared": "chi_squared",
    "standardDeviation": "standard_deviation",
}
_SPECTRUM = {
    "basisFunctionSetDefId": "basis_function_id",
    "NRelevantBases": "n_relevant_bases",
    "relativeShrinking": "relative_shrinking",
}


def iter_avro_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read an avro file in blocks of records."""
    import fastavro

    with content.open() as stream:
        records: list[dict[str, Any]] = []
        first_row = 1
        reader = fastavro.reader(stream)
        if _repeats_nothing(reader.writer_schema):
            raise InputError(f"{content.label}: has lists of nothing, which may claim any length")
        for record in reader:
            if not isinstance(record, dict) or not record.keys() >= {"sourceId"} | _BANDS.keys():
                found = ", ".join(list(record)[:12]) if isinstance(record, dict) else "no fields"
                raise InputError(
                    f"{content.label}: records have no sourceId, bpSpec and rpSpec; found: {found}"
                )
            records.append(record)
            if len(records) == BLOCK_ROWS:
                yield _build_block(records, content, options, first_row)
                first_row += len(records)
                records = []
    if records:
        yield _build_block(records, content, options, first_row)


def _repeats_nothing(schema: Any) -> bool:
    """Tell a schema with lists whose items take no bytes: a short file may claim billions."""
    if isinstance(schema, list):
        return any(map(_repeats_nothing, schema))
    if not isinstance(schema, dict):
        return False
    items = schema.get("items")
    if items is not None and not _takes_bytes(items):
        return True
    inner = [items, schema.get("type"), *(schema.get("fields") or ())]
    return any(map(_repeats_nothing, inner))


def _takes_bytes(schema: Any) -> bool:
    """Tell whether a value of a type takes any bytes in a file."""
    if not isinstance(schema, dict):
        return schema != "null"
    if schema.get("type") == "record":
        return any(_takes_bytes(field["type"]) for field in schema["fields"])
    return schema.get("size") != 0 and schema.get("type") != "null"


def _build_block(
    records: Sequence[dict[str, Any]], content: Content, options: ReadOptions, first_row: int
) -> Block:
    columns: dict[str, Any] = {}
    for key, value in records[0].items():
        if not isinstance(value, dict | list) and key not in _BANDS:
            columns[_to_snake_case(key)] = _to_column([record[key] for record in records])
    columns["source_id"] = np.array([record["sourceId"] for record in records])
    for key, band in _BANDS.items():
        spectra = [record[key] or {} for record in records]
        solutions = [spectrum.get("solution") or {} for spectrum in spectra]
        for names, holders in ((_SPECTRUM, spectra), (_SOLUTION, solutions)):
            for field, name in names.items():
                columns[f"{band}_{name}"] = _to_column([h.get(field) for h in holders])
        parameters = to_ragged([solution.get("parameters") for solution in solutions])
        columns[f"{band}_coefficients"] = parameters
        if options.errors:
            errors, correlations = split_covariances(
                to_ragged([solution.get("covariance") for solution in solutions]),
                parameters.lengths,
                np.array([s.get("standardDeviation") or np.nan for s in solutions]),
            )
            columns[f"{band}_coefficient_errors"] = errors
            columns[f"{band}_coefficient_correlations"] = correlations
    layout = find_layout(list(columns), options, content.label)
    return Block(columns, layout, content.label, content.source, first_row)


def _to_snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _to_column(values: list[Any]) -> Any:
    hidden = np.array([value is None for value in values])
    if not hidden.any():
        return np.array(values)
    filled = [0 if value is None else value for value in values]
    return np.ma.MaskedArray(np.array(filled), mask=hidden)


def split_covariances(
    covariances: Ragged, n_coefficients: NDArray[np.int64], standard_deviation: NDArray[np.float64]
) -> tuple[Ragged, Ragged]:
    """Turn covariances into the archive's errors and correlations.

    They are column-ordered upper triangles with the diagonal, k (k + 1) / 2 numbers for the k
    coefficients of a row; another number is damage. Errors are scaled by the standard deviation
    (n,) of the least-squares solution.
    """
    n = len(covariances)
    starts = np.concatenate([[0], np.cumsum(covariances.lengths)])
    errors: list[NDArray[np.floating]] = [np.empty(0)] * n
    correlations: list[NDArray[np.floating]] = [np.empty(0)] * n
    damaged = covariances.damaged.copy()
    for row in range(n):
        k = int(n_coefficients[row])
        if k == 0 or covariances.lengths[row] == 0:
            continue
        triangle = covariances.values[starts[row] : starts[row + 1]]
        if len(triangle) != k * (k + 1) // 2:
            damaged[row] = True
            continue
        i, j = np.tril_indices(k)  # row by row of the lower is column by column of the upper one
        diagonal = triangle[i == j]
        with np.errstate(invalid="ignore", divide="ignore"):
            deviation = np.sqrt(diagonal)
            errors[row] = deviation * standard_deviation[row]
            off = i != j
            correlations[row] = triangle[off] / (deviation[i[off]] * deviation[j[off]])
    lengths = np.array([len(e) for e in errors], dtype=np.int64)
    pairs = np.array([len(c) for c in correlations], dtype=np.int64)
    return (
        Ragged(np.concatenate(errors) if n else np.empty(0), lengths, damaged),
        Ragged(np.concatenate(correlations) if n else np.empty(0), pairs, damaged.copy()),
    )
