"""Damaged and hostile files: one error that names them, no memory taken, nothing else opened."""

from __future__ import annotations

import base64
import gc
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import time
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import h5py
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table
from pyarrow import parquet
from test_scale import FakeModel, make_spectra, write_columns

from gaia_redshift import crossmatch_catalogue, load_model, read_table, write_spectra, write_table
from gaia_redshift._quiet import ignore_warnings
from gaia_redshift.errors import GaiaRedshiftWarning, InputError, ModelError
from gaia_redshift.model import registry
from gaia_redshift.model.manifest import check_weights
from gaia_redshift.predict import predict_to_file
from gaia_redshift.readers import content, formats, read_spectra
from gaia_redshift.readers.files import read_columns, read_ids
from gaia_redshift.readers.sources import is_for_archive
from gaia_redshift.readers.votable import parse_votable

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


# --- VOTables ------------------------------------------------------------------------------------


def write_votable(path, form="tabledata", n=12):
    spectra = make_spectra(n, errors=False)
    table = Table({"source_id": spectra.source_id, "z": np.linspace(0.1, 0.3, n)})
    for name, band in (("bp", spectra.bp), ("rp", spectra.rp)):
        table[f"{name}_coefficients"] = band.coefficients
    # Of variable length, so that a lost byte shifts all that follows.
    table["name"] = np.array([f"galaxy {'x' * (i % 5)}" for i in range(n)], dtype=object)
    with ignore_warnings():
        document = from_table(table)
        document.get_first_table().format = form
        document.to_xml(str(path))
    return path.read_bytes()


READERS = {
    "spectra": read_spectra,
    "table": read_table,
    "ids": read_ids,
    "crossmatch": lambda path: crossmatch_catalogue(
        {"ra": [1.0], "dec": [1.0]}, path, survey="x", zwarning=None, classes=None,
        columns={"ra": "z", "dec": "z", "redshift": "z"},
    ),
    "answer": lambda path: parse_votable(path.read_bytes(), str(path)),
}  # fmt: skip


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("form", ["binary", "binary2"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_bytes_missing_in_a_stream_of_rows_are_told(tmp_path, read, form, at):
    data = write_votable(tmp_path / "a.vot", form)
    before, stream, after = re.fullmatch(
        rb"(.*<STREAM[^>]*>)(.*)(</STREAM>.*)", data, re.DOTALL
    ).groups()
    rows = base64.b64decode(stream)
    place = int(at * len(rows))
    cut = base64.encodebytes(rows[:place] + rows[place + 3 :])
    (tmp_path / "a.vot").write_bytes(before + cut + after)
    with pytest.raises(InputError, match="damaged"):
        READERS[read](tmp_path / "a.vot")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("stated", ["13", "999999999999"])
@pytest.mark.parametrize("form", ["tabledata", "binary2"])
def test_votables_with_other_rows_than_they_say_are_refused(tmp_path, read, stated, form):
    data = write_votable(tmp_path / "a.vot", form)
    stated = b'<TABLE nrows="%s">' % stated.encode()
    (tmp_path / "a.vot").write_bytes(data.replace(b"<TABLE>", stated))
    with pytest.raises(InputError, match="has 12 rows and says that it has"):
        READERS[read](tmp_path / "a.vot")


TRICKS = {
    "plain": b'<DATA><BINARY><STREAM href="file:///etc/passwd"/></BINARY></DATA>',
    "bracket": b'<DATA><BINARY><STREAM actuate="a>b" href="file:///etc/passwd"/></BINARY></DATA>',
    "prefix": b'<DATA><BINARY><v:STREAM v:href="file:///etc/passwd"/></BINARY></DATA>',
    "fits": b'<DATA><FITS><STREAM href="file:///etc/passwd"/></FITS></DATA>',
    "default": b"<DATA><BINARY><STREAM/></BINARY></DATA>",
    "entity": b"<DATA><TABLEDATA><TR><TD>&x;</TD></TR></TABLEDATA></DATA>",
}
DOCTYPES = {
    "default": b'<!DOCTYPE VOTABLE [<!ATTLIST STREAM href CDATA "file:///etc/passwd">]>',
    "entity": b'<!DOCTYPE VOTABLE [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("trick", TRICKS)
def test_votables_lead_nowhere(tmp_path, read, trick):
    text = (
        b"<?xml version='1.0'?>\n"
        + DOCTYPES.get(trick, b"")
        + b"<VOTABLE version='1.4' xmlns='http://www.ivoa.net/xml/VOTable/v1.3'"
        b" xmlns:v='http://www.ivoa.net/xml/VOTable/v1.3'><RESOURCE type='results'><TABLE>"
        b"<FIELD name='source_id' datatype='long'/><FIELD name='z' datatype='double'/>"
        b"<FIELD name='bp_coefficients' datatype='double' arraysize='*'/>"
        + TRICKS[trick]
        + b"</TABLE></RESOURCE></VOTABLE>"
    )
    (tmp_path / "a.vot").write_bytes(text)
    with pytest.raises(InputError, match=r"data lie elsewhere|defines XML entities"):
        READERS[read](tmp_path / "a.vot")


def test_an_id_beyond_64_bits_is_refused_and_the_last_one_is_not(tmp_path):
    data = write_votable(tmp_path / "a.vot")
    first = b"<TD>4000000000000000000</TD>"
    assert data.count(first) == 1
    (tmp_path / "a.vot").write_bytes(data.replace(first, b"<TD>9223372036854775808</TD>"))
    with pytest.raises(InputError, match="integers beyond 64 bits"):
        read_spectra(tmp_path / "a.vot")
    (tmp_path / "a.vot").write_bytes(data.replace(first, b"<TD>9223372036854775807</TD>"))
    assert read_table(tmp_path / "a.vot")["source_id"][0] == 2**63 - 1


def test_votables_of_older_programs_are_read(tmp_path):
    (tmp_path / "a.vot").write_text(
        '<?xml version="1.0"?>\n<!DOCTYPE VOTABLE SYSTEM "http://us-vo.org/xml/VOTable.dtd">'
        '<VOTABLE version="1.1"><RESOURCE><TABLE>'
        '<FIELD name="source_id" datatype="long" arraysize="1"/>'
        '<FIELD name="z" datatype="double" arraysize="1"/>'
        '<FIELD name="words" datatype="char" arraysize="3x2"/>'
        "<DATA><TABLEDATA><TR><TD>7</TD><TD>0.5</TD><TD>abcdef</TD></TR></TABLEDATA></DATA>"
        "</TABLE></RESOURCE></VOTABLE>"
    )
    for read in (read_ids, read_table):
        table = read(tmp_path / "a.vot")
        assert table["source_id"].tolist() == [7]
        assert table["z"].tolist() == [0.5]
        assert table["words"].tolist() == ["abcdef"]


def test_fits_inside_a_votable_is_read(tmp_path):
    write_spectra(make_spectra(5, errors=False), tmp_path / "a.fits")
    stream = base64.encodebytes((tmp_path / "a.fits").read_bytes()).decode()
    (tmp_path / "a.vot").write_text(
        '<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE><TABLE><DATA><FITS>'
        f'<STREAM encoding="base64">{stream}</STREAM></FITS></DATA></TABLE></RESOURCE></VOTABLE>'
    )
    assert len(read_spectra(tmp_path / "a.vot")) == 5


# --- FITS, Parquet, zip --------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "offset"), [(55, 10**6), (10**8, 0), (55, -8), (-1, 0)])
def test_descriptors_that_point_out_of_the_heap_are_refused(tmp_path, length, offset):
    made = make_spectra(3, errors=False)
    columns = [fits.Column("source_id", "K", array=made.source_id)]
    for name, band in (("bp", made.bp), ("rp", made.rp)):
        cells = np.empty(3, dtype=object)
        cells[:] = list(band.coefficients)
        columns.append(fits.Column(f"{name}_coefficients", "PD(55)", array=cells))
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    fits.ImageHDU(np.zeros(10**4)).writeto(tmp_path / "b.fits")
    data = bytearray((tmp_path / "a.fits").read_bytes())
    with fits.open(tmp_path / "a.fits") as hdus:
        place = hdus[1].fileinfo()["datLoc"]
    data[place + 8 : place + 16] = np.array([length, offset], ">i4").tobytes()
    # More data behind the table's, into which a descriptor could point.
    (tmp_path / "a.fits").write_bytes(data + (tmp_path / "b.fits").read_bytes())
    with pytest.raises(InputError, match="points out of its table's heap"):
        read_spectra(tmp_path / "a.fits")


def find_damage(data, ending):
    if ending == "parquet":
        return len(data) // 6
    return data.index((4 * 10**18 + 7).to_bytes(8, "big" if ending == "fits" else "little"))


@pytest.mark.parametrize("ending", ["fits", "parquet", "h5"])
def test_damage_that_checksums_tell_changes_no_id(tmp_path, ending):
    table = Table({"source_id": 4 * 10**18 + np.arange(300), "x": np.arange(300.0)})
    table["ra"], table["dec"] = 1.0, 1.0
    write_table(table, tmp_path / f"a.{ending}")
    data = bytearray((tmp_path / f"a.{ending}").read_bytes())
    data[find_damage(data, ending) + 3] ^= 4
    (tmp_path / f"a.{ending}").write_bytes(data)

    def match(path):
        columns = {"ra": "ra", "dec": "dec", "redshift": "source_id"}
        options = {"survey": "x", "zwarning": None, "classes": None, "columns": columns}
        return crossmatch_catalogue({"ra": [1.0], "dec": [1.0]}, path, **options)

    for read in (read_ids, read_table, match):
        with pytest.raises(InputError, match=r"checksum|corrupt|CRC|filter"):
            read(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("ending", ["h5", "fits"])
def test_damaged_spectra_are_told_by_their_checksums(tmp_path, ending):
    write_spectra(make_spectra(30, errors=False), tmp_path / f"a.{ending}")
    if ending == "fits":
        with fits.open(tmp_path / "a.fits", checksum=True) as hdus:  # warns where it is wrong
            assert int(hdus[1].header["DATASUM"]) > 0
            assert hdus[1].verify_checksum() == 1  # of the header, too
    data = bytearray((tmp_path / f"a.{ending}").read_bytes())
    data[find_damage(data, ending) + 3] ^= 4
    (tmp_path / f"a.{ending}").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.{ending}: .*damaged"):
        read_spectra(tmp_path / f"a.{ending}")


def test_damaged_hdf5_is_not_read_for_ever(tmp_path):
    """Bits flipped one by one in all that is no number: HDF5 read some of these for ever."""
    write_table(Table({"source_id": 4 * 10**18 + np.arange(3)}), tmp_path / "a.h5")
    data = (tmp_path / "a.h5").read_bytes()
    good = read_table(tmp_path / "a.h5")["source_id"].tolist()
    for place in range(0, len(data), 29):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "a.h5").write_bytes(damaged)
        with suppress(InputError):
            assert read_table(tmp_path / "a.h5").columns[0].tolist() == good


def test_two_members_of_one_name_are_both_read(tmp_path):
    for number in range(2):
        spectra = make_spectra(3, errors=False)
        spectra.source_id[:] += 10 * number
        write_spectra(spectra, tmp_path / f"{number}.csv")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, ignore_warnings():
        for number in range(2):
            archive.writestr("XP_CONTINUOUS-RAW.csv", (tmp_path / f"{number}.csv").read_bytes())
    found = read_spectra(tmp_path / "a.zip").source_id - 4 * 10**18
    assert found.tolist() == [0, 1, 2, 10, 11, 12]


# --- absurd claims -------------------------------------------------------------------------------


def make_bomb(path):
    raw = io.BytesIO()
    with h5py.File(raw, "w") as file:
        file["source_id"] = np.zeros(10**6, dtype="i8")
    path.write_bytes(gzip.compress(raw.getvalue(), 9))


def make_wide(path):
    cells = pa.ListArray.from_arrays([0, 3 * 10**6], pa.array(np.zeros(3 * 10**6)))
    columns = {"source_id": pa.array([1]), "bp_coefficients": cells}
    parquet.write_table(pa.table(columns), path)


def make_many_fields(path):
    columns = [fits.Column("source_id", "K", array=[1])]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    data = path.read_bytes()
    fields = b"TFIELDS =                    1"
    assert data.count(fields) == 1
    path.write_bytes(data.replace(fields, b"TFIELDS =            999999999"))


@pytest.mark.parametrize(
    ("name", "make"),
    [("a.h5.gz", make_bomb), ("a.parquet", make_wide), ("a.fits", make_many_fields)],
)
def test_an_absurd_file_is_named_and_the_others_are_done(tmp_path, name, make, monkeypatch):
    monkeypatch.setattr(content, "SLACK", 1 << 20)
    make(tmp_path / name)
    write_columns(tmp_path / "b.parquet", n=4)
    inputs = [tmp_path / name, tmp_path / "b.parquet"]
    with pytest.warns(GaiaRedshiftWarning, match=rf"left out: .*{name}"):
        found = predict_to_file(inputs, tmp_path / "z.parquet", model=FakeModel())
    assert found.n_rows == 4
    assert list(found.failed) == [str(tmp_path / name)]


def test_a_file_that_asks_for_too_much_memory_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise MemoryError
        yield

    refusing = replace(formats.FORMATS["parquet"], read=refuse)
    monkeypatch.setitem(formats.FORMATS, "parquet", refusing)
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet: it asks for"):
        read_spectra(write_columns(tmp_path / "a.parquet", n=4))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members_of_zips_of_any_compression_are_named(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("XP_CONTINUOUS_RAW.csv", b"source_id,bp_coefficients\n" * 999)
        start = archive.start_dir - archive.infolist()[0].compress_size
    data = bytearray(path.read_bytes())
    data[start + 10 : start + 20] = bytes(10)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zip.* (unpacked|read as a zip) .*damaged"):
        read_spectra(path)


# --- models and queries of strangers -------------------------------------------------------------


def test_a_model_folder_with_a_pipe_is_refused_at_once(tmp_path):
    folder = shutil.copytree(load_model("default").folder, tmp_path / "model")
    card = next(folder.glob("*.npz"), None) or next(folder.glob("*.onnx"))
    card.unlink()
    os.mkfifo(card)
    with pytest.raises(ModelError, match="is no regular file; refused"):
        load_model(folder)


def test_keras_archives_that_unpack_to_far_more_are_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(10**8))
    with pytest.raises(ModelError, match="unpacks to far more than it holds"):
        check_weights(stream.getvalue(), "weights.keras")


def test_many_comments_before_no_query_take_no_time():
    start = time.perf_counter()
    assert not is_for_archive("/**/" * 20_000 + "x")
    assert not is_for_archive("-- a\n" * 20_000 + "x")
    assert is_for_archive("/* a */ -- b\n /**/ SELECT 1")
    assert time.perf_counter() - start < 30


def test_files_written_in_threads_have_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o077)
    try:
        table = Table({"x": [1]})
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda i: write_table(table, tmp_path / f"{i}.csv"), range(40)):
                pass
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("ending", ["fits", "h5", "parquet"])
def test_ids_that_gaia_does_not_give_are_told(tmp_path, ending):
    spectra = make_spectra(4, errors=False)
    spectra.source_id[2] = 12 << 59
    write_spectra(spectra, tmp_path / f"a.{ending}")
    with pytest.warns(GaiaRedshiftWarning, match="does not give, such as 6917529027641081856"):
        read_spectra(tmp_path / f"a.{ending}")


def test_an_interrupt_while_astropy_is_imported_breaks_no_later_call(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    script = """
import os, signal, sys
from gaia_redshift import read_table, write_table
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
def interrupt(frame, event, _):
    if frame.f_code.co_name == "register_parquet":  # in the middle of what astropy registers
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)
sys.setprofile(interrupt)
try:
    read_table("a.csv")
except KeyboardInterrupt:
    write_table(read_table("a.csv"), "b.ecsv")
    print(read_table("b.ecsv")["x"].tolist())
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "[1]\n", done.stderr


def test_models_loaded_long_ago_are_freed(tmp_path):
    first = weakref.ref(load_model(shutil.copytree(load_model("default").folder, tmp_path / "0")))
    for number in range(1, 6):
        last = load_model(shutil.copytree(load_model("default").folder, tmp_path / str(number)))
    gc.collect()
    assert first() is None
    assert load_model(tmp_path / "5") is last
    assert len(registry._loaded) <= registry._KEPT
