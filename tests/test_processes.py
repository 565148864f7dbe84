"""Several processes give what one gives: rows, warnings and failures, in order, whoever ends."""

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from fake_model import ShareModel
from pyarrow import parquet

import gaia_redshift.predict.journal as journal_module
import gaia_redshift.predict.processes as processes_module
from gaia_redshift import load_model, predict_to_file, read_spectra
from gaia_redshift.cli import main
from gaia_redshift.errors import GaiaRedshiftError, InputError, ModelIntegrityError
from gaia_redshift.predict.progress import Progress
from gaia_redshift.writers import write_spectra


@dataclass
class FakeModel(ShareModel):
    """``poison`` is a share that ends its process."""

    device: str = "cpu"
    poison: float = float("nan")

    def predict(self, flux, flux_error=None):
        found = super().predict(flux, flux_error)
        if np.isclose(found.redshift, self.poison, rtol=1e-6).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return found


DEMO = Path(__file__).parents[1] / "catalogs" / "demo_galaxies.parquet"


@pytest.fixture(scope="module")
def spectra():
    return read_spectra(DEMO, keep=["redshift_true", "type", "rp_flux"])


@pytest.fixture(scope="module")
def folder(spectra, tmp_path_factory):
    """Files of several formats and sizes, some damaged, some with sources of others."""
    folder = tmp_path_factory.mktemp("many") / "in"
    folder.mkdir()
    for name, low, high in (
        *(("0.csv.gz", 0, 130), ("1.parquet", 130, 131), ("2.fits", 131, 250)),
        *(("3.csv", 250, 350), ("5.h5", 350, 390), ("6.parquet", 380, 500), ("8.csv", 0, 10)),
    ):
        write_spectra(spectra[low:high], folder / name)
    text = (folder / "3.csv").read_bytes()
    (folder / "3.csv").write_bytes(text[: int(0.9 * len(text))])
    (folder / "4.parquet").write_bytes(b"PAR1 no")
    fluxes = {f"phot_{band}_mean_flux": np.full(20, 1.0) for band in ("bp", "rp")}
    strange = replace(spectra[:20], columns=Table(fluxes))  # a doubtful unit
    for name in ("7.parquet", "9.parquet"):
        write_spectra(strange, folder / name)
    return folder


def run(sources, output, **options):
    """Return the rows, what was said, and the summary."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = predict_to_file(sources, output, **options)
    said = [str(warning.message) for warning in caught]
    return parquet.read_table(output), said, replace(summary, output=None)


def test_several_processes_give_what_one_gives(folder, spectra, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(processes_module, "IN_MEMORY", 10_000)  # most wait in a file
    monkeypatch.setattr(processes_module, "AHEAD", 4)
    bars = []

    class Bar(Progress):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.n = 0
            bars.append(self)

        def update(self, n):
            self.n += n

    monkeypatch.setattr("gaia_redshift.predict.files.Progress", Bar)
    files = sorted(folder.iterdir())
    sources = [*files[:6], spectra[100:120], *files[6:]]
    options = {"keep": "all", "flux_errors": True, "std": True, "block_size": 64}
    found, logs = [], []
    for processes in (1, 2):
        with caplog.at_level(logging.INFO, logger="gaia_redshift"):
            caplog.clear()
            found.append(run(sources, tmp_path / "z.parquet", processes=processes, **options))
            logs.append([r.getMessage() for r in caplog.records if r.levelno == logging.INFO])
            (tmp_path / "z.parquet").unlink()
    (alone, said, summary), (shared, said_too, summary_too) = found
    assert shared.equals(alone)
    assert shared.num_rows == 130 + 1 + 119 + 40 + 20 + 120 + 20 + 10 + 20
    assert said_too == said
    assert [next(w for w in ("3.csv", "4.par", "too large") if w in one) for one in said] == [
        *("3.csv", "4.par", "too large")
    ]
    assert summary_too == summary
    assert logs[0] == logs[1]
    assert sum("read and predicted" in line for line in logs[0]) == 9
    assert bars[0].n == bars[1].n == shared.num_rows
    assert bars[0].read == bars[1].read
    assert [p.name for p in tmp_path.iterdir()] == []


SCRIPT = """
import os, signal, sys, time
from multiprocessing import active_children
import gaia_redshift.predict.files as files
import gaia_redshift.predict.journal as journal
import gaia_redshift.predict.processes as processes
from gaia_redshift.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
kind, n, *arguments = sys.argv[1:]
journal.PART_ROWS, files.BLOCK_SIZE, processes.SMALL = 1, 32, 0
append, left = journal.Journal.append, [int(n)]

def end(self, *arguments):
    append(self, *arguments)
    left[0] -= 1
    if not left[0]:
        print(*[child.pid for child in active_children()], flush=True)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(0, signal.SIGINT)
        time.sleep(60)

journal.Journal.append = end
sys.exit(main(["predict", *arguments]))
"""


def break_off(kind, n, *arguments):
    """Run the command in two processes until n blocks are noted; return its end and last words."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(n), *map(str, arguments), "--processes", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,
    )
    workers = list(map(int, done.stdout.split()))
    assert len(workers) == 2, done.stderr
    wait_for_end(workers)
    return done.returncode, done.stderr


def wait_for_end(pids):
    until = time.monotonic() + 60
    for pid in pids:
        while is_alive(pid):
            assert time.monotonic() < until, "a process is left behind"
            time.sleep(0.05)


def is_alive(pid):
    """Whether there is such a process that has not ended."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:  # no /proc
        return True
    except ProcessLookupError:
        return False


@pytest.fixture(autouse=True)
def _one_by_one(monkeypatch):
    """These files are so small that one process would have them all."""
    monkeypatch.setattr(processes_module, "SMALL", 0)


needs_posix = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs signals")


@needs_posix
def test_killed_and_resumed_by_other_numbers_of_processes(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gaia_redshift.predict.files.BLOCK_SIZE", 32)
    files = [str(folder / name) for name in ("2.fits", "0.csv.gz", "6.parquet", "5.h5")]
    whole, output = tmp_path / "whole.parquet", tmp_path / "z.parquet"
    assert main(["predict", *files, "-o", str(whole)]) == 0
    assert break_off("kill", 7, *files, "-o", output)[0] == -signal.SIGKILL
    unfinished = journal_module.name_folder(output)
    assert not list(unfinished.glob("tmp*"))  # nor what waits
    for processes in (1, 3):
        copy = tmp_path / f"z{processes}.parquet"
        shutil.copytree(unfinished, journal_module.name_folder(copy))
        arguments = ["-o", str(copy), "--resume", "--processes", str(processes)]
        assert main(["predict", *files, *arguments]) == 0
        assert "215 sources were predicted before" in capsys.readouterr().err  # 119 + 3 * 32
        assert parquet.read_table(copy).equals(parquet.read_table(whole))


@needs_posix
def test_an_interruption_ends_all_processes_in_one_line(folder, tmp_path):
    output = tmp_path / "z.parquet"
    code, said = break_off("interrupt", 3, folder, "-o", output, "-q")
    assert code == 130
    assert said.splitlines() == [
        "gaia-redshift: error: interrupted: the same command with --resume goes on where it was"
    ]
    assert journal_module.name_folder(output).exists()


@needs_posix
def test_a_process_that_is_killed_is_told_and_the_run_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "PART_ROWS", 1)
    files = [folder / name for name in ("1.parquet", "2.fits", "5.h5", "6.parquet")]
    whole, output = tmp_path / "whole.parquet", tmp_path / "z.parquet"
    predict_to_file(files, whole, model=FakeModel())
    rows = parquet.read_table(whole)
    poison = rows["redshift_cnn"][1 + 119 + 5].as_py()
    words = rf"predicted .*5\.h5 has ended \(killed by signal {signal.SIGKILL:d};.*--resume"
    with pytest.raises(GaiaRedshiftError, match=words):
        predict_to_file(files, output, model=FakeModel(poison=np.float32(poison)), processes=2)
    summary = predict_to_file(files, output, model=FakeModel(), resume=True)
    assert summary.n_rows == rows.num_rows
    assert parquet.read_table(output).equals(rows)


def test_a_script_that_begins_anew_in_each_process_is_told_what_it_lacks(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from gaia_redshift import predict_to_file\n"
        f"predict_to_file({str(folder)!r}, 'z.parquet', processes=2)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert "must do its work under `if __name__ == '__main__':`" in lines[-1]
    assert sum(line.startswith("Traceback") for line in lines) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["script.py"]


def test_what_is_shown_is_the_same_whoever_predicts(folder, capsys, monkeypatch):
    monkeypatch.setattr(processes_module, "SMALL", 100_000)  # several at a time
    shown = []
    for processes in ("1", "2"):
        assert main(["predict", str(folder), "--processes", processes]) == 1
        shown.append(capsys.readouterr())
    assert shown[0] == shown[1]
    assert "2 of 10 inputs could not be read" in shown[0].err


def test_steps_that_wait_are_taken_in_order_and_what_is_taken_takes_no_place(tmp_path, monkeypatch):
    monkeypatch.setattr(processes_module, "IN_MEMORY", 1000)
    queue, found = processes_module._Queue(tmp_path), []
    for number in range(100):
        queue.put(pickle.dumps((number, b"x" * 50)))
    for number, _ in queue.take():
        found.append(number)
        if number < 50:
            queue.put(pickle.dumps((100 + number, b"")))
    assert found == list(range(150))
    assert not list(queue.take())
    assert queue._file.seek(0, os.SEEK_END) == 0
    queue.close()


def test_a_model_goes_to_another_process_only_as_it_was_loaded(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(load_model("default").folder, folder)
    packed = pickle.dumps(load_model(folder))
    assert pickle.loads(packed) is load_model(folder)
    shutil.rmtree(folder)
    shutil.copytree(load_model("kiraleos2023").folder, folder)
    with pytest.raises(ModelIntegrityError, match="another model is here"):
        pickle.loads(packed)


@pytest.mark.parametrize("processes", [-1, 1.5, True, "two", None, 10**6])
def test_numbers_that_mean_nothing_are_refused(tmp_path, folder, processes):
    with pytest.raises(InputError, match="processes") as caught:
        predict_to_file(folder, tmp_path / "z.parquet", model=FakeModel(), processes=processes)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_no_other_process_can_have_is_refused(tmp_path, folder):
    for options, words in (
        ({"model": FakeModel(device="gpu")}, "do not share a GPU"),
        ({"prior": lambda z: 1 + z}, "cannot be handed to other processes .*lambda"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            predict_to_file(folder, tmp_path / "z.parquet", processes=2, **options)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())


def test_a_single_file_and_tables_in_memory_need_no_other_process(
    tmp_path, folder, spectra, monkeypatch
):
    monkeypatch.setattr(processes_module, "_start_worker", pytest.fail)
    sources = [spectra[:5], folder / "5.h5", spectra[5:9]]
    summary = predict_to_file(sources, tmp_path / "z.parquet", model=FakeModel(), processes=0)
    assert summary.n_rows == 49
