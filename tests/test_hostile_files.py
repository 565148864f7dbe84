"""Damaged and hostile files: one error that names them, no memory taken, nothing else opened."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gaia_redshift.errors import InputError
from gaia_redshift.readers import read_spectra
from gaia_redshift.readers.whole import read_columns

# --- HDF5 ----------------------------------------------------------------------------------------


def link_outside(file, path):
    file["source_id"] = h5py.ExternalLink(str(path / "other.h5"), "source_id")


def store_outside(file, path):
    (path / "other").write_bytes(b"12345678" * 4)
    file.create_dataset("source_id", (4,), "i8", external=[(str(path / "other"), 0, 32)])


def map_outside(file, path):
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(str(path / "other.h5"), "source_id", (4,))
    file.create_virtual_dataset("source_id", layout)


def claim_much(file, path):
    file.create_dataset("source_id", (3 * 10**12,), "i8", chunks=(1024,))


@pytest.mark.parametrize("make", [link_outside, store_outside, map_outside, claim_much])
@pytest.mark.parametrize("read", [read_spectra, read_columns])
def test_hdf5_opens_no_other_file_and_takes_no_more_than_it_holds(tmp_path, make, read):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, tmp_path)
        file["bp_coefficients"] = np.ones((4, 55))
    with pytest.raises(InputError, match=r"a\.h5: .*(another file|claims)"):
        read(tmp_path / "a.h5")


def test_hdf5_groups_that_hold_themselves_are_read_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("g")
        group["source_id"] = np.arange(4)
        group["g"] = group
        group["nothing"] = h5py.SoftLink("/nowhere")
    assert read_columns(tmp_path / "a.h5")["source_id"].tolist() == [0, 1, 2, 3]
