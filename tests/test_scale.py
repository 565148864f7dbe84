"""Any amount of spectra to one file: in order, in bounded memory, and after a kill."""

import os
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from fake_model import ShareModel

import gaia_redshift.predict.journal as journal_module
from gaia_redshift.cli import main
from gaia_redshift.errors import GaiaRedshiftWarning, InputError, ModelError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.predict import join_predictions, predict_table, predict_to_file
from gaia_redshift.predict.blocks import join_rows, predict_block
from gaia_redshift.predict.outputs import find_repeated
from gaia_redshift.predict.progress import Progress
from gaia_redshift.readers.files import read_table
from gaia_redshift.sampling import sample_spectra
from gaia_redshift.spectra import BandSpectra, XPSpectra
from gaia_redshift.tables import build_table, write_blocks
from gaia_redshift.tables.columns import take_table
from gaia_redshift.writers import write_spectra


@dataclass
class FakeModel(ShareModel):
    """Breaks after so many sources, or at one."""

    manifest: dict = field(default_factory=lambda: {"trained_on": "simulated galaxies"})
    sizes: list = field(default_factory=list)
    fail_after: float = float("inf")  # sources
    poison: float = float("nan")  # the total flux of a source that it does not bear

    def predict(self, flux, flux_error=None, *, batch_size=None, progress=False):
        self.sizes.append(len(flux))
        total = flux.sum(axis=1)
        if sum(self.sizes) > self.fail_after or np.isclose(total, self.poison, rtol=1e-9).any():
            raise ModelError("the network broke")
        return super().predict(flux, flux_error)


def write_columns(path, n=40, start=0, **more):
    rng = np.random.default_rng(start)
    columns = {"source_id": 4 * 10**18 + start + np.arange(n)} | more
    for band, number in (("bp", 56), ("rp", 57)):
        coefficients = 100 * rng.normal(size=(n, 55))  # bright: the unit is not judged
        coefficients[:, 0] += 10_000
        coefficients[start % n, 3] = np.nan
        columns[f"{band}_basis_function_id"] = np.full(n, number)
        columns[f"{band}_coefficients"] = list(coefficients)
    pd.DataFrame(columns).to_parquet(path)
    return path


def make_spectra(n, errors=True):
    rng = np.random.default_rng(1)
    bands = {}
    for band, number in (("bp", 56), ("rp", 57)):
        coefficients = 100 * rng.normal(size=(n, 55))  # bright: the unit is not judged
        coefficients[:, 0] += 10_000
        bands[band] = BandSpectra(
            coefficients,
            rng.uniform(0.1, 1, size=(n, 55)) if errors else None,
            rng.uniform(-0.01, 0.01, size=(n, 1485)).astype("f4") if errors else None,
            basis_id=np.full(n, number),
        )
    from astropy.table import Table

    columns = Table({"ra": np.arange(n) + 0.25, "name": [f"galaxy {i}" for i in range(n)]})
    return XPSpectra(4 * 10**18 + np.arange(n), **bands, columns=columns, release="DR3")


def assert_same(table, expected):
    assert table.colnames == expected.colnames
    for name in expected.colnames:
        assert table[name].dtype.kind == expected[name].dtype.kind, name
        got, wanted = np.ma.asarray(table[name]), np.ma.asarray(expected[name])
        assert np.ma.getmaskarray(got).tolist() == np.ma.getmaskarray(wanted).tolist(), name
        assert np.ma.filled(got, 0).tolist() == np.ma.filled(wanted, 0).tolist(), name


@pytest.mark.parametrize(
    "name", ["z.parquet", "z.ecsv", "z.fits", "z.csv", "z.ecsv.gz", "z.fits.gz", "z.vot", "z.h5"]
)
def test_any_format_holds_what_predict_table_gives(tmp_path, monkeypatch, name):
    monkeypatch.setattr(journal_module, "PART_ROWS", 30)
    texts = [f"s\u00e9{'x' * (i % 5)}" if i % 7 else None for i in range(40)]
    flag = pd.array([True, None] * 20, dtype="boolean")
    number = pd.array([None, *range(39)], dtype="Int64")
    write_columns(tmp_path / "a.parquet", tag=texts, good=flag, n_obs=number)
    write_columns(tmp_path / "b.parquet", start=20, tag=["b"] * 40, n_obs=np.arange(40))
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    model = FakeModel()
    summary = predict_to_file(files[0], tmp_path / name, model=model, keep="all", block_size=16)
    expected = predict_table(files[0], model=model, keep="all")
    table = read_table(tmp_path / name)
    if name == "z.csv":
        assert table["source_id"].tolist() == expected["source_id"].tolist()
        np.testing.assert_allclose(table["redshift_cnn"], expected["redshift_cnn"])
    else:
        assert_same(table, expected)
        del table.meta["created_utc"], expected.meta["created_utc"]
        assert table.meta == expected.meta
        assert table["redshift_cnn"].info.meta["ucd"] == "src.redshift"
    assert (summary.n_rows, summary.n_masked) == (40, 1)
    assert max(model.sizes[:3]) == 16  # in blocks

    # Two files of different columns, with sources in both.
    predict_to_file(files, tmp_path / name, model=model, keep="tag", overwrite=True)
    expected = join_predictions([predict_table(f, model=model, keep="tag") for f in files])
    assert ((expected["flags_cnn"] & QualityFlag.DUPLICATE_SOURCE_ID) != 0).sum() == 40
    if name != "z.csv":
        assert_same(read_table(tmp_path / name), expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "b.parquet", name]


def test_columns_of_different_types_become_one(tmp_path):
    kept = {"a": [1, 2], "b": [1.5, 2.5], "c": ["x", "yy"]}
    for name, values in kept.items():
        write_columns(tmp_path / f"{name}.parquet", n=2, start=ord(name), tag=values)
    paths = [tmp_path / f"{name}.parquet" for name in "abc"]
    predict_to_file(paths[:2], tmp_path / "z.parquet", model=FakeModel(), keep="tag")
    assert read_table(tmp_path / "z.parquet")["tag"].tolist() == [1.0, 2.0, 1.5, 2.5]
    predict_to_file(paths, tmp_path / "z.fits", model=FakeModel(), keep="tag")
    assert read_table(tmp_path / "z.fits")["tag"].tolist() == ["1", "2", "1.5", "2.5", "x", "yy"]


@pytest.mark.parametrize("name", ["z.fits", "z.vot", "z.parquet", "z.h5", "z.ecsv"])
def test_integers_beyond_int64_stay_whole_beside_masked_ones(tmp_path, name):
    """FITS and VOTable write them as digits, of whatever width the whole column needs."""
    large = pd.array([2**64 - 1, None], dtype="UInt64")
    write_columns(tmp_path / "a.parquet", n=2, tag=pd.array([None, 7], dtype="UInt64"))
    write_columns(tmp_path / "b.parquet", n=2, start=9, tag=large)
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    predict_to_file(files, tmp_path / name, model=FakeModel(), keep="tag")
    assert read_table(tmp_path / name)["tag"].tolist() == [None, 7, 2**64 - 1, None]


@pytest.mark.parametrize("name", ["z.parquet", "z.fits", "z.vot", "z.vot.gz", "z.ecsv", "z.csv"])
def test_rows_are_written_as_they_come(tmp_path, name):
    """Memory does not grow with their number: of each block nothing is kept."""
    table = build_table(np.arange(1, 50_001), np.full(50_000, 0.1), np.zeros(50_000, dtype=int))
    columns, block = take_table(table)
    held = []

    def iter_blocks():
        for _ in range(4):
            yield {key: values.copy() for key, values in block.items()}
            held.append(tracemalloc.get_traced_memory()[0])

    write_blocks(iter_blocks(), tmp_path / name, columns, table.meta)  # imports what it needs
    held.clear()
    tracemalloc.start()
    write_blocks(iter_blocks(), tmp_path / name, columns, table.meta)
    tracemalloc.stop()
    assert held[-1] - held[0] < 200_000  # a block has 800,000 bytes


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz", "s.ecsv", "s.fits", "s.h5", "s.parquet"])
@pytest.mark.parametrize("uses_errors", [False, True])
def test_inputs_of_every_format_can_be_continued_inside(tmp_path, monkeypatch, name, uses_errors):
    """A run that broke in the middle of a file goes on there, and gives the same rows."""
    monkeypatch.setattr(journal_module, "PART_ROWS", 1)
    write_spectra(make_spectra(70), tmp_path / name)
    model = FakeModel(uses_errors=uses_errors)
    options = {"keep": ["ra", "name"], "block_size": 16}
    predict_to_file(tmp_path / name, tmp_path / "whole.parquet", model=model, **options)
    poison = sample_spectra(make_spectra(70)[40], errors=False).flux.sum()
    broken = FakeModel(uses_errors=uses_errors, poison=poison)
    with pytest.raises(ModelError):
        predict_to_file(tmp_path / name, tmp_path / "z.parquet", model=broken, **options)
    assert not (tmp_path / "z.parquet").exists()
    model.sizes.clear()
    summary = predict_to_file(
        tmp_path / name, tmp_path / "z.parquet", model=model, resume=True, **options
    )
    assert summary.n_resumed == 32
    assert sum(model.sizes) == 70 - summary.n_resumed
    assert_same(read_table(tmp_path / "z.parquet"), read_table(tmp_path / "whole.parquet"))


def test_what_was_fetched_before_the_kill_is_not_fetched_again(tmp_path, monkeypatch):
    """The rows of an input from the archive are written, but not yet that it is done."""
    monkeypatch.setattr(journal_module, "PART_ROWS", 1)
    spectra, fetched = make_spectra(5), []

    def fetch(source, settings, findings, **options):
        fetched.append(source)
        return join_rows([predict_block(spectra, settings, findings)])

    monkeypatch.setattr("gaia_redshift.predict.stream.predict_rows", fetch)
    ids, output = spectra.source_id.tolist(), tmp_path / "z.parquet"
    with monkeypatch.context() as killed:
        killed.setattr(journal_module.Journal, "end", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict_to_file(ids, output, model=FakeModel())
    summary = predict_to_file(ids, output, model=FakeModel(), resume=True)
    assert (summary.n_rows, summary.n_resumed, len(fetched)) == (5, 5, 1)
    assert read_table(output)["source_id"].tolist() == ids


def test_an_unfinished_run_is_neither_lost_nor_mixed_up(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "PART_ROWS", 1)
    path = write_columns(tmp_path / "a.parquet", ra=np.arange(40.0))
    output = tmp_path / "z.parquet"
    options = {"block_size": 8, "keep": "ra"}
    with pytest.raises(ModelError):
        predict_to_file(path, output, model=FakeModel(fail_after=20), **options)
    for changed, words in (
        ({"resume": False}, "unfinished run of .*16 rows.*--resume"),
        ({"block_size": 9}, r"other options \(block_size\)"),
        ({"keep": None}, r"other options \(keep\)"),
        ({"any_release": True}, r"other options \(any_release\)"),
        ({"model": FakeModel(version="8")}, "another model"),
    ):
        arguments = {"model": FakeModel(), "resume": True, **options, **changed}
        with pytest.raises(InputError, match=words) as caught:
            predict_to_file(path, output, **arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="1 inputs, now 2"):
        predict_to_file([path, path], output, model=FakeModel(), resume=True, **options)
    os.utime(path, (1, 1))  # copied: what it holds is the same
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a.parquet \(it has changed"):
        predict_to_file(path, output, model=FakeModel(), resume=True, **options)
    summary = predict_to_file(path, output, model=FakeModel(), overwrite=True, **options)
    assert (summary.n_rows, summary.n_resumed) == (40, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "z.parquet"]


def begin(tmp_path, monkeypatch):
    """Begin a run that is broken off; return its input and output."""
    monkeypatch.setattr(journal_module, "PART_ROWS", 1)
    path = write_columns(tmp_path / "a.parquet")
    with pytest.raises(ModelError):
        predict_to_file(path, tmp_path / "z.parquet", model=FakeModel(fail_after=20), block_size=8)
    return path, tmp_path / "z.parquet"


@pytest.mark.parametrize("plan", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_a_damaged_plan_is_told_and_can_be_discarded(tmp_path, monkeypatch, plan):
    path, output = begin(tmp_path, monkeypatch)
    (journal_module.name_folder(output) / "plan.json").write_bytes(plan)
    for resume in (True, False):
        with pytest.raises(InputError, match=r"plan.json is damaged; discard it with overwrite"):
            predict_to_file(path, output, model=FakeModel(), block_size=8, resume=resume)
    predict_to_file(path, output, model=FakeModel(), block_size=8, overwrite=True)
    assert len(read_table(output)) == 40


@pytest.mark.parametrize("line", [b"{", b"[]\n", b"3\n", b"{}\n", b'{"next": [], "failed": 1}\n'])
def test_a_damaged_line_of_a_journal_ends_what_is_taken_up(tmp_path, monkeypatch, line):
    path, output = begin(tmp_path, monkeypatch)
    with (journal_module.name_folder(output) / "journal.jsonl").open("ab") as file:
        file.write(line)
    summary = predict_to_file(path, output, model=FakeModel(), block_size=8, resume=True)
    assert (summary.n_rows, summary.n_resumed) == (40, 16)


def test_nothing_is_deleted_behind_a_link(tmp_path):
    path = write_columns(tmp_path / "a.parquet")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    journal_module.name_folder(tmp_path / "x.parquet").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="is a link to another place"):
        predict_to_file(path, tmp_path / "x.parquet", model=FakeModel(), overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_resume_needs_nothing_to_resume_but_files(tmp_path):
    path = write_columns(tmp_path / "a.parquet")
    predict_to_file(path, tmp_path / "z.parquet", model=FakeModel(), resume=True)
    assert len(read_table(tmp_path / "z.parquet")) == 40
    with pytest.raises(InputError, match="tables in memory"):
        predict_to_file(make_spectra(3), tmp_path / "y.parquet", model=FakeModel(), resume=True)
    predict_to_file([make_spectra(3), path], tmp_path / "y.parquet", model=FakeModel())
    assert len(read_table(tmp_path / "y.parquet")) == 43


def test_spectra_in_memory_keep_the_columns_asked_for_alone(tmp_path):
    predict_to_file(make_spectra(3), tmp_path / "z.parquet", model=FakeModel(), keep="name")
    names = read_table(tmp_path / "z.parquet").colnames
    assert names == ["source_id", "redshift_cnn", "flags_cnn", "name"]


def test_a_journal_cut_short_is_taken_up_as_far_as_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "PART_ROWS", 1)
    path = write_columns(tmp_path / "a.parquet")
    folder = journal_module.name_folder(tmp_path / "z.parquet")

    def break_off():
        with pytest.raises(ModelError):
            predict_to_file(
                path,
                tmp_path / "z.parquet",
                model=FakeModel(fail_after=30),
                block_size=8,
                overwrite=True,
            )
        return (folder / "journal.jsonl").read_text()

    def finish():
        return predict_to_file(
            path, tmp_path / "z.parquet", model=FakeModel(), block_size=8, resume=True
        ).n_resumed

    predict_to_file(path, tmp_path / "whole.parquet", model=FakeModel(), block_size=8)
    whole = read_table(tmp_path / "whole.parquet")
    for damage, left in (
        (lambda text: (folder / "journal.jsonl").write_text(text[:-30]), 16),
        (lambda text: (folder / "part-000001.parquet").write_bytes(b"PAR1"), 8),
        (lambda text: (folder / "part-000002.parquet").unlink(), 16),
        (lambda text: (folder / "journal.jsonl").unlink(), 0),
        (lambda text: (folder / "part-000003.parquet.new").write_bytes(b"half"), 24),
    ):
        damage(break_off())
        assert finish() == left
        assert_same(read_table(tmp_path / "z.parquet"), whole)
        (tmp_path / "z.parquet").unlink()


def test_damaged_files_among_others(tmp_path):
    """Nothing of a damaged file is written, wherever the damage lies; each is named."""
    spectra = tmp_path / "spectra"
    spectra.mkdir()
    for i in range(20):
        write_columns(spectra / f"{i:02d}.parquet", n=4, start=10 * i)
    (spectra / "03.parquet").write_bytes(b"PAR1 no")
    write_spectra(make_spectra(60), tmp_path / "cut.csv")
    text = (tmp_path / "cut.csv").read_bytes()
    (spectra / "07.parquet").unlink()
    (spectra / "07.csv").write_bytes(text[: int(0.9 * len(text))])
    with pytest.warns(GaiaRedshiftWarning) as caught:
        summary = predict_to_file(spectra, tmp_path / "z.parquet", model=FakeModel(), block_size=8)
    assert ["03.parquet" in str(w.message) for w in caught] == [True, False]
    assert "07.csv, row 5" in str(caught[1].message)
    assert [name[-10:] for name in summary.failed] == ["03.parquet", "tra/07.csv"]
    ids = read_table(tmp_path / "z.parquet")["source_id"] - 4 * 10**18
    good = [i for i in range(20) if i not in (3, 7)]
    assert ids.tolist() == [10 * i + k for i in good for k in range(4)]


def test_nothing_readable_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with (
        pytest.warns(GaiaRedshiftWarning, match="a.parquet"),
        pytest.raises(InputError, match="no input could be read"),
    ):
        predict_to_file(tmp_path / "a.parquet", tmp_path / "z.parquet", model=FakeModel())
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
    with pytest.raises(InputError, match="no such file"):
        predict_to_file(tmp_path / "b.parquet", tmp_path / "z.parquet", model=FakeModel())
    with pytest.raises(InputError, match="block_size"):
        predict_to_file(tmp_path, tmp_path / "z.parquet", model=FakeModel(), block_size=0)


def test_two_runs_do_not_write_the_same_output(tmp_path):
    path = write_columns(tmp_path / "a.parquet")
    output = tmp_path / "z.parquet"
    first = journal_module.Journal(output, {"inputs": []}, resume=False, restart=False)
    with pytest.raises(InputError, match="another process"):
        predict_to_file(path, output, model=FakeModel())
    first.remove()
    predict_to_file(path, output, model=FakeModel())


def test_a_warning_comes_once_however_many_blocks(tmp_path):
    path = write_columns(tmp_path / "a.parquet", bp_n_parameters=np.full(40, 55))
    frame = pd.read_parquet(path)
    frame["bp_basis_function_id"] = 901
    frame.to_parquet(path)
    with pytest.warns(GaiaRedshiftWarning, match="basis ids 901") as caught:
        predict_to_file(path, tmp_path / "z.parquet", model=FakeModel(), block_size=8)
    assert len(caught) == 1


def test_repeated_ids_are_found_in_any_number_of_passes(monkeypatch):
    rng = np.random.default_rng(2)
    parts = [128 * rng.integers(-500, 500, size=200) for _ in range(4)]
    values, counts = np.unique(np.concatenate(parts), return_counts=True)
    expected = values[counts > 1].tolist()
    assert find_repeated(lambda: parts, 800).tolist() == expected
    monkeypatch.setattr("gaia_redshift.predict.outputs.IDS_AT_ONCE", 100)
    assert find_repeated(lambda: parts, 800).tolist() == expected
    assert find_repeated(lambda: [], 0).tolist() == []


def test_the_bar_knows_or_estimates_how_much_there_is(tmp_path, capsys):
    from gaia_redshift.readers import iter_spectra
    from gaia_redshift.readers.content import ReadMeter

    parquet = write_columns(tmp_path / "a.parquet")
    write_spectra(make_spectra(300, errors=False), tmp_path / "b.csv")
    write_spectra(make_spectra(30, errors=False), tmp_path / "c.fits")
    bar = Progress([parquet, tmp_path / "c.fits"], shown=True)
    assert bar._bar.total == 70
    bar.close()
    bar = Progress([tmp_path / "b.csv", parquet], shown=True)
    assert bar._bar.total is None
    meter, n = ReadMeter(), 0
    for block in iter_spectra(tmp_path / "b.csv", block_size=100, meter=meter):
        n += len(block)
        bar.follow(0, n, meter.tell())
        bar.update(len(block))
    bar.follow(0, n)
    bar.update(40)
    assert bar._bar.total == 340
    bar.close()
    assert "sources" in capsys.readouterr().err


SCRIPT = """
import json, os, random, signal, sys, time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
import numpy as np
import gaia_redshift.model.registry as registry
import gaia_redshift.predict.files as files
import gaia_redshift.predict.journal as journal
from gaia_redshift.sampling.bases import basis_sets, compute_design_matrices
from gaia_redshift.cli import main
from gaia_redshift.grid import DEFAULT_GRID

class Slow:
    name, version, sha256, manifest = "slow", "1", "cd" * 32, {}
    grid, uses_errors = DEFAULT_GRID, False

    def predict(self, flux, flux_error=None, **options):
        time.sleep(0.01)
        z = flux[:, 80:].sum(axis=1) / flux.sum(axis=1)
        zero = np.zeros(len(flux), dtype=np.int32)
        return SimpleNamespace(redshift=z, flags=zero, lower=None, upper=None)

registry.load_model = lambda name="default", device="auto": Slow()
journal.PART_ROWS, files.BLOCK_SIZE = 64, 16
for each in basis_sets():
    compute_design_matrices(DEFAULT_GRID, each)  # imports what takes long, once for all children
inputs, whole, output = sys.argv[1:]

def start(*arguments):
    pid = os.fork()
    if not pid:
        os._exit(main(["predict", inputs, *arguments]))
    return pid

def count_lines():
    path = journal.name_folder(Path(output)) / "journal.jsonl"
    return path.read_bytes().count(b"\\n") if path.exists() else 0

assert os.waitpid(start("-q", "-o", whole), 0)[1] == 0
for parts in (2, 9, 17):
    pid = start("-q", "-o", output, "--resume")
    while count_lines() < parts:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.05))
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not os.path.exists(output)
assert os.waitpid(start("-o", output, "--resume"), 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills children that it forks")
def test_killed_at_any_moment_and_resumed_equals_undisturbed(tmp_path):
    """SIGKILL at three moments, random to a part of a second, then once to the end."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for i in range(5):
        write_columns(inputs / f"{i}.parquet", n=400, start=390 * i)
    whole, output = tmp_path / "whole.parquet", tmp_path / "z.parquet"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(inputs), str(whole), str(output)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    before = int(done.stderr.split(" sources were predicted before")[0].replace(",", ""))
    assert 17 * 64 <= before < 2000
    assert_same(read_table(output), read_table(whole))
    ids = [390 * i + k for i in range(5) for k in range(400)]
    assert (read_table(output)["source_id"] - 4 * 10**18).tolist() == ids
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inputs", "whole.parquet", "z.parquet"]


@pytest.fixture
def fake_default(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "gaia_redshift.model.registry.load_model", lambda name="default", device="auto": MODELS[0]
    )
    monkeypatch.chdir(tmp_path)


MODELS = [FakeModel()]


def test_the_command_resumes_and_says_so(fake_default, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(journal_module, "PART_ROWS", 1)
    monkeypatch.setattr("gaia_redshift.predict.files.BLOCK_SIZE", 8)
    write_columns("a.parquet", redshift_true=np.full(40, 0.5))
    MODELS[0] = FakeModel(fail_after=20)
    assert main(["predict", "a.parquet", "-o", "z.fits"]) == 1
    assert capsys.readouterr().err == "gaia-redshift: error: the network broke\n"
    MODELS[0] = FakeModel()
    assert main(["predict", "a.parquet", "-o", "z.fits"]) == 1
    assert "--resume" in capsys.readouterr().err
    assert main(["predict", "a.parquet", "-o", "z.fits", "--resume"]) == 0
    out = capsys.readouterr().err.splitlines()
    assert out[0] == "16 sources were predicted before"
    assert out[1].startswith("40 sources, 39 with a redshift, 1 masked")
    assert "against redshift_true: n 39" in out[2]
    assert len(read_table("z.fits")) == 40
    assert main(["predict", "a.parquet", "--resume"]) == 1
    assert "--output" in capsys.readouterr().err


def test_the_command_names_every_damaged_file(fake_default, capsys, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(20):
        write_columns(f"in/{i:02d}.parquet", n=4, start=10 * i)
    (tmp_path / "in/11.parquet").write_bytes(b"PAR1 no")
    assert main(["predict", "in", "-o", "z.csv"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert "11.parquet" in err[0]
    assert "1 of 20 inputs could not be read" in err[-1]
    assert len(read_table("z.csv")) == 76
    (tmp_path / "in/12.parquet").write_bytes(b"PAR1 no")
    assert main(["predict", "in/11.parquet", "in/12.parquet", "-o", "y.csv"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert ["11.parquet" in err[0], "12.parquet" in err[1], "2 of 2" in err[2]] == [True] * 3
    assert len(err) == 3


CHANGES = {
    "as it is": lambda text: text,
    "comments and blank lines": lambda text: text.replace(b"\n", b"\n# a, b\n\n  \n"),
    "a comment with the commas of a row": lambda text: text + b"#" + b"," * 12 + b"\n",
    "two files glued together": lambda text: text + text,
    "line ends of Windows": lambda text: text.replace(b"\n", b"\r\n"),
    "no last line end": lambda text: text.rstrip(b"\n"),
    "a value of several lines": lambda text: text.replace(b"galaxy 7", b"galaxy\n7"),
    "doubled quotes": lambda text: text.replace(b"galaxy 7", b'galaxy ""7""'),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", [700, 1 << 20])
@pytest.mark.parametrize("change", list(CHANGES))
def test_a_csv_file_is_read_wherever_its_pieces_end(tmp_path, monkeypatch, change, size, packed):
    import gzip

    import gaia_redshift.readers.content as content_module
    from gaia_redshift.readers import read_spectra

    monkeypatch.setattr(content_module, "CHUNK", size)
    wanted = make_spectra(30)
    write_spectra(wanted, tmp_path / "a.csv")
    text = CHANGES[change]((tmp_path / "a.csv").read_bytes())
    path = tmp_path / ("b.csv.gz" if packed else "b.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    found = read_spectra(path, keep="all")
    n = 2 if change == "two files glued together" else 1
    assert found.source_id.tolist() == n * wanted.source_id.tolist()
    for band in ("bp", "rp"):
        for name in ("coefficients", "errors", "correlations"):
            got, given = (getattr(getattr(s, band), name) for s in (found, wanted))
            np.testing.assert_array_equal(got, np.concatenate(n * [given]).astype(got.dtype))
    names = n * wanted.columns["name"].tolist()
    changed = {"a value of several lines": "galaxy\n7", "doubled quotes": 'galaxy "7"'}
    names = [name.replace("galaxy 7", changed.get(change, "galaxy 7")) for name in names]
    assert found.columns["name"].tolist() == names


ARRAYS = {
    "(1.5, -2E-3)": [1.5, -0.002],
    "[1,2.5]": [1.0, 2.5],
    "(1e400, -1e-400)": [np.inf, 0.0],
    "(123456789012345678901234567890, 18446744073709551615)": [1.2345678901234568e29, 2.0**64],
    "(+1, .5, 2., 01)": [1.0, 0.5, 2.0, 1.0],
    "(1, null, NaN)": [1.0, np.nan, np.nan],
    "()": [],
    "  ": [],
    "(1, [2, 3])": None,
    "([1], 2)": None,
    '(1, "2")': None,
    "(1, true)": None,
    "(1, 2": None,
}
"""Arrays in text, and what they hold; None is damage."""


@pytest.mark.parametrize("library", [True, False])
def test_numbers_in_text_are_what_float_reads(monkeypatch, library):
    from gaia_redshift.readers.arrays import parse_text_arrays

    if not library:
        monkeypatch.setitem(sys.modules, "simdjson", None)
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 2**63, size=(9, 20)).view(float)
    numbers[~np.isfinite(numbers)] = 0
    given = dict(ARRAYS) | {str(tuple(row.tolist())): row.tolist() for row in numbers}
    found = parse_text_arrays([text.encode() for text in given])
    parts = np.split(found.values, np.cumsum(found.lengths)[:-1])
    for text, part, damaged in zip(given, parts, found.damaged, strict=True):
        assert damaged == (given[text] is None), text
        if not damaged:
            np.testing.assert_array_equal(part, given[text], err_msg=text)


def test_a_quote_within_a_value_is_a_letter_and_text_may_follow_a_quoted_one(tmp_path):
    from gaia_redshift.readers import read_spectra

    text = "name,source_id,bp_coefficients,rp_coefficients,dec\n"
    text += '5" off,7, "(1, 2)" ,"[3,4]",-12d30\'15"\n"a, ""b"""c,8,"(1,2)","(3,4)",""\n'
    (tmp_path / "a.csv").write_text(text)
    found = read_spectra(tmp_path / "a.csv", keep=["name", "dec"])
    assert found.source_id.tolist() == [7, 8]
    assert found.bp.coefficients.tolist() == [[1, 2], [1, 2]]
    assert found.rp.coefficients.tolist() == [[3, 4], [3, 4]]
    assert found.columns["name"].tolist() == ['5" off', 'a, "b"c']
    assert found.columns["dec"].tolist() == ["-12d30'15\"", None]


@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_file_cut_inside_its_last_value_is_told(tmp_path, packed):
    import gzip

    from gaia_redshift.readers import read_spectra

    write_spectra(make_spectra(30), tmp_path / "a.csv")
    names = (tmp_path / "a.csv").read_bytes().split(b"\n", 1)[0].split(b",")
    frame = pd.read_csv(tmp_path / "a.csv")
    last = [n for n in frame.columns if n != "rp_coefficient_correlations"]
    frame[[*last, "rp_coefficient_correlations"]].to_csv(tmp_path / "b.csv", index=False)
    text = (tmp_path / "b.csv").read_bytes()[:-100]
    path = tmp_path / ("c.csv.gz" if packed else "c.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    assert len(names) == len(frame.columns)
    with pytest.raises(InputError, match="row 30: ends inside a quoted value"):
        read_spectra(path)


@pytest.mark.parametrize("line", [b'x"' * 10**6, b'a"b,' * 10**6, b'"' * (2 * 10**6 + 1)])
def test_a_line_of_quotes_is_refused_soon(tmp_path, line):
    from gaia_redshift.readers import read_spectra

    head = b"source_id,bp_coefficients,rp_coefficients\n"
    (tmp_path / "a.csv").write_bytes(head + line + b"\n")
    start = time.perf_counter()
    with pytest.raises(InputError, match="row 1: "):
        read_spectra(tmp_path / "a.csv")
    assert time.perf_counter() - start < 60


def test_columns_that_a_format_cannot_hold_are_told_at_the_first_block(tmp_path):
    model = FakeModel()
    path = write_columns(tmp_path / "a.parquet", **{"n" * 70: np.arange(40)})
    with pytest.raises(InputError, match=r"cannot write .* has a name of 70 letters"):
        predict_to_file(path, tmp_path / "z.fits", model=model, keep="all", block_size=4)
    assert sum(model.sizes) < 40
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_the_output_is_none_of_the_inputs(tmp_path):
    path = write_columns(tmp_path / "a.parquet")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is one of the inputs"):
        predict_to_file(path, path, model=FakeModel(), overwrite=True)
    assert path.read_bytes() == before


def test_a_file_system_without_locks_can_be_written_to(tmp_path, monkeypatch):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = write_columns(tmp_path / "a.parquet", n=4)
    assert predict_to_file(path, tmp_path / "z.parquet", model=FakeModel()).n_rows == 4


@pytest.mark.parametrize("name", ["~$a.parquet", os.fsdecode(b"a\xff.parquet")])
@pytest.mark.parametrize("ending", ["parquet", "fits", "ecsv", "vot", "h5"])
def test_names_that_are_not_usual_are_names(tmp_path, monkeypatch, name, ending):
    write_columns(tmp_path / "a.parquet", n=4)
    (tmp_path / "a.parquet").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    predict_to_file(name, f"~$z.{ending}", model=FakeModel())
    assert read_table(f"~$z.{ending}").meta["inputs"] in (["~$a.parquet"], ["a\\udcff.parquet"])
    with pytest.raises(InputError, match="its name is not UTF-8"):
        predict_to_file(name, os.fsdecode(b"\xff.csv"), model=FakeModel())
