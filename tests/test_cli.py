"""The command as a user meets it: what it prints, writes, and exits with."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from fake_model import ShareModel

import gaia_redshift.model.registry as registry
from gaia_redshift.cli import main
from gaia_redshift.cli.command import COMMANDS, build_parser
from gaia_redshift.cli.output import PlainStream
from gaia_redshift.errors import ModelError
from gaia_redshift.readers.files import read_table


@dataclass
class FakeModel(ShareModel):
    manifest: dict = field(default_factory=lambda: {"trained_on": "simulated galaxies"})
    card: str = "# Model card\n\nIntended use: tests."
    redshift_range: tuple = (0.0, 0.6)


@pytest.fixture(autouse=True)
def fake_model(monkeypatch):
    def load(name="default", device="auto"):
        if name not in ("default", "fake"):
            raise ModelError(f"no model named '{name}'; available: fake")
        return FakeModel()

    monkeypatch.setattr(registry, "load_model", load)
    monkeypatch.setattr(registry, "available_models", lambda: ["fake"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_spectra(name, n=4, start=0, bad=(), **more):
    rng = np.random.default_rng(start)
    columns = {"source_id": 4 * 10**18 + start + np.arange(n)} | more
    for band, number in (("bp", 56), ("rp", 57)):
        coefficients = 100 * rng.normal(size=(n, 55))  # bright: the unit is not judged
        coefficients[:, 0] += 10_000
        coefficients[list(bad), 3] = np.nan
        columns[f"{band}_basis_function_id"] = np.full(n, number)
        columns[f"{band}_coefficients"] = list(coefficients)
    pd.DataFrame(columns).to_parquet(name)


def test_predict_prints_a_readable_table_and_a_summary(folder, capsys):
    write_spectra("a.parquet", bad=[1])
    assert main(["predict", "a.parquet"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["source_id", "redshift_cnn", "flags_cnn"]
    assert lines[1].split()[0] == str(4 * 10**18)
    whole, decimals = lines[1].split()[1].split(".")
    assert (whole, len(decimals)) == ("0", 4)
    assert lines[1].split()[2] == "-"
    assert lines[2].split()[1] == "--"
    assert "non_finite_flux" in lines[2]
    assert len(lines) == 5
    assert err.startswith("4 sources, 3 with a redshift, 1 masked")
    assert "non_finite_flux 1" in err
    assert len(err.splitlines()) == 1


def test_long_tables_are_cut_on_the_terminal(folder, capsys):
    write_spectra("a.parquet", n=30)
    assert main(["predict", "a.parquet"]) == 0
    out = capsys.readouterr().out
    assert "... 10 more rows" in out
    assert len(out.splitlines()) == 1 + 20 + 1


@pytest.mark.parametrize("name", ["z.ecsv", "z.fits", "z.vot", "z.parquet", "z.csv"])
def test_output_is_written_with_the_columns_kept(folder, capsys, name):
    write_spectra("a.parquet", ra=np.arange(4.0), dec=np.arange(4.0), g=np.arange(4.0))
    assert main(["predict", "a.parquet", "--keep", "ra,dec", "--keep", "g", "-o", name]) == 0
    table = read_table(name)
    assert table.colnames == ["source_id", "redshift_cnn", "flags_cnn", "ra", "dec", "g"]
    assert table["source_id"].dtype == np.int64
    assert f"table: {name}" in capsys.readouterr().err
    if name != "z.csv":
        assert table.meta["model_name"] == "fake"
        assert table.meta["inputs"]


def test_an_existing_output_is_refused_before_the_work(folder, capsys):
    write_spectra("a.parquet")
    (folder / "z.ecsv").write_text("precious")
    assert main(["predict", "a.parquet", "-o", "z.ecsv"]) == 1
    assert (folder / "z.ecsv").read_text() == "precious"
    err = capsys.readouterr().err
    assert err.startswith("gaia-redshift: error: ")
    assert "z.ecsv exists already" in err
    assert len(err.splitlines()) == 1
    assert main(["predict", "a.parquet", "-o", "z.ecsv", "--overwrite"]) == 0
    assert len(read_table("z.ecsv")) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "absent.csv"], "absent.csv"),
        (["predict", "a.parquet", "-o", "z.txt"], ".ecsv"),
        (["predict", "a.parquet", "--model", "nonsense"], "no model named 'nonsense'"),
        (["predict", "a.parquet", "--keep", "dec"], "'dec'"),
        (["predict", "a.parquet", "--truth", "z_spec"], "'z_spec'"),
        (["predict", "a.parquet", "--grid", "absent.ecsv"], "absent.ecsv"),
        (["predict", "a.parquet", "--bases", "absent.xml"], "absent.xml"),
        (["predict", "a.parquet", "-o", "z.ecsv", "--plot", "no/folder.png"], "folder.png"),
        (["predict", "damaged.parquet"], "damaged.parquet"),
        (["predict", "a.parquet", "-o", "no/z.ecsv"], "no folder"),
    ],
)
def test_errors_are_one_line_on_stderr_and_exit_1(folder, capsys, arguments, words):
    write_spectra("a.parquet")
    (folder / "damaged.parquet").write_bytes((folder / "a.parquet").read_bytes()[:2000])
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert words in err
    assert err.startswith("gaia-redshift: error: ")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err + out


def test_a_damaged_file_among_others_does_not_stop_them(folder, capsys):
    write_spectra("a.parquet")
    write_spectra("c.parquet", start=2)
    (folder / "b.parquet").write_bytes(b"PAR1 no")
    assert main(["predict", "a.parquet", "b.parquet", "c.parquet", "-o", "z.ecsv"]) == 1
    err = capsys.readouterr().err
    assert "b.parquet" in err.splitlines()[0]
    assert "1 of 3 inputs" in err.splitlines()[-1]
    table = read_table("z.ecsv")
    assert len(table) == 8
    assert "duplicate_source_id 4" in err  # two sources are in both files


def test_true_redshifts_are_compared_with_where_there_are_any(folder, capsys):
    write_spectra("a.parquet", redshift_true=np.full(4, 0.5))
    assert main(["predict", "a.parquet", "--plot", "z.png"]) == 0
    out, err = capsys.readouterr()
    assert "against redshift_true: n 4, bias" in err
    assert "sigma_NMAD" in err
    assert "|dz| > 0.15" in err
    assert "redshift_true" in out.splitlines()[0]
    assert (folder / "z.png").read_bytes().startswith(b"\x89PNG")
    write_spectra("b.parquet", z_spec=np.full(4, 0.5))
    assert main(["predict", "b.parquet", "--truth", "z_spec"]) == 0
    assert "against z_spec: n 4" in capsys.readouterr().err
    assert main(["predict", "b.parquet", "--plot", "z.png"]) == 0
    assert "against" not in capsys.readouterr().err


def test_everything_masked_is_no_failure_but_is_said(folder, capsys):
    write_spectra("a.parquet", n=2, bad=[0, 1])
    assert main(["predict", "a.parquet", "--plot", "z.png"]) == 0
    assert "2 masked: no redshift at all" in capsys.readouterr().err


def test_the_summary_as_json(folder, capsys):
    write_spectra("a.parquet", bad=[1], redshift_true=np.full(4, 0.5))
    assert main(["predict", "a.parquet", "-o", "z.ecsv", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert (found["sources"], found["with_redshift"], found["usable"]) == (4, 3, 3)
    assert found["flags"] == {"non_finite_flux": 1}
    assert found["output"] == "z.ecsv"
    assert found["metrics"]["truth"] == "redshift_true"
    assert found["metrics"]["n"] == 3
    assert main(["predict", "a.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == found["metrics"]


@pytest.mark.parametrize("name", ["z.ecsv", "z.fits", "z.vot", "z.parquet", "z.h5", "z.csv"])
def test_a_clean_sample_is_written(folder, capsys, name):
    write_spectra("a.parquet", bad=[1])
    write_spectra("b.parquet", n=3, start=10, bad=[0, 1, 2])
    assert main(["predict", "a.parquet", "b.parquet", "--clean", "-o", name]) == 0
    assert "3 of 7 are clean: !NULL_redshift_cnn && (flags_cnn & " in capsys.readouterr().err
    table = read_table(name)
    assert table["source_id"].tolist() == [4 * 10**18 + i for i in (0, 2, 3)]
    if name != "z.csv":
        assert "flags_cnn" in table.meta["clean_sample"]
    assert main(["predict", "b.parquet", "--clean", "-o", name, "--overwrite"]) == 0
    assert len(read_table(name)) == 0
    assert main(["predict", "a.parquet", "--clean"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3


def test_warnings_are_a_line_and_quiet_is_quiet(folder, capsys):
    write_spectra("a.parquet")
    grid = "bp,rp\n" + "\n".join(f"{330 + 2 * i},{620 + 3 * i}" for i in range(120))
    (folder / "grid.csv").write_text(grid)
    assert main(["predict", "a.parquet", "--grid", "grid.csv"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("gaia-redshift: warning: the model fake was trained on another grid")
    assert len(err.splitlines()) == 2
    assert main(["predict", "a.parquet", "--grid", "grid.csv", "-q", "-o", "z.ecsv"]) == 0
    assert capsys.readouterr() == ("", "")
    assert read_table("z.ecsv").meta["grid_bp_nm"][0] == 330


def test_models_are_listed_and_described(capsys):
    assert main(["models"]) == 0
    assert capsys.readouterr().out == "fake 7: trained on simulated galaxies\n"
    assert main(["models", "fake"]) == 0
    out = capsys.readouterr().out
    assert "simulated galaxies" in out
    assert "cd" * 32 in out
    assert "Intended use" in out
    assert main(["models", "nonsense"]) == 1


def test_flags_are_explained_and_decoded(capsys):
    assert main(["flags"]) == 0
    out = capsys.readouterr().out
    assert "missing_bp" in out
    assert "no BP spectrum" in out
    assert main(["flags", "5", "0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "5: missing_bp, bad_coefficient_count",
        "0: clean",
    ]


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["predict"], ["flags", "x"], ["simulate"], ["simulate", "-n", "x"]],
)
def test_wrong_usage_exits_2(arguments, capsys):
    assert main(arguments) == 2
    assert "usage" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "command", [[], ["predict"], ["simulate"], ["train"], ["models"], ["flags"]]
)
def test_help_teaches(command, capsys):
    assert main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: gaia-redshift" in out
    if command not in (["models"], ["flags"]):
        assert "examples:" in out


def test_interruption_exits_130(folder, capsys, monkeypatch):
    write_spectra("a.parquet")

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeModel, "predict", interrupt)
    assert main(["predict", "a.parquet", "-o", "z.ecsv"]) == 130
    said = capsys.readouterr().err
    assert said == (
        "gaia-redshift: error: interrupted: the same command with --resume goes on where it was\n"
    )
    assert not (folder / "z.ecsv").exists()


def test_a_reader_that_goes_away_is_no_traceback():
    script = f"{sys.executable} -m gaia_redshift flags 1 2 3 {' '.join(['5'] * 20000)}"
    done = subprocess.run(
        ["bash", "-c", f"{script} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.stdout == "1: missing_bp\n"
    assert done.stderr == ""


def test_simulated_galaxies_can_be_written_and_predicted(folder, capsys):
    assert main(["simulate", "-n", "30", "--seed", "1", "-o", "sim.csv", "--no-correlations"]) == 0
    said = capsys.readouterr().out
    assert said == "30 simulated galaxies (not observed ones): sim.csv\n"
    assert main(["simulate", "-n", "30", "--seed", "1", "-o", "sim.csv"]) == 1  # exists
    capsys.readouterr()
    assert main(["predict", "sim.csv", "-o", "z.ecsv"]) == 0
    err = capsys.readouterr().err
    assert "30 sources" in err
    assert "against redshift_true: n 30" in err
    assert main(["simulate", "-n", "0", "--seed", "1", "-o", "s.csv"]) == 1


def test_train_hands_its_arguments_on(capsys, monkeypatch):
    seen = []

    def stop(source, **options):
        seen.append((source, options))
        raise ModelError("enough")

    monkeypatch.setattr("gaia_redshift.train.train_model", stop)
    command = "train --simulate 100 --seed 3 --epochs 2 --batch-size 8 --name mine -o mine --resume"
    assert main(command.split()) == 1
    assert "enough" in capsys.readouterr().err
    ((source, options),) = seen
    assert (source.n, source.seed, source.survey, source.sky) == (100, 3, "sdss", "sdss")
    config = options["config"]
    assert (config.seed, config.epochs, config.batch_size, config.name) == (3, 2, 8, "mine")
    assert (options["output"], options["resume"], options["start"]) == ("mine", True, None)
    assert config.network == "kiraleos2023"


def test_a_bad_file_in_a_folder_does_not_stop_the_others(folder, capsys):
    (folder / "spectra").mkdir()
    write_spectra("spectra/a.parquet")
    (folder / "spectra/b.csv").write_text("ra,dec\n1,2\n")
    assert main(["predict", "spectra", "-o", "z.ecsv"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert "b.csv" in err[0]
    assert "1 of 2 inputs" in err[-1]
    assert len(read_table("z.ecsv")) == 4


@pytest.mark.parametrize("plot", ["z.nonsense", "z", "no/folder.png"])
def test_a_plot_that_cannot_be_written_is_refused_before_the_work(folder, capsys, plot):
    write_spectra("a.parquet")
    assert main(["predict", "a.parquet", "-o", "z.ecsv", "--plot", plot]) == 1
    assert "cannot write the plot" in capsys.readouterr().err
    assert not (folder / "z.ecsv").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_names_every_command(capsys, shell):
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert command.name in out
    assert "--clean" in out


def test_verbose_names_the_model_and_each_file(folder, capsys):
    write_spectra("a.parquet")
    assert main(["predict", "a.parquet", "-o", "z.ecsv", "-v"]) == 0
    err = capsys.readouterr().err
    assert "model fake 7" in err
    assert "a.parquet: read and predicted" in err


def test_train_takes_the_column_of_true_redshifts(monkeypatch, folder, capsys):
    seen = []

    def stop(source, **options):
        seen.append((source, options["truth"], options["command"]))
        raise ModelError("enough")

    monkeypatch.setattr("gaia_redshift.train.train_model", stop)
    assert main(["train", "t.fits", "--truth", "z_spec", "-o", "mine"]) == 1
    ((source, truth, command),) = seen
    assert (source, truth) == ("t.fits", "z_spec")
    assert "--truth z_spec" in command


# --- what a terminal shows -----------------------------------------------------------------------


def test_control_characters_of_files_are_shown_not_obeyed(tmp_path, capsys):
    name = "a\x1b[31m.csv"
    (tmp_path / name).write_text("source_id,\x1b]0;title\x07\n1,2\n")
    assert main(["predict", str(tmp_path / name)]) == 1
    shown = capsys.readouterr()
    assert "\\x1b[31m" in shown.err
    assert "\x1b" not in shown.err + shown.out
    assert "\x07" not in shown.err


def test_an_output_that_knows_only_ascii_gets_escapes(monkeypatch):
    raw = io.BytesIO()
    stream = PlainStream(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    print("Müller \x1b[31m \udcff", file=stream)
    assert raw.getvalue() == b"M\\xfcller \\x1b[31m \\udcff\n"


def test_quiet_may_stand_before_the_command_and_a_slip_is_guessed(capsys):
    assert main(["-q", "flags", "1"]) == 0
    parser = build_parser()
    assert parser.parse_args(["-q", "flags"]).quiet
    assert not parser.parse_args(["flags"]).quiet
    assert parser.parse_args(["flags", "-vv"]).verbose == 2
    assert main(["predict", "a.csv", "--ouput", "z.csv"]) == 2
    assert "did you mean --output?" in capsys.readouterr().err
    assert main(["predict", "a.csv", "--service", "xmatch"]) == 2
    assert "--service xmatch (of another command)" in capsys.readouterr().err


def test_flags_are_explained_by_name_too(capsys):
    assert main(["flags", "unlike_training"]) == 0
    assert capsys.readouterr().out.startswith("unlike_training: 1048576, unlike the galaxies")
    assert main(["flags", "unlike_trainings"]) == 2
    assert "did you mean unlike_training?" in capsys.readouterr().err
