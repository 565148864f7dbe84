"""What importing the package costs, and what its namespace shows."""

import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import pytest

import gaia_redshift
from gaia_redshift import simulate_spectra, write_spectra

HEAVY = ("tensorflow", "keras", "gaiaxpy", "astroquery", "pandas", "pyarrow", "matplotlib", "h5py")

PROBE = f"""
import sys, socket
def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket.connect = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
import warnings
import numpy as np
options = np.get_printoptions()
import gaia_redshift
assert np.get_printoptions() == options
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
import gaia_redshift.cli
for name in ("SamplingGrid", "QualityFlag", "XPSpectra", "predict_table", "sample_spectra",
             "predict_redshift", "decode_flags", "read_table", "read_spectra", "load_model"):
    getattr(gaia_redshift, name)
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
"""


def run_python(*arguments, folder=None):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_import_loads_nothing_heavy_and_opens_no_socket():
    done = run_python("-c", PROBE)
    assert done.returncode == 0, done.stderr


def test_printed_redshifts_do_not_wait_for_astropy_tables(tmp_path):
    """Their import takes half of the time to the first result."""
    as_the_archive_has_them = replace(simulate_spectra(2, seed=3), columns=None)
    write_spectra(as_the_archive_has_them, tmp_path / "two.csv")
    done = run_python(
        "-c",
        "import sys; from gaia_redshift.cli import main\n"
        "assert main(['predict', 'two.csv']) == 0\n"
        "assert 'astropy.table' not in sys.modules\n",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "2 sources, 2 with a redshift" in done.stderr


def test_common_predictions_load_neither_gaiaxpy_nor_pandas(tmp_path):
    """Their imports take longer than everything else that the first result needs."""
    for name in ("two.csv", "two.fits", "two.parquet"):
        write_spectra(simulate_spectra(2, seed=3), tmp_path / name)
    for name in ("two.csv", "two.fits", "two.parquet"):
        done = run_python(
            "-c",
            "import sys; from gaia_redshift import predict_table, predict_to_file\n"
            f"table = predict_table({name!r}); assert len(table) == 2\n"
            f"assert predict_to_file({name!r}, '{name}.z.parquet').n_rows == 2\n"
            "assert not {'gaiaxpy', 'scipy', 'pandas'} & sys.modules.keys()\n",
            folder=tmp_path,
        )
        assert done.returncode == 0, done.stderr


def test_public_names_are_listed_and_there():
    listed = dir(gaia_redshift)
    assert set(gaia_redshift.__all__) <= set(listed)
    for name in ("predict_table", "write_table", "read_table", "sample_spectra", "__version__"):
        assert name in gaia_redshift.__all__
        assert getattr(gaia_redshift, name) is not None
    assert gaia_redshift._HOMES.keys() == set(gaia_redshift.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="no_such_name"):
        gaia_redshift.no_such_name  # noqa: B018


def test_settings_survive_the_first_public_calls_of_a_process(tmp_path):
    """In a fresh process, where GaiaXPy and the rest are imported by the call itself."""
    script = """
import warnings
import numpy as np
import gaia_redshift
from gaia_redshift.spectra import BandSpectra
band = BandSpectra(np.eye(55)[:1] * 100)
spectra = gaia_redshift.XPSpectra(np.array([1]), band, band)
import matplotlib
filters, options = list(warnings.filters), np.get_printoptions()
plots = dict(matplotlib.rcParams)
vectors = gaia_redshift.sample_spectra(spectra)
assert warnings.filters == filters, "sample_spectra"
assert dict(matplotlib.rcParams) == plots
gaia_redshift.sample_wavelengths()
table = gaia_redshift.read_spectra({"source_id": [1], "bp_coefficients": [[1.0] * 55],
                                    "rp_coefficients": [[1.0] * 55]})
assert warnings.filters == filters, "read_spectra"
from gaia_redshift import read_table, write_table
from gaia_redshift.tables import build_table
write_table(build_table([1], [0.1], [0]), "t.vot")
read_table("t.vot")
assert warnings.filters == filters, "write_table"
from gaia_redshift.plot import plot_predictions
plot_predictions(build_table([1], [0.1], [0]))
assert warnings.filters == filters, "plot_predictions"
assert np.get_printoptions() == options
assert dict(matplotlib.rcParams) == plots
"""
    done = run_python("-c", script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not done.stdout


def test_python_dash_m_is_the_command():
    done = run_python("-m", "gaia_redshift", "--version")
    assert done.returncode == 0
    assert done.stdout.strip() == f"gaia-redshift {gaia_redshift.__version__}"


def test_overlapping_threads_leave_no_filter_behind():
    from gaia_redshift._quiet import preserve_settings

    inside, leave = threading.Event(), threading.Event()

    def work():
        with preserve_settings():
            inside.set()
            leave.wait(10)

    before = list(warnings.filters)
    with preserve_settings():
        warnings.simplefilter("ignore")
        thread = threading.Thread(target=work)
        thread.start()
        inside.wait(10)
    leave.set()
    thread.join()
    assert warnings.filters == before


def test_overlapping_threads_leave_the_output_as_it_was(capsys):
    from gaia_redshift._quiet import silent_output

    inside, leave = threading.Event(), threading.Event()

    def work():
        with silent_output:
            inside.set()
            leave.wait(10)

    before = sys.stdout
    with silent_output:
        thread = threading.Thread(target=work)
        thread.start()
        inside.wait(10)
    print("not seen")
    leave.set()
    thread.join()
    assert sys.stdout is before
    print("seen")
    assert capsys.readouterr().out == "seen\n"


def test_libraries_are_silenced_and_this_package_is_not():
    from astropy.utils.exceptions import AstropyUserWarning

    from gaia_redshift._quiet import ignore_warnings
    from gaia_redshift.errors import GaiaRedshiftWarning

    before = list(warnings.filters)

    def warn_of_both():
        with ignore_warnings():
            warnings.warn("theirs", AstropyUserWarning, stacklevel=1)
            with warnings.catch_warnings():  # of a user's, or of another thread
                warnings.warn("ours", GaiaRedshiftWarning, stacklevel=1)

    with pytest.warns(GaiaRedshiftWarning, match="ours") as caught:
        warn_of_both()
    assert len(caught) == 1
    with pytest.raises(GaiaRedshiftWarning):  # as pytest is set up: warnings are errors
        warn_of_both()
    with ignore_warnings():
        other = warnings.catch_warnings()
        other.__enter__()
    other.__exit__(None, None, None)  # puts back the list in which the filters were
    assert warnings.filters == before


def test_an_interruption_waits_for_an_import():
    from gaia_redshift._quiet import defer_interrupt

    done = []

    def run():
        with defer_interrupt():
            signal.raise_signal(signal.SIGINT)
            done.append("import")

    # A shell's background jobs start with Ctrl-C ignored: set what an interactive one has.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
        assert done == ["import"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_completion_offers_the_public_names_alone():
    assert dir(gaia_redshift) == sorted(gaia_redshift.__all__)
