"""Bulk files of DR3 as mirrors have them: HDF5, csv.gz, and HATS with lists or nested columns."""

import gzip

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive_samples import make_spectra
from doubles.gaia_products import write_spectra

from gaia_redshift import read_spectra


@pytest.fixture(scope="module")
def spectra():
    return make_spectra(5, 55)


def list_columns(spectra):
    columns = {"source_id": spectra.source_id}
    for name in ("bp", "rp"):
        band = getattr(spectra, name)
        columns[f"{name}_basis_function_id"] = band.basis_id
        columns[f"{name}_n_parameters"] = band.n_coefficients.astype(np.int16)
        columns[f"{name}_coefficients"] = band.coefficients
        columns[f"{name}_coefficient_errors"] = band.errors
        columns[f"{name}_coefficient_correlations"] = band.correlations
    return columns


def check(found, spectra):
    order = np.argsort(found.source_id)
    np.testing.assert_array_equal(found.source_id[order], spectra.source_id)
    assert found.release == "DR3"
    for name in ("bp", "rp"):
        ours, theirs = getattr(found, name), getattr(spectra, name)
        np.testing.assert_allclose(ours.coefficients[order], theirs.coefficients)
        np.testing.assert_allclose(ours.errors[order], theirs.errors, rtol=1e-6)
        np.testing.assert_allclose(ours.correlations[order], theirs.correlations, rtol=1e-6)


@pytest.mark.parametrize("group", ["", "data/"])
def test_hdf5_with_a_dataset_for_each_column(group, spectra, tmp_path):
    path = tmp_path / "XpContinuousMeanSpectrum_000000-003111.h5"
    with h5py.File(path, "w") as file:
        for name, values in list_columns(spectra).items():
            file[f"{group}{name}"] = values
    check(read_spectra(path), spectra)


def test_csv_gz_of_the_bulk_download(spectra, tmp_path):
    content = write_spectra(spectra, "csv").replace(b'"(', b'"[').replace(b')"', b']"')
    path = tmp_path / "XpContinuousMeanSpectrum_000000-003111.csv.gz"
    path.write_bytes(gzip.compress(content))
    check(read_spectra(path), spectra)


def to_arrow(values):
    return pa.array(values.tolist() if values.ndim > 1 else values)


def nest_by_band(columns):
    """``bp`` with ``coefficients`` and so on, and ``rp``."""
    bands = {}
    for name in ("bp", "rp"):
        inner = {key[3:]: to_arrow(v) for key, v in columns.items() if key.startswith(name)}
        bands[name] = pa.StructArray.from_arrays(list(inner.values()), list(inner))
    return pa.table({"source_id": columns["source_id"], **bands})


def nest_all(columns):
    """One column with all of them under their names."""
    inner = {key: to_arrow(v) for key, v in columns.items() if key != "source_id"}
    whole = pa.StructArray.from_arrays(list(inner.values()), list(inner))
    return pa.table({"source_id": columns["source_id"], "spectrum": whole})


@pytest.mark.parametrize(
    "arrange",
    [lambda c: pa.table({k: to_arrow(v) for k, v in c.items()}), nest_by_band, nest_all],
    ids=["lists", "nested by band", "nested"],
)
def test_hats_catalogues(arrange, spectra, tmp_path):
    table = arrange(list_columns(spectra))
    for pixel, rows in ((3, slice(0, 2)), (7, slice(2, 5))):
        path = tmp_path / "dataset" / "Norder=1" / "Dir=0" / f"Npix={pixel}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(rows.start, rows.stop - rows.start), path)
    pq.write_metadata(table.schema, tmp_path / "dataset" / "_common_metadata")
    (tmp_path / "hats.properties").write_text("dataproduct_type=object\n")
    check(read_spectra(tmp_path), spectra)
